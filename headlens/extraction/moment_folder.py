"""Moments on disk: what lies in their folder, and how a run that was stopped goes on.

    moments/
        moments.json           the plan: model, images, sizes, the group columns
        basis.safetensors      the weights that z is read through
        state.safetensors      the moments of every cell over the first blocks, how many blocks those are, and which of
                               their images were skipped
        state-1-of-4.safetensors   instead of it, those of the blocks of one shard

A cell is a combination of values of the group columns that occurs: ("cat", "outdoors"). What is known of a group, of a
split or of everything is a merge of cells. A state is replaced as a whole, in one step, so that it always is that of
some first blocks; its size does not depend on how many they are. A run that is stopped loses what it did since then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor

from headlens.errors import StoreError
from headlens.extraction.plan import Plan
from headlens.extraction.storage import WHOLE, Shard, Storage
from headlens.extraction.store_folder import (
    Skip,
    basis_bytes,
    check_format,
    load_basis,
    reading,
    refuse_unexpected_files,
    sealed,
    unsealed,
)
from headlens.manifest import as_text
from headlens.serialization import digest
from headlens.states.basis import HeadBasis
from headlens.states.moments import Moments

Key = tuple[str | None, ...]
_PLAN, _BASIS, _STATE, _FORMAT, _RECORD = "moments.json", "basis.safetensors", "state", 1, "record"


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
        raise StoreError("There is no image to take moments of.", "Ask for groups that occur.")
    return total


@dataclass
class Totals:
    """Cells that grow, and the images in none of them. The same pieces in the same order give the same bits."""

    cells: dict[Key, Cell] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)

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
        self.skipped += other.skipped

    def _put(self, key: Key, cell: Cell) -> None:
        self.cells[key] = self.cells[key].merge(cell) if key in self.cells else cell

    def to_bytes(self, blocks: int = 0) -> bytes:
        """A safetensors file of the cells, with the number of blocks and the skipped images beside them."""
        arrays: dict[str, Tensor] = {}
        keys = sorted(self.cells, key=lambda key: tuple(part or "" for part in key))
        for place, key in enumerate(keys):
            cell = self.cells[key]
            arrays[f"{place}.mean"] = cell.moments.mean
            arrays[f"{place}.scatter"] = cell.moments.scatter
            arrays[f"{place}.embedding"] = cell.embedding
        record = {
            "cells": keys,
            "counts": [self.cells[key].moments.count for key in keys],
            "blocks": blocks,
            "skipped": [asdict(skip) for skip in self.skipped],
        }
        record["digest"] = digest([record, dict(sorted(arrays.items()))])
        text = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
        arrays[_RECORD] = torch.from_numpy(text.copy())
        return save({name: array.contiguous() for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[Totals, int]:
        """The inverse of `to_bytes`. Raises `ValueError` where something is not what was written."""
        arrays = load(content)
        record = json.loads(arrays.pop(_RECORD).numpy().tobytes())
        if "digest" in record and record.pop("digest") != digest([record, dict(sorted(arrays.items()))]):
            raise ValueError("it is not what was written")
        cells = {
            tuple(key): Cell(
                Moments(count, arrays[f"{place}.mean"], arrays[f"{place}.scatter"]), arrays[f"{place}.embedding"]
            )
            for place, (key, count) in enumerate(zip(record["cells"], record["counts"], strict=True))
        }
        return cls(cells, [Skip(**skip) for skip in record["skipped"]]), record["blocks"]


def keys_of(frame: pd.DataFrame, columns: Sequence[str]) -> list[Key]:
    """The cell of every row: the values of the group columns as text, None where one is missing."""
    texts = [[None if pd.isna(value) else str(value) for value in as_text(frame[column])] for column in columns]
    return list(zip(*texts, strict=True)) if texts else [()] * len(frame)


class MomentFolder:
    """Moments that have been begun.

    Attributes:
        storage: where.
        path: the folder, or its address.
        plan: identity and sizes.
        columns: the group columns.
    """

    def __init__(self, storage: Storage, plan: Plan, columns: tuple[str, ...], basis_digest: str | None):
        self.storage = storage
        self._basis_digest = basis_digest
        self.path = storage.path
        self.plan = plan
        self.columns = columns

    @staticmethod
    def begun(storage: Storage) -> bool:
        """Whether there are moments, complete or not."""
        return storage.exists(_PLAN)

    @classmethod
    def open(cls, storage: Storage) -> MomentFolder:
        """Raises `StoreError` where there are no moments, some that are damaged, or some of another format."""
        if not cls.begun(storage):
            states = storage.exists("zarr.json")
            raise StoreError(
                f"{str(storage.path)!r} {'is a store of head states' if states else 'holds no moments'}.",
                "Open it with HeadStore.open, and take head_moments of it."
                if states
                else "extract_moments makes them.",
            )
        with reading(storage.path, _PLAN):
            record = unsealed(storage.read(_PLAN))
            check_format(storage.path, record.pop("format", None), (_FORMAT,))
            columns, basis_digest = tuple(record.pop("columns")), record.pop("basis", None)
            plan = Plan(**record)
        return cls(storage, plan, columns, basis_digest)

    @classmethod
    def create(cls, storage: Storage, plan: Plan, columns: Sequence[str], basis: HeadBasis) -> MomentFolder:
        """Begin moments in an absent or empty folder, or in one where a beginning was cut short.

        Where another process was faster, what it began is opened.
        """
        cls.check_free(storage)
        weights = basis_bytes(basis)
        digests = {"basis": sha256(weights).hexdigest()}
        record = {"format": _FORMAT, "columns": list(columns), **digests, **asdict(plan)}
        with storage.reporting("cannot be written to"):
            storage.write(_BASIS, weights)
            with suppress(FileExistsError):
                storage.write(_PLAN, sealed(record), new=True)
        return cls.open(storage)

    @staticmethod
    def check_free(storage: Storage) -> None:
        """Raise `StoreError` unless moments may be begun here."""
        refuse_unexpected_files(storage, {_BASIS})

    def check_groups(self, plan: Plan, columns: tuple[str, ...]) -> None:
        """Raise `StoreError` unless they were begun with the same manifest and groups."""
        kept = ("images", self.plan.images, plan.images), ("columns or values", self.plan.manifest, plan.manifest)
        for what, have, wanted in (*kept, ("groups", self.columns, columns)):
            if have != wanted:
                raise StoreError(
                    f"{str(self.path)!r} was begun with other {what}: {_listed(have)} instead of {_listed(wanted)}.",
                    "Moments hold the groups of the manifest that they were begun with: extract into another folder.",
                )

    def state(self, shard: Shard = WHOLE) -> tuple[Totals, int]:
        """The cells of a shard's first blocks, and how many those are."""
        name = _state_of(shard)
        if not self.storage.exists(name):
            return Totals(), 0
        with reading(self.path, name):
            return Totals.from_bytes(self.storage.read(name))

    def save(self, totals: Totals, blocks: int, shard: Shard = WHOLE) -> None:
        """Put a state in place.

        Raises:
            StoreError: when the disk, or the storage, does not take it.
        """
        with self.storage.reporting(f"cannot take the moments of {blocks} blocks"):
            self.storage.write(_state_of(shard), totals.to_bytes(blocks))

    def totals(self) -> tuple[Totals, int]:
        """The cells of everything, from whichever shards are complete together; and how many blocks are in them."""
        names, best = self.storage.names(), (Totals(), 0)
        cuts = {int(name.split(".")[0].rpartition("-")[2]) for name in names if name.startswith(f"{_STATE}-")}
        for n in sorted({1} | cuts):
            total, blocks = Totals(), 0
            for k in range(n):
                part, done = self.state((k, n))
                total.merge(part)
                blocks += done
            if blocks == self.plan.n_blocks:
                return total, blocks
            best = max(best, (total, blocks), key=lambda found: found[1])
        return best

    def basis(self) -> HeadBasis:
        with reading(self.path, _BASIS):
            content = self.storage.read(_BASIS)
            if self._basis_digest and sha256(content).hexdigest() != self._basis_digest:
                raise ValueError("it is not what was written")
            return load_basis(content)


def _listed(value: str | tuple[str, ...]) -> str:
    return f"digest {value}" if isinstance(value, str) else ", ".join(value) or "none"


def _state_of(shard: Shard) -> str:
    return f"{_STATE}.safetensors" if shard == WHOLE else f"{_STATE}-{shard[0]}-of-{shard[1]}.safetensors"
