"""Heatmaps of all heads, layers upwards and heads to the right: a score, a location, concept tests, explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from headlens.explain import Explanation
from headlens.heads import HeadId, HeadLike, HeadScores, as_heads
from headlens.locate import Candidates, Location
from headlens.plots import palette, style
from headlens.tables import listed

Heads = tuple[HeadId, ...]

_BOX = 0.45  # half a side of an outline; neighbouring boxes must not share a line
_WORDS = 68  # pixels that a text takes in a cell, on two lines
_MOST_WITH_WORDS = 12  # heads of a layer: with more the words would not fit a page
_BAR: dict[str, Any] = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11}}  # a colour bar's look
_LEAST = 0.1  # of the variance explained: heads that differ by less should look alike


@dataclass(frozen=True)
class _Outline:
    """Heads to outline: their colour, how the legend calls them, plotly's dash."""

    heads: Heads
    colour: str
    name: str
    dash: str = "solid"


def heatmap(
    scores: HeadScores | Float[Tensor, "layer head"] | Float[np.ndarray, "layer head"],
    selected: Sequence[HeadLike] | None = None,
    title: str | None = None,
    unit: str = "",
    diverging: bool | None = None,
    hover_extra: Sequence[Sequence[str]] | None = None,
    located: Sequence[HeadLike] = (),
) -> go.Figure:
    """The scores of all heads as a heatmap; the last layer is on top, selected heads are outlined and named.

    Args:
        scores: one number a head. A value that is not a number is left blank.
        selected: heads to outline; None for the selection of `HeadScores`.
        title: plain text; None for the name of `HeadScores`.
        unit: what the numbers are, beside the colour bar and after the number that the pointer shows.
        diverging: a scale centred on zero, as far to both sides; False for one from the smallest to the
            largest. None chooses the first where a score is below zero.
        hover_extra: [layer, head] further plain text for the pointer, one line a head.
        located: further heads, outlined with dashes.

    Raises:
        LocateError: for a head outside the grid, or named twice.
        HeadlensError: for a `hover_extra` that does not have the shape of the scores.
    """
    if isinstance(scores, HeadScores):
        selected = scores.selection if selected is None else selected
        title = scores.name if title is None else title
    values = style.array(scores.values if isinstance(scores, HeadScores) else scores)
    if diverging is None:
        diverging = bool((values[np.isfinite(values)] < 0).any())
    n_layers, n_heads = values.shape
    heads, others = as_heads(selected or (), n_layers, n_heads), as_heads(located, n_layers, n_heads)
    style.refuse(
        hover_extra is None or [len(row) for row in hover_extra] == [n_heads] * n_layers,
        f"The texts of hover_extra do not have the shape of the scores, {n_layers} layers × {n_heads} heads.",
        "Give one list a layer, with one text a head.",
    )

    def hover(head: HeadId) -> str:
        value = values[head]
        written = f"{value:.4g}" if np.isfinite(value) else "not a number"
        lines = [f"<b>{head}</b>: {written}" + (f" {style.label(unit)}" if unit else "")]
        lines += [name for name, named in (("selected", heads), ("located", others)) if head in named]
        if hover_extra is not None and hover_extra[head.layer][head.head]:
            lines.append(style.label(hover_extra[head.layer][head.head], 90))
        return "<br>".join(lines)

    outlined = [_Outline(heads, palette.INK, f"selected: {listed(heads)}" if others else "")]
    if others:
        outlined.append(_Outline(others, palette.SPURIOUS, f"located: {listed(others)}", "3px,3px"))
    grid = _Grid(
        values,
        [[hover(HeadId(i, j)) for j in range(n_heads)] for i in range(n_layers)],
        symmetric(values) if diverging else _extent(values),
        {"title": {"text": style.label(unit, 40)}},
        [kind for kind in outlined if kind.heads],
    )
    return grid.figure(
        title or "",
        f"{title or 'A score'}: {_extremes(values, unit)} Selected heads: {listed(heads)}."
        + (f" Located heads: {listed(others)}." if others else ""),
    )


def candidates(candidates: Candidates, title: str | None = None) -> go.Figure:
    """The scores behind a set of candidates as a heatmap; the last layer is on top.

    Candidates are outlined with a full line and named; heads that only one of two tests flags are outlined with dashes
    (concept vectors) or dots (TextSpan). The pointer shows all scores of both tests.

    Args:
        candidates: the result of `audit.locate("concept")`, `("textspan")` or `("concept+textspan")`.
        title: plain text; None for the name of the scores.

    Raises:
        HeadlensError: for candidates without a test, which have no scores.
        LocateError: for a candidate outside the grid.
    """
    style.refuse(
        candidates.concept is not None or candidates.spans is not None,
        f"The candidates of {candidates.method!r} have no scores of a test.",
        "Leave the figure out.",
    )
    scores = candidates.scores()
    values = style.array(scores.values)
    n_layers, n_heads = values.shape
    named = as_heads(candidates.spurious, n_layers, n_heads)
    outlined = [_Outline(named, palette.SPURIOUS, f"candidates: {listed(named)}"), *_half_flagged(candidates)]
    over = "" if scores.threshold is None else f" A head needs {scores.threshold:.3g} to be flagged."
    first = f" The first, {named[0]}, has {values[named[0]]:.3g}." if named else ""
    unit = "part of the<br>distance" if scores.name == "concept part" else "share of<br>variance"
    grid = _Grid(
        values,
        [[_tested(candidates, HeadId(i, j)) for j in range(n_heads)] for i in range(n_layers)],
        symmetric(values) if (values < 0).any() else (0.0, symmetric(values)[1]),
        {"title": {"text": unit}, "tickformat": ".1~%"},
        outlined,
    )
    return grid.figure(
        scores.name if title is None else title,
        f"A heatmap of the {scores.name} of {n_layers} layers by {n_heads} heads, up to {values.max():.3g}.{over}"
        f" Candidates ({candidates.method}): {listed(named)}.{first}"
        + "".join(f" Flagged {one.name}." for one in outlined[1:]),
    )


def overview(
    explanations: Mapping[HeadId, Explanation], title: str = "", shape: tuple[int, int] | None = None
) -> go.Figure:
    """A heatmap of how well every head's label predicts it; the pointer shows its poles.

    The colour is the rank correlation of the label's text score with the head on held-out images, or where there were
    none its share of the head's variance; heads without a clear meaning are at zero. Where the heads of a layer are few
    each cell holds the pair of texts, where they are many a dash marks heads without a clear meaning. Heads that were
    not explained are left blank.

    Args:
        explanations: `audit.explain()`.
        title: plain text.
        shape: layers, and heads of a layer; None for the largest that are among the explanations.

    Raises:
        HeadlensError: for no explanation.
        LocateError: for an explained head outside the shape.
    """
    style.refuse(bool(explanations), "No head was explained.", "Call audit.explain() first.")
    n_layers, n_heads = shape or (1 + max(h.layer for h in explanations), 1 + max(h.head for h in explanations))
    as_heads(explanations, n_layers, n_heads)
    values = np.full((n_layers, n_heads), np.nan)
    text = [[f"<b>{HeadId(i, j)}</b>: not explained" for j in range(n_heads)] for i in range(n_layers)]
    for head, one in explanations.items():
        values[head] = 0.0 if one.pole is None else one.pole.share
        if one.pole is not None and one.pole.faithfulness is not None:
            values[head] = one.pole.faithfulness.rank_correlation
        text[head.layer][head.head] = _explained(one)
    words = n_heads <= _MOST_WITH_WORDS
    low, high = _extent(values)
    clear = [one for one in explanations.values() if one.pole is not None]
    best = "; ".join(f"{one.head} {one.label}" for one in sorted(clear, key=lambda one: -values[one.head])[:5])
    tested = any(pole.faithfulness is not None for one in explanations.values() for pole in one.poles)
    grid = _Grid(
        values,
        text,
        (min(low, high - _LEAST), high),
        {"title": {"text": "rank<br>correlation" if tested else "share of<br>variance"}},
        marks={h: _ends(one) for h, one in explanations.items() if words or one.pole is None},
        cell=(_WORDS, 56) if words else (25, 30),
    )
    return grid.figure(
        title,
        f"A heatmap of {n_layers} layers by {n_heads} heads: how well the label of a head predicts it."
        f" {len(explanations)} heads are explained, {len(explanations) - len(clear)} of them without a clear meaning."
        + (f" Best predicted: {best}." if best else ""),
    )


@dataclass(frozen=True, eq=False)
class _Grid:
    """One heatmap.

    Attributes:
        values: [layer, head].
        hover: [layer, head], escaped.
        ends: of the colour scale.
        bar: of the colour bar, as plotly takes it.
        outlined: heads to outline; those with a name have it in a legend.
        marks: escaped texts in cells; None for the names of the first outlined heads.
        cell: pixels of a cell, width and height.
    """

    values: np.ndarray
    hover: list[list[str]]
    ends: tuple[float, float]
    bar: dict[str, Any]
    outlined: Sequence[_Outline] = ()
    marks: Mapping[HeadId, str] | None = None
    cell: tuple[int, int] = (25, 30)

    def figure(self, title: str, alt: str) -> go.Figure:
        n_layers, n_heads = self.values.shape
        figure = go.Figure(_cells(self.values, "coloraxis", self.hover))
        legend = [kind for kind in self.outlined if kind.name]
        figure.add_traces(_outlines(self.outlined, bool(legend)))
        marks = self.marks
        if marks is None:
            marks = {head: str(head) for kind in self.outlined[:1] for head in kind.heads}
        if marks:
            strong = _strong(self.values, self.ends)
            figure.add_scatter(
                x=[h.head for h in marks], y=[h.layer for h in marks], text=list(marks.values()), mode="text",
                textfont={"size": 10, "color": [palette.INK_STRONG if strong[h] else palette.INK for h in marks]},
                hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        width, height = self.cell[0] * n_heads, max(190, min(590, self.cell[1] * n_layers))
        style.finish(
            figure,
            title,
            alt,
            plot=(height, max(330, 110 + width)),
            margin={"t": 14 + 22 * len(legend)},
            xaxis=_axis("head", n_heads, width // 22),
            yaxis=_axis("layer", n_layers, height // 15),
            coloraxis=_scale(self.ends, self.bar),
        )
        return figure.update_layout(legend={"orientation": "v", "y": 1 + 4 / height})


# ---- location: three panels -----------------------------------------------------------------------------------------


def location(location: Location, title: str = "") -> go.Figure:
    """Three heatmaps side by side: V_C, V_W and V_W − V_C, located heads outlined.

    V_C[l, h] is the share of the correctly classified images whose strongest head is (l, h), or its mean score over
    them where the locator gives soft credit; V_W the same over the incorrectly classified ones (METHODS: contrastive
    attribution). The first two panels share a scale; that of the third is centred on zero. A locator that looks at the
    correct images alone, as that of an attribute's own heads does, gets the first panel alone.

    Args:
        location: the result of a locator; `spurious` heads are outlined with a full line, `salient` ones
            with dots.
        title: plain text.

    Raises:
        LocateError: for a located head outside the grid.
    """
    correct, wrong = style.array(location.correct), style.array(location.wrong)
    n_layers, n_heads = correct.shape
    alone = location.n_wrong == 0 and location.n_correct > 0 and not wrong.any()
    panels = {"correctly classified: V": correct}
    if not alone:
        panels = {
            "correctly classified: V<sub>C</sub>": correct,
            "incorrectly classified: V<sub>W</sub>": wrong,
            "difference: V<sub>W</sub> − V<sub>C</sub>": wrong - correct,
        }
    spurious, salient = (as_heads(heads, n_layers, n_heads) for heads in (location.spurious, location.salient))
    role = "located" if alone else "salient"
    outlined = [
        *([] if alone and not spurious else [_Outline(spurious, palette.SPURIOUS, f"spurious: {listed(spurious)}")]),
        _Outline(salient, palette.SALIENT, f"{role}: {listed(salient)}", "2px,2px"),
    ]
    figure = make_subplots(cols=len(panels), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=list(panels))
    roles = {**dict.fromkeys(salient, role), **dict.fromkeys(spurious, "spurious")}
    hover = [[_credits(HeadId(i, j), panels, roles) for j in range(n_heads)] for i in range(n_layers)]
    for col, values in enumerate(panels.values(), start=1):
        figure.add_trace(_cells(values, f"coloraxis{2 if col == 3 else ''}", hover), row=1, col=col)
        for trace in _outlines(outlined, legend=col == 1):
            figure.add_trace(trace, row=1, col=col)
    width = max(330, min(40 * n_heads, 640)) if alone else max(190, min(16 * n_heads, 420))
    height = max(150, min(17 * n_layers, 520))
    figure.update_xaxes(_axis("head", n_heads, width // 22))
    figure.update_yaxes(_axis("", n_layers, height // 15))
    figure.update_yaxes(title_text="layer", col=1)
    figure.update_annotations(font_size=13)
    unit = "mean score" if location.method.endswith("-soft") else "share of images"
    shares = np.stack([correct, wrong])
    end = symmetric(shares)[1]
    bar = lying_bar(figure, unit, 0.5 if alone else 0.323, round(0.9 * min(width, 400)), height)
    figure.update_layout(coloraxis=_scale((-end if (shares < 0).any() else 0.0, end), bar))
    if not alone:
        bar = lying_bar(figure, f"difference in {unit}", 0.843, round(0.9 * width), height)
        figure.update_layout(coloraxis2=_scale(symmetric(wrong - correct), bar))
    return style.finish(
        figure,
        title,
        _contrasted(location, alone, spurious, salient),
        plot=(height, len(panels) * width + (74 if alone else 110)),
        margin={"t": 30, "b": 112, "l": 48, "r": 16},
        legend=True,
    ).update_layout(legend_y=1 + 26 / height)


def _credits(head: HeadId, panels: Mapping[str, np.ndarray], roles: Mapping[HeadId, str]) -> str:
    role = f" ({roles[head]})" if head in roles else ""
    names = (name.rpartition(": ")[2] for name in panels)
    return "<br>".join(
        [
            f"<b>{head}</b>{role}",
            *(f"{name} {values[head]:.4f}" for name, values in zip(names, panels.values(), strict=True)),
        ]
    )


def _contrasted(location: Location, alone: bool, spurious: Heads, salient: Heads) -> str:
    """A location in words."""
    correct, wrong = style.array(location.correct), style.array(location.wrong)
    soft = location.method.endswith("-soft")
    what = "a head's mean score over" if soft else "the share of images whose strongest head it is, among"
    of = "on average over the {} images" if soft else "of the {} images"
    n_layers, n_heads = correct.shape
    if alone:
        parts = [
            f"A heatmap of {n_layers} layers by {n_heads} heads: {what} the {location.n_correct} correctly classified"
            f" ones. A head is located where it exceeds {location.threshold:.4f}."
        ]
    else:
        parts = [
            f"Three heatmaps of {n_layers} layers by {n_heads} heads: {what} the {location.n_correct} correctly and the"
            f" {location.n_wrong} incorrectly classified ones, and the difference. A head is located where the"
            f" difference exceeds {location.threshold:.4f}."
        ]
    for name, heads in (("Spurious", spurious), ("Located" if alone else "Salient", salient)):
        if alone and name == "Spurious" and not heads:
            continue
        parts.append(f"{name} heads: {listed(heads)}.")
        if heads:
            shares = f"{correct[heads[0]]:.3f} {of.format('correct')}"
            shares += "" if alone else f" and {wrong[heads[0]]:.3f} {of.format('incorrect')}"
            parts.append(f"The first, {heads[0]}, has {shares}.")
    return " ".join(parts)


# ---- parts of a heatmap ---------------------------------------------------------------------------------------------


def _cells(values: np.ndarray, coloraxis: str, hover: list[list[str]]) -> go.Heatmap:
    shown = {"text": hover, "hovertemplate": "%{text}<extra></extra>", "hoverongaps": True}
    return go.Heatmap(z=values, coloraxis=coloraxis, xgap=1, ygap=1, **shown)


def _outlines(kinds: Sequence[_Outline], legend: bool) -> list[go.Scatter]:
    """Rectangles around heads, on a wider line in the colour of the paper, to stand out from any cell."""
    halos, boxes = [], []
    for kind in kinds:
        x: list[float | None] = []
        y: list[float | None] = []
        for layer, head in kind.heads:
            left, right, low, high = head - _BOX, head + _BOX, layer - _BOX, layer + _BOX
            x += [left, right, right, left, left, None]
            y += [low, low, high, high, low, None]
        shared: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip", "legendgroup": kind.name, "x": x, "y": y}
        line = {"color": kind.colour, "width": 2.2, "dash": kind.dash}
        halos.append(go.Scatter(line={"color": palette.PAPER, "width": 4.5}, showlegend=False, **shared))
        boxes.append(go.Scatter(line=line, name=kind.name, showlegend=legend, **shared))
    return halos + boxes


def _axis(title: str, count: int, most: int) -> dict[str, Any]:
    """An axis of heads or of layers, with at most so many ticks."""
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100) if count <= s * max(most, 1) or s == 100)
    return {
        "title": {"text": title},
        "range": [-0.5, count - 0.5],
        "tickmode": "array",
        "tickvals": list(range(0, count, step)),
        "showgrid": False,
        "ticks": "",
    }


def _scale(ends: tuple[float, float], bar: dict[str, Any]) -> dict[str, Any]:
    """A colour axis; centred on zero where its ends are as far to both sides."""
    colours = palette.DIVERGING if ends[0] == -ends[1] else palette.SEQUENTIAL
    bar = {**_BAR, **bar, "title": {"side": "top", "font": {"size": 12}, **bar.get("title", {})}}
    return {"colorscale": palette.scale(colours), "cmin": ends[0], "cmax": ends[1], "colorbar": bar}


def lying_bar(
    figure: go.Figure, title: str, x: float, length: int, plot_height: int, below: int = 54
) -> dict[str, Any]:
    """A colour bar under the plot, `below` pixels from it, with its title above it.

    Plotly lets the title of a lying bar run into the bar, so the title is an annotation.
    """
    figure.add_annotation(
        x=x, xref="paper", xanchor="center", y=0, yref="paper", yanchor="top", yshift=-below,
        text=style.label(title, 40), showarrow=False, font={"size": 12},
    )  # fmt: skip
    return {
        **_BAR, "orientation": "h", "x": x, "xanchor": "center", "xpad": 0, "lenmode": "pixels", "len": length,
        "y": -(below + 20) / plot_height, "yanchor": "top", "ypad": 0,
    }  # fmt: skip


def symmetric(values: np.ndarray) -> tuple[float, float]:
    """The ends of a scale centred on zero that holds every finite value; ±1 where all are zero."""
    finite = np.abs(values[np.isfinite(values)])
    end = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return -end, end


def _extent(values: np.ndarray) -> tuple[float, float]:
    """The ends of a scale from the smallest to the largest finite value, never one and the same."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _strong(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Which cells are so dark (on dark paper: so bright) that the paper's ink would be lost on them."""
    low, high = ends
    return np.abs(values) > 0.6 * high if low == -high else values - low > 0.65 * (high - low)


def _extremes(values: np.ndarray, unit: str) -> str:
    text = f"a heatmap of {values.shape[0]} layers by {values.shape[1]} heads"
    if not np.isfinite(values).any():
        return f"{text}."
    ends = [np.unravel_index(int(find(values)), values.shape) for find in (np.nanargmin, np.nanargmax)]
    described = [f"{values[at]:.3g}{f' {unit}' if unit else ''} (head {HeadId(*map(int, at))})" for at in ends]
    return f"{text}, from {described[0]} to {described[1]}."


def _half_flagged(candidates: Candidates) -> list[_Outline]:
    """The kinds of heads that one of two tests flags and the other does not; none where there was one test."""
    if candidates.concept is None or candidates.spans is None:
        return []
    tests = (
        (candidates.concept.flagged, "by concept vectors alone", "5px,3px"),
        (candidates.spans.flagged, "by TextSpan alone", "2px,2px"),
    )
    alone = [(tuple(h for h in flagged if h not in candidates.spurious), how, dash) for flagged, how, dash in tests]
    return [_Outline(heads, palette.INK_SOFT, f"{how}: {listed(heads)}", dash) for heads, how, dash in alone if heads]


def _tested(candidates: Candidates, head: HeadId) -> str:
    lines = [f"<b>{head}</b>" + (" (candidate)" if head in candidates.spurious else "")]
    if (concept := candidates.concept) is not None:
        lines += [
            f"{float(concept.part[head]):+.1%} of the distance that heads put between the groups",
            f"groups differ by {float(concept.difference[head]):+.2f} standard deviations,"
            f" AUROC {float(concept.auroc[head]):.3f}",
            f"{float(concept.share[head]):.1%} of its variance along the concept vector",
        ]
    if (spans := candidates.spans) is not None:
        place = int(spans.place[head])
        lines.append(
            f"TextSpan: the attribute comes at place {place} and explains {float(spans.share[head]):.1%}"
            if place
            else f"TextSpan: the attribute is not among its first {spans.first} texts"
        )
    return "<br>".join(lines)


def _explained(one: Explanation) -> str:
    lines = [f"<b>{one.head}: {style.label(one.label, 70)}</b>"]
    for pole in one.poles:
        ends = f"{style.label('; '.join(pole.high[:3]), 70)} ↔ {style.label('; '.join(pole.low[:3]), 70)}"
        seen = pole.faithfulness
        tested = "" if seen is None else f", rank correlation {seen.rank_correlation:+.2f}"
        lines.append(f"{pole.share:.0%} of its variance{tested}, q {pole.q:.3f}: {ends}")
    lines.append(f"{one.explained:.0%} of its variance explained by {len(one.texts)} texts")
    return "<br>".join(lines)


def _ends(one: Explanation) -> str:
    """The pair of texts, an end in two lines at most; a dash for a head without a clear meaning."""
    if one.pole is None or one.pole.name is None:
        return "–"
    wrapped = (wrap(text, 13, max_lines=2, placeholder=" …") for text in one.pole.name)
    return "<br>".join(style.label(line, 13) for end in wrapped for line in end)
