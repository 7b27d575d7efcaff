"""The manifest: one table for every data set, a row an image.

| column | what it holds |
|---|---|
| `path` | the image file, relative to the table's own folder or absolute |
| `label` | the class, by name, or as its index where the classes are named elsewhere |
| `split` | the part of the data set: train, val, test, … |
| one column an attribute | the attribute's value, by name |
| `box` (optional) | the part of the image that is meant: x, y, width, height in pixels, from the top left |
| `candidates` (optional) | the classes that the image is decided between |
| `id` (optional) | a name of the row's own, never twice |

A table comes in through `read_manifest` (a CSV or Parquet file) or `as_manifest` (any table), which apply the one rule
for cells (`headlens.cells`): surrounding space does not count, 1, 1.0 and "1" are one value, an empty cell is missing.
A `path` is text, too, with / between folders, also where it was written on Windows. The folder that relative paths
count from is `frame.attrs["root"]`, which pandas keeps through selections and Parquet files. Paths and root may be
addresses that fsspec reaches (`s3://…`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from io import BytesIO
from itertools import repeat
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens.cells import (
    as_text,
    cell_text,
    is_code,
    listed,
    misspelt,
    near_equal,
    nearest,
    read_csv,
    read_text,
    spelling,
)
from headlens.errors import LocateError, ManifestError, TaskError
from headlens.images import fetch, is_url

Box = tuple[float, float, float, float]

_COLUMNS = ("path", "label", "split", "box", "candidates", "id")
_ALSO = {
    "path": (
        "file",
        "filename",
        "file name",
        "filepath",
        "file path",
        "image",
        "image path",
        "img path",
        "img filename",
    ),
    "label": ("class", "class name", "target", "category", "labels"),
    "split": ("partition", "fold", "set", "subset"),
}
"""What other tools call a column."""
_BOX_COLUMNS = (["x", "y", "w", "h"], ["x", "y", "width", "height"])
_WINDOWS = re.compile(r"[A-Za-z]:/|//")


def read_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file in the manifest's columns; see `headlens.cells` for the dialects of CSV.

    Every column is read as text, an empty cell as missing; "NA" and "None" are values like any other. Four columns
    x, y, w, h (or x, y, width, height) become one `box`.

    Args:
        path: the file, or its address.
        root: the folder that relative paths count from, by default the table's own.

    Raises:
        ManifestError: there is no such file, it does not read as a table, it is empty, or it has no column `path`.
    """
    source: Path | str = os.fspath(path) if is_url(path) else Path(path)
    where = repr(str(source))
    try:
        content = fetch(source).getvalue() if isinstance(source, str) else source.read_bytes()
    except (OSError, ValueError) as error:
        kind = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({_reason(error)})"
        raise ManifestError(
            f"The manifest {where} {kind}.",
            "Give the path of a CSV file; its columns are path, label, split and one for each attribute.",
        ) from error
    if content.startswith(b"PAR1"):
        try:
            frame = pd.read_parquet(BytesIO(content))
        except Exception as error:  # pyarrow has many errors for a damaged file
            said = str(error).rstrip(".")
            raise ManifestError(f"{where} does not read as Parquet: {said}.", "Write the file again.") from error
    else:
        frame = read_csv(content, where, _COLUMNS)
    if root is not None:
        frame.attrs["root"] = os.fspath(root)
    elif "root" not in frame.attrs:
        frame.attrs["root"] = source.rpartition("/")[0] if isinstance(source, str) else str(source.parent.absolute())
    place, written = (source, "") if isinstance(source, str) else (str(source.absolute()), _day(source))
    frame.attrs["table"] = {"path": place, "sha256": hashlib.sha256(content).hexdigest(), "date": written}
    frame = as_manifest(frame)
    _require_columns(frame, ["path"])
    _require_rows(frame)
    return frame


def origin(frame: pd.DataFrame) -> tuple[str, bool]:
    """The file that a manifest was read from, of which day, in words, and whether it is there and differs now.

    A store keeps both with its manifest; "" for a table that was made in Python or by a version that kept neither.
    """
    read = frame.attrs.get("table")
    if read is None:
        return "", False
    try:
        content = b"" if is_url(read["path"]) else Path(read["path"]).read_bytes()
    except OSError:
        content = b""
    differs = bool(content) and hashlib.sha256(content).hexdigest() != read["sha256"]
    return f"{read['path']}{read['date'] and ' of '}{read['date']}", differs


def _day(file: Path) -> str:
    """The day on which a file was last written: not that of reading, so that equal tables make equal stores."""
    return datetime.fromtimestamp(file.stat().st_mtime).date().isoformat()


def as_manifest(table: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """A table as a manifest: the rule for cells applied to every column, rows numbered from 0, an absolute root.

    A manifest stays as it is. Where the table has no root, relative paths count from the working folder.

    Raises:
        ManifestError: two columns have one name, or a cell is not Unicode text; as `read_manifest` for a file.
    """
    if isinstance(table, str | os.PathLike):
        return read_manifest(table)
    if not isinstance(table, pd.DataFrame):
        raise ManifestError(
            f"A {type(table).__name__} is no table of images.",
            "Pass a pandas table with the column path, pd.DataFrame({'path': …}), or the name of a CSV file.",
        )
    if "path" in table.index.names and "path" not in table.columns:
        table = table.reset_index()
    names = [cell_text(column) or "" for column in table.columns]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ManifestError(
            f"The table has the column {twice[0]!r} {names.count(twice[0])} times.", "Rename or remove all but one."
        )
    columns: dict[str, pd.Series] = {}
    for place, name in enumerate(names):
        column = table.iloc[:, place].reset_index(drop=True)
        if name == "path":
            column = _paths(column)
        elif name in ("box", "candidates"):
            column = _mapped(column, _list_text)
        else:
            column = as_text(column)
        columns[name] = column
        _require_unicode(column)
    frame = _fold_boxes(pd.DataFrame(columns, index=pd.RangeIndex(len(table))))
    frame.attrs = dict(table.attrs) | {"root": manifest_root(table)}
    return frame


def check_manifest(
    frame: pd.DataFrame,
    classes: Sequence[str] | None = None,
    attribute: str | None = None,
    splits: Sequence[str] = (),
    files: bool = True,
) -> None:
    """Raise at the first thing in a manifest that a later step would fail on or silently misread.

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
            absent, one class or one attribute value is all there is, values differ in their spelling alone, a box is
            malformed, or an image file is not there.
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
                f"All {len(frame)} images are of one class, {classes[present[0]]!r}.",
                f"Add images of the other classes ({listed(classes)}), or check the column 'label'.",
            )
        if "candidates" in frame.columns:
            candidate_indices(frame, classes)
    if attribute is not None:
        require_distinct(frame[attribute])
        _require_filled(frame, attribute, " with skip_unlabelled=True (--skip-unlabelled in the shell)")
        present_values = as_text(frame[attribute]).dropna().unique()
        if len(present_values) < 2:
            raise ManifestError(
                f"All {len(frame)} images have the same value of {attribute!r}: {listed(present_values) or 'none'}.",
                "Heads of an attribute that never varies cannot be found: add images with another value.",
            )
    for split in splits:
        split_mask(frame, split)
    boxes(frame)
    if files:
        check_files(frame)


def require_distinct(column: pd.Series) -> None:
    """Raise `ManifestError` for values of a column that differ in their spelling alone, such as 'Land' and 'land'."""
    counts = as_text(column).value_counts()
    for group in near_equal(counts.index):
        shown = ", ".join(f"{value!a} ({counts[value]} images)" for value in group)
        meant = max(group, key=lambda one: (counts[one], spelling(one) == one))
        raise ManifestError(
            f"Values of {column.name!r} differ in their spelling alone: {shown}.",
            f"Did you mean {meant!r} for all of them? Write one value in one way.",
        )


def cluster_indices(frame: pd.DataFrame) -> Int[np.ndarray, "row"] | None:
    """Which images show one person or scene, by the column `cluster`; an image without an entry stands for itself. None
    without that column."""
    if "cluster" not in frame.columns:
        return None
    codes = pd.factorize(as_text(frame["cluster"]))[0]
    return np.where(codes < 0, len(codes) + np.arange(len(codes)), codes)


def class_indices(labels: pd.Series, classes: Sequence[str]) -> Int[np.ndarray, "image"]:
    """The index of every label among the classes, an int64 for each image.

    A label is a class name. Where it is none, and no class is named by a number, a whole number from 0 to
    len(classes) − 1 is an index.

    Raises:
        ManifestError: for labels that are neither, with their counts and first rows.
    """
    names = [cell_text(name) or "" for name in classes]
    if not names or "" in names:
        raise ManifestError("There are no class names, or one is empty.", "Name every class.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ManifestError(f"These classes are named twice: {listed(twice)}.", "Name every class once.")
    index = {name: i for i, name in enumerate(names)}
    numbered = any(re.fullmatch(r"-?\d+", name) for name in names)
    if not numbered:
        index = {str(i): i for i in range(len(names))} | index
    text = as_text(labels)
    found = text.map(index)
    if found.isna().any():
        text = text.where(text.notna(), "(missing)")
        unknown = text[found.isna()]
        counts = unknown.value_counts()
        shown = [f"{label!r} ({count} times, {_rows(text, label)})" for label, count in counts.head(5).items()]
        near = nearest(str(unknown.iloc[0]), names)
        raise ManifestError(
            f"These labels are not among the {len(names)} classes ({listed(names, 20)}): {', '.join(shown)}"
            + (f" and {len(counts) - len(shown)} other labels." if len(counts) > len(shown) else "."),
            (f"Did you mean {near!r}? " if near else "")
            + ("Since classes are named by numbers, no label is read as an index. " if numbered else "")
            + "Correct the column 'label' or the class names, or name these classes too.",
        )
    return found.to_numpy(dtype=np.int64)


def value_indices(column: pd.Series, names: Sequence[str], missing: bool = False) -> Int[np.ndarray, "image"]:
    """The index of each image's value among an attribute's; −1 for one that is missing or not among them.

    Args:
        column: the attribute's column.
        names: its values.
        missing: whether images without one of them may be there.

    Raises:
        ManifestError: for a value that is not among them, where `missing` is not set.
    """
    written = as_text(column)
    counts = written[~written.isin(names)].value_counts(dropna=False)
    if len(counts) and not missing:
        shown = [
            f"{repr(value) if isinstance(value, str) else 'empty cells'} ({count})" for value, count in counts.items()
        ]
        near = nearest(str(counts.index[0]), names)
        raise ManifestError(
            f"The column {column.name!r} has {', '.join(shown[:5])}{' and more' if len(shown) > 5 else ''}, which the "
            f"attribute does not name: {', '.join(names)}.",
            (f"Did you mean {near!r}? " if near else "")
            + "Correct the column, give these values prompts too, or leave their images out (skip_unlabelled=True; "
            "--skip-unlabelled in the shell).",
        )
    return written.map({name: i for i, name in enumerate(names)}).fillna(-1).to_numpy(dtype=np.int64)


def named_groups(
    groups: Iterable[str | Sequence[str]], classes: Sequence[str], values: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Groups as (class, value) pairs, from pairs or from "class/value"; one text alone is one group.

    Raises:
        LocateError: for anything else, and a class or a value that is not there.
    """
    known = {f"{label}/{value}": (label, value) for label in classes for value in values}
    found = []
    for group in [groups] if isinstance(groups, str) or not isinstance(groups, Iterable) else groups:
        name = group if isinstance(group, str) else "/".join(map(str, group)) if isinstance(group, Sequence) else ""
        if name not in known:
            near = nearest(name, known)
            raise LocateError(
                f"{group!r} is no group of a class and a value.",
                (f"Did you mean {near!r}? " if near else "")
                + f"Write CLASS/VALUE, or in Python (class, value); there are {listed(known, 12)}.",
            )
        found.append(known[name])
    return tuple(found)


def candidate_indices(frame: pd.DataFrame, classes: Sequence[str]) -> list[tuple[int, ...] | None]:
    """For every image the classes it is decided between, as indices, or None where these are all classes.

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
            names = names.split("|")
        if not isinstance(names, list | tuple | np.ndarray) or len(names) < 2:
            raise ManifestError(
                f"The candidates in row {row} are not two classes or more: {cell!r}.",
                'Write a JSON list, ["nurse", "surgeon"], or nurse|surgeon; leave empty for all classes.',
            )
        try:
            result.append(tuple(int(i) for i in class_indices(pd.Series(list(names), dtype=object), classes)))
        except ManifestError as error:
            raise ManifestError(
                f"The candidates in row {row}, {cell!r}, are not all among the {len(classes)} classes "
                f"({listed(classes, 20)}).",
                "Correct the column 'candidates' or the class names.",
            ) from error
    return result


def split_mask(frame: pd.DataFrame, split: str) -> np.ndarray:
    """Which images belong to a split, as a bool array.

    Raises:
        ManifestError: where none does, and where another split has the same name but for its spelling.
    """
    _require_columns(frame, ["split"])
    require_distinct(frame["split"])
    text = as_text(frame["split"])
    mask = (text == cell_text(split)).to_numpy(dtype=bool)
    if not mask.any():
        counts = ", ".join(f"{name!r} ({count})" for name, count in text.value_counts().items())
        raise ManifestError(
            f"No image is in the split {split!r}; the column 'split' holds {counts or 'empty cells only'}.",
            "Name the splits to use (--split REFERENCE,TEST in the shell), or remove the column to have halves drawn.",
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
            raise ManifestError(
                f"The image {place!r} is not a file of this machine.", "Copy the images and their manifest here."
            )
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


def images_digest(frame: pd.DataFrame) -> str:
    """A digest of which images a manifest names, in which order and with which boxes; nothing else of it.

    Images are named below the folder that they have in common, so that a data set may be moved or mounted elsewhere,
    and its paths be absolute or relative.
    """
    places = [p if isinstance(p, str) else os.path.normpath(p).replace(os.sep, "/") for p in _places(frame)]
    ends = [min(places, default=""), max(places, default="")]
    shared = os.path.commonprefix(ends).rpartition("/")[0]  # noqa: RUF071 (places may be addresses)
    digest = hashlib.sha256()
    for place, box in zip(places, boxes(frame), strict=True):
        digest.update(json.dumps([place[len(shared) :].lstrip("/"), box]).encode())
    return digest.hexdigest()[:16]


def manifest_digest(frame: pd.DataFrame) -> str:
    """A digest of a manifest: its images in their order, and every other column's values as text."""
    digest = hashlib.sha256(images_digest(frame).encode())
    for column in sorted((name for name in frame.columns if name not in ("path", "box")), key=str):
        digest.update(json.dumps([str(column), as_text(frame[column]).tolist()]).encode())
    return digest.hexdigest()[:16]


def check_files(frame: pd.DataFrame) -> None:
    """Look for every image file of this machine; those at addresses are looked for when they are read.

    Raises:
        ManifestError: with how many are missing and the first few.
    """
    missing = [place for place in _places(frame) if isinstance(place, Path) and not os.path.isfile(place)]  # noqa: PTH113
    if not missing:
        return
    root = manifest_root(frame)
    if any(_WINDOWS.match(path) for path in map(str, frame["path"])):
        remedy = "These are paths of a Windows machine or share: write them relative to the table."
    elif there := _other_spelling(missing[0]):
        remedy = f"There is {there!a}, which differs in capitals or in the Unicode form of its accents: rename one."
    elif "root" in frame.attrs:
        remedy = f"Relative paths count from {root!r}; if the images lie elsewhere, name their folder: "
        remedy += "read_manifest(path, root=FOLDER), or --root FOLDER in the shell."
    else:
        remedy = f"The table has no folder of its own, so that relative paths count from the working folder, {root!r}; "
        remedy += "set frame.attrs['root'], which pandas loses in some joins."
    raise ManifestError(
        f"{len(missing)} of {len(frame)} image files are not there: {listed(map(str, missing))}.", remedy
    )


def _other_spelling(place: Path) -> str | None:
    """A file beside this one whose name differs in capitals or Unicode form alone, as copies between systems may."""

    def plain(name: str) -> str:
        return normalize("NFC", name).casefold()

    try:
        names = {one.name for one in place.parent.iterdir()} - {place.name}
    except (OSError, ValueError):
        return None
    return next((name for name in sorted(names) if plain(name) == plain(place.name)), None)


def _places(frame: pd.DataFrame) -> Iterator[Path | str]:
    folder = manifest_root(frame)
    remote, root = is_url(folder), Path(folder)
    for text in map(str, frame["path"]):
        if is_url(text):
            yield text
        else:
            local = unquote(text.removeprefix("file://")) if text.startswith("file://") else text
            yield f"{folder}/{local}" if remote else root / local


def _paths(column: pd.Series) -> pd.Series:
    def one(cell: object) -> str | None:
        if _missing(cell):
            return None
        text = os.fsdecode(cell) if isinstance(cell, str | bytes | os.PathLike) else cell_text(cell)
        return None if text is None else text.strip().replace("\\", "/") or None

    return _mapped(column, one)


def _mapped(column: pd.Series, one: Callable[[object], str | None]) -> pd.Series:
    # Not Series.map, which makes Arrow text of the result and fails on what is not Unicode.
    return pd.Series([one(cell) for cell in column.astype(object)], column.index, dtype=object, name=column.name)


def _require_columns(frame: pd.DataFrame, wanted: Sequence[str]) -> None:
    have = [str(column) for column in frame.columns]
    for column in wanted:
        if column in have:
            continue
        also = [name for name in have if spelling(name) in _ALSO.get(column, ())]
        near = also[0] if len(also) == 1 else nearest(column, [name for name in have if name not in _COLUMNS], 0.7)
        data = any(re.search(r"\.(jpe?g|png|webp|bmp|gif|tiff?)$", name, re.IGNORECASE) for name in have)
        raise ManifestError(
            f"The table has no column {column!r}; it has {listed(have, 20) or 'no columns'}.",
            "Its first line has to name the columns, as in path,label,split."
            if data
            else f"Rename {near!r} to {column!r} if that is what it holds."
            if near
            else f"{'Rename the column of image files to' if column == 'path' else 'Add the column'} {column!r}.",
        )


def _require_rows(frame: pd.DataFrame) -> None:
    if frame.empty:
        raise ManifestError("The table has no row.", "Give it a row for every image.")


def _require_filled(frame: pd.DataFrame, column: str, how: str = "") -> None:
    gaps = np.flatnonzero(as_text(frame[column]).isna().to_numpy())
    if len(gaps):
        raise ManifestError(
            f"{len(gaps)} cells of the column {column!r} are empty (row {listed(gaps)}).",
            f"Fill them, or leave those rows out{how}. Rows are counted from 0 below the header.",
        )


def _require_unique_ids(frame: pd.DataFrame) -> None:
    if "id" not in frame.columns:
        return
    ids = as_text(frame["id"]).dropna()
    counts = ids[ids.duplicated(keep=False)].value_counts()
    if len(counts):
        shown = [f"{name!r} ({count} times, {_rows(ids, name)})" for name, count in counts.head(5).items()]
        raise ManifestError(
            f"{len(counts)} cells of the column 'id' repeat: {', '.join(shown)}.",
            "Make the column 'id' unique, or leave it out.",
        )


def _require_unicode(column: pd.Series) -> None:
    for row, cell in enumerate(column):
        if isinstance(cell, str) and not cell.isascii():
            try:
                cell.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ManifestError(
                    f"The column {column.name!r} holds what is not Unicode text in row {row}: {cell!r}.",
                    "Rename the file, or correct the cell.",
                ) from error


def _fold_boxes(frame: pd.DataFrame) -> pd.DataFrame:
    for names in _BOX_COLUMNS:
        if "box" not in frame.columns and set(names) <= set(frame.columns):
            cells = [
                None if any(_missing(cell) for cell in row) else "[" + ", ".join(map(str, row)) + "]"
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
        f"The box in row {row} is not x, y, width, height, with x and y from 0 and a size above 0: {cell!r}.",
        "Write a JSON list, [12, 30, 200, 180], in pixels from the top left; empty is the whole image.",
    )


def _list_text(cell: object) -> str | None:
    """A list as JSON, which a CSV or Parquet file can hold."""
    return json.dumps(np.asarray(cell).tolist()) if isinstance(cell, list | tuple | np.ndarray) else cell_text(cell)


def _missing(cell: object) -> bool:
    return not isinstance(cell, str | list | tuple | np.ndarray) and cell_text(cell) is None


def _parse_list(cell: str) -> object:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return None


def _rows(text: pd.Series, value: object) -> str:
    return f"row {listed(np.flatnonzero((text == value).to_numpy(dtype=bool)))}"


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__).lower().rstrip(".")


def parse_attribute(text: str, manifest: pd.DataFrame) -> tuple[str, Mapping[str, Sequence[str]]]:
    """Read `background`, or `age:young=a photo of a young person,old=…`, or a YAML or JSON file of `name` and `values`.

    Several prompts of a value stand between `|`. Without prompts the values are those of the manifest's column, and a
    value's prompt is "a photo of VALUE", except where values are codes, which have to be given prompts.

    Raises:
        TaskError: for text or a file that does not read so, a column that is not there, values that are codes, and rare
            ones that look like a frequent one misspelt (`headlens.cells.misspelt`), unless they were named.
    """
    if Path(text).suffix in (".yaml", ".yml", ".json") and _is_file(text):
        return _attribute_file(Path(text))
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if name in _COLUMNS and name != "label":
        raise TaskError(
            f"The column {name!r} is no attribute of what an image shows.", "Name the column that is audited."
        )
    if not colon:
        if name not in manifest.columns:
            near = get_close_matches(name, map(str, manifest.columns), n=1)
            raise TaskError(
                f"The manifest has no column {name!r}; it has {', '.join(map(str, manifest.columns))}.",
                (f"Did you mean {near[0]!r}? " if near else "")
                + "What no column holds is inferred from prompts: NAME:value=prompt,value=prompt.",
            )
        counts = as_text(manifest[name]).value_counts()
        values = sorted(counts.index)
        if slips := misspelt({str(value): int(count) for value, count in counts.items()}):
            shown = "; ".join(f"{one!r} ({counts[one]}) beside {near!r} ({counts[near]})" for one, near in slips)
            raise TaskError(
                f"Values of {name!r} look misspelt: {shown}.",
                "Correct these cells. If each is a value of its own, name all values with prompts: "
                f"--attribute '{name}:{slips[0][0]}=a photo of …,{slips[0][1]}=a photo of …'.",
            )
        if codes := [value for value in values if is_code(value)]:
            raise TaskError(
                f"{name!r} has the values {listed(values)}, and 'a photo of {codes[0]}' says nothing to a model.",
                f"Write what each value looks like: --attribute '{name}:{values[0]}=a photo of …,…=…'.",
            )
        return name, {value: [f"a photo of {value}"] for value in values}
    prompts: dict[str, Sequence[str]] = {}
    for part in rest.split(","):
        value, equals, texts = part.partition("=")
        if not equals or not value.strip() or not texts.strip():
            raise TaskError(
                f"{text!r} is not written as name:value=prompt,value=prompt.",
                "A comma separates values and a | several prompts of one value; for prompts with either, write a "
                "YAML file.",
            )
        if value.strip() in prompts:
            raise TaskError(
                f"{text!r} has the value {value.strip()!r} twice.", "Write several prompts of one value between |."
            )
        prompts[value.strip()] = [one.strip() for one in texts.split("|") if one.strip()]
    if len(prompts) < 2:
        raise TaskError(
            f"An attribute has two values or more, not {list(prompts)!r}.",
            "Add what the value is compared with: NAME:value=prompt,value=prompt.",
        )
    return name, prompts


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than any path, or no path at all
        return False


def _attribute_file(path: Path) -> tuple[str, Mapping[str, Sequence[str]]]:
    import yaml

    where = repr(str(path))
    try:
        written = yaml.safe_load(read_text(path.read_bytes(), where))
        prompts = {
            str(value): [texts] if isinstance(texts, str) else list(map(str, texts))
            for value, texts in written["values"].items()
        }
        return str(written["name"]), prompts
    except ManifestError as error:
        raise error.as_type(TaskError) from error
    except Exception as error:  # YAML's own errors, and those that its values and deep nesting lead to
        raise TaskError(
            f"{where} holds no attribute ({' '.join(str(error).split()) or type(error).__name__}).",
            "Write `name:` and, under `values:`, a list of prompts for each value.",
        ) from error
