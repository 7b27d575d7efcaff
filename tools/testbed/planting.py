"""The losses that decide where the testbed's bias lives. They use labels: the planting is supervised, on purpose.

`late`: the share of the class token's written variance that comes from the early attention layers and from all MLPs.
Driven down, the heads of the late layers carry the embedding directly, as is reported of large CLIP towers.

`planting`: for every late head, how much of its written variance is explained by what it is *not* to carry: the
attribute (birds: the place; figures: the presentation) in all heads but the planted ones, and in these the rest
(birds: the species; figures: occupation, age and place); and, where that is asked, what is missing of the attribute.

`apart`: whether planted heads write the attribute in one direction, and keep still on the world that has none of it.

`centre_heads` then moves every head's mean output into the bias of its layer; the function that the tower computes does
not change. The weights of a softmax row sum to one, so a shift of a head's value bias by −c shifts its mixed values by
exactly −c at every token; adding c W_O to the layer's output bias restores the sum. With c the mean over a set of
images (each weighted by the scale with which the final LayerNorm hands it on), a head's contribution then varies around
zero, and an attribution to it is about what differs between images, not about a constant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, one_hot, scaled_dot_product_attention

_LATE_LAYERS = 2
_FLOOR = 1e-4  # of a head's variance, below which its share fades to zero


def between_group_share(
    writes: Float[Tensor, "image *head width"], groups: Int[Tensor, "image"]
) -> Float[Tensor, "*head"]:
    """Share of the variance that lies between the groups; of every head where there are several.

    The share is corrected for chance, (B − W (k − 1) / (n − k)) / (B + W) with B and W the variance between and within
    k groups of n images, because a batch holds few images of each group: a random grouping scores zero on average, and
    below zero half of the time.
    """
    member = one_hot(groups).to(writes.dtype)
    size = member.sum(0)
    centred = writes - writes.mean(0)
    total = centred.square().mean(0).sum(-1)
    means = einsum(member / size.clamp(min=1), centred, "image group, image ... width -> group ... width")
    between = einsum(size / len(groups), means.square().sum(-1), "group, group ... -> ...")
    present = int((size > 0).sum())
    chance = (total - between) * (present - 1) / max(1, len(groups) - present)
    return (between - chance) / (total + _FLOOR)


@dataclass(frozen=True)
class Planting:
    """One attribute that is planted in one world's part of a batch.

    Attributes:
        rows: the part of the batch.
        heads: the late heads that are to carry the attribute.
        attribute: which value each image has.
        others: groupings that the planted heads are not to carry.
        alone: whether all other late heads are not to carry the attribute.
        weight: of the penalty on what planted heads carry of `others`, against that of the other heads.
        carry: weight of the share of the planted heads' variance that is *not* the attribute; 0 leaves it to the
            contrastive loss what they carry.
        elsewhere: the other world's part of the batch, on which the planted heads are to be quiet; with it they are
            also to write the attribute in one direction. None leaves both free.
    """

    rows: slice
    heads: Collection[tuple[int, int]]
    attribute: Int[Tensor, "image"]
    others: Sequence[Int[Tensor, "image"]]
    alone: bool = True
    weight: float | int = 1.0
    carry: float | int = 0.0
    elsewhere: slice | None = None


class PlantingLosses(NamedTuple):
    """The terms: `late` between 0 and 1, the mean penalty of a head, and how little the planted heads act as one."""

    late: Float[Tensor, ""]
    planting: Float[Tensor, ""]
    apart: Float[Tensor, ""]


class Writes:
    """Listens to an open_clip vision tower and keeps what its last forward pass wrote on the class token.

    Args:
        visual: the tower; its hooks are removed on leaving the `with` block.
    """

    def __init__(self, visual: Any):
        self.blocks = list(visual.transformer.resblocks)
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

    def losses(self, parts: Sequence[Planting]) -> PlantingLosses:
        """The terms for the batch that the tower saw last, each the mean over the parts."""
        late = range(len(self.blocks) - _LATE_LAYERS, len(self.blocks))
        writes = {layer: self._head_writes(layer) for layer in late}
        shares, penalties, apart = [], [], [torch.zeros(())]
        for part in parts:
            unwanted = [_variance(self._attention[layer][part.rows]) for layer in range(late.start)]
            unwanted += [_variance(out[part.rows]) for out in self._mlp.values()]
            wanted = [_variance(write[part.rows]).sum() for write in writes.values()]
            shares.append(torch.stack(unwanted).sum() / torch.stack(unwanted + wanted).sum())
            for layer, write in writes.items():
                planted = torch.tensor([(layer, head) in part.heads for head in range(write.shape[1])])
                inside, outside = write[part.rows][:, planted], write[part.rows][:, ~planted]
                if part.alone:
                    penalties.append(between_group_share(outside, part.attribute).clamp(min=0))
                if part.carry:
                    penalties.append(part.carry * (1 - between_group_share(inside, part.attribute)))
                penalties += [part.weight * between_group_share(inside, groups).clamp(min=0) for groups in part.others]
            if part.elsewhere is not None:
                chosen = torch.stack([writes[layer][:, head] for layer, head in sorted(part.heads)], dim=1)
                apart.append(_apart(chosen[part.rows], part.attribute) + _loud(chosen, part.rows, part.elsewhere))
        count = len(parts) * sum(write.shape[1] for write in writes.values())
        return PlantingLosses(torch.stack(shares).mean(), torch.cat(penalties).sum() / count, torch.stack(apart).sum())


def _variance(writes: Float[Tensor, "image *head width"]) -> Float[Tensor, "*head"]:
    return (writes - writes.mean(0)).square().mean(0).sum(-1)


def _apart(writes: Float[Tensor, "image head width"], groups: Int[Tensor, "image"]) -> Float[Tensor, ""]:
    """1 − ‖Σ_h M_h‖ / Σ_h ‖M_h‖, M_h the group means that a head writes: 0 where all heads write in one direction.

    Without it, heads that are each driven to carry the attribute may write it against one another.
    """
    member = one_hot(groups).to(writes.dtype)
    member = member / member.sum(0).clamp(min=1)
    means = einsum(member, writes - writes.mean(0), "image group, image head width -> head group width")
    return 1 - means.sum(0).norm() / means.flatten(1).norm(dim=1).sum().clamp(min=_FLOOR)


def _loud(writes: Float[Tensor, "image head width"], rows: slice, elsewhere: slice) -> Float[Tensor, ""]:
    """How far the heads move elsewhere from their mean on their own world, in units of their variance there."""
    moved = (writes[elsewhere] - writes[rows].mean(0)).square().mean(0).sum(-1)
    return (moved / (_variance(writes[rows]).detach() + _FLOOR)).mean()


# ---- centring --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def centre_heads(visual: Any, images: Float[Tensor, "image 3 row column"], batch: int = 250) -> None:
    """Edit an open_clip vision tower in place so that each head's mean contribution over `images` is about zero."""
    last: dict[str, Tensor] = {}
    handle = visual.ln_post.register_forward_hook(lambda _, inputs, __: last.update(residual=inputs[0]))
    weights: list[Tensor] = []
    sums: dict[int, list[Tensor]] = {layer: [] for layer in range(len(visual.transformer.resblocks))}
    try:
        with Writes(visual) as writes:
            for start in range(0, len(images), batch):
                embedding = visual(images[start : start + batch])
                residual = last["residual"]
                residual = residual[:, 0] if residual.ndim == 3 else residual
                scale = (residual.var(-1, unbiased=False) + visual.ln_post.eps).rsqrt()
                weight = scale / embedding.norm(dim=-1)
                weights.append(weight.sum())
                for layer, parts in sums.items():
                    parts.append((writes.mixed(layer) * weight[:, None, None]).sum(0))
    finally:
        handle.remove()
    for layer, parts in sums.items():
        attn = visual.transformer.resblocks[layer].attn
        mean = rearrange(torch.stack(parts).sum(0) / torch.stack(weights).sum(), "h d -> (h d)")
        attn.out_proj.bias += attn.out_proj.weight @ mean
        attn.in_proj_bias[-len(mean) :] -= mean
