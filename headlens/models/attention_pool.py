"""Attention pooling: one learnt query over the tokens of the last residual, and what stands behind it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.errors import ModelError
from headlens.models.attention import Attention
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm
from headlens.models.mlp import MLP


class AttentionPool(nn.Module):
    """o = Σ_p (Σ_n A_pn x_n W_V[p] + b_V[p]) W_O[p] + b_O, then o ← o + mlp(ln2(o)) or o ← ln_post(o) if so built.

    The query is a weight, so that A depends on the image through its keys alone. Hooks: those of `attn`, with one query
    and the pool's heads; `hook_attn_out`, `hook_mlp_out` and `hook_out` [image 1 d_out].
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        pool = cfg.attention_pool
        assert pool is not None
        norm = (cfg.eps, cfg.norm_in_float32)
        self.query = nn.Parameter(torch.zeros(pool.n_queries, pool.d_query))
        self.ln_query = LayerNorm(pool.d_query, *norm) if pool.ln_query else None
        self.attn = Attention(pool.n_heads, pool.d_head, cfg.d_model, pool.d_query, pool.d_out)
        self.ln2 = LayerNorm(pool.d_out, *norm) if pool.d_mlp else None
        self.mlp = MLP(pool.d_out, pool.d_mlp, pool.act) if pool.d_mlp else None
        self.ln_post = LayerNorm(pool.d_out, *norm) if pool.ln_post else None
        self.hook_attn_out = HookPoint()
        self.hook_mlp_out = HookPoint()
        self.hook_out = HookPoint()

    def first_query(self) -> Float[Tensor, "1 1 d_query"]:
        """The query that reaches the embedding, before its projection."""
        query = self.query[None, :1].to(self.attn.W_Q.dtype)
        return query if self.ln_query is None else self.ln_query(query)

    def behind(
        self, attended: Float[Tensor, "image 1 d_out"]
    ) -> tuple[Float[Tensor, "image 1 d_out"], Float[Tensor, "image 1 d_out"] | None]:
        """What the pool returns, and what its MLP added to that."""
        added = None
        if self.mlp is not None and self.ln2 is not None:
            added = self.hook_mlp_out(self.mlp(self.ln2(attended)))
            attended = attended + added
        return self.hook_out(attended if self.ln_post is None else self.ln_post(attended)), added

    def forward(self, x: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image 1 d_out"]:
        """Pool the normalised tokens x."""
        attn = self.attn
        query = self.first_query().expand(len(x), -1, -1)
        return self.behind(self.hook_attn_out(attn.out(attn.hook_z(attn.mix(*attn.qkv(query, x))))))[0]

    def held(
        self, x: Float[Tensor, "image token d_model"]
    ) -> tuple[Float[Tensor, "image pool token"], Float[Tensor, "image d_out"]]:
        """The attention that the pool pays to normalised tokens x, and the sum that it takes by it, without hooks."""
        q = self.attn.project(self.first_query(), "Q")[:, 0].expand(len(x), -1, -1)
        attention = self.attn.attention_from_one(q, x)
        return attention, self.attn.out(self.attn.values_from_one(attention, x))[:, 0]


def check_pool(cfg: VisionConfig) -> None:
    """Raise `ModelError` for a pool with parts that the decomposition cannot hold together."""
    if cfg.attention_pool is not None and (cfg.post_norm or (cfg.attention_pool.d_mlp and cfg.attention_pool.ln_post)):
        raise ModelError(
            "The tower has an attention pool with a norm behind its MLP, or behind post-norm blocks.",
            "Their contributions do not add up head by head; no known family has them.",
        )
