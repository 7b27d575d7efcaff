"""Faces with perceived age, gender presentation and race: FairFace and UTKFace, in the same columns and age groups.

FairFace: Kärkkäinen and Joo 2021, Face Attribute Dataset for Balanced Race, Gender, and Age, arXiv 1908.04913.
UTKFace: Zhang, Song and Qi 2017, Age Progression/Regression by Conditional Adversarial Autoencoder, arXiv 1702.08423;
its ages were estimated by an algorithm and checked by annotators.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from headlens.datasets.dataset import Dataset, register
from headlens.datasets.layout import Layout, listed, one_of, pictures, rooted
from headlens.errors import ManifestError

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
GENDERS = ("female", "male")
COLUMNS = ("age_presentation", "gender_presentation", "perceived_race")

FAIRFACE = Layout(
    "FairFace",
    "fairface_label_train.csv and fairface_label_val.csv with file, age, gender, race, and the folders train and val, "
    "beside them or in fairface-img-margin025-trainval or fairface-img-margin125-trainval",
)
FAIRFACE_RACES = ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White")
_MARGINS = ("025", "125")


@register("fairface")
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
        raise ManifestError(f"splits is {splits!r}, which is no list of splits.", "Write splits=['val'], for example.")
    parts = []
    for split in splits:
        one_of("every split", split, ("train", "val"))
        path = FAIRFACE.file(root, f"fairface_label_{split}.csv")
        table = FAIRFACE.table(path, ("file", "age", "gender", "race"))
        elsewhere = table["file"][~table["file"].str.startswith(f"{split}/")]
        if len(elsewhere):
            raise FAIRFACE.error(
                f"{len(elsewhere)} files of {str(path)!r} are not named {split}/…: {listed(elsewhere.tolist())}.",
                "The published table names them so; this may be an edited copy, of which the part is unclear.",
            )
        parts.append(
            pd.DataFrame(
                {
                    "path": table["file"],
                    "split": split,
                    "age_presentation": FAIRFACE.decode(table, "age", {age: age for age in AGES}, path),
                    "gender_presentation": FAIRFACE.decode(table, "gender", {"Female": "female", "Male": "male"}, path),
                    "perceived_race": FAIRFACE.decode(table, "race", {race: race for race in FAIRFACE_RACES}, path),
                    "id": table["file"],
                }
            )
        )
    frame, classes = _with_label(pd.concat(parts), label, FAIRFACE_RACES)
    frame, notes = FAIRFACE.images(rooted(frame, _base(root, splits[0], margin)), missing)
    return Dataset(frame, classes, notes)


def _base(root: Path, split: str, margin: str | None) -> Path:
    """The folder that `file` counts from."""
    if margin is not None:
        one_of("margin", margin, _MARGINS)
    names = [f"fairface-img-margin{each}-trainval" for each in (_MARGINS if margin is None else (margin,))]
    found = [root / name for name in names if (root / name / split).is_dir()]
    if margin is None and (root / split).is_dir():
        found = [root]
    if len(found) > 1:
        raise FAIRFACE.error(
            f"{str(root)!r} holds images of two margins.", "Choose by margin='025' (tight) or margin='125' (wide)."
        )
    if not found:
        wanted = f"{names[0]}/{split}" if margin else split
        raise FAIRFACE.error(
            f"There is no folder {wanted!r} in {str(root)!r}.", "Unpack the images beside the label files."
        )
    return found[0]


UTKFACE = Layout(
    "UTKFace",
    "images named age_gender_race_date.jpg or age_gender_race_date.jpg.chip.jpg, in the root, in UTKFace, or in part1, "
    "part2 and part3",
)
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")
_GENDERS = {"0": "male", "1": "female"}
_OLDEST = 116
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d{8,}")
_STARTS = tuple(int(re.findall(r"\d+", age)[0]) for age in AGES)


@register("utkface")
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
    UTKFACE.folder(root)
    names = _images(root)
    fields = {name: match.groups() for name in names if (match := _fields(name))}
    odd = [name for name in names if name not in fields]
    if odd and (malformed == "error" or not fields):
        raise UTKFACE.error(
            f"{len(odd)} of {len(names)} names do not read as age_gender_race_date: {listed(odd)}.",
            "Age is 0 to 116, gender 0 or 1, race 0 to 4. "
            + ("malformed='drop' leaves them out." if fields else "Give the folder of the images."),
        )
    ages = [int(age) for age, _, _ in fields.values()]
    frame = pd.DataFrame(
        {
            "path": list(fields),
            "age_presentation": [_group(age) for age in ages],
            "gender_presentation": [_GENDERS[gender] for _, gender, _ in fields.values()],
            "perceived_race": [UTKFACE_RACES[int(race)] for _, _, race in fields.values()],
            "age": [str(age) for age in ages],
        }
    )
    notes = (
        (f"{len(odd)} of {len(names)} images have malformed names and were left out: {listed(odd)}.",) if odd else ()
    )
    frame, classes = _with_label(frame, label, UTKFACE_RACES)
    return Dataset(rooted(frame, root), classes, notes)


def _images(root: Path) -> list[str]:
    places = {
        folders: [
            f"{folder}/{name}".lstrip("/")
            for folder in folders
            if (root / folder).is_dir()
            for name in pictures(root / folder)
        ]
        for folders in (("",), ("UTKFace",), ("part1", "part2", "part3"))
    }
    found = [folders for folders, names in places.items() if names]
    UTKFACE.only([root / folders[0] for folders in found], root)
    return places[found[0]]


def _fields(name: str) -> re.Match[str] | None:
    match = _NAME.match(name.rsplit("/", 1)[-1])
    return match if match and int(match[1]) <= _OLDEST else None


def _group(age: int) -> str:
    return AGES[max(i for i, start in enumerate(_STARTS) if age >= start)]


def _with_label(frame: pd.DataFrame, label: str, races: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The manifest with one of its attributes as the label, and that attribute's values as the classes."""
    classes = dict(zip(COLUMNS, (AGES, GENDERS, races), strict=True))[label]
    return frame.assign(label=frame[label]), classes
