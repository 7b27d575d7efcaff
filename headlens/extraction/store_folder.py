"""A store of head states on disk: what lies in it, how it is begun, and how a block comes to be either whole or absent.

    acts.zarr/
        zarr.json              the Zarr v3 group, with the plan (model, images, sizes) among its attributes
        z/ mlps/ stem/ …       the arrays of `plan.DIMENSIONS`, one shard a block of images
        basis.safetensors      the weights that z is read through
        manifest.parquet       the manifest that was asked for
        blocks/000003.json     written last for each block: it is whole; which of its images were skipped
        complete.json          written last of all: skipped images, and digests of the files above

A block's arrays are written first and its marker afterwards: a run that is stopped at any moment leaves blocks that are
whole, and blocks that the next run writes again. The group's own zarr.json is likewise the last thing that is made when
a store is begun. Zarr encodes in memory; it is `Storage` that writes.

Shards are cut in chunks of some images and one layer, so that a head of all images and all heads of some images are
both cheap to read. Chunks carry a checksum, so that a byte that changes on a disk is an error and not another number,
and are compressed without loss: the bytes of a number are set apart first, since signs and exponents repeat and
mantissas do not.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import zarr
from safetensors.torch import load, save
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from headlens._version import __version__
from headlens.errors import HeadlensError, StoreError
from headlens.extraction.plan import DIMENSIONS, FORMAT, READABLE, Plan
from headlens.extraction.storage import DRAFT, LOCK, Storage
from headlens.manifest import as_text, boxes, images_digest, manifest_root
from headlens.serialization import digest
from headlens.states.basis import HeadBasis

_GROUP, _MANIFEST, _BASIS, _COMPLETE = "zarr.json", "manifest.parquet", "basis.safetensors", "complete.json"
_BLOCKS = "blocks"
_OURS = {_MANIFEST, _BASIS, _BLOCKS, ".begun", *DIMENSIONS}  # .begun: of early versions


@dataclass(frozen=True)
class Skip:
    """An image that is not in the store: its row in the manifest, its path, and why."""

    row: int
    path: str
    reason: str


def skipped_images(skips: Sequence[Skip], read: int) -> pd.DataFrame:
    """The images that could not be read, with `row`, `path` and `reason`. Raises `StoreError` where none could."""
    if not read:
        raise StoreError(
            f"None of the {len(skips)} images could be read, the first because: {skips[0].reason}",
            "Correct the paths in the manifest and extract into another folder.",
        )
    return pd.DataFrame([vars(skip) for skip in skips], columns=["row", "path", "reason"])


class StoreFolder:
    """A store that has been begun. `arrays` is its Zarr group, to be read."""

    def __init__(self, storage: Storage, plan: Plan, arrays: zarr.Group):
        self.storage = storage
        self.path = storage.path
        self.plan = plan
        self.arrays = arrays

    @staticmethod
    def begun(storage: Storage) -> bool:
        """Whether there is a store, complete or not."""
        return storage.exists(_GROUP)

    @classmethod
    def open(cls, storage: Storage) -> StoreFolder:
        """Raises `StoreError` where there is no store, one that is damaged, or one of another format."""
        group = None
        if cls.begun(storage):  # asked first, since Zarr makes a folder of what it is to open
            with reading(storage.path, _GROUP):
                group = zarr.open_group(storage.zarr_store(), mode="r", zarr_format=3)
        if group is None or "headlens" not in group.attrs:
            kind = "is something else" if storage.exists() else "is not there"
            if storage.exists("moments.json"):
                kind = "holds moments alone"
            elif group is None and storage.exists(_COMPLETE):
                kind = f"lacks {_GROUP}"
            raise StoreError(
                f"{str(storage.path)!r} is no store of head states: it {kind}.",
                "Give the folder that extract was given (MomentStore.open opens moments), or run extract to make one.",
            )
        with reading(storage.path, _GROUP):
            record: dict[str, Any] = dict(cast(Any, group.attrs["headlens"]))
            check_format(storage.path, record.pop("format", None), READABLE)
            plan = Plan(**record)
        return cls(storage, plan, group)

    @classmethod
    def create(cls, storage: Storage, plan: Plan, manifest: pd.DataFrame, basis: HeadBasis) -> StoreFolder:
        """Begin a store in an absent or empty folder, or in one where a beginning was cut short.

        Where another process was faster, what it began is opened.
        """
        cls.check_free(storage)
        with storage.reporting("cannot be written to"):
            table = BytesIO()
            storable(manifest).to_parquet(table)
            files = _metadata(plan) | {_MANIFEST: table.getvalue(), _BASIS: basis_bytes(basis)}
            group = files.pop(_GROUP)
            for name, content in files.items():
                storage.write(name, content)
            with suppress(FileExistsError):
                storage.write(_GROUP, group, new=True)
        return cls.open(storage)

    @staticmethod
    def check_free(storage: Storage) -> None:
        """Raise `StoreError` unless a store may be begun here."""
        refuse_unexpected_files(storage, _OURS)

    def is_of(self, plan: Plan) -> bool:
        """Whether it was begun with the images of this plan, in their order."""
        # An earlier version may have taken digests in another way; the manifest is at hand.
        return plan.images in (self.plan.images, images_digest(self.manifest()))

    def check_images(self, plan: Plan) -> None:
        """Raise `StoreError` unless it was begun with the same images in the same order."""
        if not self.is_of(plan):
            raise StoreError(
                f"{str(self.path)!r} was begun with {self.plan.rows} images, not the {plan.rows} of this manifest.",
                "Extract into another folder; a store never mixes two sets of images.",
            )

    @property
    def complete(self) -> bool:
        return self.storage.exists(_COMPLETE)

    def has(self, block: int) -> bool:
        """Whether a block is whole."""
        return self.storage.exists(_marker(block))

    def missing(self) -> list[int]:
        """The blocks that are still to be written."""
        if self.complete:
            return []
        there = self.storage.names(_BLOCKS)
        return [block for block in range(self.plan.n_blocks) if Path(_marker(block)).name not in there]

    def write(self, block: int, arrays: Mapping[str, np.ndarray], skipped: list[Skip]) -> None:
        """Write one block, and then the marker that makes it count.

        Raises:
            StoreError: when the disk, or the storage, does not take it.
        """
        rows = self.plan.rows_of(block)
        with self.storage.reporting(f"cannot take block {block} of {self.plan.n_blocks}"):
            for name, values in arrays.items():
                encoder = self._encoders[name]
                encoder[rows.start : rows.stop] = values.reshape(len(rows), *encoder.shape[1:])  # early: one scale each
                file = f"{name}/c/{block}" + "/0" * (encoder.ndim - 1)
                if file in self._encoded:  # Zarr leaves a shard out that holds nothing but its fill value
                    self.storage.write(file, self._encoded.pop(file).to_bytes())
            marker = json.dumps({"skipped": [asdict(skip) for skip in skipped]})
            self.storage.write(_marker(block), marker.encode())

    @cached_property
    def _encoded(self) -> dict[str, Buffer]:
        as_buffer = default_buffer_prototype().buffer.from_bytes
        files = [f"{name}/{_GROUP}" for name in self.plan.names]
        return {file: as_buffer(self.storage.read(file)) for file in files}

    @cached_property
    def _encoders(self) -> dict[str, zarr.Array]:
        store = MemoryStore(self._encoded)
        return {name: zarr.open_array(store, path=name, mode="r+", zarr_format=3) for name in self.plan.names}

    def finish(self) -> None:
        """Mark the store as complete. Every block has to be whole."""
        skipped = []
        with self.storage.reporting("cannot be written to"):
            for marker in self.storage.read_all([_marker(block) for block in range(self.plan.n_blocks)]):
                with reading(self.path, "a block's marker"):
                    skipped += json.loads(marker)["skipped"]
            digests = {name: sha256(self.storage.read(name)).hexdigest() for name in (_GROUP, _MANIFEST, _BASIS)}
            record = {"blocks": self.plan.n_blocks, "skipped": skipped, "digests": digests}
            self.storage.write(_COMPLETE, sealed(record))

    def check_intact(self) -> None:
        """Raise `StoreError` where a file of a complete store is not what was written."""
        for name in (_GROUP, _MANIFEST, _BASIS):
            with reading(self.path, name):
                expected = self._completion.get("digests", {}).get(name)  # early versions took none
                if expected and sha256(self.storage.read(name)).hexdigest() != expected:
                    raise ValueError("it is not what was written")

    def skipped(self) -> list[Skip]:
        """The images of a complete store that could not be read."""
        with reading(self.path, _COMPLETE):
            skips = [Skip(**skip) for skip in self._completion["skipped"]]
            if unknown := [skip.row for skip in skips if not 0 <= skip.row < self.plan.rows]:
                raise ValueError(f"image {unknown[0]} is not among {self.plan.rows}")
            return skips

    def manifest(self) -> pd.DataFrame:
        """The manifest that was asked for, skipped images included."""
        with reading(self.path, _MANIFEST):
            table = pd.read_parquet(BytesIO(self.storage.read(_MANIFEST)))
            if len(table) != self.plan.rows:
                raise ValueError(f"it has {len(table)} rows for {self.plan.rows} images")
            return table

    def basis(self) -> HeadBasis:
        with reading(self.path, _BASIS):
            return load_basis(self.storage.read(_BASIS))

    @cached_property
    def _completion(self) -> dict[str, Any]:
        with reading(self.path, _COMPLETE):
            return unsealed(self.storage.read(_COMPLETE))


def check_format(path: Path | str, version: object, readable: Sequence[int]) -> None:
    """Raise `StoreError` unless this version of headlens reads a store of that format."""
    if version not in readable:
        newer = isinstance(version, int) and version > max(readable)
        raise StoreError(
            f"{str(path)!r} was written in format {version!r}; headlens {__version__} reads "
            f"{' and '.join(map(str, readable))}.",
            f"{'Update headlens' if newer else 'Read it with the version that wrote it'}, or extract again into "
            "another folder.",
        )


def refuse_unexpected_files(storage: Storage, ours: set[str]) -> None:
    """Raise `StoreError` unless a store may be begun: in an absent or empty folder, or where a beginning was cut short.

    Args:
        storage: where.
        ours: what a beginning that was cut short may have left.
    """
    if storage.local and Path(storage.path).is_file():
        raise StoreError(f"{str(storage.path)!r} is a file.", "Name an empty or absent folder.")
    entries = storage.names()
    locks = {entry for entry in entries if entry.startswith(LOCK)}
    # Names of ours count as ours only beside a lock, which is made first: someone else's manifest.parquet is safe.
    unexpected = {entry for entry in entries - ours - locks if not entry.endswith(DRAFT)} if locks else entries
    if unexpected:
        raise StoreError(
            f"{str(storage.path)!r} cannot become a store, since it holds {', '.join(sorted(unexpected)[:5])}.",
            "Name an empty or absent folder.",
        )


def storable(manifest: pd.DataFrame) -> pd.DataFrame:
    """A manifest as Parquet takes it: one type a column, where a table made by hand may hold lists beside text."""
    frame = manifest.reset_index(drop=True)
    frame.attrs = {"root": manifest_root(manifest)}  # absolute, so that the store can be opened from anywhere
    if "table" in manifest.attrs:
        frame.attrs["table"] = manifest.attrs["table"]  # where labels come from
    frame.columns = frame.columns.astype(str)
    if "box" in frame.columns:
        texts = [None if box is None else json.dumps(box) for box in boxes(frame)]
        frame = frame.assign(box=pd.Series(texts, index=frame.index, dtype=object))
    if "candidates" in frame.columns:
        lists = [json.dumps(list(cell)) if isinstance(cell, (list, tuple)) else cell for cell in frame["candidates"]]
        frame = frame.assign(candidates=pd.Series(lists, index=frame.index, dtype=object))
    return frame.assign(**{name: as_text(frame[name]) for name in frame.columns if frame[name].dtype.kind == "O"})


def sealed(record: dict[str, Any]) -> bytes:
    """A record as JSON, with its digest in it."""
    return json.dumps(record | {"digest": digest(record)}).encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """The inverse of `sealed`; of early versions without a digest, too. Raises `ValueError` for another digest."""
    record: dict[str, Any] = json.loads(content)
    if "digest" in record and record.pop("digest") != digest(record):
        raise ValueError("it is not what was written")
    return record


def damaged(path: Path | str | None, what: str) -> StoreError:
    """The error for a store of which something is not what was written."""
    return StoreError(f"The store at {str(path)!r} is damaged: {what}.", "Restore it from a copy, or extract again.")


@contextmanager
def reading(path: Path | str | None, what: str) -> Iterator[None]:
    """Raise whatever a library makes of a damaged file as a `StoreError`."""
    try:
        yield
    except HeadlensError:
        raise
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise damaged(path, f"{what} cannot be read ({said})") from error


def basis_bytes(basis: HeadBasis) -> bytes:
    """A basis as a safetensors file, every array in float32 at least, so that a store answers without its model."""
    arrays = {field.name: getattr(basis, field.name) for field in dataclasses.fields(basis)}
    return save({name: in_full(value).cpu().contiguous() for name, value in arrays.items() if value is not None})


def load_basis(content: bytes) -> HeadBasis:
    """The inverse of `basis_bytes`, also of those of early versions, whose biases have a single source."""
    arrays = load(content)
    if arrays.pop("bias", None) is not None:
        one = {"layer_bias": 1, "bias_mean": 1, "ones": 0}
        arrays |= {name: arrays[name].unsqueeze(axis) for name, axis in one.items()}
        arrays["readout_bias"] = torch.zeros_like(arrays["ones"])
    return HeadBasis(**arrays)


def _metadata(plan: Plan) -> dict[str, bytes]:
    """The files of a Zarr group with the plan among its attributes, and of its empty arrays."""
    files: dict[str, Buffer] = {}
    store = MemoryStore(files)
    group = zarr.create_group(store, zarr_format=3, attributes={"headlens": {"format": FORMAT} | asdict(plan)})
    for name in plan.names:
        inner = plan.shape_of(name, plan.rows)[1:]
        chunk = (plan.chunk, 1, *inner[1:]) if "layer" in DIMENSIONS[name] else (plan.chunk, *inner)
        dtype = plan.stored_as(name)
        group.create_array(
            name,
            shape=(plan.rows, *inner),
            dtype=dtype,
            chunks=chunk,
            shards=(plan.block, *inner),
            compressors=(BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec()),
            fill_value=plan.fill_of(name),
            dimension_names=plan.dimensions_of(name),
            attributes={"dtype": plan.type_of(name)},
        )
    with warnings.catch_warnings():  # consolidated metadata is read everywhere, though not yet part of the standard
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)
    return {name: content.to_bytes() for name, content in files.items()}


def in_full(value: torch.Tensor) -> torch.Tensor:
    """Numbers in float32 at least."""
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))


def _marker(block: int) -> str:
    return f"{_BLOCKS}/{block:06d}.json"
