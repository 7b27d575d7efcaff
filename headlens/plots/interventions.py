"""What an ablation does: each head's part in it, random heads beside it, where the changed predictions went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from headlens.heads import HeadId
from headlens.metrics import AssociationChange
from headlens.plots import palette, style
from headlens.plots.accuracy import MOST
from headlens.steps.fairness import HeadShare, TotalEffect

# ---- random heads ---------------------------------------------------------------------------------------------------


def controls(
    values: Float[np.ndarray, "draw"] | Sequence[float],
    observed: float,
    baseline: float,
    title: str = "",
    names: tuple[str, str] = ("located heads", "zero-shot"),
    quantity: str = "",
    measure: Literal["worst_group", "cramers_v"] = "worst_group",
    note: str = "",
) -> go.Figure:
    """A histogram of a measure over random sets of heads, with lines for comparison.

    Args:
        values: the measure under each random set, a fraction.
        observed: the measure under the located heads.
        baseline: the measure with no head touched.
        title: plain text.
        names: how the lines at `observed` and `baseline` are called.
        quantity: the measure's name, for the axis; "" for its usual one.
        measure: "worst_group", of which more is better and which is written in per cent, or "cramers_v", of which less
            is better.
        note: how the sets were drawn, below the figure.

    Raises:
        HeadlensError: for no random set, or a value that is not a number.
    """
    draws = style.array(values).reshape(-1)
    everything = np.array([*draws, observed, baseline])
    style.refuse(
        draws.size > 0 and bool(np.isfinite(everything).all()),
        f"There are {draws.size} random sets, and {int((~np.isfinite(everything)).sum())} values are not numbers.",
        "Leave the figure out where no control was drawn.",
    )
    observed_name, baseline_name = names
    v = measure == "cramers_v"
    form = ".3f" if v else ".1%"
    quantity = quantity or ("Cramér's V" if v else "worst-group accuracy")
    low, high = float(everything.min()), float(everything.max())
    margin = max(0.05 * (high - low), 0.02)
    start, stop = max(low - margin, 0.0), high + margin
    width = max((stop - start) / 50, 0.004)
    counts, edges = np.histogram(draws, bins=np.arange(start, stop + width, width))
    top = max(int(counts.max()), 1)
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2, y=counts, width=width * 0.94, marker={"color": palette.METHODS[1]},
            name=f"{draws.size} random sets of heads",
            text=[
                f"{n} of {draws.size} sets: {a:{form}} to {b:{form}}"
                for n, a, b in zip(counts, edges, edges[1:], strict=False)
            ],
            textposition="none", hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    lines = ((baseline_name, baseline, palette.INK, "dash"), (observed_name, observed, palette.METHODS[2], "solid"))
    for name, value, colour, dash in lines:
        text = f"{style.label(name, 40)} {value:{form}}"
        figure.add_scatter(
            x=[value, value], y=[0, 1.08 * top], mode="lines", name=text, hovertemplate=f"{text}<extra></extra>",
            line={"color": colour, "width": 3, "dash": dash},
        )  # fmt: skip
    reach = int((draws <= observed if v else draws >= observed).sum())
    how = f"are as low as {observed_name}" if v else f"reach {observed_name}"
    digits = (2 if v else 0) + (0 if stop - start > 0.08 else 1)
    return style.finish(
        figure,
        title,
        f"A histogram of {quantity} over {draws.size} random sets of heads, from {draws.min():{form}} to"
        f" {draws.max():{form}}, with lines at {baseline_name} {baseline:{form}}, {observed_name} {observed:{form}}."
        f" {reach} of {draws.size} random sets {how}.",
        plot=(216, 420),
        legend=True,
        note=note,
        xaxis={
            "title": {"text": style.label(quantity)},
            "tickformat": f".{digits}{'f' if v else '%'}",
            "range": [start, stop],
        },
        yaxis={"title": {"text": "random sets"}, "range": [0, 1.1 * top], "tickformat": "d"}
        | ({"dtick": 1} if top <= 6 else {"nticks": 6}),
    )


# ---- each head's part -----------------------------------------------------------------------------------------------

_KINDS = {
    "one head alone": (palette.METHODS[1], ""),
    "direct effect": (palette.METHODS[2], ""),
    "total effect": (palette.METHODS[4], "/"),
}


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    change: float
    hover: str
    interval: tuple[float, float] | None = None
    written: str = ""


def shares(
    shares: Sequence[HeadShare],
    change: AssociationChange,
    total: TotalEffect | None = None,
    title: str = "",
    most: int = MOST,
) -> go.Figure:
    """Bars of the change of Cramér's V: each of several candidates alone, all together, and inside the forward pass.

    To the left V falls. The bars of all candidates have their paired bootstrap interval; those of single heads need not
    add up to them. The direct effect changes what a head writes into the embedding; the total effect lets later layers
    react, and is beside the direct one on the same images.

    Args:
        shares: `results.shares`.
        change: `results.change`, of all candidates together.
        total: `results.total`; None leaves it out.
        title: plain text.
        most: how many candidates are drawn, largest change first; the figure says how many were left out.

    Raises:
        HeadlensError: for no candidate, or no row to draw one in.
    """
    style.refuse(
        bool(shares) and most > 0, f"There are {len(shares)} candidates and {most} rows.", "Pass results.shares."
    )
    ranked = sorted(shares, key=lambda share: -abs(share.change))
    rows = [_alone(share) for share in ranked[:most]] if len(shares) > 1 else []
    rows += _together([share.head for share in shares], change, total)
    figure = go.Figure()
    for kind, (colour, shape) in _KINDS.items():
        places = [i for i, row in enumerate(rows) if row.kind == kind]
        own = [rows[i] for i in places]
        if own:
            x = [row.change for row in own]
            bars = style.bars(
                x, places, [row.hover for row in own], colour, name=kind, marker={"pattern": style.pattern(shape)},
                text=[row.written for row in own], textposition="auto", textangle=0, cliponaxis=False,
            )  # fmt: skip
            if own[0].interval is not None:
                bars.error_x = style.whiskers(x, [row.interval or (0, 0) for row in own], palette.INK)
            figure.add_trace(bars)
    figure.add_vline(x=0, line={"color": palette.AXIS, "width": 1})
    left = len(ranked) - len(ranked[:most])
    return style.finish(
        figure,
        title,
        _shares_in_words(ranked, change, total),
        plot=((30 if total is None else 36) * len(rows) + 8, 460),
        margin={"b": 52, "r": 40},
        legend=True,
        note=f"{left} further candidates, which change V less, are not drawn." if left else "",
        bargap=0.3,
        barmode="overlay",
        showlegend=True,
        xaxis={"title": {"text": "change of Cramér's V"}, "tickformat": ".2~f", "nticks": 7},
        yaxis=style.row_axis([row.name for row in rows]),
    )


def _alone(share: HeadShare) -> _Row:
    part = "" if share.share is None else f"{share.share:.0%}"
    described = f", {part} of what all do together" if part else ""
    hover = f"<b>{share.head}</b> alone: V {share.change:+.3f}, to {share.cramers_v:.3f}{described}"
    hover += f"<br>accuracy {share.accuracy:.1%}"
    return _Row("one head alone", str(share.head), share.change, hover, written=part)


def _together(named: Sequence[HeadId], change: AssociationChange, total: TotalEffect | None) -> list[_Row]:
    heads = str(named[0]) if len(named) == 1 else f"all {len(named)} heads"
    rows = [_effect("direct effect", heads, change)]
    if total is not None:
        same = f"{heads}<br>on {total.images} images"
        where = "class token" if total.tokens == "class" else "all tokens"
        if total.direct.difference != change.difference:
            rows.append(_effect("direct effect", same, total.direct))
        rows.append(_effect("total effect", f"{same}, {where}", total.total))
    return rows


def _effect(kind: str, name: str, change: AssociationChange) -> _Row:
    value, (low, high) = change.difference["cramers_v"], change.interval["cramers_v"]
    hover = (
        f"<b>{name.replace('<br>', ' ')}</b>, {kind}: V {value:+.3f} ({low:+.3f} to {high:+.3f})"
        f"<br>{change.before.cramers_v:.3f} before, {change.after.cramers_v:.3f} after"
    )
    return replace(_Row(kind, name, value, hover), interval=(low, high))


def _shares_in_words(ranked: Sequence[HeadShare], change: AssociationChange, total: TotalEffect | None) -> str:
    described = ", ".join(
        f"{one.head} {one.change:+.3f}" + ("" if one.share is None else f" ({one.share:.0%})") for one in ranked[:8]
    )
    further = f" and {len(ranked) - 8} more" if len(ranked) > 8 else ""
    low, high = change.interval["cramers_v"]
    text = (
        f"Bars of the change of Cramér's V. Each candidate alone: {described}{further}. All together:"
        f" {change.difference['cramers_v']:+.3f} ({change.level:.0%} interval {low:+.3f} to {high:+.3f})."
    )
    if total is not None:
        text += (
            f" On {total.images} images passed again, {total.direct.difference['cramers_v']:+.3f} direct and"
            f" {total.total.difference['cramers_v']:+.3f} in total."
        )
    return text


# ---- where the changed predictions went -----------------------------------------------------------------------------

FATES: dict[str, tuple[str, str]] = {
    "corrected": (palette.METHODS[3], ""),
    "newly wrong": (palette.METHODS[2], "/"),
    "wrong before and after": (palette.METHODS[0], "x"),
}
"""What can become of a changed prediction: the colour and the pattern of its bars."""


def flow(
    classes: Sequence[str],
    transitions: Int[np.ndarray, "class class_after"],
    fate: Mapping[str, int],
    by_fate: Mapping[str, Int[np.ndarray, "class class_after"]] | None = None,
    title: str = "",
    most: int = MOST,
) -> go.Figure:
    """One bar for each of the largest flows, the longest on top; the rest is summed in a line below.

    A flow is the images whose predicted class changed from one given class to another. With six classes there are 30
    of them and with 52 there are 2,652: only the largest are drawn. Corrected, newly wrong and wrong before and after
    are distinguished by colour and by pattern.

    Args:
        classes: the classes' names.
        transitions: how many images moved from one predicted class (row) to another (column).
        fate: of all changed predictions, for the legend.
        by_fate: the transitions of each fate, which add up to `transitions`; None draws the flows undivided.
        title: plain text.
        most: how many flows have a bar.

    Raises:
        HeadlensError: where no prediction changed, a matrix is not classes × classes, has a negative entry or images
            that stay, or the parts by fate do not add up.
    """
    parts = {"changed": transitions} if by_fate is None else dict(by_fate)
    shape = (len(classes), len(classes))
    fits = all(matrix.shape == shape and (matrix >= 0).all() for matrix in (transitions, *parts.values()))
    style.refuse(
        fits and not np.diagonal(transitions).any() and bool(transitions.any()),
        f"The transitions, of shape {list(transitions.shape)} with {int(np.asarray(transitions).sum())} images, are not"
        f" between {len(classes)} classes, none from a class to itself, of at least one image.",
        "Pass results.transitions; leave the figure out where no prediction changed.",
    )
    style.refuse(
        np.array_equal(sum(parts.values()), transitions),
        "The transitions by fate do not add up to all transitions.",
        "Count both from the same predictions.",
    )
    moved = np.argwhere(transitions > 0)
    sizes = transitions[moved[:, 0], moved[:, 1]]
    order = np.argsort(-sizes, kind="stable")
    pairs, rest = moved[order[:most]], moved[order[most:]]
    names = [f"{style.label(classes[i], 24)} → {style.label(classes[j], 24)}" for i, j in pairs]
    total = int(transitions.sum())
    figure = go.Figure()
    for name, matrix in parts.items():
        counts = [int(matrix[i, j]) for i, j in pairs]
        colour, shape_of = FATES.get(name, (palette.METHODS[1], ""))
        key = f"all changed predictions: {total}" if by_fate is None else f"{style.label(name)}: {fate.get(name, 0)}"
        hover = [f"<b>{pair}</b><br>{n} images {style.label(name)}" for n, pair in zip(counts, names, strict=True)]
        marker = {"pattern": style.pattern(shape_of), "line": {"color": palette.PAPER, "width": 1}}
        figure.add_trace(style.bars(counts, range(len(names)), hover, colour, name=key, marker=marker))
    if by_fate is None:  # keys of the legend that name no mark of the figure
        for name, count in fate.items():
            figure.add_scatter(
                x=[None], y=[None], mode="markers", marker={"opacity": 0}, name=f"of them {style.label(name)}: {count}"
            )
    note = ""
    if len(rest):
        left = {name: int(matrix[rest[:, 0], rest[:, 1]].sum()) for name, matrix in parts.items()}
        described = "" if by_fate is None else f": {', '.join(f'{count} {name}' for name, count in left.items())}"
        note = f"{len(rest)} smaller flows together: {sum(left.values())} images{described}."
    fates = ", ".join(f"{count} {name}" for name, count in fate.items())
    largest = "; ".join(f"{classes[i]} to {classes[j]} ({int(transitions[i, j])})" for i, j in pairs[:3])
    return style.finish(
        figure,
        title,
        f"Bars of where {total} changed predictions went: {fates}. The largest flows: {largest}.",
        plot=(26 * len(names) + 10, 560),
        margin={"b": 52, "r": 48},
        legend=True,
        note=note,
        barmode="stack",
        bargap=0.25,
        showlegend=True,
        xaxis={"title": {"text": "images whose prediction changed"}, "tickformat": "d", "rangemode": "tozero"}
        | ({"dtick": 1} if int(sizes.max()) <= 6 else {}),
        yaxis=style.row_axis(names),
    )
