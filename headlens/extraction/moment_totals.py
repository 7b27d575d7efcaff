"""The moments of every cell of a manifest, added up piece by piece, and as bytes.

A cell is a combination of values of the group columns that occurs: ("cat", "outdoors"). What is known of a group, of a
split or of everything is a merge of cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor

from headlens.errors import StoreError
from headlens.manifest import as_text
from headlens.states.moments import Moments

Key = tuple[str | None, ...]
_RECORD = "record"


@dataclass(frozen=True, eq=False)
class Cell:
    """Moments of some images' heads, and the mean of their unit embeddings, in float64."""

    moments: Moments
    embedding: Float[Tensor, "embed"]

    @classmethod
    def of(cls, z: Float[Tensor, "image layer head d_head"], unit: Float[Tensor, "image embed"]) -> Cell:
        """Of some images, both as parts of the unit embedding."""
        return cls(Moments.of(z), unit.double().mean(0))

    def merge(self, other: Cell) -> Cell:
        """Of both sets of images together."""
        moments = self.moments.merge(other.moments)
        step = (other.embedding - self.embedding) * (other.moments.count / moments.count)
        return Cell(moments, self.embedding + step)


def merge_cells(cells: Iterable[Cell]) -> Cell:
    """Of all together. Raises `StoreError` where there is none."""
    total: Cell | None = None
    for cell in cells:
        total = cell if total is None else total.merge(cell)
    if total is None:
        raise StoreError("at least one image", "none", "Ask for groups that occur.")
    return total


@dataclass
class Totals:
    """Cells that grow. Adding the same pieces in the same order gives the same bits."""

    cells: dict[Key, Cell] = field(default_factory=dict)

    def add(self, keys: Sequence[Key], z: Float[Tensor, "image ..."], embedding: Float[Tensor, "image embed"]) -> None:
        """Add images in the units of f, with the cell of each."""
        norm = embedding.norm(dim=-1)
        z, unit = z / norm[:, None, None, None], embedding / norm[:, None]
        places: dict[Key, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        for key, where in places.items():
            self._put(key, Cell.of(z[where], unit[where]))

    def merge(self, other: Totals) -> None:
        """Add what another has."""
        for key, cell in other.cells.items():
            self._put(key, cell)

    def _put(self, key: Key, cell: Cell) -> None:
        self.cells[key] = self.cells[key].merge(cell) if key in self.cells else cell

    def to_bytes(self, record: Mapping[str, object]) -> bytes:
        """A safetensors file of the cells, with a record beside them."""
        arrays: dict[str, Tensor] = {}
        keys = sorted(self.cells, key=lambda key: tuple(part or "" for part in key))
        for place, key in enumerate(keys):
            cell = self.cells[key]
            arrays[f"{place}.mean"] = cell.moments.mean
            arrays[f"{place}.scatter"] = cell.moments.scatter
            arrays[f"{place}.embedding"] = cell.embedding
        counts = [self.cells[key].moments.count for key in keys]
        text = json.dumps({"cells": keys, "counts": counts, **record}).encode()
        arrays[_RECORD] = torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())
        return save({name: array.contiguous() for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[Totals, dict]:
        """The inverse of `to_bytes`."""
        arrays = load(content)
        record = json.loads(arrays.pop(_RECORD).numpy().tobytes())
        cells = {
            tuple(key): Cell(
                Moments(count, arrays[f"{place}.mean"], arrays[f"{place}.scatter"]), arrays[f"{place}.embedding"]
            )
            for place, (key, count) in enumerate(zip(record.pop("cells"), record.pop("counts"), strict=True))
        }
        return cls(cells), record


def keys_of(frame: pd.DataFrame, columns: Sequence[str]) -> list[Key]:
    """The cell of every row: the values of the group columns as text, None where one is missing."""
    texts = [[None if pd.isna(value) else str(value) for value in as_text(frame[column])] for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(frame)
