"""What a head reads where: per-token maps over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from PIL import Image
from plotly.subplots import make_subplots
from torch import Tensor

from headlens.errors import HeadlensError
from headlens.plots import grid, palette, style
from headlens.plots.embedded import picture_uri

_SIDE = 224  # pixels of an embedded picture's longer side: more would not be seen, and the file has to stay small
_PALE = [90 + round(0.62 * level) for level in range(256)]  # colours would drown in the dark of a grey picture
_CELL = 132  # pixels of a picture's width on the page


def tokens(
    images: Sequence[UInt8[np.ndarray, "height width 3"]],
    maps: Mapping[str, Float[Tensor, "image row column"] | Float[np.ndarray, "image row column"]],
    titles: Sequence[str] = (),
    title: str = "",
    unit: str = "contribution",
) -> go.Figure:
    """A column an image: the image, and below it one map a row laid over the image in grey.

    A map is drawn transparent at zero, blue below and orange above, on one scale for the whole figure, which
    reaches as far to both sides.

    Args:
        images: pixels as the person knows them, before the model's normalisation, cropped as the model saw
            them.
        maps: rows by name ("10.3"), each with the numbers of every image at the resolution of the patches.
        titles: one text an image.
        title: plain text.
        unit: what the numbers are, beside the colour bar.

    Raises:
        HeadlensError: for no image, or for maps or titles that are not as many as the images.
    """
    layers = {name: style.array(values) for name, values in maps.items()}
    counts = {"titles": len(titles) or len(images)} | {f"maps {k!r}": len(v) for k, v in layers.items()}
    for what, count in counts.items():
        if not images or count != len(images):
            raise HeadlensError(
                "as many maps and titles as images, at least one",
                f"{count} {what} for {len(images)} images",
                "Give every row one map an image, and every image a title or none at all.",
            )
    rows, cols = 1 + len(layers), len(images)
    shape = max(image.shape[0] / image.shape[1] for image in images)
    names = ["", *(_wrapped(name, 11) for name in layers)]
    head, foot, gap, left = 8 + (36 if titles else 0) + (32 if title else 0), 66, 8, 84
    cell_height = round(_CELL * shape)
    inner = (cols * _CELL + (cols - 1) * gap, rows * cell_height + (rows - 1) * gap)
    figure = make_subplots(
        rows=rows,
        cols=cols,
        horizontal_spacing=gap / inner[0] if cols > 1 else 0,
        vertical_spacing=gap / inner[1] if rows > 1 else 0,
    )
    end = grid.limit(np.concatenate([v.reshape(-1) for v in layers.values()])) if layers else 1.0
    for col, image in enumerate(images, start=1):
        height, width = image.shape[:2]
        row_maps: list[str | None] = [None, *layers]
        for row, map_name in enumerate(row_maps, start=1):
            figure.add_layout_image(
                source=data_uri(image, grey=map_name is not None),
                row=row,
                col=col,
                layer="below",
                **_whole(width, height),
            )
            figure.add_trace(
                _outline(width, height)
                if map_name is None
                else _map(layers[map_name][col - 1], map_name, width, height),
                row=row,
                col=col,
            )
            figure.update_xaxes(range=[0, width], visible=False, constrain="domain", row=row, col=col)
            figure.update_yaxes(
                range=[height, 0], visible=False, constrain="domain", row=row, col=col,
                scaleanchor=f"x{(row - 1) * cols + col if (row, col) != (1, 1) else ''}",
            )  # fmt: skip
    total = left + inner[0] + 24, head + inner[1] + foot
    for col, text in enumerate(titles):
        figure.add_annotation(
            x=(col * (_CELL + gap) + _CELL / 2) / inner[0], y=1, yanchor="bottom", xanchor="center",
            text=_wrapped(text, 20), xref="paper", yref="paper", showarrow=False, font_size=12, yshift=4,
        )  # fmt: skip
    for row, text in enumerate(names):
        figure.add_annotation(
            x=0, xshift=-8, y=1 - (row * (cell_height + gap) + cell_height / 2) / inner[1], xanchor="right",
            text=text, xref="paper", yref="paper", showarrow=False, font_size=12,
        )  # fmt: skip
    length = min(inner[0], 320)
    bar = grid.lying_bar(figure, unit, length / 2 / inner[0], length, 10, inner[1])
    return style.finish(
        figure,
        title,
        _alt(len(images), layers, titles),
        height=total[1],
        width=total[0],
        min_width=total[0],
        margin={"l": left, "r": 24, "t": head, "b": foot},
        showlegend=False,
        coloraxis={
            "colorscale": palette.overlay(),
            "cmin": -end,
            "cmax": end,
            "colorbar": bar,
        },
    )


def data_uri(image: UInt8[np.ndarray, "height width 3"], grey: bool = False) -> str:
    """A picture as a data URI, at most 224 pixels long: PNG where that is small, else JPEG."""
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    if grey:
        picture = picture.convert("L").point(_PALE)
    return picture_uri(picture, 16_000, 82)


def _whole(width: int, height: int) -> dict[str, Any]:
    """Where a picture lies: it fills the axes of its cell, whose unit is its own pixel."""
    return {"x": 0, "y": 0, "sizex": width, "sizey": height, "xref": "x", "yref": "y", "sizing": "stretch"}


def _outline(width: int, height: int) -> go.Scatter:
    """Axes with no trace would not be drawn, nor the picture on them."""
    return go.Scatter(x=[0, width], y=[0, height], mode="markers", marker_opacity=0, hoverinfo="skip")


def _map(values: np.ndarray, name: str, width: int, height: int) -> go.Heatmap:
    rows, columns = values.shape
    text = [
        [f"<b>{style.label(name, 24)}</b>, row {r}, column {c}: {values[r, c]:+.4g}" for c in range(columns)]
        for r in range(rows)
    ]
    return go.Heatmap(
        z=values,
        x=(np.arange(columns) + 0.5) * width / columns,
        y=(np.arange(rows) + 0.5) * height / rows,
        text=text,
        hovertemplate="%{text}<extra></extra>",
        coloraxis="coloraxis",
    )


def _wrapped(text: str, letters: int) -> str:
    """A text on at most two lines, for above a picture."""
    text = style.shorten(style.plain(text), 2 * letters)
    if len(text) <= letters:
        return style.label(text)
    cut = text.rfind(" ", 0, letters + 1)
    cut = cut if cut > 0 else letters
    return f"{style.label(text[:cut])}<br>{style.label(text[cut:].strip(), letters)}"


def _alt(count: int, layers: Mapping[str, np.ndarray], titles: Sequence[str]) -> str:
    text = f"{count} images" + (f" ({'; '.join(titles)})" if titles else "")
    text += f", and below each the maps of {', '.join(layers)} over its patches." if layers else "."
    for name, values in layers.items():
        peaks = []
        for one in values:
            at = np.unravel_index(int(np.nanargmax(np.abs(one))), one.shape) if np.isfinite(one).any() else None
            peaks.append("nothing" if at is None else f"row {at[0]}, column {at[1]} ({one[at]:+.3g})")
        text += f" {name} is strongest at {'; '.join(peaks)}."
    return text
