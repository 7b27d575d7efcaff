"""Where each head can write: the weights that carry a head's own coordinates into the joint embedding space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from headlens.models.vision_transformer import HookedVisionTransformer


@dataclass(frozen=True)
class HeadBasis:
    """B_lh = centre(W_O[l, h] ⊙ layer scale) diag(γ) P, from the weights alone.

    γ, β are the final LayerNorm's, P the projection. A head's contribution never leaves the row space of B_lh: with
    z from `HeadStates` it is z_lh B_lh, and its dot product with a text direction t is z_lh · (B_lh t), so that a
    direction is folded through the weights once and never through the data.

    Attributes:
        B: one d_head × embed matrix a head.
        bias: Σ_l C(b_O[l]) for σ = 1; an image's share of it is its `HeadStates.scale`.
        beta: βP, the same for every image.
        layer_bias: C(b_O[l]) for σ = 1, layer by layer; sums to `bias`.
        head_mean: the mean of each row of W_O[l, h] ⊙ layer scale, which centring removed; B + head_mean ⊗ ones is
            the uncentred basis of constants='spread'.
        bias_mean: the mean of each b_O[l] ⊙ layer scale.
        ones: γP summed over the residual's features: what a residual of all ones would contribute uncentred.
        stem: C(the class token before the first block) for σ = 1, the same for every image; None under average
            pooling, where the stem holds the patches.
    """

    B: Float[Tensor, "layer head d_head embed"]
    bias: Float[Tensor, "embed"]
    beta: Float[Tensor, "embed"]
    layer_bias: Float[Tensor, "layer embed"]
    head_mean: Float[Tensor, "layer head d_head"]
    bias_mean: Float[Tensor, "layer"]
    ones: Float[Tensor, "embed"]
    stem: Float[Tensor, "embed"] | None = None

    @classmethod
    @torch.no_grad()
    def from_vision(cls, vision: HookedVisionTransformer) -> HeadBasis:
        """Fold a tower's weights, in float32 at least."""
        outputs = [block.attn.weighted_output() for block in vision.layers]
        weights, biases = [w for w, _ in outputs], torch.stack([b for _, b in outputs])
        layer_bias = vision.read_out(biases)
        # Into place, layer by layer: it is the one large thing here, and a list of parts would hold it twice.
        folded = weights[0].new_empty(len(weights), *weights[0].shape[:2], vision.cfg.d_embed)
        for layer, weight in enumerate(weights):
            folded[layer] = vision.read_out(weight)
        ones = torch.ones(vision.cfg.d_model, dtype=biases.dtype, device=biases.device)
        return cls(
            B=folded,
            bias=layer_bias.sum(0),
            beta=vision.ln_final.b.to(biases.dtype) @ vision.W_P.to(biases.dtype),
            layer_bias=layer_bias,
            head_mean=torch.stack([w.mean(-1) for w in weights]),
            bias_mean=biases.mean(-1),
            ones=vision.read_out(ones, centre=False),
            stem=vision.read_out(_class_token(vision).to(biases)) if vision.cfg.pool == "tok" else None,
        )

    def fold(self, directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "layer head d_head direction"]:
        """B_lh t for every head and direction: the dot product of z_lh with it is the head's score along t."""
        return self.B @ directions.to(self.B).T


def _class_token(vision: HookedVisionTransformer) -> Float[Tensor, "d_model"]:
    """The residual stream of the class token before the first block; no pixel reaches it."""
    token = vision.class_token.to(vision.dtype) + vision.W_pos[0].to(vision.dtype)
    if vision.ln_pre is None:
        return token
    mean, sigma = vision.ln_pre.statistics(token)
    return (token.to(mean) - mean) / sigma * vision.ln_pre.w.to(mean) + vision.ln_pre.b.to(mean)
