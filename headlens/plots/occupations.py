"""Occupations: how differently they are told for two presentations, beside who mostly holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.errors import HeadlensError
from headlens.plots import palette, style

_ROW = 44


@dataclass(frozen=True)
class Occupation:
    """One occupation.

    Attributes:
        name: of the occupation.
        counterpart: the occupation that its images are weighed against.
        percent_women: the percentage of women among those who hold it.
        accuracy: on the images of the first and of the second value, as fractions.
        sizes: how many images stand behind the two.
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
    """To the left the accuracy on both values for the occupations with the largest gaps; to the right gap against
    workforce, with each of them joined to the occupation that it is weighed against.

    Args:
        found: all occupations that were scored, counterparts among them where they were.
        values: the names of the attribute's two values.
        title: plain text.
        most: how many occupations are drawn, largest gap first.

    Raises:
        HeadlensError: for no occupation.
    """
    if not found:
        raise HeadlensError("at least one occupation", "none", "Score images of one.")
    ranked = sorted(found, key=lambda one: -one.gap)[: max(1, most)]
    by_name = {one.name: one for one in found}
    figure = make_subplots(cols=2, column_widths=[0.52, 0.48], horizontal_spacing=0.09)
    places = list(range(len(ranked)))[::-1]
    for i, value in enumerate(values):
        figure.add_trace(_bars(ranked, places, i, value), row=1, col=1)
    for trace in _joined(ranked, by_name):
        figure.add_trace(trace, row=1, col=2)
    chosen = {one.name for one in ranked}
    others = [
        by_name[one.counterpart] for one in ranked if one.counterpart in by_name and one.counterpart not in chosen
    ]
    unique = list(dict.fromkeys(others))
    figure.add_trace(_points(ranked, "largest gaps", "circle", True), row=1, col=2)
    if unique:
        figure.add_trace(_points(unique, "weighed against them", "diamond", False), row=1, col=2)
    plot_height = max(330, _ROW * len(ranked))
    head = 64 + (30 if title else 0)
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%", title_text="accuracy", row=1, col=1)
    figure.update_yaxes(
        tickmode="array",
        tickvals=places,
        ticktext=[style.label(one.name, 30) for one in ranked],
        showgrid=False,
        row=1,
        col=1,
    )
    figure.update_xaxes(range=[-4, 104], ticksuffix=" %", title_text="women among those who hold it", row=1, col=2)
    top = max(0.1, *(one.gap for one in [*ranked, *unique]))
    figure.update_yaxes(
        range=[-0.06 * max(top, 0.1), 1.25 * max(top, 0.1)],
        tickformat=".0%",
        title_text="gap in accuracy",
        row=1,
        col=2,
    )
    return style.finish(
        figure,
        title,
        _alt(ranked, by_name, values),
        height=head + plot_height + 60,
        min_width=900,
        margin={"t": head, "b": 60, "l": 24},
        barmode="group",
        bargap=0.28,
        bargroupgap=0.06,
    )


def _bars(ranked: Sequence[Occupation], places: list[int], i: int, value: str) -> go.Bar:
    return go.Bar(
        x=[one.accuracy[i] for one in ranked],
        y=places,
        orientation="h",
        name=style.label(value, 30),
        marker={"color": (palette.METHODS[1] if i == 0 else palette.METHODS[2])[0]},
        text=[f"{one.accuracy[i]:.0%}" for one in ranked],
        textposition="auto",
        insidetextfont={"color": palette.INK_STRONG[0]},
        customdata=[
            f"<b>{style.label(one.name)}</b>, {style.label(value, 30)}: {one.accuracy[i]:.1%} of {one.sizes[i]}"
            for one in ranked
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _joined(ranked: Sequence[Occupation], by_name: dict[str, Occupation]) -> list[go.Scatter]:
    x: list[float | None] = []
    y: list[float | None] = []
    for one in ranked:
        if one.counterpart in by_name:
            other = by_name[one.counterpart]
            x += [one.percent_women, other.percent_women, None]
            y += [one.gap, other.gap, None]
    line = {"color": palette.AXIS[0], "width": 1.4, "dash": "dot"}
    return [go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)] if x else []


def _points(shown: Sequence[Occupation], name: str, symbol: str, strong: bool) -> go.Scatter:
    ink = palette.INK if strong else palette.INK_SOFT
    return go.Scatter(
        x=[one.percent_women for one in shown],
        y=[one.gap for one in shown],
        mode="markers+text",
        marker={
            "symbol": symbol,
            "size": 10 if strong else 8,
            "color": (palette.METHODS[4] if strong else palette.METHODS[0])[0],
        },
        text=[style.label(one.name, 22) for one in shown],
        # Names at the edges grow inwards.
        textposition=[_side(one.percent_women) for one in shown],
        textfont={"size": 11, "color": ink[0]},
        name=name,
        customdata=[
            f"<b>{style.label(one.name)}</b><br>gap {one.gap:.1%}<br>{one.percent_women:.0f} % women"
            f"<br>weighed against {style.label(one.counterpart)}"
            for one in shown
        ],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _side(percent: float) -> str:
    return "top right" if percent < 25 else "top left" if percent > 75 else "top center"


def _alt(ranked: Sequence[Occupation], by_name: dict[str, Occupation], values: tuple[str, str]) -> str:
    parts = [
        f"Bars of accuracy on {values[0]} and {values[1]} for the {len(ranked)} occupations with the largest gaps, and "
        "their gaps against the percentage of women who hold them, joined to what they are weighed against."
    ]
    for one in ranked:
        other = by_name.get(one.counterpart)
        beside = "" if other is None else f" ({other.percent_women:.0f} % women, gap {other.gap:.1%})"
        parts.append(
            f"{one.name} ({one.percent_women:.0f} % women): {values[0]} {one.accuracy[0]:.1%}, {values[1]} "
            f"{one.accuracy[1]:.1%}; against {one.counterpart}{beside}."
        )
    return " ".join(parts)
