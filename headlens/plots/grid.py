"""The layers × heads grid that the heatmaps share: cells, hover, outlines, axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from headlens.heads import HeadId
from headlens.plots import palette, style


def limit(values: np.ndarray) -> float:
    """The end of a scale that holds every finite value; 1 where all are zero."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0


def extent(values: np.ndarray) -> tuple[float, float]:
    """The ends of a scale from the smallest to the largest finite value, never one and the same."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def size(n_layers: int, n_heads: int) -> tuple[int, int]:
    """The height of one heatmap of all heads, and the width that it needs, in pixels."""
    return max(260, min(640, 110 + 30 * n_layers)), max(360, 90 + 40 * n_heads)


def cells(values: np.ndarray, coloraxis: str, hovertemplate: str, **shown: Any) -> go.Heatmap:
    """One cell a head; `shown` is the text or the numbers that `hovertemplate` speaks of, [layer, head]."""
    return go.Heatmap(
        z=values, hovertemplate=hovertemplate, coloraxis=coloraxis, xgap=1, ygap=1, hoverongaps=True, **shown
    )


def outlines(kinds: Sequence[tuple[Sequence[HeadId], str, str, str]], legend: bool = True) -> list[go.Scatter]:
    """Rectangles around heads, on a wider line in the colour of the paper, to stand out from any cell.

    Args:
        kinds: for each kind of heads: the heads, the colour, the name in the legend (escaped), plotly's dash.
        legend: whether the legend tells of them.
    """
    halos, lines = [], []
    for heads, colour, name, dash in kinds:
        x: list[float | None] = []
        y: list[float | None] = []
        for layer, head in heads:
            left, right, low, high = head - _BOX, head + _BOX, layer - _BOX, layer + _BOX
            x += [left, right, right, left, left, None]
            y += [low, low, high, high, low, None]
        shared: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip", "legendgroup": name, "x": x, "y": y}
        halos.append(go.Scatter(line={"color": palette.PAPER[0], "width": 4.5}, showlegend=False, **shared))
        lines.append(
            go.Scatter(line={"color": colour, "width": 2.2, "dash": dash}, name=name, showlegend=legend, **shared)
        )
    return halos + lines


_BOX = 0.45  # half a side; neighbouring boxes must not share a line


def head_labels(heads: Sequence[HeadId], values: np.ndarray, ends: tuple[float, float]) -> go.Scatter:
    """The names of heads inside their cells, in ink that stands out from the cell; `ends` are those of the scale."""
    strong = strong_cells(values, ends)
    return go.Scatter(
        x=[h.head for h in heads],
        y=[h.layer for h in heads],
        text=[str(h) for h in heads],
        mode="text",
        textfont={"size": 10, "color": [palette.INK_STRONG[0] if strong[h] else palette.INK[0] for h in heads]},
        hoverinfo="skip",
        showlegend=False,
    )


def strong_cells(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Which cells are so dark (on dark paper: so bright) that the paper's ink would be lost on them."""
    low, high = ends
    if low == -high:
        return np.abs(values) > 0.6 * high
    return values - low > 0.65 * (high - low)


def head_axis(n_heads: int, room: int) -> dict[str, Any]:
    """The axis of heads, ticks as dense as `room` pixels allow."""
    return {
        "title": {"text": "head"},
        "range": [-0.5, n_heads - 0.5],
        "tickmode": "array",
        "tickvals": _ticks(n_heads, room // 22),
        "showgrid": False,
        "ticks": "",
    }


def layer_axis(n_layers: int, room: int, title: bool = True) -> dict[str, Any]:
    """The axis of layers, the last on top."""
    return {
        **({"title": {"text": "layer"}} if title else {}),
        "range": [-0.5, n_layers - 0.5],
        "tickmode": "array",
        "tickvals": _ticks(n_layers, room // 15),
        "showgrid": False,
        "ticks": "",
    }


def _ticks(count: int, most: int) -> list[int]:
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100) if count <= s * max(most, 1) or s == 100)
    return list(range(0, count, step))


def colour_bar(title: str = "", **place: Any) -> dict[str, Any]:
    """The look of a colour bar; the title is plain text."""
    return {
        "title": {"text": style.label(title, 40), "side": "top", "font": {"size": 12}},
        "thickness": 12,
        "outlinewidth": 0,
        "tickfont": {"size": 11},
        **place,
    }


def lying_bar(figure: go.Figure, title: str, x: float, length: int, below: int, plot_height: int) -> dict[str, Any]:
    """A colour bar under the plot, with its title above it.

    Plotly lets the title of a lying bar run into the bar, so the title is an annotation.

    Args:
        figure: gets the annotation.
        title: plain text.
        x: the middle of the bar, as a share of the width of the plot.
        length: in pixels.
        below: pixels between the plot and the title.
        plot_height: pixels of the plot.
    """
    figure.add_annotation(
        x=x, xref="paper", xanchor="center", y=0, yref="paper", yanchor="top", yshift=-below,
        text=style.label(title, 40), showarrow=False, font={"size": 12},
    )  # fmt: skip
    place: dict[str, Any] = {
        "orientation": "h",
        "x": x,
        "xanchor": "center",
        "xpad": 0,
        "lenmode": "pixels",
        "len": length,
    }
    return colour_bar(y=-(below + 20) / plot_height, yanchor="top", ypad=0, **place)


def in_words(heads: Iterable[tuple[int, int]], most: int = 8) -> str:
    """ "10.3, 9.1 and 4 more"; "none" for no heads."""
    names = [str(HeadId(*h)) for h in heads]
    if not names:
        return "none"
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
