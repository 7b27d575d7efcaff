"""Tables as they come: the dialect of a CSV file, and the one rule by which cells are compared.

A cell is text without the space around it; a whole number has one spelling (1, 1.0, "1" and " 1.0 " are one value), and
so has a day (pandas' 2024-01-31 00:00:00 is 2024-01-31); an empty cell is missing. The rule is the same for a CSV file,
a Parquet file and a table made in Python.

A CSV file is read where it has one reading: cells between commas, semicolons, tabs or vertical bars, in UTF-8 or
UTF-16, with any line ends, with a nameless index column, with separators at row ends. What has more than one reading is
refused, with the dialect that was found.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from html import unescape
from typing import Any

import numpy as np
import pandas as pd

from headlens.errors import ManifestError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_TEXT = "Save it as text in UTF-8 (a table as CSV), or a picture as PNG."
_PHONE = re.compile(rb"....ftyp(hei[cfmsx]|mif1|avi[fs])", re.DOTALL)
_LINK = "On huggingface.co the link to a file has /resolve/ in it, not /blob/."
# What files of other kinds begin with, in small letters: what they are, and the line that helps.
_OTHER_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the file itself", "Run git lfs pull in its repository."),
    (b"<!doctype html", "a web page", _LINK),
    (b"<html", "a web page", _LINK),
    (b"<?xml", "an XML document, often a server's error message", "Read what it says, then fetch the file again."),
    (b"<svg", "an SVG drawing", "Save it as PNG."),
    (b"%pdf", "a PDF document", "Save what it shows as PNG, or its table as CSV."),
    (b"pk\x03\x04", "an Excel workbook or a zip archive", _TEXT),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _TEXT),
    (b"par1", "a Parquet file", "Give it the suffix .parquet."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it: gunzip, or tar xzf."),
    (b"arrow1", "an Arrow or Feather file", "Save it as CSV or Parquet."),
    (b"\x93numpy", "a NumPy array", _TEXT),
    (b"\x80\x04", "a pickle, which may run anything when it is read", _TEXT),
    (b"\x80\x05", "a pickle, which may run anything when it is read", _TEXT),
    (b"\x89hdf", "an HDF5 file", _TEXT),
    (b"sqlite format 3", "an SQLite database", _TEXT),
)
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")
_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[ T]00:00(?::00(?:\.0+)?)?")
_NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:[ ,']\d{3})+)(\.\d*)?(e[+-]?\d+)?")
_JOINTS = re.compile(r"(?<=[^\W_])[\s_\-]+(?=[^\W_])")
_SHAPES = str.maketrans(dict.fromkeys("\u2010\u2012\u2013\u2014\u2212", "-") | dict.fromkeys("\u2018\u2019\u02bc", "'"))
# Small letters of Cyrillic and Greek that look like one of Latin, each alphabet's to letters of their own.
_LOOKALIKES = str.maketrans("авекмнорстухіѕјοανρτικχ", "abekmhopctyxisjoavptikx")
_TRUTH = {"true": "1", "yes": "1", "false": "0", "no": "0"}
_NO_WORDS = {"yes", "no", "true", "false", "none", "nan", "na", "n/a", "null", "unknown", "other", "others"}
# A letter with or without a number; WordNet's numbers and those of lists, before a word or alone; what a spreadsheet
# makes of 3-9.
_CODE = re.compile(r"[A-Za-z]\d*$|n\d{8}\b|\d+\s*[:.)]\s|\d{1,2}-[A-Z][a-z]{2}$|[A-Z][a-z]{2}-\d{2}$")
_FLOATS = (float, np.floating)
_SHOWN = 5
_RARE = 0.05  # share of the cells
_HEADER = 1 << 16  # characters in which the header is looked for


def cell_text(value: object) -> str | None:
    """A cell as the text that it is compared as; None where it is missing or empty."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, _FLOATS) and value != value):
        return None
    text = (value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)).strip()
    if plain := _WHOLE.fullmatch(text) or _MIDNIGHT.fullmatch(text):
        text = plain[1]
    return "0" if text == "-0" else text or None


def as_text(column: pd.Series) -> pd.Series:
    """A column with `cell_text` of every cell; missing cells are None."""
    cells = column.astype(object)
    if pd.api.types.infer_dtype(cells, skipna=True) in ("string", "integer", "floating"):
        # Few values and many images: each value is written once.
        written = {value: cell_text(value) for value in cells.unique()}
        texts = [written[value] for value in cells] if not cells.hasnans else [cell_text(value) for value in cells]
    else:
        texts = [cell_text(value) for value in cells]
    return pd.Series(texts, index=column.index, name=column.name, dtype=object)


def other_kind(head: bytes) -> tuple[str, str] | None:
    """What a file is that is not what was expected, by what it begins with, and the line that helps."""
    if _PHONE.match(head):
        return "a HEIC or AVIF picture, as phones take them", "Save it as JPEG or PNG."
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next(((what, remedy) for first, what, remedy in _OTHER_KINDS if start.startswith(first)), None)


def is_code(name: str) -> bool:
    """Whether a name is a code or begins with one, which says nothing in a prompt: '0', '20-29', 'm', 'c3', 'yes',
    'Latino_Hispanic', 'n01440764 tench', '0: tench', '9-Mar'; or has the marks of a list or a comment around it:
    '"cat",'."""
    marked = name[:1] in ("'", '"', "[", "#") or name[-1:] in ("'", '"', "]", ",", ";")
    code = "_" in name or name.casefold() in _NO_WORDS or bool(_CODE.match(name))
    return code or marked or not any(map(str.isalpha, name))


def spelling(text: str) -> str:
    """What the spellings of one value share: capitals, Unicode forms, letters of other alphabets that look alike, HTML
    entities, the shapes of dashes and apostrophes, joints (space, _ or -) and a last stop aside; a number, or a truth
    value, however it is written."""
    known = unicodedata.normalize("NFKC", unescape(text)).translate(_SHAPES)
    plain = "".join(c for c in known if unicodedata.category(c) != "Cf").strip(" \t'\"").casefold()
    if number := _NUMBER.fullmatch(plain):
        digits = re.sub("[ ,']", "", plain)
        return f"{float(digits):.15g}" if any(number.groups()) else str(int(digits))
    plain = _JOINTS.sub(" ", plain).rstrip(".,;: ").translate(_LOOKALIKES)
    return _TRUTH.get(plain, plain)


def near_equal(values: Iterable[str]) -> list[tuple[str, ...]]:
    """Sets of two or more values that share their spelling, such as ("Land", "land"), each set in the given order."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for value in dict.fromkeys(values):
        groups[spelling(value)].append(value)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def misspelt(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Rare values that are one typing error away from a frequent one, each with that one: ("watr", "water").

    Rare is at most 5 % of all. The error is a letter too few, too many or another, or two that changed places; not the
    first letter, and not in numbers or in words of fewer than four letters. Limit: 'horse' and 'house' are one letter
    apart, too, so that a person has to decide.

    Args:
        counts: how often each value occurs.
    """
    most = _RARE * sum(counts.values())
    frequent = [value for value, count in counts.items() if count > most]
    rare = [value for value, count in counts.items() if count <= most]
    return [(one, near) for one in rare for near in frequent if _one_slip(spelling(one), spelling(near))]


def _one_slip(one: str, other: str) -> bool:
    """Whether a letter was left out, added, replaced, or changed places with the next one, in one place alone."""
    if min(len(one), len(other)) < 4 or any(map(str.isdigit, one + other)) or one[0] != other[0]:
        return False
    while one and one[:1] == other[:1]:
        one, other = one[1:], other[1:]
    while one and one[-1:] == other[-1:]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) == 1 or (len(one) == 2 and one == other[::-1])


def nearest(name: str, known: Iterable[str], likeness: float | int = 0.6) -> str | None:
    """The known name that is most likely meant: one of the same spelling, or else one that looks alike, by twice the
    letters in common over the letters of both."""
    spelled = {spelling(each): each for each in known}
    near = get_close_matches(spelling(name), spelled, n=1, cutoff=likeness)
    return spelled[near[0]] if near else None


def listed(values: Iterable[object], most: int = _SHOWN) -> str:
    """The first few of many values, quoted where they are text, and how many more there are."""
    every = list(values)
    shown = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in every[:most])
    return shown + (f" and {len(every) - most} more" if len(every) > most else "")


def read_csv(content: bytes, where: str, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV file's table, every cell as text without the space around it; its index holds the line numbers.

    Args:
        content: the file's bytes.
        where: the file, for messages.
        columns: columns that the table is known to have; the separator is the one that finds most of them.

    Raises:
        ManifestError: the file is not text, has no line, does not read as CSV, names a column twice, or has a row with
            more or fewer cells than the header, or one that repeats it. (Whether the columns are there is for the
            caller to check.)
    """
    text = read_text(content, where).rstrip("\x1a")  # which ends a file of DOS
    if sep := re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n)', text):  # what Excel writes for itself
        text = text[sep.end() :]
    if text.lstrip()[:1] in ("{", "["):
        raise ManifestError(
            f"{where} is JSON, not CSV.", "Save it as CSV: pandas.read_json(path).to_csv(…), with lines=True for JSONL."
        )
    delimiter, quote = _dialect(text, columns)
    rows: list[tuple[int, list[str]]] = []
    reader = _reader(text, delimiter, quote)
    try:
        for cells in reader:
            if any(cells := [cell.strip() for cell in cells]):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise ManifestError(
            f"Line {reader.line_num} of {where} does not read as CSV: {error}.",
            "Put a cell that holds separators in double quotes, and double the quotes inside it.",
        ) from error
    if not rows:
        raise ManifestError(f"{where} is empty.", "The first line names the columns; each further line is a row.")
    (_, header), *rows = rows
    how = f"its cells are separated by {_DELIMITERS[delimiter]}"
    if len(header) == 1 and len(set(re.split(r"[^\w-]+", spelling(header[0]))) & set(map(spelling, columns))) > 1:
        raise ManifestError(
            f"The first line of {where}, {header[0]!r}, is one cell.",
            f"Separate cells by one of {', '.join(_DELIMITERS.values())}.",
        )
    header, rows = _rectangle(header, rows, where, how)
    if twice := [name for name in dict.fromkeys(header) if header.count(name) > 1]:
        raise ManifestError(
            f"{where} has the column {twice[0]!r} {header.count(twice[0])} times ({how}).",
            "Rename or remove all but one of them.",
        )
    if again := next((line for line, cells in rows if cells == header), None):
        raise ManifestError(
            f"Line {again} of {where} names the columns once more, as in tables that were joined.", "Remove it."
        )
    frame = pd.DataFrame([cells for _, cells in rows], columns=header, dtype=object)
    frame.index = pd.Index([line for line, _ in rows], dtype="int64")
    return frame


def read_text(content: bytes, where: str) -> str:
    """A text file's text: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Args:
        content: the file's bytes.
        where: the file, for messages.

    Raises:
        ManifestError: it is not text in one of these.
    """
    if kind := other_kind(content):
        raise ManifestError(f"{where} is {kind[0]}.", kind[1])
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{where} is not text in UTF-8 (the byte at {error.start} does not fit).",
            "Save it again in UTF-8; in a spreadsheet, choose 'CSV UTF-8'.",
        ) from error
    if "\0" in text:
        raise ManifestError(
            f"{where} is not text in UTF-8: it holds zero bytes.", "Save it again as CSV in UTF-8, or get it again."
        )
    return text


def _reader(text: str, delimiter: str, quote: str) -> Any:
    stream = io.StringIO(text, newline="")
    return csv.reader(stream, delimiter=delimiter, quotechar=quote, skipinitialspace=delimiter != "\t", strict=True)


def _dialect(text: str, columns: Sequence[str]) -> tuple[str, str]:
    """The separator and the quotation mark under which the header names most of the columns, or has most cells, or
    fewest marks are left."""
    wanted = set(map(spelling, columns))
    found: dict[tuple[str, str], tuple[int, int, int]] = {}
    for quote in "\"'":
        for delimiter in _DELIMITERS:
            header: list[str]
            try:
                rows = _reader(text[:_HEADER], delimiter, quote)
                header = next((cells for cells in rows if any(map(str.strip, cells))), [])
            except csv.Error:
                continue
            marks = sum(cell.strip()[:1] in ("'", '"') for cell in header)
            found[delimiter, quote] = len({spelling(cell) for cell in header} & wanted), len(header), -marks
    return max(found, key=lambda dialect: found[dialect], default=(",", '"'))


def _rectangle(
    header: list[str], rows: list[tuple[int, list[str]]], where: str, how: str
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The table without separators at row ends and without an index column that has no name."""
    width = len(header)
    while width > 1 and not header[width - 1] and not any(any(cells[width - 1 :]) for _, cells in rows):
        width -= 1
    header = header[:width]
    rows = [(line, cells if any(cells[width:]) else cells[:width]) for line, cells in rows]
    if rows and all(len(cells) == width + 1 and _counts(cells[0]) for _, cells in rows):
        header, width = ["", *header], width + 1
    for line, cells in rows:
        if len(cells) != width:
            raise ManifestError(
                f"Line {line} of {where} has {len(cells)} cells where the header names {width} columns ({how}): "
                f"{listed(cells)}.",
                "Give each row a cell for each column; put a cell that holds separators in double quotes.",
            )
    for place in reversed(range(width)):
        cells = [row[place] for _, row in rows]
        nameless = not header[place]
        if (nameless or re.fullmatch(r"Unnamed: \d+", header[place])) and all(map(_counts, cells)):
            header = header[:place] + header[place + 1 :]
            rows = [(line, row[:place] + row[place + 1 :]) for line, row in rows]
        elif nameless:
            raise ManifestError(
                f"Column {place + 1} of {where} has no name ({how}); it begins with {listed(cells[:2])}.",
                "Name it in the first line, or remove it.",
            )
    return header, rows


def _counts(cell: str) -> bool:
    return cell.isascii() and cell.isdigit()
