"""How head states are kept: float32 or float64 as they are, float16, and bfloat16 as its bits.

Zarr has no bfloat16. Its 16 bits are kept as uint16, and the array's attribute `dtype: "bfloat16"` says so: whoever
reads the array with other tools gets float32 by `(bits.astype("uint32") << 16).view("float32")`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BFLOAT16 = "bfloat16"
_NAN = 0x7FC0


def kept_as(dtype: str) -> np.dtype:
    """The type of the numbers on disk."""
    return np.dtype(np.uint16 if dtype == BFLOAT16 else dtype)


def nothing(dtype: str) -> float | int:
    """What stands for an image that is not there: NaN."""
    return _NAN if dtype == BFLOAT16 else float("nan")


def to_disk(values: Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Values in the type that they are kept in, and for each image whether all of them are finite there."""
    kept = values.detach().cpu().to(getattr(torch, dtype))
    finite = torch.isfinite(kept).flatten(1).all(1) if kept.ndim > 1 else torch.isfinite(kept)
    array = kept.view(torch.int16).numpy().view(np.uint16) if dtype == BFLOAT16 else kept.numpy()
    return array, finite.numpy()


def from_disk(array: np.ndarray, dtype: str) -> Tensor:
    """The inverse of `to_disk`, in the type that the numbers were kept in."""
    if dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
