"""The manifest: one table for every data set, a row an image.

| column | what it holds |
|---|---|
| `path` | the image file, relative to the table's own folder or absolute |
| `label` | the class, by name, or as its index where the classes are named elsewhere |
| `split` | the part of the data set: train, val, test, … |
| one column an attribute | the attribute's value, by name |
| `box` (optional) | the part of the image that is meant: x, y, width, height in pixels, from the top left |
| `candidates` (optional) | the classes that this image is weighed between |
| `id` (optional) | a name of the row's own, never twice |

`path` stays as it was written; the folder it is relative to travels with the table in `frame.attrs["root"]`, which
pandas keeps through selections and Parquet files. Both may be addresses that fsspec reaches (`s3://…`). Values are
compared as text, so that "0" in a CSV file and 0 in a table made by hand are one value.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.errors import ManifestError
from headlens.images import fetch, is_url

Box = tuple[float, float, float, float]

_SHOWN = 5
_BOX_COLUMNS = (["x", "y", "w", "h"], ["x", "y", "width", "height"])


def read_manifest(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a CSV file in the manifest's columns.

    Every column is read as text, an empty cell as missing; "NA" and "None" are values like any other. Four
    columns x, y, w, h (or x, y, width, height) become one `box`.

    Raises:
        ManifestError: when there is no such file, it is not a CSV table, it is empty, or it has no column
            `path`.
    """
    source: Path | str = os.fspath(path) if is_url(path) else Path(path)
    try:
        content = fetch(source) if isinstance(source, str) else source.open("rb")
    except OSError as error:
        raise ManifestError(
            "a manifest: a CSV file with a row for every image",
            f"{str(source)!r}, which is {'a folder' if Path(source).is_dir() else 'not there'}",
            "Give the path of the CSV file; its columns are path, label, split and one for each attribute.",
        ) from error
    try:
        with content:
            frame = pd.read_csv(content, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ManifestError(
            "a CSV table in UTF-8 with a header line",
            f"{str(source)!r}, which does not read as one ({error})",
            "Save it again as CSV (comma separated, UTF-8), with the column names in the first line.",
        ) from error
    frame.columns = frame.columns.str.strip()
    frame = _fold_boxes(frame)
    frame.attrs["root"] = source.rsplit("/", 1)[0] if isinstance(source, str) else str(source.parent.absolute())
    _require_columns(frame, ["path"])
    _require_rows(frame)
    return frame


def check_manifest(
    frame: pd.DataFrame,
    classes: Sequence[str] | None = None,
    attribute: str | None = None,
    splits: Sequence[str] = (),
    files: bool = True,
) -> None:
    """Raise at the first thing in a manifest that a later step would stumble over.

    Args:
        frame: the manifest.
        classes: the class names; with them the column `label` is required, every label has to be one of them
            (or its index), and at least two have to occur.
        attribute: the column of an attribute; it is required, without gaps, and at least two values have to
            occur.
        splits: splits that have to occur.
        files: also look for every image file.

    Raises:
        ManifestError: a column is missing (near names are listed), the table is empty, a path is missing, an
            id occurs twice, a label is not among the classes (listed with counts and rows), a split is
            absent, one class or one attribute value is all there is, a box is malformed, or an image file is
            not there.
    """
    columns = {"path": True, "label": classes is not None, attribute or "": attribute is not None}
    _require_columns(frame, [column for column, needed in columns.items() if needed])
    _require_rows(frame)
    _require_filled(frame, "path")
    _require_unique_ids(frame)
    if classes is not None:
        present = np.unique(class_indices(frame["label"], classes))
        if len(present) < 2:
            raise ManifestError(
                "images of at least two classes",
                f"{len(frame)} images that are all {classes[present[0]]!r}",
                f"Add images of the other classes ({_listed(classes)}), or check the column 'label'.",
            )
        if "candidates" in frame.columns:
            candidate_indices(frame, classes)
    if attribute is not None:
        _require_filled(frame, attribute)
        values = as_text(frame[attribute]).unique()
        if len(values) < 2:
            raise ManifestError(
                f"at least two values of the attribute {attribute!r}",
                f"{len(frame)} images that all have {values[0]!r}",
                "An attribute that never varies cannot be told from the rest: add images with another value.",
            )
    for split in splits:
        split_mask(frame, split)
    boxes(frame)
    if files:
        check_files(frame)


def as_text(column: pd.Series) -> pd.Series:
    """A column as text: 1 and 1.0 and "1" are the same value. Missing cells stay missing."""

    def one(value: object) -> object:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value if _missing(value) else str(value).strip()

    if column.notna().all() and pd.api.types.infer_dtype(column) in ("string", "integer"):
        # Few values and many images: each value is written once.
        return column.map({value: one(value) for value in column.unique()}).astype(object)
    return column.map(one).astype(object)


def class_indices(labels: pd.Series, classes: Sequence[str]) -> np.ndarray:
    """The index of every label among the classes: an int64 array, one entry an image.

    A label is a class name; where it is none, and reads as a whole number from 0 to len(classes) − 1, it is
    an index.

    Raises:
        ManifestError: for labels that are neither, with their counts and first rows.
    """
    names = list(classes)
    if len(set(names)) < len(names) or not names:
        repeated = sorted({name for name in names if names.count(name) > 1})
        received = f"{_listed(repeated)} twice" if repeated else "none"
        raise ManifestError("class names, each once", received, "Name every class once.")
    index = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    text = as_text(labels)
    found = text.map(index)
    if found.isna().any():
        text = text.where(text.notna(), "(missing)")
        strangers = text[found.isna()]
        told = [
            f"{label!r} ({count} times, {_rows(text, label)})"
            for label, count in strangers.value_counts().head(_SHOWN).items()
        ]
        more = strangers.nunique() - len(told)
        near = get_close_matches(str(strangers.iloc[0]), names, n=1)
        raise ManifestError(
            f"labels among the {len(names)} classes ({_listed(names)})",
            ", ".join(told) + (f" and {more} other labels" if more else ""),
            (f"Did you mean {near[0]!r}? " if near else "")
            + "Correct the column 'label' or the class names, or name these classes too.",
        )
    return found.to_numpy(dtype=np.int64)


def candidate_indices(frame: pd.DataFrame, classes: Sequence[str]) -> list[tuple[int, ...] | None]:
    """For every image the classes it is weighed between, as indices, or None where it is weighed between all.

    A cell of `candidates` is a JSON list (`["nurse", "surgeon"]`), names separated by `|`, or empty.

    Raises:
        ManifestError: for a name that is not a class, or fewer than two candidates.
    """
    if "candidates" not in frame.columns:
        return [None] * len(frame)
    result: list[tuple[int, ...] | None] = []
    for row, cell in enumerate(frame["candidates"]):
        if _missing(cell):
            result.append(None)
            continue
        names = _parse_list(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
        if isinstance(names, str):
            names = [name.strip() for name in names.split("|")]
        if not isinstance(names, (list, tuple)) or len(names) < 2:
            raise ManifestError(
                "at least two candidates for an image",
                f"{cell!r} in row {row}",
                'Write a JSON list, ["nurse", "surgeon"], or nurse|surgeon; leave empty for all classes.',
            )
        result.append(tuple(int(i) for i in class_indices(pd.Series(names), classes)))
    return result


def split_mask(frame: pd.DataFrame, split: str) -> np.ndarray:
    """Which images belong to a split, as a bool array. Raises `ManifestError` where none does, listing the splits."""
    _require_columns(frame, ["split"])
    text = as_text(frame["split"])
    mask = (text == split).to_numpy(dtype=bool)
    if not mask.any():
        counts = ", ".join(f"{name!r} ({count})" for name, count in text.value_counts().items())
        raise ManifestError(
            f"images in the split {split!r}", f"only {counts or 'missing cells'}", "Name one of these splits."
        )
    return mask


def boxes(frame: pd.DataFrame) -> list[Box | None]:
    """For every image its box (x, y, width, height), or None. Raises `ManifestError` for a malformed one."""
    if "box" not in frame.columns:
        return [None] * len(frame)
    return [None if _missing(cell) else _box(cell, row) for row, cell in enumerate(frame["box"])]


def manifest_root(frame: pd.DataFrame) -> str:
    """The folder that a manifest's relative paths count from: where it was read, or else the working folder."""
    root = str(frame.attrs.get("root", "."))
    return root.rstrip("/") if is_url(root) else str(Path(root).absolute())


def resolve_paths(frame: pd.DataFrame) -> list[Path]:
    """The image files: each `path` below the manifest's folder, or below the working folder where it has none.

    Raises:
        ManifestError: for images that are not on this machine; `image_files` gives their addresses.
    """
    found: list[Path] = []
    for place in _places(frame):
        if isinstance(place, str):
            raise ManifestError("image files on this machine", repr(place), "Copy the images and their manifest here.")
        found.append(place)
    return found


def image_files(frame: pd.DataFrame) -> Iterator[tuple[Path | str, Box | None]]:
    """Each image's file (a `Path`) or address (text), and its box; one at a time, since there may be many.

    Raises:
        ManifestError: for a malformed box, when its row is reached.
    """
    cells = frame["box"] if "box" in frame.columns else repeat(None, len(frame))
    for row, (place, cell) in enumerate(zip(_places(frame), cells, strict=True)):
        yield place, None if _missing(cell) else _box(cell, row)


def _places(frame: pd.DataFrame) -> Iterator[Path | str]:
    folder = manifest_root(frame)
    remote, root = is_url(folder), Path(folder)
    for text in map(str, frame["path"]):
        if is_url(text):
            yield text
        else:
            yield f"{folder}/{text}" if remote else root / text.removeprefix("file://")


def images_digest(frame: pd.DataFrame) -> str:
    """A digest of which images a manifest names, in which order and with which boxes; nothing else of it."""
    digest = hashlib.sha256()
    for place, box in image_files(frame):
        digest.update(json.dumps([str(place), box]).encode())
    return digest.hexdigest()[:16]


def manifest_digest(frame: pd.DataFrame) -> str:
    """A digest of a manifest: its images in their order, and every other column's values as text."""
    digest = hashlib.sha256(images_digest(frame).encode())
    for column in sorted((name for name in frame.columns if name not in ("path", "box")), key=str):
        values = [None if _missing(value) else str(value) for value in as_text(frame[column])]
        digest.update(json.dumps([str(column), values]).encode())
    return digest.hexdigest()[:16]


def check_files(frame: pd.DataFrame) -> None:
    """Look for every image file of this machine; those at addresses are found or missed when they are read.

    Raises:
        ManifestError: with how many are missing and the first few.
    """
    first, count = [], 0
    for place in _places(frame):
        if isinstance(place, Path) and not os.path.isfile(place):  # noqa: PTH113 (never raises)
            first += [str(place)] if count < _SHOWN else []
            count += 1
    if count:
        raise ManifestError(
            f"{len(frame)} image files",
            f"{count} that are not there: {', '.join(first)}" + (f" and {count - _SHOWN} more" * (count > _SHOWN)),
            "A relative path counts from the manifest's own folder, frame.attrs['root'].",
        )


def _require_columns(frame: pd.DataFrame, wanted: Sequence[str]) -> None:
    have = [str(column) for column in frame.columns]
    for column in wanted:
        if column in have:
            continue
        near = get_close_matches(column.lower(), [name.lower() for name in have], n=3)
        alike = [name for name in have if name.lower() in near]
        raise ManifestError(
            f"a column {column!r}",
            f"the columns {_listed(have)}" if have else "no columns",
            f"Rename {_listed(alike)} to {column!r} if that is what it holds." if alike else "Add that column.",
        )


def _require_rows(frame: pd.DataFrame) -> None:
    if frame.empty:
        raise ManifestError("at least one image", "an empty table", "Give the table a row for every image.")


def _require_filled(frame: pd.DataFrame, column: str) -> None:
    gaps = np.flatnonzero(frame[column].isna().to_numpy())
    if len(gaps):
        raise ManifestError(
            f"a value of {column!r} in every row",
            f"{len(gaps)} empty cells (row {_listed(gaps[:_SHOWN])})",
            "Fill them, or leave those rows out. Rows are counted from 0 below the header.",
        )


def _require_unique_ids(frame: pd.DataFrame) -> None:
    if "id" not in frame.columns:
        return
    ids = as_text(frame["id"]).dropna()
    repeated = ids[ids.duplicated(keep=False)]
    if len(repeated):
        counts = repeated.value_counts()
        told = [f"{name!r} ({count} times, {_rows(ids, name)})" for name, count in counts.head(_SHOWN).items()]
        raise ManifestError(
            "every id once",
            f"{len(counts)} that repeat: {', '.join(told)}",
            "Make the column 'id' unique, or leave it out.",
        )


def _fold_boxes(frame: pd.DataFrame) -> pd.DataFrame:
    for names in _BOX_COLUMNS:
        if "box" not in frame.columns and set(names) <= set(frame.columns):
            cells = [
                np.nan if any(_missing(cell) for cell in row) else "[" + ", ".join(map(str, row)) + "]"
                for row in frame[names].itertuples(index=False)
            ]
            return frame.drop(columns=names).assign(box=pd.Series(cells, index=frame.index, dtype=object))
    return frame


def _box(cell: object, row: int) -> Box:
    values = _parse_list(cell) if isinstance(cell, str) else cell
    try:
        x, y, width, height = (float(value) for value in values)  # type: ignore[attr-defined]
        if x >= 0 and y >= 0 and 0 < width < np.inf and 0 < height < np.inf:
            return x, y, width, height
    except (TypeError, ValueError):
        pass
    raise ManifestError(
        "a box of four numbers, x, y, width, height, with x and y from 0 and a size above 0",
        f"{cell!r} in row {row}",
        "Write a JSON list, [12, 30, 200, 180], in pixels from the top left; empty is the whole image.",
    )


def _missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)


def _parse_list(cell: str) -> object:
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return None


def _rows(text: pd.Series, value: object) -> str:
    where = np.flatnonzero((text == value).to_numpy(dtype=bool))
    return f"row {_listed(where[:_SHOWN])}" + (", …" if len(where) > _SHOWN else "")


def _listed(values: Sequence[object] | np.ndarray) -> str:
    shown = [repr(value) if isinstance(value, str) else str(value) for value in values[:20]]
    return ", ".join(shown) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
