"""A tower's basis, folded once and kept for as long as its weights stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Num
from torch import Tensor

from headlens.states.basis import HeadBasis

if TYPE_CHECKING:
    from headlens.models.tower import Tower

# Beside the tower, not in it: a copy that is sent to another process shall not carry it.
_KEPT: WeakKeyDictionary[Any, tuple[list[tuple[int, int]], Num[Tensor, "sample"], HeadBasis]] = WeakKeyDictionary()
_STRIDE = 127  # a prime, so that samples of a large weight fall into its every row, every column and every head
_LARGE = 1 << 16


def kept_basis(vision: Tower) -> HeadBasis:
    """`HeadBasis.from_vision(vision, whole=True)`, folded again only where a weight that it depends on was changed.

    Folding ViT-B-16's weights takes as many operations as embedding a fifth of an image, ViT-L-14's those of a
    quarter, whatever the number of images; and what is kept is about as large as all W_O.

    Changes are seen by where weights lie, by torch's count of changes in place, and, since changes through `.data`
    are not counted, by one number in 127 of large weights and by every number of small ones. The limit: a change
    through `.data` of single numbers of a large weight may go unseen; one of a whole row, column or head does not.
    """
    weights = list(_weights(vision))
    if any(weight.is_inference() for weight in weights):  # torch does not count changes of these
        return HeadBasis.from_vision(vision, whole=True)
    where = [(weight.data_ptr(), weight._version) for weight in weights]
    samples = torch.cat([_samples(weight) for weight in weights])
    known = _KEPT.get(vision)
    if known is None or known[0] != where or not torch.equal(known[1], samples):
        with torch.inference_mode(False):  # else a later use that asks for gradients would fail
            known = _KEPT[vision] = (where, samples.clone(), HeadBasis.from_vision(vision, whole=True))
    return known[2]


def compact(
    vision: Tower, z: Float[Tensor, "image layer head *token pool d_head"]
) -> Float[Tensor, "image layer head *token d_state"]:
    """A tower's z as a store holds it: side by side for the heads of a pool, or, where that is narrower, as what each
    head contributes."""
    flat = z.flatten(-2)
    if vision.cfg.d_state == flat.shape[-1]:
        return flat
    return kept_basis(vision).contributions(flat)


def _weights(vision: Tower) -> Iterator[Tensor]:
    for block in vision.layers:
        yield from (block.attn.W_O, block.attn.b_O)
        if block.attn.scale is not None:
            yield block.attn.scale
        if block.attn.ln_z is not None:
            yield from block.attn.ln_z.parameters()
        if block.post_norm:
            yield from block.ln1.parameters()
    for module in (vision.ln_final, vision.pool, vision.ln_pre):
        if module is not None:
            yield from module.parameters()
    yield from (w for w in (vision.W_P, vision.b_P, vision.class_token, vision.W_pos) if w is not None)


def _samples(weight: Tensor) -> Num[Tensor, "sample"]:
    """Numbers of a weight in the order in which they lie in memory, so that none is copied on the way."""
    values = weight.detach()
    values = values.permute(sorted(range(values.ndim), key=values.stride, reverse=True)).flatten()
    return values if len(values) < _LARGE else values[::_STRIDE]
