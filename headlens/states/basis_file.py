"""A head basis as a safetensors file, so that a store answers without its model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from headlens.states.basis import HeadBasis


def save_basis(basis: HeadBasis, path: Path) -> None:
    """Write every array of the basis, in float32 at least."""
    arrays = {field.name: getattr(basis, field.name) for field in dataclasses.fields(basis)}
    save_file({name: _in_full(value).cpu().contiguous() for name, value in arrays.items()}, path)


def load_basis(path: Path) -> HeadBasis:
    """Read what `save_basis` wrote."""
    return HeadBasis(**load_file(path))


def _in_full(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
