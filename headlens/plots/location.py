"""Where the mistakes and the right answers of conflicting images come from: V_C, V_W and their difference."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.heads import HeadId, as_heads
from headlens.locate import Location
from headlens.plots import grid, palette, style


def location(location: Location, title: str = "") -> go.Figure:
    """Three heatmaps side by side: V_C, V_W and V_W − V_C, located heads outlined.

    V_C[l, h] is the share of the rightly classified images whose strongest head is (l, h), V_W the share of
    the wrongly classified ones (METHODS: contrastive attribution). The first two panels share a scale; that
    of the third is centred on zero.

    Args:
        location: the result of a locator; `spurious` heads are outlined with a full line, `salient` ones
            with dots.
        title: plain text.

    Raises:
        LocateError: for a located head outside the grid.
    """
    right, wrong = style.array(location.correct), style.array(location.wrong)
    difference = wrong - right
    n_layers, n_heads = difference.shape
    spurious = as_heads(location.spurious, n_layers, n_heads)
    salient = as_heads(location.salient, n_layers, n_heads)

    figure = make_subplots(
        cols=3,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=(
            "rightly classified: V<sub>C</sub>",
            "wrongly classified: V<sub>W</sub>",
            _DIFFERENCE,
        ),
    )
    kinds = (
        (spurious, palette.SPURIOUS[0], f"spurious: {grid.in_words(spurious)}", "solid"),
        (salient, palette.SALIENT[0], f"salient: {grid.in_words(salient)}", "2px,2px"),
    )
    numbers = np.stack([right, wrong, difference], axis=-1).astype(np.float32)
    names = dict.fromkeys(salient, " (salient)") | dict.fromkeys(spurious, " (spurious)")
    roles = [[names.get(HeadId(i, j), "") for j in range(n_heads)] for i in range(n_layers)]
    for col, values in enumerate((right, wrong, difference), start=1):
        axis = "coloraxis2" if col == 3 else "coloraxis"
        figure.add_trace(grid.cells(values, axis, _HOVER, customdata=numbers, text=roles), row=1, col=col)
        for trace in grid.outlines(kinds, legend=col == 1):
            figure.add_trace(trace, row=1, col=col)
    panel = max(210, min(16 * n_heads, 420))
    plot_height = max(150, min(17 * n_layers, 520))
    figure.update_xaxes(grid.head_axis(n_heads, room=panel))
    figure.update_yaxes(grid.layer_axis(n_layers, room=plot_height, title=False))
    figure.update_yaxes(title_text="layer", col=1)
    figure.update_annotations(font_size=13)
    share, gap = grid.limit(np.stack([right, wrong])), grid.limit(difference)
    top = _TOP + (28 if title else 0)
    bars = [
        grid.lying_bar(figure, text, x, round(0.9 * panel), 54, plot_height)
        for text, x in (("share of images", 0.323), ("difference of shares", 0.843))
    ]
    return style.finish(
        figure,
        title,
        _alt(location, right, wrong, spurious, salient),
        height=top + plot_height + _BOTTOM,
        min_width=3 * panel + 110,
        margin={"t": top, "b": _BOTTOM, "l": 48, "r": 16},
        legend={"y": 1 + 26 / plot_height},
        coloraxis={
            "colorscale": palette.scale(palette.SEQUENTIAL),
            "cmin": 0,
            "cmax": share,
            "colorbar": bars[0],
        },
        coloraxis2={
            "colorscale": palette.scale(palette.DIVERGING),
            "cmin": -gap,
            "cmax": gap,
            "colorbar": bars[1],
        },
    )


_HOVER = (
    "<b>head %{y}.%{x}</b>%{text}<br>V<sub>C</sub> %{customdata[0]:.4f}<br>V<sub>W</sub> %{customdata[1]:.4f}"
    "<br>difference %{customdata[2]:+.4f}<extra></extra>"
)
_DIFFERENCE = "difference: V<sub>W</sub> − V<sub>C</sub>"
_TOP, _BOTTOM = 70, 112


def _alt(
    location: Location,
    right: np.ndarray,
    wrong: np.ndarray,
    spurious: tuple[HeadId, ...],
    salient: tuple[HeadId, ...],
) -> str:
    n_layers, n_heads = right.shape
    parts = [
        f"Three heatmaps of {n_layers} layers by {n_heads} heads: the share of images whose strongest head it"
        f" is, among the {location.n_correct} rightly and the {location.n_wrong} wrongly classified ones, and the"
        f" difference. A head is located where the difference exceeds {location.threshold:.4f}."
    ]
    for name, heads in (("Spurious", spurious), ("Salient", salient)):
        parts.append(f"{name} heads: {grid.in_words(heads)}.")
        if heads:
            h = heads[0]
            parts.append(f"The first, {h}, has {right[h]:.3f} of the right and {wrong[h]:.3f} of the wrong images.")
    return " ".join(parts)
