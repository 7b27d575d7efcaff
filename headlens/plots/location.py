"""Where the mistakes and the right answers of conflicting images come from: V_C, V_W and their difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.heads import HeadId, as_heads
from headlens.locate import Location
from headlens.plots import grid, palette, style


def location(location: Location, title: str = "") -> go.Figure:
    """Three heatmaps side by side: V_C, V_W and V_W − V_C, located heads outlined.

    V_C[l, h] is the share of the rightly classified images whose strongest head is (l, h), or its mean score over them
    where the locator gives soft credit; V_W the same over the wrongly classified ones (METHODS: contrastive
    attribution). The first two panels share a scale; that of the third is centred on zero. A locator that looks at the
    right images alone, as that of an attribute's own heads does, gets the first panel alone.

    Args:
        location: the result of a locator; `spurious` heads are outlined with a full line, `salient` ones
            with dots.
        title: plain text.

    Raises:
        LocateError: for a located head outside the grid.
    """
    shown = _shown(location)
    n_layers, n_heads = shown.values[0].shape
    spurious = as_heads(location.spurious, n_layers, n_heads)
    salient = as_heads(location.salient, n_layers, n_heads)
    alone = len(shown.values) == 1

    figure = make_subplots(
        cols=len(shown.values), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=shown.titles
    )
    kinds = (
        (spurious, palette.SPURIOUS[0], f"spurious: {grid.in_words(spurious)}", "solid"),
        (salient, palette.SALIENT[0], f"{shown.salient}: {grid.in_words(salient)}", "2px,2px"),
    )[1 if alone and not spurious else 0 :]
    numbers = np.stack(shown.values, axis=-1).astype(np.float32)
    names = dict.fromkeys(salient, f" ({shown.salient})") | dict.fromkeys(spurious, " (spurious)")
    roles = [[names.get(HeadId(i, j), "") for j in range(n_heads)] for i in range(n_layers)]
    for col, values in enumerate(shown.values, start=1):
        axis = "coloraxis2" if col == 3 else "coloraxis"
        figure.add_trace(grid.cells(values, axis, shown.hover, customdata=numbers, text=roles), row=1, col=col)
        for trace in grid.outlines(kinds, legend=col == 1):
            figure.add_trace(trace, row=1, col=col)
    panel = max(210, min(16 * n_heads, 420)) if not alone else max(330, min(40 * n_heads, 640))
    plot_height = max(150, min(17 * n_layers, 520))
    figure.update_xaxes(grid.head_axis(n_heads, room=panel))
    figure.update_yaxes(grid.layer_axis(n_layers, room=plot_height, title=False))
    figure.update_yaxes(title_text="layer", col=1)
    figure.update_annotations(font_size=13)
    share = grid.limit(np.stack(shown.values[:2]))
    signed = any((values < 0).any() for values in shown.values[:2])
    top = _TOP + (28 if title else 0)
    bar = grid.lying_bar(figure, shown.unit, 0.5 if alone else 0.323, round(0.9 * min(panel, 400)), 54, plot_height)
    figure.update_layout(coloraxis=_scale(share, signed, bar))
    if not alone:
        gap = grid.limit(shown.values[2])
        bar = grid.lying_bar(figure, shown.difference, 0.843, round(0.9 * panel), 54, plot_height)
        figure.update_layout(coloraxis2=_scale(gap, True, bar))
    return style.finish(
        figure,
        title,
        _alt(location, shown, spurious, salient),
        height=top + plot_height + _BOTTOM,
        min_width=len(shown.values) * panel + (110 if not alone else 74),
        margin={"t": top, "b": _BOTTOM, "l": 48, "r": 16},
        legend={"y": 1 + 26 / plot_height},
    )


@dataclass(frozen=True)
class _Shown:
    """What a location's panels hold, and how they are spoken of."""

    values: tuple[np.ndarray, ...]
    titles: tuple[str, ...]
    unit: str
    difference: str
    salient: str
    hover: str
    words: str


def _shown(location: Location) -> _Shown:
    right, wrong = style.array(location.correct), style.array(location.wrong)
    soft = location.method.endswith("-soft")
    unit, difference = ("mean score", "difference of scores") if soft else ("share of images", "difference of shares")
    words = "a head's mean score over" if soft else "the share of images whose strongest head it is, among"
    if location.n_wrong == 0 and location.n_correct > 0 and not wrong.any():
        return _Shown(
            (right,), ("rightly classified: V",), unit, difference, "located", _HOVER_ALONE,
            f"{words} the {location.n_correct} rightly classified ones. A head is located where it exceeds",
        )  # fmt: skip
    return _Shown(
        (right, wrong, wrong - right),
        ("rightly classified: V<sub>C</sub>", "wrongly classified: V<sub>W</sub>", _DIFFERENCE),
        unit,
        difference,
        "salient",
        _HOVER,
        f"{words} the {location.n_correct} rightly and the {location.n_wrong} wrongly classified ones, and the"
        " difference. A head is located where the difference exceeds",
    )


def _scale(end: float, signed: bool, bar: dict) -> dict:
    return {
        "colorscale": palette.scale(palette.DIVERGING if signed else palette.SEQUENTIAL),
        "cmin": -end if signed else 0,
        "cmax": end,
        "colorbar": bar,
    }


_HOVER = (
    "<b>head %{y}.%{x}</b>%{text}<br>V<sub>C</sub> %{customdata[0]:.4f}<br>V<sub>W</sub> %{customdata[1]:.4f}"
    "<br>difference %{customdata[2]:+.4f}<extra></extra>"
)
_HOVER_ALONE = "<b>head %{y}.%{x}</b>%{text}<br>V %{customdata[0]:.4f}<extra></extra>"
_DIFFERENCE = "difference: V<sub>W</sub> − V<sub>C</sub>"
_TOP, _BOTTOM = 70, 112


def _alt(location: Location, shown: _Shown, spurious: tuple[HeadId, ...], salient: tuple[HeadId, ...]) -> str:
    right = shown.values[0]
    n_layers, n_heads = right.shape
    alone = len(shown.values) == 1
    panels = "A heatmap" if alone else "Three heatmaps"
    parts = [f"{panels} of {n_layers} layers by {n_heads} heads: {shown.words} {location.threshold:.4f}."]
    of = " of the {} images" if shown.unit == "share of images" else " over the {} images"
    for name, heads in (("Spurious", spurious), (shown.salient.capitalize(), salient)):
        if alone and name == "Spurious" and not heads:
            continue
        parts.append(f"{name} heads: {grid.in_words(heads)}.")
        if heads and alone:
            parts.append(f"The first, {heads[0]}, has {right[heads[0]]:.3f}{of.format('right')}.")
        elif heads:
            h, ours = heads[0], f"{of.format('wrong')}."
            first = f"{right[h]:.3f}{of.format('right').removesuffix(' images')}"
            parts.append(f"The first, {h}, has {first} and {shown.values[1][h]:.3f}{ours}")
    return " ".join(parts)
