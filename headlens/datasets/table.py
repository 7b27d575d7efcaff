"""A data set of one's own: a CSV file in the manifest's columns, and perhaps a list of its classes."""

from __future__ import annotations

from pathlib import Path

from headlens.datasets.dataset import Dataset
from headlens.errors import ManifestError
from headlens.manifest import as_text, read_manifest


def read_table(root: Path) -> Dataset:
    """Images of your own: a CSV file in the manifest's columns.

    It is `manifest.csv` in a folder, or a CSV file of any name. The classes are the lines of `classes.txt` beside it,
    in their order; without that file, the labels in alphabetical order. Image files are looked for when they are
    extracted.

    Raises:
        ManifestError: no such file, no table, or no column `label` to take classes from.
    """
    source = root / "manifest.csv" if root.is_dir() else root
    manifest = read_manifest(source)
    listed = source.parent / "classes.txt"
    if listed.is_file():
        lines = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines()]
        return Dataset(manifest, tuple(line for line in lines if line))
    if "label" not in manifest.columns:
        raise ManifestError(
            "a column 'label' to take the classes from",
            f"the columns {', '.join(manifest.columns)}",
            f"Add that column, or name the classes in {str(listed)!r}, one a line.",
        )
    return Dataset(manifest, tuple(sorted(as_text(manifest["label"]).dropna().unique())))
