"""UTKFace: faces whose file names hold age, gender and race: 25_1_0_20170116174525125.jpg.

Source: Zhang, Song and Qi 2017, Age Progression/Regression by Conditional Adversarial Autoencoder, arXiv 1702.08423.
The ages were estimated by an algorithm and checked by annotators.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from headlens.datasets.dataset import Dataset
from headlens.datasets.faces import AGES, COLUMNS, with_label
from headlens.datasets.layout import Layout, listed, one_of, pictures, rooted

LAYOUT = Layout(
    "UTKFace",
    "images named age_gender_race_date.jpg or age_gender_race_date.jpg.chip.jpg, in the root, in UTKFace, or in part1, "
    "part2 and part3",
)
RACES = ("White", "Black", "Asian", "Indian", "Others")
_GENDERS = {"0": "male", "1": "female"}
_OLDEST = 116
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d{8,}")
_STARTS = tuple(int(re.findall(r"\d+", age)[0]) for age in AGES)


def read_utkface(root: Path, *, label: str = "age_presentation", malformed: str = "drop") -> Dataset:
    """UTKFace: faces with age, gender and race, read from the file names.

    Ages also come in FairFace's groups, as `age_presentation`, so that the two data sets can be compared. There are no
    published splits, hence no column `split`.

    Args:
        root: the folder of the images, or the one above it.
        label: the attribute that becomes the label: age_presentation, gender_presentation or perceived_race. All
            three stay as attributes.
        malformed: a name that lacks a field (the published files have a few): "drop" leaves the image out and lists
            it in the notes, "error" refuses it.

    Raises:
        ManifestError: no folder, no images, or none with the three fields in its name.
    """
    one_of("label", label, COLUMNS)
    one_of("malformed", malformed, ("drop", "error"))
    LAYOUT.folder(root)
    names = _images(root)
    fields = {name: match.groups() for name in names if (match := _fields(name))}
    strange = [name for name in names if name not in fields]
    if strange and (malformed == "error" or not fields):
        raise LAYOUT.error(
            f"{len(strange)} of {len(names)} names that do not read as age_gender_race_date: {listed(strange)}",
            "Age is 0 to 116, gender 0 or 1, race 0 to 4. "
            + ("malformed='drop' leaves them out." if fields else "Give the folder of the images."),
        )
    ages = [int(age) for age, _, _ in fields.values()]
    frame = pd.DataFrame(
        {
            "path": list(fields),
            "age_presentation": [_group(age) for age in ages],
            "gender_presentation": [_GENDERS[gender] for _, gender, _ in fields.values()],
            "perceived_race": [RACES[int(race)] for _, _, race in fields.values()],
            "age": [str(age) for age in ages],
        }
    )
    notes = (
        (f"{len(strange)} of {len(names)} images have malformed names and were left out: {listed(strange)}.",)
        if strange
        else ()
    )
    frame, classes = with_label(frame, label, RACES)
    return Dataset(rooted(frame, root), classes, notes)


def _images(root: Path) -> list[str]:
    for folders in (("",), ("UTKFace",), ("part1", "part2", "part3")):
        names = [
            f"{folder}/{name}".lstrip("/")
            for folder in folders
            if (root / folder).is_dir()
            for name in pictures(root / folder)
        ]
        if names:
            return names
    raise LAYOUT.error(f"no images in {str(root)!r}", "Give the folder of the images, or unpack the archives there.")


def _fields(name: str) -> re.Match[str] | None:
    match = _NAME.match(name.rsplit("/", 1)[-1])
    return match if match and int(match[1]) <= _OLDEST else None


def _group(age: int) -> str:
    return AGES[max(i for i, start in enumerate(_STARTS) if age >= start)]
