"""What a store will hold, settled before the first image is read: names, dimensions, sizes and identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

FORMAT = 1
DTYPES = ("float32", "float16", "float64")
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

    @property
    def n_blocks(self) -> int:
        return -(-self.rows // self.block)

    def rows_of(self, block: int) -> range:
        return range(block * self.block, min((block + 1) * self.block, self.rows))

    def dtype_of(self, name: str) -> np.dtype:
        wanted = np.dtype(self.dtype)
        return np.promote_types(wanted, np.float32) if name in _IN_FULL else wanted

    def shape_of(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *(self.sizes[dimension] for dimension in DIMENSIONS[name][1:]))


def block_sizes(rows: int, block: int | None) -> tuple[int, int]:
    """Images a block and a chunk: about 512 and 128 unless wished otherwise, evened out to leave little empty."""
    if block is None:
        quarter = -(-rows // (4 * max(1, round(rows / 512))))
        return 4 * quarter, quarter
    block = min(block, rows)
    return block, block // 4 if block % 4 == 0 else block
