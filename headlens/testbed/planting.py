"""The losses that decide where the testbed's bias lives. They use labels: the planting is supervised, on purpose.

`late`: the share of the class token's written variance that comes from the early attention layers and from all MLPs.
Driven down, the heads of the late layers carry the embedding directly, as is reported of large CLIP towers.

`planting`: for every late head, how much of its written variance is explained by what it is *not* to carry: the species
in the planted heads, the place in all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, one_hot, scaled_dot_product_attention

_LATE_LAYERS = 2
_FLOOR = 1e-4  # of a head's variance, below which its share fades to zero


def between_group_share(writes: Float[Tensor, "image width"], groups: Int[Tensor, "image"]) -> Float[Tensor, ""]:
    """Share of the variance that lies between the groups, at least zero.

    The share is corrected for chance, (B − W (k − 1) / (n − k)) / (B + W) with B and W the variance between and within
    k groups of n images, because a batch holds few images of each group: a random grouping scores zero on average.
    """
    member = one_hot(groups).to(writes.dtype)
    size = member.sum(0)
    centred = writes - writes.mean(0)
    total = centred.square().mean(0).sum()
    means = einsum(member, centred, "image group, image width -> group width") / size.clamp(min=1)[:, None]
    between = (size / len(groups) * means.square().sum(-1)).sum()
    present = int((size > 0).sum())
    chance = (total - between) * (present - 1) / max(1, len(groups) - present)
    return ((between - chance) / (total + _FLOOR)).clamp(min=0)


class PlantingLosses(NamedTuple):
    """The two terms, each between 0 and 1."""

    late: Float[Tensor, ""]
    planting: Float[Tensor, ""]


class Writes:
    """Listens to an open_clip vision tower and keeps what its last forward pass wrote on the class token.

    Args:
        visual: the tower; its hooks are removed on leaving the `with` block.
        planted: heads (layer, head) that are to carry the place, and nothing of the species.
    """

    def __init__(self, visual: Any, planted: Iterable[tuple[int, int]] = ()):
        self.blocks = list(visual.transformer.resblocks)
        self.planted = set(planted)
        self._normed: dict[int, Tensor] = {}
        self._attention: dict[int, Tensor] = {}
        self._mlp: dict[int, Tensor] = {}

    def __enter__(self) -> Writes:
        self._handles = []
        for i, block in enumerate(self.blocks):
            self._handles += [
                block.ln_1.register_forward_hook(lambda _, __, out, i=i: self._normed.update({i: out})),
                block.attn.register_forward_hook(lambda _, __, out, i=i: self._attention.update({i: out[0][:, 0]})),
                block.mlp.register_forward_hook(lambda _, __, out, i=i: self._mlp.update({i: out[:, 0]})),
            ]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def mixed(self, layer: int) -> Float[Tensor, "image head d_head"]:
        """What each head of a layer mixes from its values for the class token."""
        attn, x = self.blocks[layer].attn, self._normed[layer]
        split = [x.shape[-1], 2 * x.shape[-1]]
        query_weight, rest_weight = attn.in_proj_weight.split(split)
        query_bias, rest_bias = attn.in_proj_bias.split(split)
        heads = attn.num_heads
        query = rearrange(linear(x[:, :1], query_weight, query_bias), "i t (h d) -> i h t d", h=heads)
        key, value = rearrange(linear(x, rest_weight, rest_bias), "i t (two h d) -> two i h t d", two=2, h=heads)
        return rearrange(scaled_dot_product_attention(query, key, value), "i h 1 d -> i h d")

    def _head_writes(self, layer: int) -> Float[Tensor, "image head width"]:
        attn = self.blocks[layer].attn
        weight = rearrange(attn.out_proj.weight, "width (h d) -> h d width", h=attn.num_heads)
        return einsum(self.mixed(layer), weight, "image h d, h d width -> image h width")

    def losses(self, species: Int[Tensor, "image"], places: Int[Tensor, "image"]) -> PlantingLosses:
        """Both terms for the batch that the tower saw last."""

        def variance(writes: Tensor) -> Tensor:
            return (writes - writes.mean(0)).square().mean(0).sum()

        late = range(len(self.blocks) - _LATE_LAYERS, len(self.blocks))
        writes = {layer: self._head_writes(layer) for layer in late}
        unwanted = [variance(self._attention[layer]) for layer in range(late.start)]
        unwanted += [variance(out) for out in self._mlp.values()]
        wanted = [variance(write) for write in writes.values()]
        share = torch.stack(unwanted).sum() / torch.stack(unwanted + wanted).sum()
        penalties = [
            between_group_share(write[:, head], species if (layer, head) in self.planted else places)
            for layer, write in writes.items()
            for head in range(write.shape[1])
        ]
        return PlantingLosses(share, torch.stack(penalties).mean())
