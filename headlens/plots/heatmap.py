"""One number for every head, layers upwards, heads to the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from headlens.errors import HeadlensError
from headlens.heads import HeadScores, as_heads
from headlens.plots import grid, palette, style


def heatmap(
    scores: HeadScores | Float[Tensor, "layer head"] | Float[np.ndarray, "layer head"],
    selected: Sequence[tuple[int, int]] | None = None,
    title: str | None = None,
    unit: str = "",
    diverging: bool | None = None,
    hover_extra: Sequence[Sequence[str]] | None = None,
) -> go.Figure:
    """The scores of all heads as a heatmap; the last layer is on top, selected heads are outlined and named.

    Args:
        scores: one number a head. A value that is not a number is left blank.
        selected: heads to outline, as (layer, head); None for the selection of `HeadScores`.
        title: plain text; None for the name of `HeadScores`.
        unit: what the numbers are, beside the colour bar and after the number that the pointer shows.
        diverging: a scale centred on zero, as far to both sides; False for one from the smallest to the
            largest. None chooses the first where a score is below zero.
        hover_extra: [layer, head] further plain text for the pointer, one line a head.

    Raises:
        LocateError: for a selected head outside the grid, or named twice.
        HeadlensError: for a `hover_extra` that does not have the shape of the scores.
    """
    if isinstance(scores, HeadScores):
        selected = scores.selection if selected is None else selected
        title = scores.name if title is None else title
        values = style.array(scores.values)
    else:
        values = style.array(scores)
    if diverging is None:
        diverging = bool((values[np.isfinite(values)] < 0).any())
    n_layers, n_heads = values.shape
    heads = as_heads(selected or (), n_layers, n_heads)
    if hover_extra is not None and [len(row) for row in hover_extra] != [n_heads] * n_layers:
        raise HeadlensError(
            f"hover_extra with one text for each of {n_layers} layers × {n_heads} heads",
            f"rows of {sorted({len(row) for row in hover_extra})} texts, {len(hover_extra)} rows",
            "Give one list a layer, with one text a head.",
        )

    def hover(layer: int, head: int) -> str:
        value = values[layer, head]
        number = f"{value:.4g}" if np.isfinite(value) else "not a number"
        lines = [f"<b>head {layer}.{head}</b>: {number}" + (f" {style.label(unit)}" if unit else "")]
        if (layer, head) in heads:
            lines.append("selected")
        if hover_extra is not None and hover_extra[layer][head]:
            lines.append(style.label(hover_extra[layer][head], 90))
        return "<br>".join(lines)

    text = [[hover(layer, head) for head in range(n_heads)] for layer in range(n_layers)]
    figure = go.Figure(grid.cells(values, "coloraxis", "%{text}<extra></extra>", text=text))
    end = grid.limit(values)
    ends = (-end, end) if diverging else grid.extent(values)
    if heads:
        figure.add_traces(grid.outlines([(heads, palette.INK[0], "selected", "solid")], legend=False))
        figure.add_trace(grid.head_labels(heads, values, ends))
    height, min_width = grid.size(n_layers, n_heads)
    return style.finish(
        figure,
        title or "",
        _alt(values, heads, title or "A score", unit),
        height=height,
        min_width=min_width,
        xaxis=grid.head_axis(n_heads, room=40 * n_heads),
        yaxis=grid.layer_axis(n_layers, room=height - 110),
        coloraxis={
            "colorscale": palette.scale(palette.DIVERGING if diverging else palette.SEQUENTIAL),
            "cmin": ends[0],
            "cmax": ends[1],
            "colorbar": grid.colour_bar(unit),
        },
    )


def _alt(values: np.ndarray, heads: Sequence[tuple[int, int]], name: str, unit: str) -> str:
    n_layers, n_heads = values.shape
    text = f"{name}: a heatmap of {n_layers} layers by {n_heads} heads"
    if np.isfinite(values).any():
        top = np.unravel_index(int(np.nanargmax(np.where(np.isfinite(values), values, np.nan))), values.shape)
        bottom = np.unravel_index(int(np.nanargmin(np.where(np.isfinite(values), values, np.nan))), values.shape)
        suffix = f" {unit}" if unit else ""
        text += (
            f", from {values[bottom]:.3g}{suffix} (head {bottom[0]}.{bottom[1]})"
            f" to {values[top]:.3g}{suffix} (head {top[0]}.{top[1]})"
        )
    return f"{text}. Selected heads: {grid.in_words(heads)}."
