"""Tables as people read them: a data frame, and how each of its columns is written.

The frame keeps the numbers (accuracies are fractions, never per cent); the kind of a column says how they are shown. An
interval stands in the column of its value: "72.8 [68.7, 77.1]". One table serves a page, a model card, the terminal and
a notebook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

import pandas as pd

from headlens.heads import HeadId

Kind = Literal["text", "head", "count", "percent", "points", "number", "change", "p", "value", "difference"]
"""How a column is written.

"percent" is a fraction in per cent, "points" a signed difference of fractions, "number" and "change" a measure such as
Cramér's V and its signed difference, both to three decimals. "value" and "difference" are one or the other row by row,
by the frame's column `unit`: "percent" or "number"; the last column of text then names the row's unit.
"""

MISSING = "–"
_SHORT = 28  # letters of a cell that a page keeps in one line


def percent(value: float | int) -> str:
    """A fraction in per cent, to one decimal."""
    return _finite(100 * value, "{:.1f}")


def points(value: float | int) -> str:
    """A difference of fractions in points of per cent, with its sign."""
    return _finite(100 * value, "{:+.1f}")


def number(value: float | int) -> str:
    """A measure such as Cramér's V, to three decimals."""
    return _finite(value, "{:.3f}")


def change(value: float | int) -> str:
    """A difference of such measures, with its sign."""
    return _finite(value, "{:+.3f}")


def p_value(value: float | int) -> str:
    """A p-value; below a thousandth, that it is."""
    return "< 0.001" if 0 <= value < 0.0005 else number(value)


def _finite(value: float | int, form: str) -> str:
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else str(value)
    text = form.format(value)
    return text if float(text) else text.lstrip("+-")  # neither a gain nor a loss


def listed(names: Iterable[object], most: int = 8) -> str:
    """ "a, b and 4 more"; "none" for nothing."""
    texts = [str(name) for name in names]
    if len(texts) <= most:
        return ", ".join(texts) or "none"
    return f"{', '.join(texts[:most])} and {len(texts) - most} more"


def plain(text: object) -> str:
    """Anything as one line that every encoder takes: the bytes of a file name that are not text are spelt out."""
    return " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())


def _text(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else plain(value)


_WRITE: Mapping[str, Callable[[Any], str]] = {
    "text": _text,
    "head": lambda value: str(HeadId.of(value)),
    "count": lambda value: f"{int(value):,}",
    "percent": percent,
    "points": points,
    "number": number,
    "change": change,
    "p": p_value,
}
_BY_UNIT = {
    "value": {"percent": "percent", "number": "number"},
    "difference": {"percent": "points", "number": "change"},
}
_UNITS = {"percent": ", %", "points": ", points"}


def write(value: object, kind: str) -> str:
    """A value in the form of its kind; a dash for a missing one."""
    missing = value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    return MISSING if missing else _WRITE[kind](value)


@dataclass(frozen=True)
class Column:
    """How a column of a frame is shown.

    Attributes:
        kind: how its values are written.
        heading: what it is called; "" for its name in the frame. "percent" and "points" get their unit added.
        interval: the frame's columns with the interval's two ends. By default "<name>_low" and "<name>_high", where the
            frame has them.
    """

    kind: Kind = "text"
    heading: str = ""
    interval: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A data frame to be read.

    Attributes:
        frame: the numbers, with every column that is shown and every end of an interval.
        columns: the columns that are shown, in their order: a kind, or a `Column`. The first heads the rows. Empty for
            every column of the frame, with kinds by their types.
        caption: what the table shows; plain text.
    """

    frame: pd.DataFrame
    columns: Mapping[str, Kind | Column] = field(default_factory=dict)
    caption: str = ""

    def _shown(self) -> dict[str, Column]:
        given = self.columns or {str(name): _kind(self.frame[name]) for name in self.frame}
        shown = {}
        for name, one in given.items():
            column = one if isinstance(one, Column) else Column(one)
            ends = (f"{name}_low", f"{name}_high")
            interval = column.interval or (ends if set(ends) <= set(self.frame) else None)
            heading = (column.heading or name) + _UNITS.get(column.kind, "")
            shown[name] = Column(column.kind, heading, interval)
        return shown

    @property
    def headings(self) -> list[str]:
        """What the columns are called."""
        return [column.heading for column in self._shown().values()]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [column.kind not in ("text", "head") for column in self._shown().values()]

    def rows(self) -> list[list[str]]:
        """Every cell as text."""
        units = self.frame["unit"] if "unit" in self.frame else [""] * len(self.frame)
        shown, columns = self._shown(), []
        for name, column in shown.items():
            kinds = [_BY_UNIT.get(column.kind, {}).get(unit, column.kind) for unit in units]
            parts = [self.frame[part] for part in (name, *(column.interval or ()))]
            columns.append([_cell(values, kind) for kind, *values in zip(kinds, *parts, strict=True)])
        if "unit" in self.frame:
            place = max(i for i, column in enumerate(shown.values()) if column.kind == "text")
            columns[place] = [cell + _UNITS.get(unit, "") for cell, unit in zip(columns[place], units, strict=True)]
        return [list(row) for row in zip(*columns, strict=True)]

    def text(self) -> pd.DataFrame:
        """The cells as text, under their headings."""
        return pd.DataFrame(self.rows(), columns=self.headings)

    def csv(self) -> str:
        """The frame itself, unrounded, as comma-separated values that no spreadsheet reads as formulae."""
        return self.frame.map(_no_formula).rename(columns=_no_formula).to_csv(index=False, lineterminator="\n")

    def html(self, caption: bool = True) -> str:
        """The table as HTML. All text is escaped; cells have the class "number" or "text", and "short" where they are.

        Args:
            caption: whether the caption is seen, or only heard.
        """
        kinds = ["number" if numeric else "text" for numeric in self.numeric]
        head = "".join(
            f'<th scope="col" class="{kind}">{escape(plain(name))}</th>'
            for kind, name in zip(kinds, self.headings, strict=True)
        )
        body = []
        for row in self.rows():
            first, *rest = (
                f'class="{kind}{" short" if len(cell) < _SHORT else ""}">{escape(cell)}'
                for kind, cell in zip(kinds, row, strict=True)
            )
            body.append(f'<tr><th scope="row" {first}</th>{"".join(f"<td {cell}</td>" for cell in rest)}</tr>')
        hidden = "" if caption else ' class="hidden"'
        above = f"<caption{hidden}>{escape(plain(self.caption))}</caption>" if self.caption else ""
        return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"

    def _repr_html_(self) -> str:
        return f'<div class="headlens">{STYLE}{self.html()}</div>'

    def __str__(self) -> str:
        rows = [self.headings, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        numeric = self.numeric
        lines = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join(([plain(self.caption)] if self.caption else []) + lines)


class Shown:
    """What shows itself as a table, in a terminal and in a notebook. A dataclass of this kind has `repr=False`."""

    def shown(self) -> Table:
        """What is shown of it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.shown())

    def _repr_html_(self) -> str:
        return self.shown()._repr_html_()


STYLE = """<style>
.headlens table {border-collapse: collapse; margin: 4px 0; font-variant-numeric: tabular-nums}
.headlens table :is(td, th) {padding: 3px 10px; border-bottom: 1px solid rgba(128,128,128,.3)}
.headlens table .text {text-align: left}
.headlens table .number {text-align: right}
.headlens tbody .short {white-space: nowrap}
.headlens caption {text-align: left; font-weight: 600; padding: 6px 10px 2px; caption-side: top}
.headlens .hidden {display: none}
</style>"""
"""How a table looks in a notebook, whose colours it takes."""


def _kind(column: pd.Series) -> Kind:
    if pd.api.types.is_bool_dtype(column):
        return "text"
    if pd.api.types.is_integer_dtype(column):
        return "count"
    return "number" if pd.api.types.is_float_dtype(column) else "text"


def _cell(values: list[Any], kind: str) -> str:
    text = write(values[0], kind)
    if len(values) == 1 or text == MISSING:
        return text
    low, high = (write(value, kind) for value in values[1:])
    return text if low == high == MISSING else f"{text} [{low}, {high}]"


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
