"""A short name for exactly these weights and exactly this preprocessing."""

from __future__ import annotations

import hashlib
import re

import torch
from torch import nn


def fingerprint(module: nn.Module, preprocess: object) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over every weight (name, shape, values) and the preprocessing.

    Values are read as float32, so that a tower widened to float64 is still itself, while one that was rounded to half
    precision is another. The preprocessing is told by its `repr` without memory addresses.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(memoryview(values.numpy()).cast("B") if values.numel() else b"")
    digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess)).encode())
    return digest.hexdigest()[:16]
