"""Which heads carry an attribute: the concept scores of all heads, candidates and half-flagged heads outlined."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.heads import HeadId, as_heads
from headlens.locate import Candidates
from headlens.plots import grid, palette, style


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
    if candidates.concept is None and candidates.spans is None:
        raise HeadlensError(
            "candidates with the scores of a test", f"those of {candidates.method!r} without", "Leave the figure out."
        )
    scores = candidates.scores()
    values = style.array(scores.values)
    n_layers, n_heads = values.shape
    named = as_heads(candidates.spurious, n_layers, n_heads)
    end = grid.limit(values)
    ends = (-end if (values < 0).any() else 0.0, end)
    hover = [[_hover(candidates, HeadId(i, j)) for j in range(n_heads)] for i in range(n_layers)]
    figure = go.Figure(grid.cells(values, "coloraxis", "%{text}<extra></extra>", text=hover))
    kinds = [(named, palette.SPURIOUS[0], f"candidates: {grid.in_words(named)}", "solid"), *_half_flagged(candidates)]
    figure.add_traces(grid.outlines(kinds))
    figure.add_trace(grid.head_labels(named, values, ends))
    unit = "part of the<br>distance" if scores.name == "concept part" else "share of<br>variance"
    name = scores.name if title is None else title
    height, min_width = grid.size(n_layers, n_heads)
    return style.finish(
        figure,
        name,
        _alt(candidates, values, named),
        height=height + 20 * len(kinds),
        min_width=min_width,
        margin={"t": 44 + 20 * len(kinds) + (24 if name else 0)},
        legend={"orientation": "v"},
        xaxis=grid.head_axis(n_heads, room=40 * n_heads),
        yaxis=grid.layer_axis(n_layers, room=height - 110),
        coloraxis={
            "colorscale": palette.scale(palette.SEQUENTIAL if ends[0] == 0 else palette.DIVERGING),
            "cmin": ends[0],
            "cmax": ends[1],
            "colorbar": {
                **grid.colour_bar(),
                "title": {"text": unit, "side": "top", "font": {"size": 12}},
                "tickformat": ".1~%",
            },
        },
    )


def _half_flagged(candidates: Candidates) -> list[tuple[tuple[HeadId, ...], str, str, str]]:
    """The kinds of heads that one of two tests flags and the other does not; none where there was one test."""
    if candidates.concept is None or candidates.spans is None:
        return []
    tests = (
        (candidates.concept.flagged, "by concept vectors alone", "5px,3px"),
        (candidates.spans.flagged, "by TextSpan alone", "2px,2px"),
    )
    kinds = []
    for flagged, how, dash in tests:
        alone = tuple(head for head in flagged if head not in candidates.spurious)
        if alone:
            kinds.append((alone, palette.INK_SOFT[0], f"{how}: {grid.in_words(alone)}", dash))
    return kinds


def _hover(candidates: Candidates, head: HeadId) -> str:
    lines = [f"<b>head {head}</b>" + (" (candidate)" if head in candidates.spurious else "")]
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


def _alt(candidates: Candidates, array: np.ndarray, named: tuple[HeadId, ...]) -> str:
    scores = candidates.scores()
    n_layers, n_heads = array.shape
    over = "" if scores.threshold is None else f" A head needs {scores.threshold:.3g} to be flagged."
    first = f" The first, {named[0]}, has {array[named[0]]:.3g}." if named else ""
    half = "".join(f" Flagged {name}." for _, _, name, _ in _half_flagged(candidates))
    return (
        f"A heatmap of the {scores.name} of {n_layers} layers by {n_heads} heads, up to {array.max():.3g}.{over}"
        f" Candidates ({candidates.method}): {grid.in_words(named)}.{first}{half}"
    )
