"""Waterbirds: birds cut out of CUB and pasted on places, so that the background can speak against the bird.

Source: Sagawa et al. 2020, Distributionally Robust Neural Networks for Group Shifts, arXiv 1911.08731.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from headlens.datasets.dataset import Dataset, register
from headlens.datasets.layout import Layout, rooted

LAYOUT = Layout(
    "Waterbirds",
    "metadata.csv with img_id, img_filename, y, split, place, place_filename, beside a folder of images for each "
    "species",
)
CLASSES = ("landbird", "waterbird")
_IMAGE = re.compile(r"\d{3}\.[^/\\]+/[^/\\]+")
_PLACE = re.compile(r"/([a-z])/\1[^/\\]*(/[^/\\]+){1,2}")
_FORMS = {
    "img_filename": "It is written 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg.",
    "place_filename": "It is written /b/bamboo_forest/00000034.jpg.",
}
_COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename")


@register("waterbirds")
def read_waterbirds(root: Path, *, missing: str = "error") -> Dataset:
    """Waterbirds: landbird or waterbird, on land or on water.

    The published group number 2·y + place is `CLASSES.index(label) * 2 + ("land", "water").index(background)`.

    Args:
        root: the folder of metadata.csv, or the one above it.
        missing: "error" refuses a missing image, "drop" leaves its row out.

    Raises:
        ManifestError: a folder, file, column or image that is not there, or a code that is none of the published.
    """
    path = LAYOUT.file(root, "metadata.csv", "waterbird_complete95_forest2water2/metadata.csv")
    table = LAYOUT.table(path, _COLUMNS)
    for column, form in (("img_filename", _IMAGE), ("place_filename", _PLACE)):
        other = [(row, name) for row, name in enumerate(table[column]) if not form.fullmatch(name)]
        if other:
            row, name = other[0]
            raise LAYOUT.error(
                f"{len(other)} cells of the column {column!r} of {str(path)!r} are not in the published form: {name!r} "
                f"(row {row}).",
                f"{_FORMS[column]} What a path of another form means would be a guess: take the folders before that "
                "out of the column, or get the file again.",
            )
    frame = pd.DataFrame(
        {
            "path": table["img_filename"],
            "label": LAYOUT.decode(table, "y", {"0": "landbird", "1": "waterbird"}, path),
            "split": LAYOUT.decode(table, "split", {"0": "train", "1": "val", "2": "test"}, path),
            "background": LAYOUT.decode(table, "place", {"0": "land", "1": "water"}, path),
            "place": table["place_filename"].map(_place),
            "species": table["img_filename"].map(_species),
            "id": table["img_id"],
        }
    )
    frame, notes = LAYOUT.images(rooted(frame, path.parent), missing)
    return Dataset(frame, CLASSES, notes)


def _place(filename: str) -> str:
    """/b/bamboo_forest/00000021.jpg -> bamboo forest; /f/forest/broadleaf/00000017.jpg -> forest/broadleaf."""
    return "/".join(filename.strip("/").split("/")[1:-1]).replace("_", " ")


def _species(filename: str) -> str:
    """001.Black_footed_Albatross/….jpg -> Black footed Albatross."""
    return filename.split("/")[0].split(".", 1)[-1].replace("_", " ")
