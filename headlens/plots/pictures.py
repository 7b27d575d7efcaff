"""Pictures: rows of thumbnails, and images with per-token maps laid over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from headlens.plots import palette, style
from headlens.plots.heads import lying_bar

Picture = Image.Image | np.ndarray | None

SIDE = 96
"""Pixels of a thumbnail's longer side: more would not be seen, and a report has to stay small."""
_MAP_SIDE = 224  # of an image under a map
_PALE = [90 + round(0.62 * level) for level in range(256)]  # colours would drown in the dark of a grey picture
_PLACE, _LEFT = 104, 84  # pixels of a thumbnail's place, of the rows' names
_CAPTION, _CAPTION_LINE = 6, 14  # pixels below a thumbnail, and of a line of the caption there
_CELL, _GAP = 132, 8  # pixels of a map's width on the page, and between two


def data_uri(picture: Image.Image | np.ndarray, side: int = SIDE, grey: bool = False) -> str:
    """A picture as a data URI, at most `side` pixels long: PNG where that is small, else JPEG."""
    small = (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).convert("RGB")
    small.thumbnail((side, side))
    if grey:
        small = small.convert("L").point(_PALE)
    encoded, kind = io.BytesIO(), "png"
    small.save(encoded, "PNG", optimize=True)
    if encoded.tell() > (6_000 if side <= SIDE else 16_000):
        encoded, kind = io.BytesIO(), "jpeg"
        small.save(encoded, "JPEG", quality=81, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def gallery(
    images: Mapping[str, Sequence[Picture]], captions: Mapping[str, Sequence[str]] | None = None, title: str = ""
) -> go.Figure:
    """Rows of small pictures, each row with a name, each picture with a caption of at most three lines.

    Pictures are embedded, scaled down to 96 pixels. Instead of a picture that is not there (None, where a file could
    not be read) there is a blank that says so.

    Args:
        images: rows by name: PIL images, arrays of height × width × 3 levels from 0 to 255, or None.
        captions: one text a picture, in rows of the same names; None for no captions. The pointer shows them whole.
        title: plain text.

    Raises:
        HeadlensError: for no picture, or captions that are not as many as the pictures.
    """
    texts_of = captions if captions is not None else {name: [""] * len(row) for name, row in images.items()}
    style.refuse(
        any(map(len, images.values())) and all(len(texts_of.get(name, ())) == len(row) for name, row in images.items()),
        f"There are {sum(map(len, images.values()))} pictures, with {sum(map(len, texts_of.values()))} captions.",
        "Give at least one picture, and captions in rows of the same names and lengths, or None.",
    )
    columns = max(map(len, images.values()))
    below = {name: [style.lines(text, 16, 3) for text in row] for name, row in texts_of.items()}
    most = 0 if captions is None else max(1 + text.count("<br>") for row in below.values() for text in row)
    row_height = _PLACE + _CAPTION + most * _CAPTION_LINE
    x, y, hover, parts = [], [], [], []
    # Gathered and set at once: plotly validates all that a layout holds whenever one more is added.
    notes: list[dict[str, Any]] = []
    thumbnails: list[dict[str, Any]] = []
    blanks: list[dict[str, Any]] = []
    note = {"xref": "x", "yref": "y", "xanchor": "center", "showarrow": False, "font": {"size": 11}}
    for i, (name, row) in enumerate(images.items()):
        notes.append({  # beyond the axes' range, where only the page's own coordinates reach
            "x": 0, "xref": "paper", "xshift": -8, "xanchor": "right", "y": i * row_height + _PLACE / 2, "yref": "y",
            "yanchor": "middle", "text": style.lines(name, 11), "showarrow": False, "font": {"size": 12},
        })  # fmt: skip
        for j, (picture, caption) in enumerate(zip(row, texts_of[name], strict=True)):
            left, top, middle = j * _PLACE + 4, i * row_height + 4, j * _PLACE + _PLACE / 2
            if picture is None:
                blanks.append({
                    "type": "rect", "x0": left, "x1": left + SIDE, "y0": top, "y1": top + SIDE,
                    "line": {"color": palette.AXIS, "width": 1, "dash": "dot"},
                })  # fmt: skip
                where = {"x": middle, "y": top + SIDE / 2, "yanchor": "middle"}
                notes.append({"text": "image<br>not found", **where, **note})
            else:
                thumbnails.append({
                    "source": data_uri(picture), "x": left, "y": top, "sizex": SIDE, "sizey": SIDE, "xref": "x",
                    "yref": "y", "sizing": "contain", "layer": "above",
                })  # fmt: skip
            if captions is not None:
                where = {"x": middle, "y": i * row_height + _PLACE, "yanchor": "top"}
                notes.append({"text": below[name][j], **where, **note})
            x.append(middle)
            y.append(i * row_height + _PLACE / 2)
            hover.append(f"<b>{style.label(name, 40)}</b>, number {j + 1}<br>{style.label(caption, 120)}")
        lost = sum(picture is None for picture in row)
        texts = "; ".join(style.plain(text) for text in texts_of[name] if text)
        parts.append(
            f"{name}: {len(row)} images" + (f" ({texts})" if texts else "") + (f", {lost} not found" if lost else "")
        )
    figure = go.Figure(
        style.dots("", x, y, hover, palette.INK, marker={"size": SIDE, "opacity": 0, "symbol": "square"})
    )
    width = _LEFT + columns * _PLACE + 12
    return style.finish(
        figure,
        title,
        f"{'. '.join(parts)}.",
        plot=(len(images) * row_height, width),
        margin={"l": _LEFT, "r": 12, "b": 8},
        width=width,
        showlegend=False,
        annotations=notes,
        images=thumbnails,
        shapes=blanks,
        # One unit of the axes is one pixel of the page.
        xaxis={"range": [0, columns * _PLACE], "visible": False},
        yaxis={"range": [len(images) * row_height, 0], "visible": False},
    )


def tokens(
    images: Sequence[UInt8[np.ndarray, "height width 3"]],
    maps: Mapping[str, Float[Tensor, "image row column"] | Float[np.ndarray, "image row column"]],
    titles: Sequence[str] = (),
    title: str = "",
    unit: str = "contribution",
) -> go.Figure:
    """A column an image: the image, and below it one map a row laid over the image in grey.

    A map is drawn transparent at zero, blue below and orange above, on a scale that reaches as far to both sides and is
    the same for all maps of a row: to the largest 95 % quantile of any map's numbers by size, so that one patch does
    not leave the others blank. The numbers beyond have the colour of the ends. The scale is written in the corner of
    each map; the pointer shows every number.

    Args:
        images: pixels as people know them, before the model's normalisation, cropped as the model saw them.
        maps: rows by name ("L10H3"), each with the numbers of every image at the resolution of the patches.
        titles: one text an image.
        title: plain text.
        unit: what the numbers are, beside the colour bar.

    Raises:
        HeadlensError: for no image, or for maps or titles that are not as many as the images.
    """
    layers = {name: style.array(values) for name, values in maps.items()}
    counts = {"titles": len(titles) or len(images)} | {f"maps {k!r}": len(v) for k, v in layers.items()}
    for what, count in counts.items():
        style.refuse(
            len(images) > 0 and count == len(images),
            f"There are {count} {what} for {len(images)} images.",
            "Give at least one image, every row one map an image, and every image a title or none at all.",
        )
    rows, cols = 1 + len(layers), len(images)
    cell = round(_CELL * max(image.shape[0] / image.shape[1] for image in images))
    width, height = cols * (_CELL + _GAP) - _GAP, rows * (cell + _GAP) - _GAP
    traces: list[Any] = []
    notes: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    axes: dict[str, Any] = {}
    ends = {name: max(map(robust_end, values)) for name, values in layers.items()}
    for i, name in enumerate([None, *layers]):
        for j, image in enumerate(images):
            high, wide = image.shape[:2]
            number = str(len(traces) + 1) if traces else ""
            x, y = f"x{number}", f"y{number}"
            if name is None:  # without a trace, plotly draws neither the axes nor the picture on them
                traces.append(
                    go.Scatter(x=[0, wide], y=[0, high], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
                )
            else:
                end = ends[name]
                traces.append(_map(layers[name][j], name, wide, high, end))
                notes.append({
                    "text": f"±{end:.2g}", "x": wide, "y": high, "xref": x, "yref": y, "xanchor": "right",
                    "yanchor": "bottom", "showarrow": False, "font": {"size": 10}, "bgcolor": palette.PAPER,
                    "borderpad": 1, "opacity": 0.85,
                })  # fmt: skip
            traces[-1].update(xaxis=x, yaxis=y)
            pictures.append({
                "source": data_uri(image, _MAP_SIDE, grey=name is not None), "layer": "below", "xref": x, "yref": y,
                "x": 0, "y": 0, "sizex": wide, "sizey": high, "sizing": "stretch",
            })  # fmt: skip
            left, top = j * (_CELL + _GAP) / width, 1 - i * (cell + _GAP) / height
            axes[f"xaxis{number}"] = {
                "domain": [left, min(1, left + _CELL / width)], "range": [0, wide], "anchor": y, "visible": False,
                "constrain": "domain",
            }  # fmt: skip
            axes[f"yaxis{number}"] = {
                "domain": [max(0, top - cell / height), top], "range": [high, 0], "anchor": x, "visible": False,
                "constrain": "domain", "scaleanchor": x,
            }  # fmt: skip
    note = {"xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 12}}
    for col, text in enumerate(titles):
        # By itself plotly anchors a text near an edge by that edge, and titles of neighbours would overlap.
        middle = {"x": (col * (_CELL + _GAP) + _CELL / 2) / width, "xanchor": "center"}
        notes.append({"text": style.lines(text, 20, 4), **middle, "y": 1, "yanchor": "bottom", "yshift": 4, **note})
    rows_of_title = max((1 + style.lines(text, 20, 4).count("<br>") for text in titles), default=0)
    for row, name in enumerate(layers, start=1):
        y = 1 - (row * (cell + _GAP) + cell / 2) / height
        notes.append({"text": style.lines(name, 11), "x": 0, "xshift": -8, "xanchor": "right", "y": y, **note})
    figure = go.Figure(traces, layout={"annotations": notes, "images": pictures, **axes})
    length = min(width, 320)
    bar = lying_bar(figure, f"{unit}, each row on its own scale", length / 2 / width, length, height, 10)
    bar |= {"tickmode": "array", "tickvals": [-1, 0, 1], "ticktext": ["− scale", "0", "+ scale"]}
    # A title is cut where its figure ends: one image alone is narrower than most titles.
    spare = max(0, 620 - _LEFT - width - 24) if title else 0
    whole = _LEFT + width + 24 + spare
    return style.finish(
        figure,
        title,
        _maps_in_words(len(images), layers, titles),
        plot=(height, whole),
        margin={
            "l": _LEFT,
            "r": 24 + spare,
            "t": 8 + 18 * rows_of_title,
            "b": 66,
        },
        width=whole,
        showlegend=False,
        coloraxis={"colorscale": palette.overlay(), "cmin": -1, "cmax": 1, "colorbar": bar},
    )


def robust_end(values: Float[np.ndarray, "row column"]) -> float:
    """The end of a map's own scale: the 95 % quantile of its numbers' size; where that is 0 their largest, else 1."""
    sizes = np.abs(values[np.isfinite(values)])
    if not sizes.size:
        return 1.0
    return float(np.quantile(sizes, 0.95)) or float(sizes.max()) or 1.0


def _map(values: np.ndarray, name: str, width: int, height: int, end: float) -> go.Heatmap:
    rows, columns = values.shape
    text = [
        [f"<b>{style.label(name, 24)}</b>, row {r}, column {c}: {values[r, c]:+.4g}" for c in range(columns)]
        for r in range(rows)
    ]
    return go.Heatmap(
        z=values / end, x=(np.arange(columns) + 0.5) * width / columns, y=(np.arange(rows) + 0.5) * height / rows,
        text=text, hovertemplate="%{text}<extra></extra>", coloraxis="coloraxis",
    )  # fmt: skip


def _maps_in_words(count: int, layers: Mapping[str, np.ndarray], titles: Sequence[str]) -> str:
    text = f"{count} images" + (f" ({'; '.join(titles)})" if titles else "")
    text += f", and below each the maps of {', '.join(layers)} over its patches." if layers else "."
    for name, values in layers.items():
        peaks = []
        for one in values:
            at = np.unravel_index(int(np.nanargmax(np.abs(one))), one.shape) if np.isfinite(one).any() else None
            peaks.append("nothing" if at is None else f"row {at[0]}, column {at[1]} ({one[at]:+.3g})")
        text += f" {name} is strongest at {'; '.join(peaks)}."
    return text
