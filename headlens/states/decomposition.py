"""An embedding as the exact sum of what every head, every MLP and the stem contribute to it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ModelError
from headlens.states.basis import HeadBasis
from headlens.states.kept_basis import kept_basis

if TYPE_CHECKING:
    from headlens.models.residual_parts import ResidualParts
    from headlens.models.vision_transformer import HookedVisionTransformer

Constants = Literal["separate", "spread"]


@dataclass(frozen=True)
class Decomposition:
    """Contributions whose sum is the embedding.

    Attributes:
        heads: one vector a head; with `per_token`, one a head and token, "image layer head token embed".
        mlps: one vector a layer.
        stem: the token embeddings' own (class token and position, after the pre-norm).
        constant: what no component is credited with; zero under constants='spread'.
    """

    heads: Float[Tensor, "image layer head embed"] | Float[Tensor, "image layer head token embed"]
    mlps: Float[Tensor, "image layer embed"]
    stem: Float[Tensor, "image embed"]
    constant: Float[Tensor, "image embed"]

    def total(self) -> Float[Tensor, "image embed"]:
        """The sum of everything: the embedding, or its unit vector where it was normalised."""
        return self.heads.flatten(1, -2).sum(1) + self.mlps.sum(1) + self.stem + self.constant


def decompose(
    vision: HookedVisionTransformer,
    images: Float[Tensor, "image channel height width"],
    per_token: bool = False,
    constants: str = "separate",
    normalize: bool = False,
) -> Decomposition:
    """Write f as Σ heads + Σ MLPs + stem + constant, exactly.

    With the final LayerNorm's σ held at its measured value, a summand x of the residual contributes
    C(x) = (γ ⊙ (x − mean(x))/σ) P. Per token, head (l, h) contributes C(A_lh[0, n] v_n,lh W_O[l, h]) through token n.
    Under average pooling each C is the mean over the pooled tokens. LayerScale multiplies its summand.

    Args:
        vision: the tower.
        images: preprocessed pixels.
        per_token: split each head's contribution by the token that its values come from. The result is as large as
            image × layer × head × token × embed numbers (58 MB an image for ViT-B-16 in float32).
        constants: "separate" gives Σ_l C(b_O[l]) + βP as a term of its own. "spread" is the published convention:
            b_O[l] shared equally by the layer's heads (and tokens), μ and β by the 2 · layers + 1 components (each
            layer's attention, each MLP, the stem), an attention layer's share again by its heads (and tokens).
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
    parts = vision.residual_parts(images, per_token)
    norm = parts.embedding.norm(dim=-1) if normalize else torch.ones_like(parts.scale)
    wanted = torch.is_grad_enabled() and images.requires_grad
    with torch.set_grad_enabled(wanted), torch.autocast(images.device.type, enabled=False):
        return _from_parts(vision, parts, norm, centre=constants == "separate")


def _from_parts(
    vision: HookedVisionTransformer, parts: ResidualParts, norm: Float[Tensor, "image"], centre: bool
) -> Decomposition:
    basis = kept_basis(vision)

    def divided(x: Tensor) -> Tensor:
        return x / norm.view(-1, *[1] * (x.ndim - 1))

    scale = divided(parts.scale)
    beta = divided(basis.beta.expand(len(norm), -1))
    heads = _contributions(divided(parts.z if parts.token_z is None else parts.token_z), basis, centre)
    mlps = vision.read_out(divided(parts.mlps), centre)
    stem = vision.read_out(divided(parts.stem), centre)
    if centre:
        return Decomposition(heads, mlps, stem, scale[:, None] * basis.bias + beta)

    layer_bias = basis.layer_bias + basis.bias_mean[:, None] * basis.ones
    share = (beta - divided(parts.shift)[:, None] * basis.ones) / (2 * vision.cfg.n_layers + 1)
    sharing = prod(heads.shape[2:-1])
    heads += ((scale[:, None, None] * layer_bias + share[:, None]) / sharing).view(
        len(norm), -1, *[1] * (heads.ndim - 3), heads.shape[-1]
    )
    return Decomposition(heads, mlps + share[:, None], stem + share, torch.zeros_like(stem))


def _contributions(
    z: Float[Tensor, "image layer head *token d_head"], basis: HeadBasis, centre: bool
) -> Float[Tensor, "image layer head *token embed"]:
    """z B for every head (and token), with each row's own mean left in unless `centre`."""
    matrix = basis.B if centre else basis.B + basis.head_mean[..., None] * basis.ones
    # One batched product writes the result once; its memory order is layer, head, image, token.
    rows = rearrange(z, "image layer head ... d_head -> (layer head) image ... d_head").flatten(1, -2)
    written = rows @ matrix.flatten(0, 1).to(z)
    by_head = written.view(*z.shape[1:3], z.shape[0], *z.shape[3:-1], -1)
    return rearrange(by_head, "layer head image ... embed -> image layer head ... embed")
