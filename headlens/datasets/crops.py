"""Fit the boxes of a data set to its images: padded where asked, clipped at the edges, refused outside of them.

`headlens.images.read_image` cuts a box at the right and the bottom edge but refuses one that starts left of or above
the image, and says so only when the image's turn comes. A reader knows better: it measures every image once (its
header, no pixels) and hands out boxes that lie inside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from headlens.datasets.layout import Layout, listed
from headlens.manifest import resolve_paths

Box = tuple[float, float, float, float]
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def fit(box: Sequence[float | int], size: Sequence[int], padding: float | int = 0.0) -> Box | None:
    """The part of a box that lies in an image, after widening it.

    A box x, y, w, h becomes x − pw, y − ph, w + 2pw, h + 2ph, and then what of it lies in the image, where p is the
    padding.

    Args:
        box: x, y, width, height in pixels from the top left of the upright image.
        size: the upright image's width and height.
        padding: how much is added on each side, as a share of the box's own width and height.

    Returns:
        The box, or None where less than a pixel of the box itself, before padding, lies in the image.
    """
    if _inside(box, size, 0.0) is None:
        return None
    return _inside(box, size, padding)


def overhangs(box: Sequence[float | int], size: Sequence[int]) -> bool:
    """Whether a part of a box lies outside of the image."""
    x, y, width, height = box
    return x < 0 or y < 0 or x + width > size[0] or y + height > size[1]


def upright_size(path: Path) -> tuple[int, int] | None:
    """The width and height of an image as `read_image` will return it, from its header; None where it has none."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    return (height, width) if sideways else (width, height)


def fit_boxes(
    layout: Layout, frame: pd.DataFrame, padding: float, outside: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A manifest's boxes, fitted to their images, and notes on what was clipped or left out.

    Args:
        layout: whose error is raised.
        frame: a manifest with `box` in every row and `id`.
        padding: as in `fit`.
        outside: "error" refuses a box that lies outside its image, "drop" leaves its row out.

    Raises:
        ManifestError: a box lies outside its image, or, under "drop", every box does.
    """
    sizes: dict[Path, tuple[int, int] | None] = {}
    boxes, clipped, out, unread = [], [], [], []
    for person, path, box in zip(frame["id"], resolve_paths(frame), frame["box"], strict=True):
        if path not in sizes:
            sizes[path] = upright_size(path)
        size = sizes[path]
        if size is None:  # extraction will name the file and can skip it; until then only its corner is known
            unread.append(path.name)
            size = (10**9, 10**9)
        fitted = fit(box, size, padding)
        if fitted is None:
            out.append(f"person {person}: x={box[0]:g}, y={box[1]:g}, {box[2]:g} × {box[3]:g} in {path.name}")
            out[-1] += f" of {size[0]} × {size[1]}"
        elif overhangs(box, size):
            clipped.append(person)
        boxes.append(fitted)
    if out and (outside == "error" or len(out) == len(frame)):
        raise layout.error(
            f"{len(out)} of {len(frame)} boxes that lie outside their image ({listed(out)})",
            "Were the images scaled down? Boxes count pixels of the originals. outside='drop' leaves such rows out.",
        )
    notes = []
    if clipped:
        notes.append(f"{len(clipped)} boxes that reach beyond their image were clipped (person {listed(clipped)}).")
    if out:
        notes.append(f"{len(out)} boxes that lie outside their image were left out ({listed(out)}).")
    if unread:
        notes.append(f"{len(set(unread))} images could not be measured, and may fail later ({listed(unread)}).")
    inside = [box is not None for box in boxes]
    texts = [json.dumps(box) for box in boxes]  # as text, since a manifest may be written to a CSV file
    return frame.assign(box=pd.Series(texts, index=frame.index, dtype=object))[inside], tuple(notes)


def _inside(box: Sequence[float | int], size: Sequence[int], padding: float | int) -> Box | None:
    x, y, width, height = (float(value) for value in box)
    left, right = max(x - padding * width, 0.0), min(x + (1 + padding) * width, float(size[0]))
    top, bottom = max(y - padding * height, 0.0), min(y + (1 + padding) * height, float(size[1]))
    if round(left) >= round(right) or round(top) >= round(bottom):  # read_image rounds the edges in the same way
        return None
    return left, top, right - left, bottom - top
