"""CelebA: faces of celebrities with forty yes-or-no attributes; blond hair against gender presentation by default.

Source: Liu et al. 2015, Deep Learning Face Attributes in the Wild, arXiv 1411.7766. The pairing of blond hair with
the column Male follows Sagawa et al. 2020, arXiv 1911.08731.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from headlens.datasets.dataset import Dataset, register
from headlens.datasets.layout import Layout, one_of, rooted
from headlens.errors import ManifestError

LAYOUT = Layout(
    "CelebA",
    "list_attr_celeba.txt and list_eval_partition.txt beside the folder img_align_celeba, or in Anno and Eval beside "
    "Img/img_align_celeba",
)
_SPLITS = {"0": "train", "1": "val", "2": "test"}


@register("celeba")
def read_celeba(
    root: Path,
    *,
    target: str = "Blond_Hair",
    classes: Sequence[str] | None = None,
    attributes: Sequence[str] | Literal["all"] = ("Male",),
    missing: str = "error",
) -> Dataset:
    """CelebA: one of forty face attributes as the label, others as attributes; blond hair × gender presentation.

    Args:
        root: the folder of the two lists, or the one above it.
        target: the published column that becomes the label.
        classes: the names for −1 and 1 of that column, in this order; by default "not blond hair" and "blond hair".
        attributes: published columns that become attributes, or "all" but the target. Male becomes
            `gender_presentation` (female, male); any other becomes a column of its own name in lower case (no, yes).
        missing: "error" refuses a missing image, "drop" leaves its row out.

    Raises:
        ManifestError: a folder, file, column or image that is not there, a list that is cut short, or lists of
            different images.
    """
    listed = LAYOUT.file(root, *_places("list_attr_celeba.txt", "Anno"))
    parted = LAYOUT.file(root, *_places("list_eval_partition.txt", "Eval"))
    table = _attributes(listed)
    if isinstance(attributes, str):
        one_of("attributes (unless it is a list)", attributes, ("all",))
        attributes = [column for column in table.columns if column != target]
    LAYOUT.columns(table, listed, [target, *attributes])
    parts = _partition(parted)
    for lines, where in ((table, listed), (parts, parted)):
        if len(twice := lines.index[lines.index.duplicated()]):
            raise LAYOUT.error(f"{str(where)!r} names the image {twice[0]!r} twice.", "Get the file again.")
    if set(parts.index) != set(table.index):
        alone = sorted(set(parts.index) ^ set(table.index))
        raise LAYOUT.error(
            f"{len(alone)} images are named by one of the two lists only ({alone[0]} first).",
            f"Get {listed.name} and {parted.name} of the same release.",
        )
    below = listed.parent.parent if listed.parent.name == "Anno" else listed.parent
    folders = [below / name for name in ("img_align_celeba", "Img/img_align_celeba") if (below / name).is_dir()]
    folder = LAYOUT.only(folders, below).relative_to(below).as_posix()
    name = target.lower().replace("_", " ")
    names = (f"not {name}", name) if classes is None else tuple(classes)
    if len(names) != 2:
        raise ManifestError(f"The classes {names!r} are not two.", "Name the absence (−1), then the presence (1).")
    columns = {
        "path": [f"{folder}/{image}" for image in table.index],
        "label": LAYOUT.decode(table, target, {"-1": names[0], "1": names[1]}, listed),
        "split": parts.loc[table.index, "split"],
    }
    for attribute in attributes:
        column, values = ("gender_presentation", ("female", "male")) if attribute == "Male" else (None, ("no", "yes"))
        codes = {"-1": values[0], "1": values[1]}
        columns[column or attribute.lower()] = LAYOUT.decode(table, attribute, codes, listed)
    frame = rooted(pd.DataFrame(columns | {"id": table.index}, index=table.index), below)
    frame, notes = LAYOUT.images(frame, missing)
    return Dataset(frame, names, notes)


def _places(name: str, folder: str) -> tuple[str, ...]:
    return (name, f"{folder}/{name}", f"celeba/{name}", f"celeba/{folder}/{name}")


def _attributes(path: Path) -> pd.DataFrame:
    """The list of attributes: its length, the attributes' names, and then a line an image."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        length = lines.readline().strip()
    if not length.isdigit():
        raise LAYOUT.error(
            f"The first line of {str(path)!r} is {length[:40]!r}, which is no number of images.",
            "Use the authors' text file, not a converted table.",
        )
    table = _columns(path, skiprows=1)
    table.index = table.index.astype(str)
    if len(table) != int(length):
        raise LAYOUT.error(f"{str(path)!r} has {len(table)} of the {length} lines that it announces.", "Get it again.")
    return table


def _partition(path: Path) -> pd.DataFrame:
    table = _columns(path, header=None, names=["image", "split"])
    table["split"] = LAYOUT.decode(table, "split", _SPLITS, path)
    return table.set_index("image")


def _columns(path: Path, **options: Any) -> pd.DataFrame:
    """A text file in columns, every cell as text."""
    try:
        return pd.read_csv(path, sep=r"\s+", dtype=str, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise LAYOUT.error(f"{str(path)!r} does not read: {error}.", "Get the file again.") from error
