"""Where in an image a head reads what it contributes along a text direction.

z_lh is a sum over the tokens that the head attends to, so its contribution is one too (METHODS: per token):
f·u = Σ_lh Σ_n A_lh[0,n] v_n,lh B_lh u + MLPs + stem + constant. The map of a head is this sum's summands over the patch
tokens, in the units of the unit embedding's product with u; summands of the class token and of registers are not
drawn.

Attention may gather what earlier layers have moved between tokens: a patch that lights up is where the head read, not
always where the thing is (Gandelsman et al. 2024, arXiv 2310.05916, show the same maps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from headlens.heads import HeadId, HeadLike, as_heads
from headlens.models import HookedCLIP, HookedVisionTransformer
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
    maps = [
        torch.stack([*own_maps(vision, image, dict.fromkeys(chosen, direction)).values()])
        for image, direction in zip(images, directions, strict=True)
    ]
    return torch.stack(maps)


def own_maps(
    vision: HookedVisionTransformer,
    image: Float[Tensor, "channel height width"],
    directions: Mapping[HeadId, Float[Tensor, "embed"]],
) -> dict[HeadId, Float[Tensor, "row column"]]:
    """The maps of many heads on one image in one pass, each along a direction of its own, such as a pole's.

    Raises:
        ModelError: for an image of another size, or while hooks are set.
    """
    cfg, heads = vision.cfg, list(directions)
    if not heads:
        return {}
    with torch.no_grad():
        parts = vision.residual_parts(image[None], per_token=True)
        assert parts.tokens is not None
        weights, values = (factor[0] for factor in parts.tokens)
        layers, places = (torch.tensor(part) for part in zip(*heads, strict=True))
        folded = kept_basis(vision).fold(torch.stack([directions[head] for head in heads]).to(values))
        own = folded[layers, places, :, torch.arange(len(heads))].unflatten(1, (-1, cfg.d_head))
        along = einsum(
            weights[layers, places], values[layers, places], own, "h pool token, h token d, h pool d -> h token"
        )
    rows, columns = cfg.grid
    maps = (along[:, cfg.n_prefix :] / parts.embedding.norm()).unflatten(1, (rows, columns))
    return dict(zip(heads, maps, strict=True))


def as_seen(clip: HookedCLIP, image: Float[Tensor, "channel height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels that the model saw, cropped as it saw them, in the colours that a person would see.

    A preprocessing ends in an affine map of each channel; what it makes of black and of white shows how to undo it.
    """
    black, white = (clip.preprocess(Image.new("RGB", (64, 64), colour)).to(image) for colour in ("black", "white"))
    low, high = black.amin(dim=(1, 2), keepdim=True), white.amax(dim=(1, 2), keepdim=True)
    pixels = ((image - low) / (high - low)).clamp(0, 1)
    return (255 * pixels).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
