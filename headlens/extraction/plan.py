"""What a store will hold, settled before the first image is read: names, dimensions, sizes and identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from headlens.extraction.numbers import kept_as

FORMAT = 2
READABLE = (1, 2)  # 1 kept the stem of every image, also where all have the same
DTYPES = ("float32", "float16", "bfloat16", "float64")
DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "z": ("image", "layer", "head", "d_head"),
    "mlps": ("image", "layer", "embed"),
    "stem": ("image", "embed"),
    "embedding": ("image", "embed"),
    "scale": ("image",),
    "shift": ("image",),
}
# Few numbers, and every other one is multiplied by them: they are kept in full where the rest is in half precision.
_IN_FULL = ("embedding", "scale", "shift")


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
    """What a store will hold, settled before the first image is read.

    Attributes:
        model: the model's name.
        fingerprint: the digest of its weights and preprocessing.
        manifest: the digest of the manifest, `images` that of its paths and boxes alone.
        rows: how many images the manifest names.
        block: images a block, which is also a shard; `chunk` images a chunk of one layer.
        dtype: of z, mlps and stem.
        sizes: the length of every other dimension.
        stem: whether every image has a stem of its own. Under class-token pooling it is `scale` times the basis'.
        batch_size: images that go through the model at once, where that was found rather than given: a run that goes on
            takes the same, so that it rounds alike.
        autocast: the type that the model computed in, if that was not its own.
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
    batch_size: int | None = None
    autocast: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays."""
        return tuple(name for name in DIMENSIONS if self.stem or name != "stem")

    @property
    def n_blocks(self) -> int:
        return -(-self.rows // self.block)

    def rows_of(self, block: int) -> range:
        return range(block * self.block, min((block + 1) * self.block, self.rows))

    def type_of(self, name: str) -> str:
        """What an array's numbers are."""
        if name in _IN_FULL and self.dtype != "float64":
            return "float32"
        return self.dtype

    def dtype_of(self, name: str) -> np.dtype:
        """What they are kept as: the same, or a bfloat16's bits."""
        return kept_as(self.type_of(name))

    def shape_of(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *(self.sizes[dimension] for dimension in DIMENSIONS[name][1:]))


def block_sizes(rows: int, block: int | None) -> tuple[int, int]:
    """Images a block and a chunk: about 512 and 128 unless wished otherwise, evened out to leave little empty."""
    if block is None:
        quarter = -(-rows // (4 * max(1, round(rows / 512))))
        return 4 * quarter, quarter
    block = min(block, rows)
    return block, block // 4 if block % 4 == 0 else block


def autocast_of(clip: Model) -> torch.dtype | None:
    """The type that the caller's `torch.autocast` has the model compute in; None without one."""
    kind = clip.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
