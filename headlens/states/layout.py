"""A store's folder: what lies in it, how it is begun, and how a block comes to be either whole or absent.

    acts.zarr/
        zarr.json              the Zarr v3 group, with the plan (model, images, sizes) among its attributes
        z/ mlps/ stem/ …       the arrays of `plan.DIMENSIONS`, one shard a block of images
        basis.safetensors      the weights that z is read through
        manifest.parquet       the manifest that was asked for
        blocks/000003.json     written last for each block: it is whole; which of its images were skipped
        complete.json          written last of all

A block's arrays are written first and its marker is moved into place afterwards, in one step of the file
system: a run that is stopped at any moment leaves blocks that are whole, and blocks that the next run writes
again. The group's own zarr.json is likewise the last thing that is made when a store is begun.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import zarr
from filelock import FileLock

from headlens.errors import StoreError
from headlens.manifest import as_text, boxes, manifest_root
from headlens.states.basis import HeadBasis
from headlens.states.basis_file import load_basis, save_basis
from headlens.states.plan import DIMENSIONS, FORMAT, Plan

_GROUP, _MANIFEST, _BASIS, _COMPLETE = "zarr.json", "manifest.parquet", "basis.safetensors", "complete.json"
_BLOCKS, _LOCK, _DRAFT = "blocks", ".lock", ".begun"
_OURS = {_GROUP, _MANIFEST, _BASIS, _BLOCKS, _LOCK, _DRAFT, *DIMENSIONS}


@dataclass(frozen=True)
class Skip:
    """An image that is not in the store: its row in the manifest, its path, and why."""

    row: int
    path: str
    reason: str


class StoreFolder:
    """The folder of a store that has been begun. `arrays` is its Zarr group."""

    def __init__(self, path: Path, plan: Plan, arrays: zarr.Group):
        self.path = path
        self.plan = plan
        self.arrays = arrays

    @classmethod
    def open(cls, path: Path) -> StoreFolder:
        """Raises `StoreError` where there is no store of this format."""
        try:
            if not cls.begun(path):  # asked first, since Zarr makes a folder of what it is to open
                raise FileNotFoundError(path)
            group = zarr.open_group(path, mode="r+" if os.access(path, os.W_OK) else "r", zarr_format=3)
            record = dict(group.attrs["headlens"])
        except (FileNotFoundError, NotADirectoryError, KeyError, ValueError, TypeError) as error:
            raise StoreError(
                "a store that headlens wrote",
                f"{str(path)!r}, which is {'something else' if path.exists() else 'not there'}",
                "Give the folder that extract was given, or run extract to make one.",
            ) from error
        version = record.pop("format", None)
        if version != FORMAT:
            raise StoreError(
                f"a store in format {FORMAT}",
                f"format {version!r} at {str(path)!r}",
                "Read it with the version of headlens that wrote it, or extract again into another folder.",
            )
        return cls(path, Plan(**record), group)

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether there is a store in a folder, complete or not."""
        return (path / _GROUP).is_file()

    @classmethod
    def create(cls, path: Path, plan: Plan, manifest: pd.DataFrame, basis: HeadBasis) -> StoreFolder:
        """Begin a store in an absent or empty folder, or in one where a beginning was cut short."""
        refuse_strangers(path)
        for name in _OURS - {_LOCK}:
            target = path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        draft = path / _DRAFT
        _make_arrays(draft, plan)
        (draft / _BLOCKS).mkdir()
        _storable(manifest).to_parquet(draft / _MANIFEST)
        save_basis(basis, draft / _BASIS)
        for entry in sorted(draft.iterdir(), key=lambda entry: (entry.name == _GROUP, entry.name)):
            entry.rename(path / entry.name)
        draft.rmdir()
        return cls.open(path)

    @property
    def complete(self) -> bool:
        return (self.path / _COMPLETE).is_file()

    def sweep(self) -> None:
        """Remove the half-written files that a killed run left beside the arrays' own."""
        shutil.rmtree(self.path / _DRAFT, ignore_errors=True)
        for name in DIMENSIONS:
            for leftover in (self.path / name).rglob("*.partial"):
                leftover.unlink()

    def has(self, block: int) -> bool:
        """Whether a block is whole."""
        return self._marker(block).is_file()

    def missing(self) -> list[int]:
        """The blocks that are still to be written."""
        return [] if self.complete else [block for block in range(self.plan.n_blocks) if not self.has(block)]

    def write(self, block: int, arrays: Mapping[str, np.ndarray], skipped: list[Skip]) -> None:
        """Write one block, and then the marker that makes it count.

        Raises:
            StoreError: when the disk does not take it.
        """
        rows = self.plan.rows_of(block)
        try:
            for name, values in arrays.items():
                cast(zarr.Array, self.arrays[name])[rows.start : rows.stop] = values
            replace_text(self._marker(block), json.dumps({"skipped": [asdict(skip) for skip in skipped]}))
        except OSError as error:
            raise StoreError(
                f"block {block} of {self.plan.n_blocks} to be written to {str(self.path)!r}",
                f"{error.strerror or error}",
                "Make room (or mend the disk) and run extract again: it goes on after the blocks that are whole.",
            ) from error

    def finish(self) -> None:
        """Mark the store as complete. Every block has to be whole."""
        skipped = []
        for block in range(self.plan.n_blocks):
            skipped += json.loads(self._marker(block).read_text())["skipped"]
        replace_text(self.path / _COMPLETE, json.dumps({"blocks": self.plan.n_blocks, "skipped": skipped}))

    def skipped(self) -> list[Skip]:
        """The images of a complete store that could not be read."""
        return [Skip(**skip) for skip in json.loads((self.path / _COMPLETE).read_text())["skipped"]]

    def manifest(self) -> pd.DataFrame:
        """The manifest that was asked for, skipped images included."""
        return pd.read_parquet(self.path / _MANIFEST)

    def basis(self) -> HeadBasis:
        return load_basis(self.path / _BASIS)

    def _marker(self, block: int) -> Path:
        return self.path / _BLOCKS / f"{block:06d}.json"


def refuse_strangers(path: Path) -> None:
    """Raise `StoreError` unless a store may be begun in a folder: absent, empty, or where a beginning was cut short."""
    entries = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    # Names of ours count as ours only beside the lock, which is made first: someone else's manifest.parquet is safe.
    strangers = entries - (_OURS - {_GROUP}) if _LOCK in entries else entries
    if strangers or (path.exists() and not path.is_dir()):
        raise StoreError(
            "an empty or absent folder for a new store",
            f"{str(path)!r}, which {'holds ' + ', '.join(sorted(strangers)[:5]) if strangers else 'is a file'}",
            "Name another folder.",
        )


def writer_lock(path: Path) -> FileLock:
    """A lock for the one process that writes; the system releases it when that process ends, however it ends."""
    path.mkdir(parents=True, exist_ok=True)
    return FileLock(path / _LOCK, timeout=0)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that it is there with all of the text, or not at all."""
    draft = path.with_name(f".{path.name}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _make_arrays(path: Path, plan: Plan) -> None:
    group = zarr.create_group(path, zarr_format=3, attributes={"headlens": {"format": FORMAT} | asdict(plan)})
    for name, dimensions in DIMENSIONS.items():
        inner = plan.shape_of(name, plan.rows)[1:]
        chunk = (plan.chunk, 1, *inner[1:]) if "layer" in dimensions else (plan.chunk, *inner)
        group.create_array(
            name,
            shape=(plan.rows, *inner),
            dtype=plan.dtype_of(name),
            chunks=chunk,
            shards=(plan.block, *inner),
            compressors=None,  # mantissas are noise to a compressor: a tenth at most, for much time
            fill_value=float("nan"),
            dimension_names=dimensions,
        )
    with warnings.catch_warnings():  # consolidated metadata is read everywhere, though not yet part of the standard
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def _storable(manifest: pd.DataFrame) -> pd.DataFrame:
    # Parquet wants one type a column, and a table made by hand may hold lists beside text.
    frame = manifest.reset_index(drop=True)
    frame.attrs = {"root": manifest_root(manifest)}  # absolute, so that the store can be opened from anywhere
    frame.columns = frame.columns.astype(str)
    if "box" in frame.columns:
        texts = [None if box is None else json.dumps(box) for box in boxes(frame)]
        frame = frame.assign(box=pd.Series(texts, index=frame.index, dtype=object))
    if "candidates" in frame.columns:
        lists = [json.dumps(list(cell)) if isinstance(cell, (list, tuple)) else cell for cell in frame["candidates"]]
        frame = frame.assign(candidates=pd.Series(lists, index=frame.index, dtype=object))
    return frame.assign(**{name: as_text(frame[name]) for name in frame.columns if frame[name].dtype.kind == "O"})
