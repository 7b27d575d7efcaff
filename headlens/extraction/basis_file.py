"""A head basis as a safetensors file, so that a store answers without its model."""

from __future__ import annotations

import dataclasses

import torch
from safetensors.torch import load, save

from headlens.states.basis import HeadBasis


def basis_bytes(basis: HeadBasis) -> bytes:
    """Every array of the basis, in float32 at least."""
    arrays = {field.name: getattr(basis, field.name) for field in dataclasses.fields(basis)}
    return save({name: _in_full(value).cpu().contiguous() for name, value in arrays.items() if value is not None})


def load_basis(content: bytes) -> HeadBasis:
    """The inverse of `basis_bytes`."""
    return HeadBasis(**load(content))


def _in_full(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
