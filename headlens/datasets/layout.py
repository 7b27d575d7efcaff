"""Find a published data set's files below a root folder, and say what was expected where they are not there.

Every reader holds one `Layout`. Its errors name the whole layout, since a missing file is most often a root one
folder too high or too low.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.errors import ManifestError
from headlens.manifest import as_text, manifest_root

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

    def error(self, received: str, remedy: str) -> ManifestError:
        """The error for a folder that is not laid out like this."""
        return ManifestError(f"{self.name} laid out as published ({self.tree})", received, remedy)

    def folder(self, root: Path) -> Path:
        """The root itself. Raises `ManifestError` where it is not a folder."""
        if not root.is_dir():
            raise self.error(
                f"{str(root)!r}, which is {'a file' if root.exists() else 'not there'}",
                "Give the folder that holds the data. Nothing is downloaded: obtain the data set from its authors.",
            )
        return root

    def file(self, root: Path, *places: str) -> Path:
        """The first of these files that is there; a file of that name nearby is named in the error."""
        self.folder(root)
        for place in places:
            if (root / place).is_file():
                return root / place
        name = Path(places[0]).name
        near = [path for depth in ("", "*/", "*/*/") for path in root.glob(depth + name)]
        if near:
            raise self.error(
                f"{name!r} at {str(near[0])!r}", f"Give another root, or move the file to {str(root / places[0])!r}."
            )
        inside = sorted(path.name for path in root.iterdir())
        raise self.error(
            f"no {places[0]!r} in {str(root)!r}, which holds {listed(inside) if inside else 'nothing'}",
            "Give the folder that holds that file, or put the file there.",
        )

    def table(self, path: Path, columns: Sequence[str]) -> pd.DataFrame:
        """A CSV file with at least these columns, every cell as text. Raises `ManifestError` where it is not that."""
        try:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise self.error(f"{str(path)!r}, which does not read as CSV ({error})", "Get the file again.") from error
        frame.columns = frame.columns.str.strip()
        self.columns(frame, path, columns)
        if frame.empty:
            raise self.error(f"{str(path)!r} without a row", "Get the file again.")
        return frame

    def columns(self, frame: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
        """Raises `ManifestError` for a table without one of these columns."""
        have = [str(column) for column in frame.columns]
        absent = [column for column in columns if column not in have]
        if absent:
            near = get_close_matches(absent[0], have, n=1)
            raise self.error(
                f"{str(path)!r} without the column {absent[0]!r}, with {listed(have)}",
                (f"Rename {near[0]!r} if it holds the same. " if near else "")
                + "This may be another release or an edited copy: get the file again.",
            )

    def decode(self, frame: pd.DataFrame, column: str, names: Mapping[str, str], path: Path) -> pd.Series:
        """A column's codes as names. Raises `ManifestError` for a code that is not among them."""
        codes = as_text(frame[column])
        strange = ~codes.isin(list(names))
        if strange.any():
            rows = np.flatnonzero(strange.to_numpy())
            raise self.error(
                f"{codes.iloc[rows[0]]!r} in the column {column!r} of {str(path)!r} (row {listed(rows)})",
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
                f"{len(lost)} of {len(frame)} images that are not there: {listed(lost)}",
                "Put them there, or read with missing='drop' to leave their rows out."
                if there.any()
                else "Give the root of the images too, or unpack them there.",
            )
        return frame[there], (f"{len(lost)} of {len(frame)} images are not there and were left out: {listed(lost)}.",)


def pictures(folder: Path) -> list[str]:
    """The names of the image files in a folder, sorted; hidden files are no images."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in PICTURES  # noqa: PTH122
    )


def rooted(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The manifest, with a fresh index, and the folder that its paths count from."""
    frame = frame.reset_index(drop=True)
    frame.attrs["root"] = str(root.absolute())
    return frame


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Raises `ManifestError` for an option that is none of the choices."""
    if value not in choices:
        raise ManifestError(f"{option} to be one of {', '.join(choices)}", repr(value), "Choose one of these.")


def listed(values: Sequence[object] | np.ndarray) -> str:
    """The first few of many, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")
