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

from headlens.datasets.crops import fit_boxes
from headlens.datasets.dataset import Dataset
from headlens.datasets.facet_attributes import presented, skin_tone, tone_group
from headlens.datasets.layout import Layout, one_of, pictures, rooted
from headlens.errors import ManifestError

LAYOUT = Layout(
    "FACET",
    "annotations/annotations.csv with person_id, filename, class1, bounding_box, gender_presentation_*, "
    "age_presentation_*, skin_tone_*, and the images in imgs_1, imgs_2 and imgs_3",
)
_COLUMNS = ("person_id", "filename", "class1", "bounding_box")


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
            frame["skin_tone"] = skin_tone(LAYOUT, table, path, threshold)
            frame["skin_tone_group"] = frame["skin_tone"].map(lambda tone: tone_group(tone, tones))
        else:
            frame[attribute] = presented(LAYOUT, table, path, attribute, threshold)
    notes: list[str] = []
    for attribute in drop_na:
        if attribute not in frame.columns:
            raise ManifestError(
                f"attributes to drop na of, among {', '.join(frame.columns[4:])}",
                repr(attribute),
                "Name one of these, or add it to attributes.",
            )
        unset = frame[attribute] == "na"
        if unset.any():
            notes.append(f"{unset.sum()} of {len(frame)} people whose {attribute} is na were left out.")
        frame = frame[~unset]
    frame, lost = LAYOUT.images(rooted(frame, base), missing)
    frame, fitted = fit_boxes(LAYOUT, rooted(frame, base), float(padding), outside)
    return Dataset(rooted(frame, base), tuple(sorted(frame["label"].unique())), (*notes, *lost, *fitted))


def _check_numbers(threshold: int, tones: tuple[int, int], padding: float | int) -> None:
    if threshold < 1:
        raise ManifestError("a threshold of 1 or more annotations", repr(threshold), "A column of 0 is not set.")
    if not 1 <= tones[0] < tones[1] < 10:
        raise ManifestError(
            "two rising bounds between 1 and 9, the last light and the last medium tone", repr(tones), "Try (3, 6)."
        )
    if not 0 <= padding < 10:
        raise ManifestError("a padding from 0, as a share of the box", repr(padding), "0.1 adds a tenth on each side.")


def _paths(filenames: pd.Series, base: Path) -> list[str]:
    folders = sorted(folder.name for folder in base.glob("imgs_*") if folder.is_dir())
    if not folders:
        raise LAYOUT.error(
            f"no folder imgs_1, imgs_2 or imgs_3 in {str(base)!r}", "Unpack the images beside the annotations."
        )
    where = {name: folder for folder in reversed(folders) for name in pictures(base / folder)}
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
    except (ValueError, SyntaxError, KeyError, TypeError):
        pass
    raise LAYOUT.error(
        f"the bounding_box {cell!r} of person {person}",
        'It reads {"x": 12, "y": 30, "width": 200, "height": 180}, with a size above 0: correct it or remove the row.',
    )
