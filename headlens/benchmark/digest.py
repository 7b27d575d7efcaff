"""What a correction is, as a short text: two that share it do the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch

from headlens.correct import Compose, Correction


def digest_of(correction: Correction) -> str | None:
    """A digest of a correction's kind, settings and arrays, fitted or not.

    None for one that holds a class from elsewhere, such as a notebook cell: what its `state` leaves out, or what its
    code was changed to, cannot be told from here.
    """
    if not all(type(one).__module__.startswith("headlens.") for one in parts_of(correction)):
        return None
    values, arrays = correction.state()
    found = hashlib.sha256(json.dumps([type(correction).__qualname__, values], sort_keys=True, default=str).encode())
    for name in sorted(arrays):
        array = arrays[name].detach().cpu().contiguous()
        found.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        found.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def parts_of(correction: Correction) -> Iterator[Correction]:
    """A correction and, where it is made of several, each of those."""
    yield correction
    parts = correction.corrections if isinstance(correction, Compose) else getattr(correction, "parts", {}).values()
    for one in parts:
        yield from parts_of(one)
