"""What a store holds, settled before the first image is read: arrays, sizes, types and identity.

Arrays are kept in float32 or float64 as they are, in float16, or in bfloat16 as its bits. Zarr has no bfloat16: its 16
bits are kept as uint16, and the array's attribute `dtype: "bfloat16"` says so. Other tools read them by
`(bits.astype("uint32") << 16).view("float32")`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from headlens.errors import StoreError, StoreWarning
from headlens.fingerprint import same_model
from headlens.manifest import images_digest, manifest_digest
from headlens.models.description import ModelDescription
from headlens.serialization import unpack

FORMAT = 3
READABLE = (1, 2, 3)  # 1 kept the stem of every image, also where all have the same; 3 may hold other tools' arrays
DTYPES = ("float32", "float16", "bfloat16", "float64")
DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "z": ("image", "layer", "head", "d_head"),
    "mlps": ("image", "layer", "embed"),
    "stem": ("image", "embed"),
    "embedding": ("image", "embed"),
    "pool": ("image", "embed"),
    "scale": ("image", "source"),
    "shift": ("image", "source"),
    "rest": ("image", "embed"),
}
_OF_OTHER_TOOLS = ("z", "embedding", "rest")
# Few numbers, and every other one is multiplied by them: they are kept in full where the rest is in half precision.
_IN_FULL = ("embedding", "scale", "shift", "rest")
UNKNOWN_MODEL = "arrays-"  # how the fingerprints of arrays begin that no model is known of
_BLOCK, _MOST_BLOCKS = 512, 2000
_BFLOAT16, _BFLOAT16_NAN = "bfloat16", 0x7FC0


@runtime_checkable
class HasFingerprint(Protocol):
    """A model, as far as a store has to tell one from another."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class Model(HasFingerprint, Protocol):
    """A model, as far as extraction uses one; `headlens.models.HookedCLIP` is it."""

    vision: Any
    preprocess: Any

    @property
    def device(self) -> torch.device: ...


@dataclass(frozen=True)
class Plan:
    """What a store holds.

    Attributes:
        model: the model's name.
        fingerprint: the digest of its weights and preprocessing.
        manifest: the digest of the manifest, `images` that of its paths and boxes alone.
        rows: how many images the manifest names.
        block: images a block, which is also a shard of Zarr; `chunk` images a chunk of one layer.
        dtype: of z, mlps and stem.
        sizes: the length of every other dimension.
        stem: whether every image has a stem of its own. Under class-token pooling it is `scale` times the basis'.
        pool: whether an MLP inside an attention pool contributes.
        batch_size: images that go through the model at once, where that was found rather than given: a run that goes on
            takes the same, so that it rounds alike.
        autocast: the type that the model computed in, if that was not its own.
        convention: of arrays that another tool exported, where biases and means went: 'separate' or 'spread'. z is then
            a head's contribution itself, and `rest` is whatever no head contributes. None for what headlens extracted.
        description: how the model described itself, as plain values; None in stores of early versions.
    """

    model: str
    fingerprint: str
    manifest: str
    images: str
    rows: int
    block: int
    chunk: int
    dtype: str
    sizes: Mapping[str, int]
    stem: bool = True
    pool: bool = False
    batch_size: int | None = None
    autocast: str | None = None
    convention: str | None = None
    description: Mapping[str, Any] | None = None

    @classmethod
    def of_states(cls, clip: Model, frame: pd.DataFrame, block: int | None, dtype: str) -> Plan:
        """For the head states of every image: a block is a shard, and its chunks are quarters of it."""
        return cls._of(clip, frame, block_sizes(len(frame), block), dtype)

    @classmethod
    def of_moments(cls, clip: Model, frame: pd.DataFrame, block: int | None) -> Plan:
        """For moments alone: a block is only where a stopped run goes on. It grows with the manifest, so that blocks
        stay few, and is computed in pieces (`chunk`) of constant size."""
        wanted = block or max(_BLOCK, -(-len(frame) // (_MOST_BLOCKS * _BLOCK)) * _BLOCK)
        per_block = min(wanted, len(frame))
        dtype = "float64" if getattr(clip.vision, "dtype", None) == torch.float64 else "float32"
        return cls._of(clip, frame, (per_block, min(per_block, _BLOCK)), dtype)

    @classmethod
    def _of(cls, clip: Model, frame: pd.DataFrame, sizes: tuple[int, int], dtype: str) -> Plan:
        cfg, autocast = clip.vision.cfg, autocast_of(clip)
        return cls(
            model=clip.name,
            fingerprint=clip.fingerprint,
            manifest=manifest_digest(frame),
            images=images_digest(frame),
            rows=len(frame),
            block=sizes[0],
            chunk=sizes[1],
            dtype=dtype,
            sizes={"layer": cfg.n_layers, "head": cfg.n_heads, "d_head": cfg.d_state, "embed": cfg.d_embed}
            | ({"source": cfg.n_sources} if cfg.n_sources > 1 else {}),
            stem=cfg.pool != "tok",
            pool=cfg.attention_pool is not None and cfg.attention_pool.d_mlp > 0,
            autocast=None if autocast is None else str(autocast).removeprefix("torch."),
            description=None if (described := getattr(clip, "description", None)) is None else described.as_dict(),
        )

    @property
    def model_description(self) -> ModelDescription | None:
        """Where the model came from, what decides its numbers, and what of that was assumed; None where unrecorded."""
        return None if self.description is None else unpack(self.description, ModelDescription, {})

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays."""
        if self.convention:
            return _OF_OTHER_TOOLS
        absent = {"rest"} | ({"stem"} if not self.stem else set()) | ({"pool"} if not self.pool else set())
        return tuple(name for name in DIMENSIONS if name not in absent)

    def dimensions_of(self, name: str) -> tuple[str, ...]:
        """An array's dimensions; with a single source, which stores of all versions have, that axis is left out."""
        return tuple(one for one in DIMENSIONS[name] if one != "source" or one in self.sizes)

    @property
    def n_blocks(self) -> int:
        return -(-self.rows // self.block)

    def rows_of(self, block: int) -> range:
        return range(block * self.block, min((block + 1) * self.block, self.rows))

    def pieces_of(self, block: int) -> list[range]:
        """A block in pieces of a chunk's size."""
        rows = self.rows_of(block)
        return [range(start, min(start + self.chunk, rows.stop)) for start in range(rows.start, rows.stop, self.chunk)]

    def type_of(self, name: str) -> str:
        """What an array's numbers are."""
        return "float32" if name in _IN_FULL and self.dtype != "float64" else self.dtype

    def stored_as(self, name: str) -> np.dtype:
        """What they are kept as: the same, or a bfloat16's bits."""
        return np.dtype(np.uint16 if self.type_of(name) == _BFLOAT16 else self.type_of(name))

    def shape_of(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *(self.sizes.get(dimension, 1) for dimension in self.dimensions_of(name)[1:]))

    def fill_of(self, name: str) -> float | int:
        """What stands for an image that is not there: NaN."""
        return _BFLOAT16_NAN if self.type_of(name) == _BFLOAT16 else float("nan")

    def empty(self, name: str, rows: int) -> np.ndarray:
        """An array of images that are not there."""
        return np.full(self.shape_of(name, rows), self.fill_of(name), self.stored_as(name))

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def check_model(self, path: Path | str, clip: HasFingerprint) -> None:
        """Raise `StoreError` unless the store at a path was made with this model.

        One that an early version wrote names its model's weights and preprocessing alone: it is accepted for a model
        with these, and a `StoreWarning` says what was not compared; as it does for another tool's arrays.
        """
        have, wanted = self.fingerprint, clip.fingerprint
        if have == wanted:
            return
        if have.startswith(UNKNOWN_MODEL):
            problem = f"{path} does not record which model its arrays are of: it is taken for one of {clip.name}."
            warnings.warn(problem, StoreWarning, stacklevel=3)
        elif same_model(have, wanted):
            warnings.warn(
                f"{path} was written by an early version, which did not record its model's settings: it is taken for "
                f"one of {clip.name}, whose weights and preprocessing it has; whether it was made with the same "
                "nonlinearity and pooling cannot be known.",
                StoreWarning,
                stacklevel=3,
            )
        elif have.partition("-")[0] == wanted.partition("-")[0]:
            raise StoreError(
                f"{str(path)!r} was made with the weights of {clip.name}, but with other settings, such as another "
                f"nonlinearity or pooling (fingerprint {have}, not {wanted}).",
                f"Load {self.model} as it was then, or extract into another folder.",
            )
        else:
            raise StoreError(
                f"the model that {str(path)!r} was made with, {self.model} (fingerprint {have})",
                f"{clip.name} (fingerprint {wanted})",
                "Load that model with the same weights and preprocessing, or extract into another folder.",
            )


class Planned:
    """What holds head states or their moments names the model that they are of."""

    plan: Plan

    @property
    def model_name(self) -> str:
        return self.plan.model

    @property
    def model_description(self) -> ModelDescription | None:
        """What decides the model's numbers, as it was when the store was made; None in stores of early versions."""
        return self.plan.model_description

    @property
    def fingerprint(self) -> str:
        return self.plan.fingerprint


def block_sizes(rows: int, block: int | None) -> tuple[int, int]:
    """Images a block and a chunk: about 512 and 128 by default, evened out to leave little empty."""
    if block is None:
        quarter = -(-rows // (4 * max(1, round(rows / _BLOCK))))
        return 4 * quarter, quarter
    block = min(block, rows)
    return block, block // 4 if block % 4 == 0 else block


def autocast_of(clip: Model) -> torch.dtype | None:
    """The type that the caller's `torch.autocast` has the model compute in; None without one."""
    kind = clip.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def to_disk(values: Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Values in the type that they are kept in, and for each image whether all of them are finite there."""
    kept = values.detach().cpu().to(getattr(torch, dtype))
    finite = torch.isfinite(kept).flatten(1).all(1) if kept.ndim > 1 else torch.isfinite(kept)
    array = kept.view(torch.int16).numpy().view(np.uint16) if dtype == _BFLOAT16 else kept.numpy()
    return array, finite.numpy()


def from_disk(array: np.ndarray, dtype: str) -> Tensor:
    """The inverse of `to_disk`, in the type that the numbers were kept in."""
    if dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
