"""A text bank of one's own, read from a file.

| file | what a line holds |
|---|---|
| .txt | one text |
| .csv | the columns `text` and `category`, named in the first line |
| .jsonl | {"text": …, "category": …} |

Empty lines are skipped, and spaces around a text. A text that comes again in its own category is merged into its first
occurrence, and a warning says how many were; a text in two categories is an error, since its category would be a guess.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from headlens.errors import TaskError
from headlens.prompts.bank import TextBank, same_text

_COLUMNS = ("text", "category")


def load_bank(path: str | Path, category: str = "own") -> TextBank:
    """Read a bank of texts.

    Args:
        path: a .txt, .csv or .jsonl file in UTF-8.
        category: the category of the texts of a .txt file, which has none of its own.

    Warns:
        UserWarning: when texts were merged because they came again in their own category.

    Raises:
        TaskError: for a file that cannot be read, another kind of file, a missing column, a line that does not read
            (with its number), an empty text or category, a text in two categories, and a file without texts.
    """
    path = Path(path)
    readers = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TaskError(
            "a text bank in a .txt, .csv or .jsonl file",
            f"{path}, which ends in {path.suffix!r}" if path.suffix else f"{path}, which has no ending",
            "Save it as one text a line (.txt), or with categories as .csv or .jsonl.",
        )
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            "a text bank that can be read, in UTF-8", f"{path}: {error}", "Check the path and the file's encoding."
        ) from error
    kept: dict[str, tuple[int, str, str]] = {}
    merged = []
    for number, text, own in reader(content, path, category):
        text, own = " ".join(text.split()), " ".join(own.split())
        if not text or not own:
            raise _bad_line(path, number, "a text and a category", f"text {text!r}, category {own!r}", "Fill both.")
        first, _, other = kept.setdefault(same_text(text), (number, text, own))
        if first == number:
            continue
        if own != other:
            raise TaskError(
                "every text in one category",
                f"{text!r} in {other!r} (line {first}) and {own!r} (line {number}) of {path}",
                "Keep one of the two lines.",
            )
        merged.append(number)
    if not kept:
        raise TaskError("a text bank with at least one text", f"{path}, which has none", "Write one text a line.")
    if merged:
        shown = ", ".join(map(str, merged[:5])) + (", …" if len(merged) > 5 else "")
        warnings.warn(f"{path}: {len(merged)} repeated texts were merged (lines {shown}).", stacklevel=2)
    return TextBank(tuple(text for _, text, _ in kept.values()), tuple(own for _, _, own in kept.values()))


def _txt(content: str, path: Path, category: str) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(content):
        yield number, line, category


def _csv(content: str, path: Path, category: str) -> Iterator[tuple[int, str, str]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = [cell.strip() for cell in row]
                for column in _COLUMNS:
                    if header.count(column) != 1:
                        raise TaskError(
                            f"one column {column!r} in {path}",
                            f"the columns {', '.join(header)}",
                            "The first line names the columns: text,category.",
                        )
            elif len(row) != len(header):
                told = f"{len(row)} cells: {row!r}"
                raise _bad_line(path, rows.line_num, f"{len(header)} cells", told, "Put a text with commas in quotes.")
            else:
                cells = dict(zip(header, row, strict=True))
                yield rows.line_num, cells["text"], cells["category"]
    except csv.Error as error:
        raise _bad_line(path, rows.line_num, "a line of CSV", str(error), "Close its quotes.") from error


def _jsonl(content: str, path: Path, category: str) -> Iterator[tuple[int, str, str]]:
    remedy = 'Write {"text": "a red boat", "category": "colour"}, one a line.'
    for number, line in _lines(content):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise _bad_line(path, number, "a line of JSON", f"{line.strip()[:60]!r} ({error})", remedy) from error
        if not isinstance(entry, dict) or not all(isinstance(entry.get(column), str) for column in _COLUMNS):
            raise _bad_line(path, number, "an object with the texts 'text' and 'category'", line.strip()[:60], remedy)
        yield number, entry["text"], entry["category"]


def _lines(content: str) -> Iterator[tuple[int, str]]:
    # Not str.splitlines: it also breaks at characters that JSON allows inside a text.
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line


def _bad_line(path: Path, number: int, expected: str, received: str, remedy: str) -> TaskError:
    return TaskError(f"{expected} in line {number} of {path}", received, remedy)
