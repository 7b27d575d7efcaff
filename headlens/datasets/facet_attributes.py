"""From FACET's annotation columns to one value for each person and attribute.

Several annotators looked at a person, so that a column holds a count, and two columns of one attribute may both be
set. What is read off them is how a person is perceived, and where perceptions differ the value says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.datasets.layout import Layout

_TONES = tuple(str(tone) for tone in range(1, 11))


def presented(layout: Layout, table: pd.DataFrame, path: Path, family: str, threshold: int) -> list[str]:
    """The value of one attribute for every person: the name of its highest column, "mixed", or "na".

    Args:
        layout: whose error is raised where the columns are not there.
        table: the annotations.
        path: the file that they come from.
        family: the part of the names that the attribute's columns share.
        threshold: the count from which a column is taken as set.

    Raises:
        ManifestError: no such columns, or a cell that is no number.
    """
    names = [str(column)[len(family) + 1 :] for column in table.columns if str(column).startswith(f"{family}_")]
    values = [name for name in names if name != "na"]
    if not values:
        layout.columns(table, path, [f"{family}_*"])
    counts = _counts(layout, table, path, [f"{family}_{name}" for name in values], threshold)
    unknown = _counts(layout, table, path, [f"{family}_na"], threshold)[:, 0] if "na" in names else np.zeros(len(table))
    best = counts.max(axis=1)
    ties = (counts == best[:, None]).sum(axis=1)
    return [
        "na" if top == 0 or na > top else "mixed" if tie > 1 else values[which]
        for top, na, tie, which in zip(best, unknown, ties, counts.argmax(axis=1), strict=True)
    ]


def skin_tone(layout: Layout, table: pd.DataFrame, path: Path, threshold: int) -> list[str]:
    """The median of every person's marks on the scale of ten, the lower one of two, or "na" without a mark."""
    counts = _counts(layout, table, path, [f"skin_tone_{tone}" for tone in _TONES], threshold)
    below = counts.cumsum(axis=1)
    median = (below >= below[:, -1:] / 2).argmax(axis=1)
    return [_TONES[which] if total else "na" for which, total in zip(median, below[:, -1], strict=True)]


def tone_group(tone: str, bounds: tuple[int, int]) -> str:
    """light, medium or dark, where the bounds are the last light and the last medium tone; or "na"."""
    if tone == "na":
        return "na"
    return "light" if int(tone) <= bounds[0] else "medium" if int(tone) <= bounds[1] else "dark"


def _counts(layout: Layout, table: pd.DataFrame, path: Path, columns: Sequence[str], threshold: int) -> np.ndarray:
    """Annotations a column, [person, column]; what does not reach the threshold counts as nothing."""
    layout.columns(table, path, columns)
    cells = table[list(columns)].replace("", "0")
    counts = cells.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    if np.isnan(counts).any():
        row, column = np.argwhere(np.isnan(counts))[0]
        raise layout.error(
            f"{cells.iat[row, column]!r} in the column {columns[column]!r} of {str(path)!r} (row {row})",
            "These columns count annotators: numbers, or empty. Get the file again.",
        )
    return np.where(counts >= threshold, counts, 0.0)
