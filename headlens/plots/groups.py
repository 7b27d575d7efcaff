"""Accuracy of every group under several methods, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.metrics import Evaluation
from headlens.plots import palette, style

_SPREAD = 0.82  # the share of a group's room that its bars take


def groups(
    evaluations: Sequence[Evaluation], title: str = "", chance: float | None = None, average: bool = True
) -> go.Figure:
    """Bars: one cluster a group, one bar a method, lines for the intervals, a mark on the worst group.

    Args:
        evaluations: methods in the order of their bars, all over the same groups.
        title: plain text.
        chance: the accuracy of guessing, drawn as a line; None for none.
        average: begin with the accuracy over all images.

    Raises:
        HeadlensError: for no evaluation, or evaluations over different groups.
    """
    if not evaluations:
        raise HeadlensError("at least one evaluation", "none", "Evaluate a method first.")
    names = list(evaluations[0].groups)
    for one in evaluations[1:]:
        if set(one.groups) != set(names):
            raise HeadlensError(
                f"evaluations over the groups {names} of {evaluations[0].method!r}",
                f"the groups {list(one.groups)} of {one.method!r}",
                "Evaluate every method on the same images.",
            )
    keys = (["average"] if average else []) + [f"groups.{name}" for name in names]
    weighting = evaluations[0].weighting
    over = "all images" if weighting == "images" else f"average over {weighting}"
    shown = ([over] if average else []) + names
    width = _SPREAD / len(evaluations)
    figure = go.Figure()
    marks: list[tuple[float, float, str]] = []
    for i, one in enumerate(evaluations):
        values = ([one.average] if average else []) + [one.groups[name] for name in names]
        limits = [one.interval.get(key, (value, value)) for key, value in zip(keys, values, strict=True)]
        x = [j + (i - (len(evaluations) - 1) / 2) * width for j in range(len(values))]
        figure.add_trace(_bars(one.method, shown, x, values, limits, width, palette.METHODS[i % 6][0]))
        at = names.index(_worst(one)) + int(average)
        marks.append((x[at], max(values[at], limits[at][1]), style.label(one.method, 40)))
    _mark_worst(figure, marks)
    if chance is not None:
        figure.add_trace(
            go.Scatter(
                x=[-0.5, len(shown) - 0.5],
                y=[chance, chance],
                mode="lines",
                line={"color": palette.INK_SOFT[0], "width": 1.5, "dash": "dot"},
                name=f"chance {chance:.0%}",
                hoverinfo="skip",
            )
        )
    if average:
        figure.add_vline(x=0.5, line={"color": palette.AXIS[0], "width": 1})
    room = max(116, len(evaluations) * 26 + 20)
    ticks = [_tick(name, evaluations[0], room) for name in names]
    return style.finish(
        figure,
        title,
        _alt(evaluations),
        height=400 + (32 if title else 0),
        min_width=90 + room * len(shown),
        margin={"t": 56 + (32 if title else 0), "b": 24},
        xaxis={
            "tickmode": "array",
            "tickvals": list(range(len(shown))),
            "ticktext": [style.label(over), *ticks] if average else ticks,
            "range": [-0.5, len(shown) - 0.5],
            "showgrid": False,
            "tickangle": 0,
        },
        yaxis={"title": {"text": "accuracy"}, "tickformat": ".0%", "range": [0, 1.1], "tickvals": _TENTHS},
    )


def _worst(one: Evaluation) -> str:
    return min(one.groups, key=lambda name: one.groups[name])


def _bars(
    method: str,
    shown: Sequence[str],
    x: list[float],
    values: list[float],
    limits: list[tuple[float, float]],
    width: float,
    colour: str,
) -> go.Bar:
    name = style.label(method, 40)
    return go.Bar(
        x=x,
        y=values,
        width=width * 0.94,
        name=name,
        marker={"color": colour},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(high - v, 0.0) for v, (_, high) in zip(values, limits, strict=True)],
            "arrayminus": [max(v - low, 0.0) for v, (low, _) in zip(values, limits, strict=True)],
            "thickness": 1.4,
            "width": 3,
            "color": palette.INK[0],
        },
        text=[
            f"<b>{name}</b><br>{style.label(group)}: {v:.1%} ({low:.1%} to {high:.1%})"
            for group, v, (low, high) in zip(shown, values, limits, strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )


_TENTHS = [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def _mark_worst(figure: go.Figure, marks: list[tuple[float, float, str]]) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x for x, _, _ in marks],
            y=[y + 0.035 for _, y, _ in marks],
            mode="markers",
            marker={"symbol": "triangle-down", "size": 9, "color": palette.INK[0]},
            name="worst group of the method",
            text=[f"worst group of {method}" for _, _, method in marks],
            hovertemplate="%{text}<extra></extra>",
        )
    )


def _tick(name: str, evaluation: Evaluation, room: int) -> str:
    """A group's name, broken where the room for it ends, over the number of its images."""
    letters = max(room // 7, 8)
    lines = [""]
    for word in style.shorten(style.plain(name), 3 * letters).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    text = "<br>".join(style.label(line, letters) for line in lines)
    few = " (few)" if name in evaluation.small else ""
    return f"{text}<br>n = {evaluation.sizes[name]}{few}"


def _alt(evaluations: Sequence[Evaluation]) -> str:
    parts = [f"Bars of the accuracy of {len(evaluations[0].groups)} groups under {len(evaluations)} methods."]
    for one in evaluations:
        worst = _worst(one)
        interval = one.interval.get("worst_group")
        among = f" ({one.level:.0%} interval {interval[0]:.1%} to {interval[1]:.1%})" if interval else ""
        parts.append(
            f"{one.method}: average {one.average:.1%}, worst group {worst} at {one.worst_group:.1%}{among}, "
            f"gap {one.gap:.1%}."
        )
    return " ".join(parts)
