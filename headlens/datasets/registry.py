"""The registry of data sets: a new one is one file with a reader, and one line here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from headlens.datasets.table import read_table
from headlens.errors import ManifestError
from headlens.manifest import check_manifest


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for `extract` and `Audit`.

    Attributes:
        manifest: one row an image.
        classes: the class names that `label` refers to, in their order.
    """

    manifest: pd.DataFrame
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.manifest)


Reader = Callable[[Path], tuple[pd.DataFrame, tuple[str, ...]]]
_READERS: dict[str, Reader] = {"csv": read_table}


def register(name: str, reader: Reader) -> None:
    """Add a reader under a name. Raises `ManifestError` where the name is taken by another reader."""
    if _READERS.get(name, reader) is not reader:
        raise ManifestError("a free name for a data set", f"{name!r}, which is taken", "Choose another name.")
    _READERS[name] = reader


def available() -> tuple[str, ...]:
    """The names that `read` knows."""
    return tuple(sorted(_READERS))


def read(name: str, root: str | os.PathLike[str]) -> Dataset:
    """Read a data set and check its manifest (not its files: extraction does, and can skip).

    Args:
        name: one of `available()`.
        root: the data set's folder; for "csv" the file itself will do.

    Raises:
        ManifestError: an unknown name, or whatever is amiss with the manifest.
    """
    if name not in _READERS:
        near = get_close_matches(name, _READERS, n=1)
        raise ManifestError(
            f"a known data set ({', '.join(available())})",
            repr(name),
            f"Did you mean {near[0]!r}?" if near else "For your own images write a CSV file and read it as 'csv'.",
        )
    manifest, classes = _READERS[name](Path(root))
    check_manifest(manifest, classes=classes, files=False)
    return Dataset(manifest, classes)
