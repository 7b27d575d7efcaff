"""The registry of data sets: a new one is one file with a reader, and one line here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from headlens.datasets.celeba import read_celeba
from headlens.datasets.counteranimal import read_counteranimal
from headlens.datasets.dataset import Dataset
from headlens.datasets.facet import read_facet
from headlens.datasets.fairface import read_fairface
from headlens.datasets.genderbias_vl import read_genderbias_vl
from headlens.datasets.layout import rooted
from headlens.datasets.table import read_table
from headlens.datasets.utkface import read_utkface
from headlens.datasets.waterbirds import read_waterbirds
from headlens.errors import ManifestError
from headlens.manifest import as_text, check_manifest, manifest_root

Reader = Callable[..., Dataset]
_READERS: dict[str, Reader] = {
    "celeba": read_celeba,
    "counteranimal": read_counteranimal,
    "csv": read_table,
    "facet": read_facet,
    "fairface": read_fairface,
    "genderbias-vl": read_genderbias_vl,
    "utkface": read_utkface,
    "waterbirds": read_waterbirds,
}


def register(name: str, reader: Reader) -> None:
    """Add a reader under a name.

    Args:
        name: what `read` and the shell call the data set.
        reader: a function of a root folder, and of options by keyword. The first line of its docstring is what
            `available` says of it.

    Raises:
        ManifestError: where the name is taken by another reader.
    """
    if _READERS.get(name, reader) is not reader:
        raise ManifestError("a free name for a data set", f"{name!r}, which is taken", "Choose another name.")
    _READERS[name] = reader


def available() -> dict[str, str]:
    """The names that `read` knows, in alphabetical order, and one line on each."""
    return {name: (inspect.getdoc(_READERS[name]) or name).splitlines()[0] for name in sorted(_READERS)}


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
        options: the reader's own, by keyword; see its docstring (`headlens.datasets.read_facet`, say).

    Raises:
        ManifestError: an unknown name or option, a column or value to keep that is not there, or whatever is amiss
            with the files.
    """
    if name not in _READERS:
        near = get_close_matches(name, _READERS, n=1)
        raise ManifestError(
            f"a known data set ({', '.join(available())})",
            repr(name),
            f"Did you mean {near[0]!r}?" if near else "For your own images write a CSV file and read it as 'csv'.",
        )
    _check_options(name, options)
    data = _READERS[name](Path(root), **options)
    for column, values in (keep or {}).items():
        data = _kept(data, column, values)
    check_manifest(data.manifest, classes=data.classes, files=False)
    return data


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    parameters = list(inspect.signature(_READERS[name]).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters]
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            raise ManifestError(
                f"options of {name!r} ({', '.join(known) or 'it has none'})",
                repr(option),
                f"Did you mean {near[0]!r}?" if near else "Leave it out.",
            )


def _kept(data: Dataset, column: str, values: Sequence[str]) -> Dataset:
    frame = data.manifest
    if column not in frame.columns:
        raise ManifestError(
            f"a column {column!r} to keep values of",
            f"the columns {', '.join(map(str, frame.columns))}",
            "Name one of these.",
        )
    if isinstance(values, str):
        raise ManifestError(f"a list of the values of {column!r} to keep", repr(values), f"Write [{values!r}].")
    text = as_text(frame[column])
    absent = [value for value in values if not (text == value).any()]
    if absent or not values:
        there = ", ".join(f"{value!r} ({count})" for value, count in text.value_counts().head(20).items())
        raise ManifestError(
            f"values to keep that occur in {column!r}", repr(absent[0]) if absent else "none", f"It holds {there}."
        )
    chosen = text.isin(list(values))
    classes = tuple(each for each in data.classes if each in values) if column == "label" else data.classes
    note = f"{(~chosen).sum()} of {len(frame)} images whose {column} is not {' or '.join(values)} were left out."
    manifest = rooted(frame[chosen], Path(manifest_root(frame)))
    return replace(data, manifest=manifest, classes=classes, notes=data.notes if chosen.all() else (*data.notes, note))
