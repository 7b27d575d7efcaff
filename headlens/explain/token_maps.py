"""Where in an image a head reads what it contributes along a text direction.

z_lh is a sum over the tokens that the head attends to, so its contribution is one too (METHODS: per token):
f·u = Σ_lh Σ_n A_lh[0,n] v_n,lh B_lh u + MLPs + stem + constant. The map of a head is this sum's summands over the patch
tokens, in the units of the unit embedding's product with u; summands of the class token and of registers are not
drawn.

Attention may gather what earlier layers have moved between tokens: a patch that lights up is where the head read, not
always where the thing is (Gandelsman et al. 2024, arXiv 2310.05916, show the same maps).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from headlens.heads import HeadLike, as_heads
from headlens.models import HookedVisionTransformer
from headlens.states.kept_basis import kept_basis


def token_maps(
    vision: HookedVisionTransformer,
    images: Float[Tensor, "image channel height width"],
    heads: Sequence[HeadLike],
    directions: Float[Tensor, "image embed"],
) -> Float[Tensor, "image head row column"]:
    """Each chosen head's contribution along each image's own direction, by patch.

    Args:
        vision: the tower.
        images: preprocessed pixels. They go through one by one: all heads' tokens of one image are held at a time.
        heads: the heads to map, as (layer, head).
        directions: one text direction an image, such as t_predicted − t_true.

    Raises:
        LocateError: for a head outside the tower.
        ModelError: for images of another size, or while hooks are set.
    """
    cfg = vision.cfg
    chosen = as_heads(heads, cfg.n_layers, cfg.n_heads)
    basis = kept_basis(vision)
    maps = []
    with torch.no_grad():
        for image, direction in zip(images, directions, strict=True):
            parts = vision.residual_parts(image[None], per_token=True)
            assert parts.tokens is not None
            weights, values = (factor[0] for factor in parts.tokens)
            folded = basis.fold(direction[None].to(values)).unflatten(2, (-1, cfg.d_head))[..., 0]
            along = torch.stack(
                [
                    einsum(weights[h], values[h], folded[h], "pool token, token d_head, pool d_head -> token")
                    for h in chosen
                ]
            )
            maps.append(along[:, cfg.n_prefix :] / parts.embedding.norm())
    rows, columns = cfg.grid
    return rearrange(torch.stack(maps), "image head (row column) -> image head row column", row=rows, column=columns)
