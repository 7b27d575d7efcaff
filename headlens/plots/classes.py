"""What an ablation does to every class: accuracy, association and gap, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.errors import HeadlensError
from headlens.metrics import SMALL
from headlens.plots import palette, style
from headlens.steps.fairness import ClassEffect

Measure = Literal["accuracy", "v", "gap"]
MEASURES: dict[Measure, tuple[str, bool]] = {
    "v": ("Cramér's V", False),
    "gap": ("accuracy gap between values", True),
    "accuracy": ("accuracy", True),
}
"""The panels from left to right: each measure's name, and whether it is told in per cent."""

_ROW = {True: 26, False: 17}  # pixels of a class's row, for few and for many classes
_FEW = 16


def classes(
    effects: Sequence[ClassEffect], title: str = "", by: Measure = "v", most: int = 60, after: str = "after ablation"
) -> go.Figure:
    """One row a class, one panel a measure: a ring before, a disc after, a line between.

    Classes are sorted by the change of one measure, largest fall on top; a class without images has no accuracy, and
    comes last. Classes of fewer than 30 images are marked, in words and by squares in place of circles.

    Args:
        effects: `results.by_class` of a fairness audit.
        title: plain text.
        by: the measure whose change sorts the classes.
        most: how many classes are drawn; of more, those whose measure changes most, and the figure says how many were
            left out.
        after: what came between, for the legend.

    Raises:
        HeadlensError: for no class, fewer than one row, or an unknown measure.
    """
    if not effects or most < 1 or by not in MEASURES:
        raise HeadlensError(
            f"at least one class and one row, sorted by one of {', '.join(MEASURES)}",
            f"{len(effects)} classes, {most} rows, by={by!r}",
            "Pass results.by_class.",
        )
    drawn = _chosen(effects, by, most)
    rows = list(range(len(drawn)))
    figure = make_subplots(
        cols=len(MEASURES),
        shared_yaxes=True,
        horizontal_spacing=0.035,
        subplot_titles=[name for name, _ in MEASURES.values()],
    )
    small = [effect.images < SMALL for effect in drawn]
    for col, measure in enumerate(MEASURES, start=1):
        before, later = (_values(drawn, measure, end) for end in ("before", "after"))
        text = [_hover(effect, measure) for effect in drawn]
        figure.add_trace(_between(before, later, rows), row=1, col=col)
        figure.add_trace(_ends("before", before, rows, small, text, col == 1, True), row=1, col=col)
        figure.add_trace(_ends(after, later, rows, small, text, col == 1, False), row=1, col=col)
        figure.update_xaxes(_axis(measure, before, later), col=col)
    if any(small):
        figure.add_trace(_small_key(), row=1, col=1)
    figure.update_yaxes(range=[len(drawn) - 0.4, -0.6], showgrid=True, tickmode="array", tickvals=rows)
    figure.update_yaxes(ticktext=[_tick(effect) for effect in drawn], col=1)
    # The panels' names stand above the ticks, which are on top, so that they are seen before a long list is scrolled.
    figure.update_annotations(font_size=13, yshift=22)
    left_out = len(effects) - len(drawn)
    if left_out:
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-8, showarrow=False,
            text=f"{left_out} further classes, whose {MEASURES[by][0]} changes less, are not drawn.",
        )  # fmt: skip
    top = 92 + (28 if title else 0)
    plot_height = _ROW[len(drawn) <= _FEW] * len(drawn) + 10
    return style.finish(
        figure,
        title,
        _alt(effects, drawn, by),
        height=top + plot_height + (36 if left_out else 16),
        min_width=760,
        margin={"t": top, "b": 36 if left_out else 16, "l": 60, "r": 20},
        legend={"y": 1 + 50 / plot_height},
    )


def _chosen(effects: Sequence[ClassEffect], by: Measure, most: int) -> list[ClassEffect]:
    change = {effect.name: _change(effect, by) for effect in effects}

    def known(effect: ClassEffect) -> bool:
        return bool(np.isfinite(change[effect.name]))

    kept = sorted(effects, key=lambda e: (not known(e), -abs(change[e.name]) if known(e) else 0))[:most]
    return sorted(kept, key=lambda e: (not known(e), change[e.name] if known(e) else 0, e.name))


def _change(effect: ClassEffect, measure: Measure) -> float:
    return float(getattr(effect, f"{measure}_after") - getattr(effect, f"{measure}_before"))


def _values(effects: Sequence[ClassEffect], measure: Measure, end: str) -> list[float]:
    return [float(getattr(effect, f"{measure}_{end}")) for effect in effects]


def _between(before: list[float], after: list[float], rows: list[int]) -> go.Scatter:
    x = [v for pair in zip(before, after, strict=True) for v in (*pair, None)]
    return go.Scatter(
        x=x,
        y=[v for row in rows for v in (row, row, None)],
        mode="lines",
        line={"color": palette.AXIS[0], "width": 3},
        hoverinfo="skip",
        showlegend=False,
    )


def _ends(
    name: str, values: list[float], rows: list[int], small: list[bool], text: list[str], legend: bool, hollow: bool
) -> go.Scatter:
    colour = palette.METHODS[1][0]
    return go.Scatter(
        x=values,
        y=rows,
        mode="markers",
        name=style.label(name, 40),
        legendgroup="before" if hollow else "after",
        showlegend=legend,
        marker={
            "symbol": ["square" if one else "circle" for one in small],
            "size": 9,
            "color": palette.PAPER[0] if hollow else colour,
            "line": {"color": colour, "width": 2},
        },
        text=text,
        hovertemplate="%{text}<extra></extra>",
    )


def _small_key() -> go.Scatter:
    """An entry of the legend without a point of its own."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"symbol": "square-open", "size": 9, "color": palette.INK_SOFT[0]},
        name=f"squares: fewer than {SMALL} images",
    )


def _axis(measure: Measure, before: list[float], after: list[float]) -> dict[str, object]:
    per_cent = MEASURES[measure][1]
    finite = [v for v in (*before, *after) if np.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    # A small V deserves its own scale; accuracies are read against the whole of theirs.
    ends = [-0.04, 1.04] if measure == "accuracy" else [-0.06 * max(high, 0.1), 1.08 * max(high, 0.1)]
    return {
        "range": [min(ends[0], low - 0.02), ends[1]],
        "side": "top",
        "tickformat": ".0%" if per_cent else ".2~f",
        "nticks": 6,
        "zeroline": True,
        "zerolinecolor": palette.AXIS[0],
        "zerolinewidth": 1,
    }


def _tick(effect: ClassEffect) -> str:
    few = " (few)" if effect.images < SMALL else ""
    return f"{style.label(effect.name, 26)}  n = {effect.images}{few}"


def _hover(effect: ClassEffect, measure: Measure) -> str:
    name, per_cent = MEASURES[measure]
    before, after = (float(getattr(effect, f"{measure}_{end}")) for end in ("before", "after"))
    write = (lambda v: f"{v:.1%}") if per_cent else (lambda v: f"{v:.3f}")
    told = f"{write(before)} before, {write(after)} after" if np.isfinite(before + after) else "not known"
    return (
        f"<b>{style.label(effect.name)}</b>, {effect.images} images<br>{name}: {told}"
        f"<br>{effect.changed} predictions changed: {effect.corrected} corrected, {effect.newly_wrong} newly wrong"
    )


def _alt(effects: Sequence[ClassEffect], drawn: Sequence[ClassEffect], by: Measure) -> str:
    name, per_cent = MEASURES[by]
    known = [effect for effect in drawn if np.isfinite(_change(effect, by))]
    fallen = sum(_change(effect, by) < 0 for effect in known)
    risen = sum(_change(effect, by) > 0 for effect in known)
    parts = [
        f"{name}, before and after, of {len(drawn)} of {len(effects)} classes, sorted by the change of {name}:"
        f" it falls for {fallen} and rises for {risen}."
    ]
    for word, one in (("Largest fall", known[0] if fallen else None), ("Largest rise", known[-1] if risen else None)):
        if one is not None:
            ends = [float(getattr(one, f"{by}_{end}")) for end in ("before", "after")]
            parts.append(f"{word}: {one.name}, {' to '.join(f'{v:.1%}' if per_cent else f'{v:.3f}' for v in ends)}.")
    if few := [effect.name for effect in drawn if effect.images < SMALL]:
        parts.append(f"Fewer than {SMALL} images: {', '.join(few)}.")
    return " ".join(parts)
