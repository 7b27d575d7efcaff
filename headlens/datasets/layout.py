"""Find a published data set's files below a root folder, and name what was expected where they are not there.

Every reader holds one `Layout`. Its errors name the whole layout, since a missing file is most often a root one folder
too high or too low. Readers refuse what has more than one reading: they never guess.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.cells import as_text, nearest, read_csv
from headlens.errors import ManifestError
from headlens.manifest import as_manifest, manifest_root

_SHOWN = 5
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclass(frozen=True)
class Layout:
    """What a data set's folder holds.

    Attributes:
        name: the data set, as its authors call it.
        tree: its files and folders below the root, on one line.
    """

    name: str
    tree: str

    def error(self, problem: str, remedy: str) -> ManifestError:
        """The error for a folder that is not laid out like this; both are whole sentences."""
        return ManifestError(problem, f"{remedy} (The published layout of {self.name}: {self.tree}.)")

    def folder(self, root: Path) -> Path:
        """The root itself. Raises `ManifestError` where it is not a folder."""
        if not root.is_dir():
            raise self.error(
                f"{str(root)!r} is {'a file' if root.exists() else 'not there'}.",
                "Give the folder that holds the data. Nothing is downloaded: obtain the data set from its authors.",
            )
        return root

    def file(self, root: Path, *places: str) -> Path:
        """The one of these files that is there.

        Raises:
            ManifestError: none is there (one of that name nearby is named), or two that differ.
        """
        self.folder(root)
        found = [root / place for place in places if (root / place).is_file()]
        for other in found[1:]:
            if other.read_bytes() != found[0].read_bytes():
                raise self.error(
                    f"{str(found[0])!r} and {str(other)!r} are both there, and differ.",
                    "Give the folder of the one that is meant as the root, or remove the other.",
                )
        if found:
            return found[0]
        name = Path(places[0]).name
        near = [path for depth in ("", "*/", "*/*/") for path in root.glob(depth + name)]
        if near:
            raise self.error(
                f"{name!r} is at {str(near[0])!r}.",
                f"Give another root, or move the file to {str(root / places[0])!r}.",
            )
        inside = sorted(path.name for path in root.iterdir())
        raise self.error(
            f"There is no {places[0]!r} in {str(root)!r}, which holds {listed(inside) if inside else 'nothing'}.",
            "Give the folder that holds that file, or put the file there.",
        )

    def only(self, folders: Sequence[Path], root: Path) -> Path:
        """The one folder that is there. Raises `ManifestError` for none, or several, of which one would be a guess."""
        if len(folders) > 1:
            raise self.error(
                f"The images may be in {' or in '.join(repr(str(folder)) for folder in folders)}.",
                "Give one of them as the root, or move the other away.",
            )
        if not folders:
            raise self.error(f"No images are in {str(root)!r}.", "Give the folder that holds them as the root.")
        return folders[0]

    def table(self, path: Path, columns: Sequence[str]) -> pd.DataFrame:
        """A CSV file with at least these columns, every cell as text. Raises `ManifestError` where it is not that."""
        frame = read_csv(path.read_bytes(), repr(str(path)), columns).reset_index(drop=True)
        self.columns(frame, path, columns)
        if frame.empty:
            raise self.error(f"{str(path)!r} has no row.", "Get the file again.")
        return frame

    def columns(self, frame: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
        """Raises `ManifestError` for a table without one of these columns."""
        have = [str(column) for column in frame.columns]
        absent = [column for column in columns if column not in have]
        if absent:
            near = nearest(absent[0], have)
            raise self.error(
                f"{str(path)!r} has no column {absent[0]!r}; it has {listed(have)}.",
                (f"Rename {near!r} if it holds the same. " if near else "")
                + "This may be another release or an edited copy: get the file again.",
            )

    def decode(self, frame: pd.DataFrame, column: str, names: Mapping[str, str], path: Path) -> pd.Series:
        """A column's codes as names. Raises `ManifestError` for a code that is not among them."""
        codes = as_text(frame[column])
        unknown = ~codes.isin(list(names))
        if unknown.any():
            rows = np.flatnonzero(unknown.to_numpy())
            raise self.error(
                f"The column {column!r} of {str(path)!r} holds {frame[column].iloc[rows[0]]!r} (row {listed(rows)}).",
                f"The values are {', '.join(map(repr, names))}. A spreadsheet may have rewritten the file: "
                "get it again.",
            )
        return codes.map(dict(names)).astype(object)

    def images(self, frame: pd.DataFrame, missing: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The rows whose image file is there, and a note where some are not.

        Args:
            frame: the manifest, with its root.
            missing: "error" refuses a missing file, "drop" leaves its row out.

        Raises:
            ManifestError: a file is missing, or, under "drop", every file is.
        """
        one_of("missing", missing, ("error", "drop"))
        base = manifest_root(frame)
        paths = [os.path.join(base, path) for path in frame["path"]]  # noqa: PTH118 (ten times as fast)
        there = np.array([os.path.isfile(path) for path in paths], dtype=bool)  # noqa: PTH113 (never raises)
        lost = [path for path, found in zip(paths, there, strict=True) if not found]
        if not lost:
            return frame, ()
        if missing == "error" or not there.any():
            raise self.error(
                f"{len(lost)} of {len(frame)} images are not there: {listed(lost)}.",
                "Put them there, or read with missing='drop' to leave their rows out."
                if there.any()
                else "Give the root of the images too, or unpack them there.",
            )
        kept = rooted(frame[there], base)
        return kept, (f"{len(lost)} of {len(frame)} images are not there and were left out: {listed(lost)}.",)


def pictures(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted; hidden files are no images."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in PICTURES  # noqa: PTH122
    )


def rooted(frame: pd.DataFrame, root: str | Path) -> pd.DataFrame:
    """A table as a manifest whose paths count from a folder."""
    frame.attrs = {"root": str(root)}
    return as_manifest(frame)


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Raises `ManifestError` for an option that is none of the choices."""
    if value not in choices:
        raise ManifestError(f"{option} is {value!r}.", f"Choose one of {', '.join(choices)}.")


def listed(values: Sequence[object] | np.ndarray) -> str:
    """The first few of many, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
