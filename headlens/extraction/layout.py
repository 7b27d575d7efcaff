"""A store's folder: what lies in it, how it is begun, and how a block comes to be either whole or absent.

    acts.zarr/
        zarr.json              the Zarr v3 group, with the plan (model, images, sizes) among its attributes
        z/ mlps/ stem/ …       the arrays of `plan.DIMENSIONS`, one shard a block of images
        basis.safetensors      the weights that z is read through
        manifest.parquet       the manifest that was asked for
        blocks/000003.json     written last for each block: it is whole; which of its images were skipped
        complete.json          written last of all

A block's arrays are written and pushed to the disk first, and its marker is put in place afterwards, in one step: a run
that is stopped at any moment leaves blocks that are whole, and blocks that the next run writes again. The group's own
zarr.json is likewise the last thing that is made when a store is begun. On object storage the marker is an object.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import zarr

from headlens.errors import StoreError
from headlens.extraction.arrays import make_arrays, shard_files, storable
from headlens.extraction.basis_file import basis_bytes, load_basis
from headlens.extraction.place import DRAFT, LOCK, Place, told
from headlens.extraction.plan import DIMENSIONS, FORMAT, READABLE, Plan
from headlens.states.basis import HeadBasis

_GROUP, _MANIFEST, _BASIS, _COMPLETE = "zarr.json", "manifest.parquet", "basis.safetensors", "complete.json"
_BLOCKS, _DRAFT = "blocks", ".begun"
OURS = {_GROUP, _MANIFEST, _BASIS, _BLOCKS, LOCK, _DRAFT, *DIMENSIONS}


@dataclass(frozen=True)
class Skip:
    """An image that is not in the store: its row in the manifest, its path, and why."""

    row: int
    path: str
    reason: str


class StoreFolder:
    """A store that has been begun. `arrays` is its Zarr group."""

    def __init__(self, place: Place, plan: Plan, arrays: zarr.Group):
        self.place = place
        self.path = place.path
        self.plan = plan
        self.arrays = arrays

    @classmethod
    def open(cls, place: Place) -> StoreFolder:
        """Raises `StoreError` where there is no store of this format."""
        try:
            if not cls.begun(place):  # asked first, since Zarr makes a folder of what it is to open
                raise FileNotFoundError(place.path)
            writable = not isinstance(place.path, Path) or os.access(place.path, os.W_OK)
            group = zarr.open_group(place.arrays(), mode="r+" if writable else "r", zarr_format=3)
            record = dict(group.attrs["headlens"])
        except (FileNotFoundError, NotADirectoryError, KeyError, ValueError, TypeError) as error:
            kinds = {True: "a store of moments alone", False: "something else" if _there(place) else "not there"}
            raise StoreError(
                "a store that headlens wrote",
                f"{str(place.path)!r}, which is {kinds[place.exists('moments.json')]}",
                "Give the folder that extract was given (MomentStore.open for moments), or run extract to make one.",
            ) from error
        version = record.pop("format", None)
        if version not in READABLE:
            raise StoreError(
                f"a store in format {FORMAT}",
                f"format {version!r} at {str(place.path)!r}",
                "Read it with the version of headlens that wrote it, or extract again into another folder.",
            )
        return cls(place, Plan(**record), group)

    @staticmethod
    def begun(place: Place) -> bool:
        """Whether there is a store, complete or not."""
        return place.exists(_GROUP)

    @classmethod
    def create(cls, place: Place, plan: Plan, manifest: pd.DataFrame, basis: HeadBasis) -> StoreFolder:
        """Begin a store in an absent or empty folder, or in one where a beginning was cut short."""
        refuse_strangers(place, OURS - {_GROUP})
        place.sweep("")
        for name in sorted(place.names() & (OURS - {LOCK})):
            place.remove(name)
        local = isinstance(place.path, Path)
        if isinstance(place.path, Path):
            place.path.mkdir(parents=True, exist_ok=True)
            draft = place.path / _DRAFT
        else:
            draft = Path(tempfile.mkdtemp(prefix="headlens-")) / _DRAFT
        try:
            make_arrays(draft, plan)
            (draft / _BLOCKS).mkdir()
            storable(manifest).to_parquet(draft / _MANIFEST)
            (draft / _BASIS).write_bytes(basis_bytes(basis))
            place.adopt(draft, last=_GROUP)
            if local:
                draft.rmdir()
        finally:
            if not local:
                shutil.rmtree(draft.parent, ignore_errors=True)
        return cls.open(place)

    @property
    def complete(self) -> bool:
        return self.place.exists(_COMPLETE)

    def sweep(self) -> None:
        """Remove the half-written files that a killed run left."""
        self.place.sweep("", _BLOCKS)
        if isinstance(self.path, Path):
            shutil.rmtree(self.path / _DRAFT, ignore_errors=True)
            for name in self.plan.names:
                for leftover in (self.path / name).rglob("*.partial"):
                    leftover.unlink()

    def has(self, block: int) -> bool:
        """Whether a block is whole."""
        return self.place.exists(_marker(block))

    def missing(self) -> list[int]:
        """The blocks that are still to be written."""
        if self.complete:
            return []
        there = self.place.names(_BLOCKS)
        return [block for block in range(self.plan.n_blocks) if Path(_marker(block)).name not in there]

    def write(self, block: int, arrays: Mapping[str, np.ndarray], skipped: list[Skip]) -> None:
        """Write one block, and then the marker that makes it count.

        Raises:
            StoreError: when the disk, or the storage, does not take it.
        """
        rows = self.plan.rows_of(block)
        try:
            with told(str(self.path)) if not isinstance(self.path, Path) else nullcontext():
                for name, values in arrays.items():
                    cast(zarr.Array, self.arrays[name])[rows.start : rows.stop] = values
                self.place.settle(shard_files(self.plan, block))
                marker = json.dumps({"skipped": [asdict(skip) for skip in skipped]})
                self.place.write(_marker(block), marker.encode())
        except OSError as error:
            raise StoreError(
                f"block {block} of {self.plan.n_blocks} to be written to {str(self.path)!r}",
                f"{error.strerror or error}",
                "Make room (or mend the disk) and run extract again: it goes on after the blocks that are whole.",
            ) from error

    def finish(self) -> None:
        """Mark the store as complete. Every block has to be whole."""
        skipped = []
        for marker in self.place.read_all([_marker(block) for block in range(self.plan.n_blocks)]):
            skipped += json.loads(marker)["skipped"]
        self.place.write(_COMPLETE, json.dumps({"blocks": self.plan.n_blocks, "skipped": skipped}).encode())

    def skipped(self) -> list[Skip]:
        """The images of a complete store that could not be read."""
        return [Skip(**skip) for skip in json.loads(self.place.read(_COMPLETE))["skipped"]]

    def manifest(self) -> pd.DataFrame:
        """The manifest that was asked for, skipped images included."""
        return pd.read_parquet(BytesIO(self.place.read(_MANIFEST)))

    def basis(self) -> HeadBasis:
        return load_basis(self.place.read(_BASIS))


def refuse_strangers(place: Place, ours: set[str]) -> None:
    """Raise `StoreError` unless a store may be begun: in an absent or empty folder, or where a beginning was cut short.

    Args:
        place: where.
        ours: what a beginning that was cut short may have left.
    """
    entries = place.names()
    # Names of ours count as ours only beside the lock, which is made first: someone else's manifest.parquet is safe.
    strangers = {entry for entry in entries - ours if not entry.endswith(DRAFT)} if LOCK in entries else entries
    if strangers or place.is_file:
        raise StoreError(
            "an empty or absent folder for a new store",
            f"{str(place.path)!r}, which {'holds ' + ', '.join(sorted(strangers)[:5]) if strangers else 'is a file'}",
            "Name another folder.",
        )


def _marker(block: int) -> str:
    return f"{_BLOCKS}/{block:06d}.json"


def _there(place: Place) -> bool:
    return place.path.exists() if isinstance(place.path, Path) else bool(place.names())
