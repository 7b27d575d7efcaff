"""Data sets by name: what a reader returns, the registry of readers, and the reader of a table of one's own.

A new data set is one file with a reader, registered by its decorator and imported in `headlens.datasets`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from headlens.cells import as_text, cell_text, nearest
from headlens.datasets.layout import rooted
from headlens.errors import ManifestError, OutputError
from headlens.manifest import check_manifest, manifest_root, read_manifest, require_distinct, resolve_paths
from headlens.registry import Registry


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for `extract` and `Audit`.

    Attributes:
        manifest: one row an image (or, where there are boxes, one a person); see `headlens.manifest`.
        classes: the class names that `label` refers to, in their order.
        notes: what the reader left out, clipped, drew or renamed, a sentence each; empty where it took all as it was.
    """

    manifest: pd.DataFrame
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.manifest)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write manifest.csv, with absolute paths, and classes.txt: what `read("csv", folder)` and --data read.

        Returns:
            The path of manifest.csv.

        Raises:
            OutputError: where one of the two files is there already.
        """
        target = Path(folder)
        manifest, classes = target / "manifest.csv", target / "classes.txt"
        for path in (manifest, classes):
            if path.exists():
                raise OutputError(
                    f"{str(path)!r} is there already, and nothing was written.",
                    "Name another folder, or remove the file.",
                )
        target.mkdir(parents=True, exist_ok=True)
        paths = [str(path) for path in resolve_paths(self.manifest)]
        self.manifest.assign(path=paths).to_csv(manifest, index=False)
        classes.write_text("\n".join(self.classes) + "\n", encoding="utf-8")
        return manifest


Reader = Callable[..., Dataset]
DATASETS: Registry[Reader] = Registry("data set")
"""The readers by name. One is a function of a root folder, and of options by keyword; the first line of its docstring
is what `available` shows of it."""
register = DATASETS.register


def available() -> dict[str, str]:
    """The names that `read` knows, in alphabetical order, and one line on each."""
    return {name: (inspect.getdoc(DATASETS[name]) or name).splitlines()[0] for name in sorted(DATASETS)}


def read(
    name: str,
    root: str | os.PathLike[str],
    *,
    keep: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> Dataset:
    """Read a data set that lies in a folder, and check its manifest. Nothing is downloaded.

    Args:
        name: one of `available()`.
        root: the data set's folder; for "csv" the file itself will do.
        keep: for some columns the values to keep; rows with other values are left out, and a note says so. An audit
            takes every value of its attribute's column, so keep those that it has prompts for:
            `keep={"gender_presentation": ["fem", "masc"]}`. Of "label" it narrows the classes too.
        options: the reader's own, by keyword; see its docstring (`headlens.datasets.read_facet`, for example).

    Raises:
        UnknownNameError: an unknown name.
        ManifestError: an unknown option, a column or value to keep that is not there, or files that do not read.
    """
    reader = DATASETS[name]
    parameters = list(inspect.signature(reader).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            near = nearest(option, known)
            raise ManifestError(
                f"The data set {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}.",
                f"Did you mean {near!r}?" if near else "Leave it out.",
            )
    data = reader(Path(root), **options)
    data = replace(data, manifest=rooted(data.manifest, manifest_root(data.manifest)))
    for column, values in (keep or {}).items():
        data = _kept(data, column, values)
    check_manifest(data.manifest, classes=data.classes, files=False)
    return data


@DATASETS.register("csv")
def read_table(
    root: Path, *, classes: Sequence[str] | None = None, images: str | os.PathLike[str] | None = None
) -> Dataset:
    """Images of your own: a CSV file in the manifest's columns.

    It is `manifest.csv` in a folder, or a CSV file of any name. Image files are looked for when they are extracted.

    Args:
        root: the file, or its folder.
        classes: the class names in their order. By default the lines of `classes.txt` beside the file; without that
            file, the labels in alphabetical order, which a note says.
        images: the folder that relative paths count from, by default the file's own.

    Raises:
        ManifestError: no such file, no table, no column `label` to take classes from, or labels that differ in their
            spelling alone.
    """
    source = root / "manifest.csv" if root.is_dir() else root
    manifest = read_manifest(source, images)
    names = source.parent / "classes.txt"
    if classes is not None:
        return Dataset(manifest, tuple(classes))
    if names.is_file():
        return Dataset(manifest, read_classes(names), (f"The classes are those of {str(names)!r}.",))
    if "label" not in manifest.columns:
        raise ManifestError(
            f"There is no column 'label' to take the classes from; the columns are {', '.join(manifest.columns)}.",
            f"Add that column, or name the classes in {str(names)!r}, one a line.",
        )
    require_distinct(manifest["label"])
    found = tuple(sorted(as_text(manifest["label"]).dropna().unique()))
    return Dataset(manifest, found, (f"The classes are the {len(found)} labels of the table, in alphabetical order.",))


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names in a file, one a line, in UTF-8; empty lines are skipped.

    Raises:
        ManifestError: the file does not read as that, holds no name, or one twice.
    """
    try:
        lines = re.split(r"\r\n|\r|\n", path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"The class names in {str(path)!r} do not read: {error}.", "Save it in UTF-8.") from error
    names = [(number, name) for number, line in enumerate(lines, start=1) if (name := cell_text(line))]
    first: dict[str, int] = {}
    for number, name in names:
        if first.setdefault(name, number) != number:
            raise ManifestError(
                f"{str(path)!r} names the class {name!r} twice, in lines {first[name]} and {number}.",
                "Name every class once; the labels of two classes of one name could not be distinguished.",
            )
    if not names:
        raise ManifestError(f"{str(path)!r} names no class.", "Write one name a line.")
    return tuple(first)


def _kept(data: Dataset, column: str, values: Sequence[str]) -> Dataset:
    frame = data.manifest
    if column not in frame.columns:
        raise ManifestError(
            f"There is no column {column!r} to keep values of.", f"The columns are {', '.join(frame.columns)}."
        )
    if isinstance(values, str):
        raise ManifestError(f"The values of {column!r} to keep are one text, {values!r}.", f"Write [{values!r}].")
    wanted = [cell_text(value) for value in values]
    absent = [value for value in wanted if not (frame[column] == value).any()]
    if absent or not wanted:
        there = ", ".join(f"{value!r} ({count})" for value, count in frame[column].value_counts().head(20).items())
        raise ManifestError(
            f"The value {absent[0]!r} to keep does not occur in {column!r}."
            if absent
            else f"No value of {column!r} is to be kept.",
            f"It holds {there}.",
        )
    chosen = frame[column].isin(wanted)
    classes = tuple(each for each in data.classes if each in wanted) if column == "label" else data.classes
    note = f"{(~chosen).sum()} of {len(frame)} images whose {column} is not {' or '.join(values)} were left out."
    manifest = rooted(frame[chosen], manifest_root(frame))
    return replace(data, manifest=manifest, classes=classes, notes=data.notes if chosen.all() else (*data.notes, note))
