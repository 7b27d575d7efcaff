"""What all heads encode, at a glance: the variance that texts explain, with each head's label and first texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.explain import Explanation
from headlens.explain.label import NO_CLEAR_MEANING
from headlens.heads import HeadId, as_heads
from headlens.plots import grid, palette, style

_WORDS = 68  # pixels that a category takes, on two lines if need be
_MOST_WITH_WORDS = 12  # heads of a layer: with more the words would not fit a page
_TEXTS = 5
_LEAST = 0.1  # of the variance: heads that differ by less should look alike


def overview(
    explanations: Mapping[HeadId, Explanation], title: str = "", shape: tuple[int, int] | None = None
) -> go.Figure:
    """A heatmap of the share of every head's variance that its texts explain; the pointer shows label and texts.

    Where the heads of a layer are few, each cell names the head's leading category; where they are many, a stroke marks
    the heads without a clear meaning. Heads that were not explained are left blank.

    Args:
        explanations: `audit.explain()`.
        title: plain text.
        shape: layers, and heads of a layer; None for the largest that are among the explanations.

    Raises:
        HeadlensError: for no explanation.
        LocateError: for an explained head outside the shape.
    """
    if not explanations:
        raise HeadlensError("the explanation of at least one head", "none", "Call audit.explain() first.")
    n_layers, n_heads = shape or (1 + max(h.layer for h in explanations), 1 + max(h.head for h in explanations))
    as_heads(explanations, n_layers, n_heads)
    values = np.full((n_layers, n_heads), np.nan)
    text = [[f"<b>head {i}.{j}</b>: not explained" for j in range(n_heads)] for i in range(n_layers)]
    for head, one in explanations.items():
        values[head] = one.explained
        text[head.layer][head.head] = _hover(one)
    words = n_heads <= _MOST_WITH_WORDS
    height, min_width = grid.size(n_layers, n_heads)
    if words:
        height, min_width = max(height, 110 + 40 * n_layers), 120 + _WORDS * n_heads
    low, high = grid.extent(values)
    ends = (min(low, high - _LEAST), high)
    figure = go.Figure(grid.cells(values, "coloraxis", "%{text}<extra></extra>", text=text))
    figure.add_trace(_marks(explanations, values, ends, words))
    return style.finish(
        figure,
        title,
        _alt(explanations, n_layers, n_heads),
        height=height if title else height - 32,
        min_width=min_width,
        margin={"t": 56 if title else 24},
        xaxis=grid.head_axis(n_heads, room=40 * n_heads),
        yaxis=grid.layer_axis(n_layers, room=height - 110),
        coloraxis={
            "colorscale": palette.scale(palette.SEQUENTIAL),
            "cmin": ends[0],
            "cmax": ends[1],
            "colorbar": {
                **grid.colour_bar(),
                "title": {"text": "variance<br>explained", "side": "top", "font": {"size": 12}},
                "tickformat": ".0%",
            },
        },
    )


def _hover(one: Explanation) -> str:
    lines = [
        f"<b>head {one.head}: {style.label(one.label, 70)}</b>",
        f"{one.explained:.0%} of its variance explained by {len(one.texts)} texts",
        *(
            f"{share:.1%} {style.label(text, 70)}"
            for text, share in list(zip(one.texts, one.share, strict=True))[:_TEXTS]
        ),
    ]
    if one.uniqueness is not None:
        lines.append(f"uniqueness of its texts {one.uniqueness:.2f}")
    return "<br>".join(lines)


def _marks(
    explanations: Mapping[HeadId, Explanation], values: np.ndarray, ends: tuple[float, float], words: bool
) -> go.Scatter:
    strong = grid.strong_cells(values, ends)
    marked = [head for head, one in explanations.items() if words or one.label == NO_CLEAR_MEANING]
    return go.Scatter(
        x=[h.head for h in marked],
        y=[h.layer for h in marked],
        text=[_word(explanations[h]) for h in marked],
        mode="text",
        textfont={"size": 10, "color": [palette.INK_STRONG[0] if strong[h] else palette.INK[0] for h in marked]},
        hoverinfo="skip",
        showlegend=False,
    )


def _word(one: Explanation) -> str:
    """The leading category on at most two lines; a stroke for a head without a clear meaning."""
    if one.label == NO_CLEAR_MEANING or not one.by_category:
        return "–"
    name = style.shorten(style.plain(next(iter(one.by_category))), 24)
    cut = name.rfind(" ", 0, 13)
    if len(name) <= 12 or cut <= 0:
        return style.label(name, 12)
    return f"{style.label(name[:cut], 12)}<br>{style.label(name[cut:].strip(), 12)}"


def _alt(explanations: Mapping[HeadId, Explanation], n_layers: int, n_heads: int) -> str:
    clear = [(h, one) for h, one in explanations.items() if one.label != NO_CLEAR_MEANING]
    best = sorted(clear, key=lambda item: -item[1].explained)[:5]
    told = "; ".join(f"{h} {one.label} ({one.explained:.0%})" for h, one in best)
    return (
        f"A heatmap of {n_layers} layers by {n_heads} heads: the share of a head's variance that its texts explain."
        f" {len(explanations)} heads are explained, {len(explanations) - len(clear)} of them without a clear meaning."
        + (f" Best explained: {told}." if told else "")
    )
