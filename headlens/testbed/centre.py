"""Move every head's mean output into the bias of its layer. The function that the tower computes does not change.

The weights of a softmax row sum to one, so a shift of a head's value bias by −c shifts its mixed values by exactly −c
at every token; adding c W_O to the layer's output bias restores the sum. With c the mean over a set of images (each
weighted by the scale with which the final LayerNorm hands it on), a head's contribution then varies around zero, and
an attribution to it speaks of what differs between images, not of a constant.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from headlens.testbed.planting import Writes


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
