"""Pictures in rows, such as the images with the most and the least of a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from headlens.errors import HeadlensError
from headlens.plots import palette, style
from headlens.plots.embedded import picture_uri

SIDE = 96
"""Pixels of an embedded picture's longer side: more would not be seen, and a report has to stay small."""
_CELL = 104  # pixels of a picture's place on the page
_CAPTION = 34
_LEFT = 84
_LETTERS = 17  # of a caption's line

Picture = Image.Image | np.ndarray | None


def gallery(
    images: Mapping[str, Sequence[Picture]], captions: Mapping[str, Sequence[str]] | None = None, title: str = ""
) -> go.Figure:
    """Rows of small pictures, each row with a name, each picture with a caption of at most two lines.

    Pictures are embedded, scaled down to 96 pixels: PNG where that is small, else JPEG. In the place of a picture that
    is not there (None, where a file could not be read) stands a blank that says so.

    Args:
        images: rows by name: PIL images, arrays of height × width × 3 levels from 0 to 255, or None.
        captions: one text a picture, in rows of the same names; None for no captions. The pointer shows them whole.
        title: plain text.

    Raises:
        HeadlensError: for no picture, or captions that are not as many as the pictures.
    """
    told = captions if captions is not None else {name: [""] * len(row) for name, row in images.items()}
    sizes = {name: (len(row), len(told.get(name, ()))) for name, row in images.items()}
    if not any(count for count, _ in sizes.values()) or any(count != texts for count, texts in sizes.values()):
        raise HeadlensError(
            "one caption for each picture, and at least one picture",
            "; ".join(f"{n} pictures and {m} captions in {name!r}" for name, (n, m) in sizes.items()) or "no row",
            "Give captions in rows of the same names and lengths, or None.",
        )
    columns = max(count for count, _ in sizes.values())
    under = _CAPTION if captions is not None else 6
    row_height = _CELL + under
    figure = go.Figure()
    blanks: list[tuple[float, float]] = []
    x, y, hover = [], [], []
    for i, (name, row) in enumerate(images.items()):
        figure.add_annotation(  # beyond the axes' range, where only the page's own coordinates reach
            x=0, xref="paper", xshift=-8, xanchor="right", y=i * row_height + _CELL / 2, yref="y", yanchor="middle",
            text=_two_lines(name, 11), showarrow=False, font_size=12,
        )  # fmt: skip
        for j, (picture, caption) in enumerate(zip(row, told[name], strict=True)):
            left, top = j * _CELL, i * row_height
            if picture is None:
                blanks.append((left, top))
                _note(figure, left + _CELL / 2, top + _CELL / 2, "image<br>not at hand", "middle")
            else:
                _place(figure, picture, left, top)
            if captions is not None:
                _note(figure, left + _CELL / 2, top + _CELL, _two_lines(caption, _LETTERS), "top")
            x.append(left + _CELL / 2)
            y.append(top + _CELL / 2)
            hover.append(f"<b>{style.label(name, 40)}</b>, number {j + 1}<br>{style.label(caption, 120)}")
    figure.add_trace(
        go.Scatter(
            x=x, y=y, text=hover, mode="markers", marker={"size": _CELL - 8, "opacity": 0, "symbol": "square"},
            hovertemplate="%{text}<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    for x0, y0 in blanks:
        figure.add_shape(
            type="rect", x0=x0 + 4, x1=x0 + _CELL - 4, y0=y0 + 4, y1=y0 + _CELL - 4,
            line={"color": palette.AXIS[0], "width": 1, "dash": "dot"},
        )  # fmt: skip
    head = 12 + (32 if title else 0)
    width, height = _LEFT + columns * _CELL + 12, head + len(images) * row_height + 8
    return style.finish(
        figure,
        title,
        _alt(images, told),
        height=height,
        width=width,
        min_width=width,
        margin={"l": _LEFT, "r": 12, "t": head, "b": 8},
        # One unit of the axes is one pixel of the page.
        xaxis={"range": [0, columns * _CELL], "visible": False},
        yaxis={"range": [len(images) * row_height, 0], "visible": False},
    )


def thumbnail(picture: Image.Image | np.ndarray, side: int = SIDE) -> str:
    """A picture as a data URI, at most `side` pixels long: PNG where that is small, else JPEG."""
    small = (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).convert("RGB")
    small.thumbnail((side, side))
    return picture_uri(small, 6_000, 80)


def _place(figure: go.Figure, picture: Image.Image | np.ndarray, left: float | int, top: float | int) -> None:
    figure.add_layout_image(
        source=thumbnail(picture),
        x=left + 4,
        y=top + 4,
        sizex=_CELL - 8,
        sizey=_CELL - 8,
        xref="x",
        yref="y",
        sizing="contain",
        layer="above",
    )


def _note(figure: go.Figure, x: float | int, y: float | int, text: str, yanchor: str) -> None:
    figure.add_annotation(
        x=x, y=y, xref="x", yref="y", text=text, xanchor="center", yanchor=yanchor, showarrow=False, font_size=11,
        borderpad=0,
    )  # fmt: skip


def _two_lines(text: str, letters: int) -> str:
    """A text on at most two lines, broken after a word or a stroke where both lines then fit."""
    text = style.shorten(style.plain(text), 2 * letters)
    if len(text) <= letters:
        return style.label(text)
    cuts = [i + 1 for i, sign in enumerate(text) if sign in " /" and len(text[: i + 1].strip()) <= letters]
    fitting = [cut for cut in cuts if len(text[cut:].strip()) <= letters]
    cut = (fitting or cuts or [letters])[-1]
    return f"{style.label(text[:cut].strip())}<br>{style.label(text[cut:].strip(), letters)}"


def _alt(images: Mapping[str, Sequence[Picture]], captions: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for name, row in images.items():
        told = "; ".join(style.plain(text) for text in captions[name] if text)
        gone = sum(picture is None for picture in row)
        parts.append(
            f"{name}: {len(row)} images" + (f" ({told})" if told else "") + (f", {gone} not at hand" if gone else "")
        )
    return ". ".join(parts) + "."
