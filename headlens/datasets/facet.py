"""FACET: people in photographs, boxed, with an occupation-like class and attributes as annotators perceived them.

Steps: read the annotations, turn every family of columns (gender_presentation_*, …) into one attribute, find each
photograph in imgs_1, imgs_2, imgs_3, fit the person's box to it. A row is a person; a photograph may hold several.

Source: Gustafson et al. 2023, FACET: Fairness in Computer Vision Evaluation Benchmark, arXiv 2309.00035.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.datasets.dataset import Dataset, register
from headlens.datasets.layout import Layout, listed, one_of, pictures, rooted
from headlens.errors import ManifestError
from headlens.images import upright_size
from headlens.manifest import Box, manifest_root, resolve_paths

LAYOUT = Layout(
    "FACET",
    "annotations/annotations.csv with person_id, filename, class1, bounding_box, gender_presentation_*, "
    "age_presentation_*, skin_tone_*, and the images in imgs_1, imgs_2 and imgs_3",
)
_TONES = tuple(str(tone) for tone in range(1, 11))
_COLUMNS = ("person_id", "filename", "class1", "bounding_box")


@register("facet")
def read_facet(
    root: Path,
    *,
    attributes: Sequence[str] = ("gender_presentation", "age_presentation", "skin_tone"),
    threshold: int = 1,
    tones: tuple[int, int] = (3, 6),
    drop_na: Sequence[str] = (),
    padding: float | int = 0.0,
    outside: str = "error",
    missing: str = "error",
) -> Dataset:
    """FACET: a person's class from the crop, with perceived gender presentation, age presentation and skin tone.

    An attribute's value is the name of its column with the highest count, as published (fem, masc, non_binary;
    young, middle, older): "na" where no column reaches the threshold or the column *_na is the highest, "mixed" where
    two are highest. Skin tones are counts on a scale of ten: the value is their median, the lower one of two, and
    `skin_tone_group` is light, medium or dark.

    Args:
        root: the folder that holds annotations and the imgs_ folders.
        attributes: families of columns, each by the part of the names that its columns share; further ones are
            hair_color, hairtype and lighting.
        threshold: the count from which a column is taken as set.
        tones: the last light and the last medium skin tone. (The bounds are a choice; state them.)
        drop_na: attributes whose "na" rows are left out. By default "na" stays, as a value of its own.
        padding: what a box is widened by on each side, as a share of its own size.
        outside: a box that lies wholly outside its image: "error", or "drop" to leave the row out. A box that
            reaches beyond the edge is clipped, and a note says how many were.
        missing: "error" refuses a missing image, "drop" leaves its rows out.

    Raises:
        ManifestError: a folder, file, column or image that is not there, a malformed box, one that lies outside
            its image, or an option out of range.
    """
    one_of("outside", outside, ("error", "drop"))
    _check_numbers(threshold, tones, padding)
    path = LAYOUT.file(root, "annotations/annotations.csv", "annotations.csv")
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    table = LAYOUT.table(path, _COLUMNS)
    frame = pd.DataFrame(
        {
            "path": _paths(table["filename"], base),
            "label": table["class1"].str.strip().str.replace("_", " "),
            "id": table["person_id"],
            "box": [
                _parse(cell, person) for cell, person in zip(table["bounding_box"], table["person_id"], strict=True)
            ],
        }
    )
    for attribute in attributes:
        if attribute == "skin_tone":
            frame["skin_tone"] = skin_tone(table, path, threshold)
            frame["skin_tone_group"] = frame["skin_tone"].map(lambda tone: tone_group(tone, tones))
        else:
            frame[attribute] = presented(table, path, attribute, threshold)
    notes: list[str] = []
    for attribute in drop_na:
        if attribute not in frame.columns:
            raise ManifestError(
                f"There is no attribute {attribute!r} to drop 'na' of.",
                f"Name one of {', '.join(frame.columns[4:])}, or add it to attributes.",
            )
        unset = frame[attribute] == "na"
        if unset.any():
            notes.append(f"{unset.sum()} of {len(frame)} people whose {attribute} is na were left out.")
        frame = frame[~unset]
    frame, lost = LAYOUT.images(rooted(frame, base), missing)
    frame, fitted = fit_boxes(frame, float(padding), outside)
    return Dataset(frame, tuple(sorted(frame["label"].unique())), (*notes, *lost, *fitted))


def _check_numbers(threshold: int, tones: tuple[int, int], padding: float | int) -> None:
    if threshold < 1:
        raise ManifestError(f"The threshold is {threshold}.", "Give 1 or more annotations: a column of 0 is not set.")
    if not 1 <= tones[0] < tones[1] < 10:
        raise ManifestError(
            f"The bounds {tones!r} are not two rising tones between 1 and 9, the last light and the last medium one.",
            "Try (3, 6).",
        )
    if not 0 <= padding < 10:
        raise ManifestError(f"The padding is {padding}.", "Give a share of the box: 0.1 adds a tenth on each side.")


def _paths(filenames: pd.Series, base: Path) -> list[str]:
    folders = sorted(folder.name for folder in base.glob("imgs_*") if folder.is_dir())
    if not folders:
        raise LAYOUT.error(
            f"There is no folder imgs_1, imgs_2 or imgs_3 in {str(base)!r}.",
            "Unpack the images beside the annotations.",
        )
    where: dict[str, str] = {}
    wanted = set(filenames)
    for folder in folders:
        for name in wanted.intersection(pictures(base / folder)):
            if where.setdefault(name, folder) != folder:
                raise LAYOUT.error(f"{name!r} is in {where[name]} and in {folder}.", "Remove one of the two images.")
    return [f"{where.get(name, folders[0])}/{name}" for name in filenames]


def _parse(cell: str, person: str) -> tuple[float, float, float, float]:
    try:
        try:
            box = json.loads(cell)
        except json.JSONDecodeError:
            box = ast.literal_eval(cell)  # some copies went through Python and came back with single quotes
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
        if np.isfinite([x, y, width, height]).all() and width > 0 and height > 0:
            return x, y, width, height
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        pass
    raise LAYOUT.error(
        f"The bounding_box of person {person} does not read: {cell!r}.",
        'It is written {"x": 12, "y": 30, "width": 200, "height": 180}, with a size above 0: correct or remove it.',
    )


def presented(table: pd.DataFrame, path: Path, family: str, threshold: int) -> list[str]:
    """The value of one attribute for every person: the name of its highest column, "mixed", or "na".

    Args:
        table: the annotations.
        path: the file that they come from.
        family: the part of the names that the attribute's columns share.
        threshold: the count from which a column is taken as set.

    Raises:
        ManifestError: no such columns, or a cell that is no number.
    """
    names = [str(column)[len(family) + 1 :] for column in table.columns if str(column).startswith(f"{family}_")]
    values = [name for name in names if name != "na"]
    if not values:
        LAYOUT.columns(table, path, [f"{family}_*"])
    counts = _counts(table, path, [f"{family}_{name}" for name in values], threshold)
    unknown = _counts(table, path, [f"{family}_na"], threshold)[:, 0] if "na" in names else np.zeros(len(table))
    best = counts.max(axis=1)
    ties = (counts == best[:, None]).sum(axis=1)
    return [
        "na" if top == 0 or na > top else "mixed" if tie > 1 else values[which]
        for top, na, tie, which in zip(best, unknown, ties, counts.argmax(axis=1), strict=True)
    ]


def skin_tone(table: pd.DataFrame, path: Path, threshold: int) -> list[str]:
    """The median of every person's marks on the scale of ten, the lower one of two, or "na" without a mark."""
    counts = _counts(table, path, [f"skin_tone_{tone}" for tone in _TONES], threshold)
    below = counts.cumsum(axis=1)
    median = (below >= below[:, -1:] / 2).argmax(axis=1)
    return [_TONES[which] if total else "na" for which, total in zip(median, below[:, -1], strict=True)]


def tone_group(tone: str, bounds: tuple[int, int]) -> str:
    """light, medium or dark, where the bounds are the last light and the last medium tone; or "na"."""
    if tone == "na":
        return "na"
    return "light" if int(tone) <= bounds[0] else "medium" if int(tone) <= bounds[1] else "dark"


def _counts(table: pd.DataFrame, path: Path, columns: Sequence[str], threshold: int) -> np.ndarray:
    """Annotations a column, [person, column]; what does not reach the threshold counts as nothing."""
    LAYOUT.columns(table, path, columns)
    cells = table[list(columns)].replace("", "0")
    counts = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    if np.isnan(counts).any():
        row, column = np.argwhere(np.isnan(counts))[0]
        raise LAYOUT.error(
            f"The column {columns[column]!r} of {str(path)!r} holds {cells.iat[row, column]!r} (row {row}).",
            "These columns count annotators: numbers, or empty. Get the file again.",
        )
    return np.where(counts >= threshold, counts, 0.0)


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


def fit_boxes(frame: pd.DataFrame, padding: float, outside: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A manifest's boxes, fitted to their images, and notes on what was clipped or left out.

    Args:
        frame: a manifest with `box` in every row and `id`.
        padding: as in `fit`.
        outside: "error" refuses a box that lies outside its image, "drop" leaves its row out.

    Raises:
        ManifestError: a box lies outside its image, or, under "drop", every box does.
    """
    sizes: dict[Path, tuple[int, int] | None] = {}
    boxes, clipped, out, unread = [], [], [], []
    for person, path, box in zip(frame["id"], resolve_paths(frame), map(json.loads, frame["box"]), strict=True):
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
        raise LAYOUT.error(
            f"{len(out)} of {len(frame)} boxes lie outside their image: {listed(out)}.",
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
    fitted_frame = frame.assign(box=pd.Series(boxes, index=frame.index, dtype=object))[inside]
    return rooted(fitted_frame, manifest_root(frame)), tuple(notes)


def _inside(box: Sequence[float | int], size: Sequence[int], padding: float | int) -> Box | None:
    x, y, width, height = (float(value) for value in box)
    left, right = max(x - padding * width, 0.0), min(x + (1 + padding) * width, float(size[0]))
    top, bottom = max(y - padding * height, 0.0), min(y + (1 + padding) * height, float(size[1]))
    if round(left) >= round(right) or round(top) >= round(bottom):  # read_image rounds the edges in the same way
        return None
    return left, top, right - left, bottom - top
