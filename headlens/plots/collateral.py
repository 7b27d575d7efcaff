"""What corrections cost elsewhere: how the accuracy of other tasks moves, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.plots import palette, style
from headlens.steps.collateral import CollateralResults, OtherTask

_ROW = 20  # pixels that a method takes in a task's row
_KINDS = {"other": "", "class": "", "attribute": " (audited)"}


def collateral(results: CollateralResults, title: str = "", most: int = 24) -> go.Figure:
    """One row a task, one mark a method: the change of accuracy, with its interval; left of zero is a loss.

    Args:
        results: `audit.collateral()`.
        title: plain text.
        most: how many tasks are drawn; of more, those of other attributes, the audited attribute, and the classes that
            change most; the figure says how many were left out.

    Raises:
        HeadlensError: where no method was measured, or fewer than one row is asked for.
    """
    if not results.methods or most < 1:
        raise HeadlensError(
            "at least one method and one row",
            f"{len(results.methods)} methods, {most} rows",
            "Correct something first: audit.evaluate() or audit.fairness().",
        )
    drawn = _chosen(results, most)
    place = {task.name: row for row, task in enumerate(drawn)}
    figure = go.Figure()
    for i, (method, found) in enumerate(results.methods.items()):
        rows = [task for task in drawn if task.name in found.difference]
        change = [100 * found.difference[task.name] for task in rows]
        ends = [(100 * low, 100 * high) for low, high in (found.interval[task.name] for task in rows)]
        offset = (i - (len(results.methods) - 1) / 2) * 0.72 / len(results.methods)
        colour = palette.METHODS[1 + i % (len(palette.METHODS) - 1)][0]
        figure.add_trace(
            go.Scatter(
                x=change,
                y=[place[task.name] + offset for task in rows],
                mode="markers",
                name=style.label(method, 40),
                marker={"color": colour, "size": 9, "symbol": ("circle", "diamond", "square")[i % 3]},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(high - value, 0.0) for value, (_, high) in zip(change, ends, strict=True)],
                    "arrayminus": [max(value - low, 0.0) for value, (low, _) in zip(change, ends, strict=True)],
                    "color": colour,
                    "thickness": 2,
                    "width": 4,
                },
                text=[
                    f"<b>{style.label(task.name)}</b>, {style.label(method, 40)}"
                    f"<br>{found.before[task.name]:.1%} before, {found.after[task.name]:.1%} after"
                    f"<br>change {value:+.1f} points, interval {low:+.1f} to {high:+.1f}"
                    for task, value, (low, high) in zip(rows, change, ends, strict=True)
                ],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.add_vline(x=0, line={"color": palette.INK[0], "width": 1.5})
    left_out = len(results.tasks) - len(drawn)
    if left_out:
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-52, showarrow=False,
            text=f"{left_out} further classes, which change less, are not drawn.",
        )  # fmt: skip
    head = 44 + (32 if title else 0)
    foot = 56 + (24 if left_out else 0)
    room = max(30, _ROW * len(results.methods))
    return style.finish(
        figure,
        title,
        _alt(results, drawn),
        height=head + foot + room * len(drawn),
        min_width=560,
        margin={"t": head, "b": foot, "l": 150},
        showlegend=True,
        xaxis={"title": {"text": "change of accuracy, in points; left of zero is a loss"}, "tickformat": "+~f"},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(drawn))),
            "ticktext": [f"{style.label(task.name, 28)}{_KINDS[task.kind]}" for task in drawn],
            "range": [len(drawn) - 0.4, -0.6],
        },
    )


def _chosen(results: CollateralResults, most: int) -> list[OtherTask]:
    """The tasks that are drawn, in their order."""

    def weight(task: OtherTask) -> float:
        moved = [abs(one.difference[task.name]) for one in results.methods.values() if task.name in one.difference]
        return float("inf") if task.kind != "class" else max(moved, default=0.0)

    kept = {task.name for task in sorted(results.tasks, key=weight, reverse=True)[:most]}
    return [task for task in results.tasks if task.name in kept]


def _alt(results: CollateralResults, drawn: Sequence[OtherTask]) -> str:
    told = []
    for method, found in results.methods.items():
        parts = [
            f"{task.name} {100 * found.difference[task.name]:+.1f} ({100 * found.interval[task.name][0]:+.1f} to "
            f"{100 * found.interval[task.name][1]:+.1f})"
            for task in drawn
            if task.name in found.difference
        ]
        told.append(f"{method}: {', '.join(parts)}")
    return f"Change of accuracy in points, with intervals. {'; '.join(told)}."
