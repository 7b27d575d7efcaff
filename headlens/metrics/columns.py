"""Columns of values, one an image, in whatever form they come: list, NumPy array, tensor or pandas column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.errors import MetricError

Column: TypeAlias = Sequence[Any] | np.ndarray | pd.Series | Tensor | pd.Categorical | pd.Index


def as_array(column: Column, name: str) -> np.ndarray:
    """The column as a NumPy array without missing values.

    Raises:
        MetricError: for a column with more than one axis, or with missing values.
    """
    if isinstance(column, Tensor):
        array = column.detach().cpu().numpy()
    elif isinstance(column, np.ndarray):
        array = column
    else:
        # NumPy alone would turn a NaN among names into the name "nan"; pandas keeps it missing.
        array = pd.Series(column).to_numpy()
    # Text is flat; asking that of a whole column at once saves a question a cell.
    mixed = array.dtype == object and array.ndim == 1 and pd.api.types.infer_dtype(array, skipna=True) != "string"
    if array.ndim != 1 or (mixed and any(np.ndim(value) for value in array)):
        raise MetricError(f"`{name}` has shape {np.shape(column)}.", "Pass a flat column, one value an image.")
    missing = int(np.asarray(pd.isna(array)).sum())
    if missing:
        raise MetricError(f"`{name}` lacks {missing} values.", "Leave these images out.")
    return array


def cells_of(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The combinations of some columns of indices that occur, [column cell] in order, and the cell of each image."""
    lowest = [int(column.min()) for column in columns]
    shape = [int(column.max()) - low + 1 for column, low in zip(columns, lowest, strict=True)]
    codes = np.ravel_multi_index([column - low for column, low in zip(columns, lowest, strict=True)], shape)
    occurring, of_image = np.unique(codes, return_inverse=True)
    return np.stack(np.unravel_index(occurring, shape)) + np.asarray(lowest)[:, None], of_image


def as_columns(**columns: Column) -> list[np.ndarray]:
    """Several columns over the same images.

    Raises:
        MetricError: as `as_array`, for no image at all, and for columns of different lengths.
    """
    arrays = [as_array(column, name) for name, column in columns.items()]
    lengths = {name: len(array) for name, array in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) != 1 or not len(arrays[0]):
        found = ", ".join(f"{count} of `{name}`" for name, count in lengths.items())
        raise MetricError(f"The columns differ in length, or are empty: {found}.", "Use the same rows of all.")
    return arrays
