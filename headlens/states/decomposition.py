"""An embedding as the exact sum of what every head, every MLP and the stem contribute to it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ModelError, check_type
from headlens.models.clip import HookedCLIP
from headlens.models.residual_parts import ResidualParts
from headlens.models.tower import check_pixels
from headlens.models.vision_transformer import HookedVisionTransformer
from headlens.states.kept_basis import kept_basis

Constants = Literal["separate", "spread"]


@dataclass(frozen=True)
class Decomposition:
    """Contributions whose sum is the embedding.

    Attributes:
        heads: one vector a head; with `per_token`, one a head and token, "image layer head token embed".
        mlps: one vector a layer.
        stem: the token embeddings' own (class token and position, after the pre-norm).
        constant: what no component is credited with; zero under constants='spread'.
        pool: the MLP inside an attention pool; zeros in towers without one.
    """

    heads: Float[Tensor, "image layer head embed"] | Float[Tensor, "image layer head token embed"]
    mlps: Float[Tensor, "image layer embed"]
    stem: Float[Tensor, "image embed"]
    constant: Float[Tensor, "image embed"]
    pool: Float[Tensor, "image embed"]

    def total(self) -> Float[Tensor, "image embed"]:
        """The sum of everything: the embedding, or its unit vector where it was normalised."""
        return self.heads.flatten(1, -2).sum(1) + self.mlps.sum(1) + self.stem + self.constant + self.pool


def decompose(
    vision: HookedVisionTransformer | HookedCLIP,
    images: Float[Tensor, "image channel height width"],
    per_token: bool = False,
    constants: str = "separate",
    normalize: bool = False,
) -> Decomposition:
    """Write f as Σ heads + Σ MLPs + stem + constant + pool, exactly.

    With the final LayerNorm's σ held at its measured value, a summand x of the residual contributes
    C(x) = (γ ⊙ (x − mean(x))/σ) P. Per token, head (l, h) contributes C(A_lh[0, n] v_n,lh W_O[l, h]) through token n.
    Under average pooling each C is the mean over the pooled tokens; under attention pooling it is Σ_p V_p of what the
    pool's head p attends to, with its attention held, and the MLP behind the pool is a part of its own. Norms inside a
    block are held likewise. LayerScale multiplies its summand.

    Args:
        vision: the tower, or a model, whose vision tower is then meant.
        images: preprocessed pixels.
        per_token: split each head's contribution by the token that its values come from. The result is as large as
            image × layer × head × token × embed numbers (58 MB an image for ViT-B-16 in float32).
        constants: "separate" gives Σ_l C(b_O[l]) + βP as a term of its own. "spread" is the published convention:
            b_O[l] shared equally by the layer's heads (and tokens), μ and β by the 2 · layers + 1 components (each
            layer's attention, each MLP, the stem), an attention layer's share again by its heads (and tokens). With
            an attention pool its own biases are shared like β.
        normalize: divide everything by ‖f‖, so that the sum is the unit embedding.

    Returns:
        The parts, in float32 at least. Gradients are kept only where `images` require them.

    Raises:
        ModelError: while hooks are set on the tower, for images of another size, for an unknown `constants`.

    Source: Gandelsman, Efros, Steinhardt 2024, arXiv 2310.05916. The limit: σ is held fixed, so that a part is what a
    component adds directly, not what would change if later layers saw it change.
    """
    if constants not in get_args(Constants):
        raise ModelError("constants to be 'separate' or 'spread'", repr(constants), "Choose one of the two.")
    check_type("The model", vision, (HookedCLIP, HookedVisionTransformer), "Pass hl.load(…) first.", ModelError)
    check_pixels(images)
    if isinstance(vision, HookedCLIP):
        vision = vision.vision
    parts = vision.residual_parts(images, per_token)
    norm = parts.embedding.norm(dim=-1) if normalize else torch.ones_like(parts.scale[:, 0])
    wanted = torch.is_grad_enabled() and images.requires_grad
    with torch.set_grad_enabled(wanted), torch.autocast(images.device.type, enabled=False):
        return _from_parts(vision, parts, norm, centre=constants == "separate")


def _from_parts(
    vision: HookedVisionTransformer, parts: ResidualParts, norm: Float[Tensor, "image"], centre: bool
) -> Decomposition:
    basis = kept_basis(vision)

    def divided(x: Tensor) -> Tensor:
        return x / norm.view(-1, *[1] * (x.ndim - 1))

    readout = vision.readout(parts.scale.dtype)
    scale = divided(parts.scale)
    z = divided(parts.z if parts.tokens is None else parts.token_z)
    heads = basis.contributions(z.flatten(-2), centre)
    mlps, stem = readout(divided(parts.mlps), centre), readout(divided(parts.stem), centre)
    pool = readout.project(divided(parts.pool))
    once = divided(basis.beta.expand(len(norm), -1)) + scale @ basis.readout_bias
    if centre:
        return Decomposition(heads, mlps, stem, scale @ basis.layer_bias.sum(0) + once, pool)

    biases = basis.layer_bias + basis.bias_mean[..., None] * basis.ones
    share = (once - divided(parts.shift) @ basis.ones) / (2 * vision.cfg.n_layers + 1)
    sharing = prod(heads.shape[2:-1])
    by_layer = torch.einsum("is,lse->ile", scale, biases) + share[:, None]
    heads += (by_layer / sharing).view(len(norm), -1, *[1] * (heads.ndim - 3), heads.shape[-1])
    return Decomposition(heads, mlps + share[:, None], stem + share, torch.zeros_like(stem), pool)
