"""Where changed predictions went: the largest flows from one class to another, by what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int

from headlens.errors import HeadlensError
from headlens.plots import palette, style

FATES: dict[str, tuple[str, str]] = {
    "corrected": (palette.METHODS[3][0], ""),
    "newly wrong": (palette.METHODS[2][0], "/"),
    "wrong before and after": (palette.METHODS[0][0], "x"),
}
"""What can become of a changed prediction: the colour and the pattern of its bars."""

_UNKNOWN = "changed"


def flow(
    classes: Sequence[str],
    transitions: Int[np.ndarray, "class class_after"],
    fate: Mapping[str, int],
    by_fate: Mapping[str, Int[np.ndarray, "class class_after"]] | None = None,
    title: str = "",
    most: int = 15,
) -> go.Figure:
    """One bar for each of the largest flows, the longest on top; the rest is summed in a line below.

    A flow is the images whose predicted class changed from one given class to another. With six classes there are 30
    of them and with 52 there are 2,652: only the largest are drawn. Their rest is told in words, since together they
    would dwarf every flow of their own. Corrected, newly wrong and wrong before and after are told apart by colour and
    by pattern.

    Args:
        classes: the classes' names.
        transitions: how many images moved from one predicted class (row) to another (column).
        fate: of all changed predictions; they stand in the legend.
        by_fate: the transitions of each fate, which add up to `transitions`; None draws the flows undivided.
        title: plain text.
        most: how many flows have a bar.

    Raises:
        HeadlensError: where no prediction changed, a matrix is not classes × classes, has a negative entry or images
            that stay, or the parts by fate do not add up.
    """
    parts = _parts(classes, transitions, by_fate)
    moved = np.argwhere(transitions > 0)
    sizes = transitions[moved[:, 0], moved[:, 1]]
    order = np.argsort(-sizes, kind="stable")
    pairs = [(int(i), int(j)) for i, j in moved[order[:most]]]
    rest = moved[order[most:]]
    names = [f"{style.label(classes[i], 24)} → {style.label(classes[j], 24)}" for i, j in pairs]
    total = int(transitions.sum())
    figure = go.Figure()
    for name, matrix in parts.items():
        counts = [int(matrix[i, j]) for i, j in pairs]
        figure.add_trace(_bars(name, counts, names, fate, total, undivided=by_fate is None))
    if by_fate is None:
        figure.add_traces([_key(f"of them {style.label(name)}: {count}") for name, count in fate.items()])
    top, foot = 56 + (28 if title else 0), 52 + (38 if len(rest) else 0)
    plot_height = 26 * len(names) + 10
    if len(rest):
        left = {name: int(matrix[rest[:, 0], rest[:, 1]].sum()) for name, matrix in parts.items()}
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-46, showarrow=False,
            align="left", text=f"{len(rest)} smaller flows together: {sum(left.values())} images<br>{_counted(left)}",
        )  # fmt: skip
    return style.finish(
        figure,
        title,
        _alt(classes, transitions, fate, pairs, len(rest)),
        height=top + plot_height + foot,
        min_width=560,
        barmode="stack",
        bargap=0.25,
        margin={"t": top, "b": foot, "r": 48},
        legend={"y": 1 + 6 / plot_height, "traceorder": "normal"},
        xaxis={"title": {"text": "images whose prediction changed"}, "tickformat": "d", "rangemode": "tozero"}
        | ({"dtick": 1} if int(sizes.max()) <= 6 else {}),
        yaxis={
            "range": [len(names) - 0.5, -0.5],
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "showgrid": False,
        },
    )


def _counted(left: Mapping[str, int]) -> str:
    return "" if _UNKNOWN in left else ", ".join(f"{count} {style.label(name)}" for name, count in left.items())


def _parts(
    classes: Sequence[str], transitions: np.ndarray, by_fate: Mapping[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    parts = {_UNKNOWN: transitions} if by_fate is None else dict(by_fate)
    shape = (len(classes), len(classes))
    fits = all(matrix.shape == shape and (matrix >= 0).all() for matrix in (transitions, *parts.values()))
    if not fits or np.diagonal(transitions).any() or not transitions.any():
        raise HeadlensError(
            f"transitions between {len(classes)} classes, none from a class to itself, at least one image",
            f"shape {list(transitions.shape)} with {int(np.asarray(transitions).sum())} images",
            "Pass results.transitions; leave the figure out where no prediction changed.",
        )
    if not np.array_equal(sum(parts.values()), transitions):
        raise HeadlensError(
            "transitions by fate that add up to all transitions",
            f"{ {name: int(matrix.sum()) for name, matrix in parts.items()} } of {int(transitions.sum())} images",
            "Count both from the same predictions.",
        )
    return parts


def _bars(
    name: str, counts: list[int], flows: list[str], fate: Mapping[str, int], total: int, undivided: bool
) -> go.Bar:
    colour, pattern = FATES.get(name, (palette.METHODS[1][0], ""))
    key = f"all changed predictions: {total}" if undivided else f"{style.label(name)}: {fate.get(name, sum(counts))}"
    return go.Bar(
        x=counts,
        y=list(range(len(flows))),
        orientation="h",
        name=key,
        marker={
            "color": colour,
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": palette.PAPER[0], "size": 6},
            "line": {"color": palette.PAPER[0], "width": 1},
        },
        text=[f"<b>{flow}</b><br>{n} images {style.label(name)}" for n, flow in zip(counts, flows, strict=True)],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )


def _key(text: str) -> go.Scatter:
    """A line of the legend that names no mark of the figure."""
    return go.Scatter(x=[None], y=[None], mode="markers", marker={"size": 1, "opacity": 0}, name=text)


def _alt(
    classes: Sequence[str], transitions: np.ndarray, fate: Mapping[str, int], pairs: list[tuple[int, int]], rest: int
) -> str:
    fates = ", ".join(f"{count} {name}" for name, count in fate.items())
    largest = "; ".join(f"{classes[i]} to {classes[j]} ({int(transitions[i, j])})" for i, j in pairs[:3])
    text = f"Bars of where {int(transitions.sum())} changed predictions went: {fates}. The largest flows: {largest}."
    if rest:
        left = int(transitions.sum() - sum(transitions[i, j] for i, j in pairs))
        text += f" {rest} smaller flows hold {left} images."
    return text
