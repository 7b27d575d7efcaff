"""FairFace: faces balanced over seven perceived races, with perceived age group and gender presentation.

Source: Kärkkäinen and Joo 2021, FairFace: Face Attribute Dataset for Balanced Race, Gender, and Age, arXiv 1908.04913.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from headlens.datasets.dataset import Dataset
from headlens.datasets.faces import AGES, COLUMNS, with_label
from headlens.datasets.layout import Layout, one_of, rooted
from headlens.errors import ManifestError

LAYOUT = Layout(
    "FairFace",
    "fairface_label_train.csv and fairface_label_val.csv with file, age, gender, race, and the folders train and val, "
    "beside them or in fairface-img-margin025-trainval or fairface-img-margin125-trainval",
)
RACES = ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White")
_MARGINS = ("025", "125")


def read_fairface(
    root: Path,
    *,
    label: str = "age_presentation",
    splits: Sequence[str] = ("train", "val"),
    margin: str | None = None,
    missing: str = "error",
) -> Dataset:
    """FairFace: faces with age group, gender presentation and race as annotators perceived them.

    Args:
        root: the folder of the label files.
        label: the attribute that becomes the label: age_presentation, gender_presentation or perceived_race. All
            three stay as attributes.
        splits: which of train and val to read; each needs its label file.
        margin: "025" or "125", where the images of both margins are there.
        missing: "error" refuses a missing image, "drop" leaves its row out.

    Raises:
        ManifestError: a folder, file, column or image that is not there, two margins to choose from, or a value that
            is none of the published.
    """
    one_of("label", label, COLUMNS)
    if isinstance(splits, str) or not splits:
        raise ManifestError("splits, as a list", repr(splits), "Write splits=['val'], for instance.")
    parts = []
    for split in splits:
        one_of("every split", split, ("train", "val"))
        path = LAYOUT.file(root, f"fairface_label_{split}.csv")
        table = LAYOUT.table(path, ("file", "age", "gender", "race"))
        parts.append(
            pd.DataFrame(
                {
                    "path": table["file"],
                    "split": split,
                    "age_presentation": LAYOUT.decode(table, "age", {age: age for age in AGES}, path),
                    "gender_presentation": LAYOUT.decode(table, "gender", {"Female": "female", "Male": "male"}, path),
                    "perceived_race": LAYOUT.decode(table, "race", {race: race for race in RACES}, path),
                    "id": table["file"],
                }
            )
        )
    frame, classes = with_label(pd.concat(parts), label, RACES)
    base = _base(root, splits[0], margin)
    frame, notes = LAYOUT.images(rooted(frame, base), missing)
    return Dataset(rooted(frame, base), classes, notes)


def _base(root: Path, split: str, margin: str | None) -> Path:
    """The folder that `file` counts from."""
    if margin is not None:
        one_of("margin", margin, _MARGINS)
    names = [f"fairface-img-margin{each}-trainval" for each in (_MARGINS if margin is None else (margin,))]
    found = [root / name for name in names if (root / name / split).is_dir()]
    if margin is None and (root / split).is_dir():
        found = [root]
    if len(found) > 1:
        raise LAYOUT.error(
            f"images of two margins in {str(root)!r}", "Choose by margin='025' (tight) or margin='125' (wide)."
        )
    if not found:
        wanted = f"{names[0]}/{split}" if margin else split
        raise LAYOUT.error(f"no folder {wanted!r} in {str(root)!r}", "Unpack the images beside the label files.")
    return found[0]
