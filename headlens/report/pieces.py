"""Figures and tables in the form in which the page's template takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from headlens.plots import describe
from headlens.plots.style import theme_patch


@dataclass(frozen=True)
class FigurePiece:
    """A figure as JSON that may stand inside a script element, and what the page needs to place it."""

    json: str
    alt: str
    height: int
    min_width: int
    fixed: bool


def figure_piece(figure: go.Figure) -> FigurePiece:
    """Light figure and dark colours as JSON; the text alternative; the room it needs."""
    parts = json.loads(figure.to_json())
    patch = [[path, colour] for path, colour in theme_patch(figure, "dark")]
    payload = {"data": parts["data"], "layout": parts["layout"], "dark": patch}
    meta = figure.layout.meta if isinstance(figure.layout.meta, Mapping) else {}
    return FigurePiece(
        json=script_json(payload),
        alt=describe(figure) or "A figure without a description.",
        height=int(figure.layout.height or 450),
        min_width=int(meta.get("min_width", 480)),
        fixed=figure.layout.width is not None,
    )


def script_json(value: object) -> str:
    r"""JSON without any character that HTML could read as markup: `<`, `>` and `&` as `\u003c` and so on.

    Neither `</script>` nor `<!--` can then end or open anything, and the two line ends that older JavaScript
    does not allow in a string are gone too.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


@dataclass(frozen=True)
class TablePiece:
    """A table as text: its column names, its rows, and which columns hold numbers."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]


def table_piece(frame: pd.DataFrame) -> TablePiece:
    """Every cell as the text that the page shows."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return TablePiece(
        columns=[str(column) for column in frame.columns],
        rows=rows,
        numeric=[
            # Names of heads, "10.3", are not numbers: the first column is one only by its type.
            pd.api.types.is_numeric_dtype(kind) or (i > 0 and all(_NUMBER.fullmatch(row[i]) for row in rows))
            for i, kind in enumerate(frame.dtypes)
        ],
    )


_NUMBER = re.compile(r"[+−-]?\d[\d.,]*( ?%)?|–|-?inf")


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if np.isfinite(value) else "–" if np.isnan(value) else str(value)
    return str(value)


def setting(value: object) -> str:
    """A setting's value in one line: text as it is, everything else as JSON where JSON knows it."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return str(value)
