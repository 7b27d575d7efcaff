"""Occupations: how differently they are classified for two presentations, beside who mostly holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.plots import palette, style


@dataclass(frozen=True)
class Occupation:
    """One occupation.

    Attributes:
        name: of the occupation.
        counterpart: the candidate class that its images are compared with.
        percent_women: the percentage of women among those who hold it.
        accuracy: on the images of the first and of the second value, as fractions.
        sizes: how many images of the two there are.
    """

    name: str
    counterpart: str
    percent_women: float
    accuracy: tuple[float, float]
    sizes: tuple[int, int]

    @property
    def gap(self) -> float:
        """|accuracy on the first value − accuracy on the second|."""
        return abs(self.accuracy[0] - self.accuracy[1])


def occupations(
    found: Sequence[Occupation], values: tuple[str, str] = ("female", "male"), title: str = "", most: int = 10
) -> go.Figure:
    """To the left the accuracy on both values for the occupations with the largest gaps; to the right the gap by the
    percentage of women, with each of them joined to the occupation that it is compared with.

    Args:
        found: all occupations that were scored, counterparts among them where they were.
        values: the names of the attribute's two values.
        title: plain text.
        most: how many occupations are drawn, largest gap first.

    Raises:
        HeadlensError: for no occupation.
    """
    style.refuse(bool(found), "There is no occupation to draw.", "Score images of one.")
    ranked = sorted(found, key=lambda one: -one.gap)[: max(1, most)]
    by_name = {one.name: one for one in found}
    pairs = [(one, by_name[one.counterpart]) for one in ranked if one.counterpart in by_name]
    others = list(dict.fromkeys(other for _, other in pairs if other not in ranked))
    figure = make_subplots(cols=2, column_widths=[0.52, 0.48], horizontal_spacing=0.09)
    for i, value in enumerate(values):
        hover = [
            f"<b>{style.label(one.name)}</b>, {style.label(value, 30)}: {one.accuracy[i]:.1%} of {one.sizes[i]}"
            for one in ranked
        ]
        bars = style.bars(
            [one.accuracy[i] for one in ranked], range(len(ranked)), hover, palette.METHODS[1 + i],
            name=style.label(value, 30), text=[f"{one.accuracy[i]:.0%}" for one in ranked], textposition="auto",
            insidetextfont={"color": palette.INK_STRONG},
        )  # fmt: skip
        figure.add_trace(bars, row=1, col=1)
    if pairs:
        figure.add_scatter(
            x=[v for one, other in pairs for v in (one.percent_women, other.percent_women, None)],
            y=[v for one, other in pairs for v in (one.gap, other.gap, None)],
            mode="lines", line={"color": palette.AXIS, "width": 1.4, "dash": "dot"}, hoverinfo="skip",
            showlegend=False, row=1, col=2,
        )  # fmt: skip
    figure.add_trace(_points(ranked, "largest gaps", "circle", palette.METHODS[4], palette.INK), row=1, col=2)
    if others:
        points = _points(others, "compared with them", "diamond", palette.METHODS[0], palette.INK_SOFT)
        figure.add_trace(points, row=1, col=2)
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%", title_text="accuracy", row=1, col=1)
    figure.update_yaxes(style.row_axis([style.label(one.name, 30) for one in ranked]), row=1, col=1)
    figure.update_xaxes(range=[-4, 104], ticksuffix=" %", title_text="women among those who hold it", row=1, col=2)
    top = max(0.1, *(one.gap for one in [*ranked, *others]))
    figure.update_yaxes(range=[-0.06 * top, 1.25 * top], tickformat=".0%", title_text="gap in accuracy", row=1, col=2)
    return style.finish(
        figure,
        title,
        _alt(ranked, by_name, values),
        plot=(max(330, 44 * len(ranked)), 900),
        margin={"b": 60, "l": 24},
        legend=True,
        barmode="group",
        bargap=0.28,
        bargroupgap=0.06,
    )


def _points(shown: Sequence[Occupation], name: str, symbol: str, colour: str, ink: str) -> go.Scatter:
    hover = [
        f"<b>{style.label(one.name)}</b><br>gap {one.gap:.1%}<br>{one.percent_women:.0f} % women"
        f"<br>compared with {style.label(one.counterpart)}"
        for one in shown
    ]
    x, y = [one.percent_women for one in shown], [one.gap for one in shown]
    return style.dots(name, x, y, hover, colour, marker={"symbol": symbol}).update(
        mode="markers+text",
        text=[style.label(one.name, 22) for one in shown],
        textposition=[_side(one.percent_women) for one in shown],  # names at the edges grow inwards
        textfont={"size": 11, "color": ink},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _side(percent: float) -> str:
    return "top right" if percent < 25 else "top left" if percent > 75 else "top center"


def _alt(ranked: Sequence[Occupation], by_name: Mapping[str, Occupation], values: tuple[str, str]) -> str:
    parts = [
        f"Bars of accuracy on {values[0]} and {values[1]} for the {len(ranked)} occupations with the largest gaps, and "
        "their gaps by the percentage of women who hold them, joined to what they are compared with."
    ]
    for one in ranked:
        other = by_name.get(one.counterpart)
        beside = "" if other is None else f" ({other.percent_women:.0f} % women, gap {other.gap:.1%})"
        parts.append(
            f"{one.name} ({one.percent_women:.0f} % women): {values[0]} {one.accuracy[0]:.1%}, {values[1]} "
            f"{one.accuracy[1]:.1%}; compared with {one.counterpart}{beside}."
        )
    return " ".join(parts)
