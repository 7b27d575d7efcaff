"""One forward pass that keeps what every component wrote to the pooled tokens, and nothing else.

Steps:
1. Run the blocks as `forward` does. In each, keep the heads' z and the MLP's output at the pooled tokens. With
   class-token pooling the last block needs the query, output and MLP of one token only, and then neither keys nor
   values as such: this is why the head states of all heads cost less than a plain forward pass.
2. Read μ and σ of the final LayerNorm off the last residual, and weigh every kept summand by 1/σ (averaged over the
   pooled tokens).

With σ held at its measured value the map from residual to embedding is affine, so the kept summands add up to the
embedding exactly (Gandelsman, Efros, Steinhardt 2024, arXiv 2310.05916, for the class token).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from headlens.models.block import Block
    from headlens.models.vision_transformer import HookedVisionTransformer


@dataclass(frozen=True)
class ResidualParts:
    """The summands of the pooled residual, each as Σ_q w_q x_q with w_q = 1/(σ_q · number of pooled tokens).

    Attributes:
        z: the heads' mixed values, before W_O.
        mlps: the MLPs' outputs.
        stem: the residual stream before the first block.
        scale: Σ_q w_q, which multiplies each b_O.
        shift: Σ_q w_q μ_q.
        embedding: the tower's output f.
        token_z: z by the token that the values come from, Σ_q w_q A[q, n] v_n; None unless asked for.

    All in float32 at least.
    """

    z: Float[Tensor, "image layer head d_head"]
    mlps: Float[Tensor, "image layer d_model"]
    stem: Float[Tensor, "image d_model"]
    scale: Float[Tensor, "image"]
    shift: Float[Tensor, "image"]
    embedding: Float[Tensor, "image embed"]
    token_z: Float[Tensor, "image layer head token d_head"] | None = None


def residual_parts(
    vision: HookedVisionTransformer, images: Float[Tensor, "image channel height width"], per_token: bool = False
) -> ResidualParts:
    """Run the tower once and keep the summands of what it pools.

    Hooks do not fire here: the last block is computed for the pooled token alone. `vision.head_states` refuses
    to run while any are set.

    Memory: with average pooling *after* the final LayerNorm's division (`pool="avg"`, not `ln_after_pool`) every
    token has its own σ, known only at the end, and z and MLP outputs of every token are held until then.
    """
    cfg = vision.cfg
    class_token = cfg.pool == "tok"

    def pooled(x: Tensor, axis: int = 1) -> Tensor:
        """The tokens that the embedding is read off; already averaged where one σ serves them all."""
        if class_token:
            # A copy, so that the whole activation can be freed.
            return x.narrow(axis, 0, 1).clone()
        patches = x.narrow(axis, 1, x.shape[axis] - 1)
        return patches.mean(axis, keepdim=True) if cfg.ln_after_pool else patches

    resid = vision.embed(images)
    stem, zs, mlps, tokens = pooled(resid), [], [], []
    for index, block in enumerate(vision.layers):
        only_one = class_token and index == cfg.n_layers - 1
        # A function of its own, so that queries, keys and values are gone before the MLP needs its memory.
        z, by_token = _attend(block, resid, only_one, class_token, per_token)
        resid = (resid[:, :1] if only_one else resid) + block.attn.out(z)
        zs.append(pooled(z))
        del z
        added = block.mlp(block.ln2(resid))
        resid = resid + added
        mlps.append(pooled(added))
        if by_token is not None:
            pattern, v = by_token
            tokens.append((pattern if class_token else pooled(pattern, axis=2), v))

    last = pooled(resid)
    mean, sigma = vision.ln_final.statistics(last)
    weight = 1 / (sigma * last.shape[1])
    wide = weight.dtype

    def weighed(x: Tensor) -> Tensor:
        return einsum(x.to(wide), weight, "image query ..., image query -> image ...")

    token_z = None
    if per_token:
        token_z = torch.stack(
            [
                einsum(a.to(wide), weight, "image head query key, image query -> image key head").unsqueeze(-1) * v
                for a, v in tokens
            ]
        ).permute(1, 0, 3, 2, 4)
    return ResidualParts(
        z=torch.stack([weighed(z) for z in zs], dim=1),
        mlps=torch.stack([weighed(m) for m in mlps], dim=1),
        stem=weighed(stem),
        scale=weight.sum(1),
        shift=(weight * mean).sum(1),
        embedding=(vision.ln_final(last).mean(1) @ vision.W_P).to(wide),
        token_z=token_z,
    )


def _attend(
    block: Block, resid: Float[Tensor, "image token d_model"], only_one: bool, class_token: bool, per_token: bool
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """z of every query, or of the class token's alone; per token also the attention that counts, and the values."""
    normalized = block.ln1(resid)
    queries = normalized[:, :1] if only_one else normalized
    if not per_token and queries.shape[1] == 1:
        return block.attn.mix_from_one(queries, normalized), None
    q, k, v = (block.attn.project(x, to) for x, to in ((queries, "Q"), (normalized, "K"), (normalized, "V")))
    z = block.attn.mix(q, k, v)
    return z, (block.attn.pattern(q[:, :1] if class_token else q, k), v) if per_token else None
