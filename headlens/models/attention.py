"""Multi-head self-attention with the head as an axis, and TransformerLens' hooks on every step.

Weights keep TransformerLens' shapes, W_Q, W_K, W_V [head d_model d_head] and W_O [head d_head d_model], but lie in
memory as the flat matrices that torch's linear maps want, so that neither view costs a copy.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm


def _as_linear(weight: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "inner d_model"]:
    return weight.transpose(1, 2).flatten(0, 1)


def _rotated(
    x: Float[Tensor, "image token head d_head"], rope: Float[Tensor, "2 rope_head patch d_head"], halves: bool
) -> Float[Tensor, "image token head d_head"]:
    """Rotate the patches' queries or keys, x cos + x⊥ sin; the tokens of the prefix have no position to turn by."""
    prefix = x.shape[1] - rope.shape[2]
    patches = x[:, prefix:]
    if halves:
        first, second = patches.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    else:
        turned = torch.stack([-patches[..., 1::2], patches[..., ::2]], dim=-1).flatten(-2)
    sine, cosine = rope.transpose(1, 2)
    return torch.cat([x[:, :prefix], (patches * cosine + turned * sine).to(x.dtype)], dim=1)


class Attention(nn.Module):
    """z_h = softmax(q_h k_hᵀ / √d_head) v_h for every head h; the output is Σ_h z_h W_O[h] + b_O.

    Hooks, with the shapes they see: `hook_q`, `hook_k`, `hook_v`, `hook_z` [image token head d_head];
    `hook_attn_scores` (scaled, before the softmax) and `hook_pattern` [image head query key]; `hook_result`, each
    head's own summand, [image token head d_model]. Attention is fused unless scores or pattern are listened to, and
    results are computed only when they are. `hook_rot_q` and `hook_rot_k` see rotated queries and keys, where a tower
    rotates them.

    With LayerScale, `scale` multiplies what the layer adds to the residual stream, and so each head's summand and b_O.
    With a sub-norm, `ln_z` normalises the values of all heads side by side before W_O. With q/k norms, `ln_q` and
    `ln_k` normalise each head's queries and keys.

    Args:
        n_heads: heads.
        d_head: width of one.
        d_model: width of keys' and values' tokens.
        d_query: width of the queries' tokens, where it is another.
        d_out: width of the output, where it is another.
    """

    W_Q: nn.Parameter
    W_K: nn.Parameter
    W_V: nn.Parameter
    b_Q: nn.Parameter
    b_K: nn.Parameter
    b_V: nn.Parameter
    rope: Tensor | None
    hook_rot_q: HookPoint  # where a tower rotates
    hook_rot_k: HookPoint

    def __init__(self, n_heads: int, d_head: int, d_model: int, d_query: int | None = None, d_out: int | None = None):
        super().__init__()
        for letter, width in zip("QKV", (d_query or d_model, d_model, d_model), strict=True):
            flat = torch.zeros(n_heads, d_head, width)
            self.register_parameter(f"W_{letter}", nn.Parameter(flat.transpose(1, 2)))
            self.register_parameter(f"b_{letter}", nn.Parameter(torch.zeros(n_heads, d_head)))
        self.W_O = nn.Parameter(torch.zeros(d_out or d_model, n_heads, d_head).permute(1, 2, 0))
        self.b_O = nn.Parameter(torch.zeros(d_out or d_model))
        self.scale: nn.Parameter | None = None
        self.ln_q: LayerNorm | None = None
        self.ln_k: LayerNorm | None = None
        self.ln_z: LayerNorm | None = None
        self.register_buffer("rope", None)
        self.rope_halves = False
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    @classmethod
    def of_block(cls, cfg: VisionConfig) -> Attention:
        """The attention of a tower's block, with whatever its family adds."""
        attn = cls(cfg.n_heads, cfg.d_head, cfg.d_model, d_out=None if cfg.residual else cfg.d_embed)
        norm = (cfg.eps, cfg.norm_in_float32)
        if cfg.layer_scale:
            attn.scale = nn.Parameter(torch.ones(cfg.d_model))
        if cfg.qk_norm:
            attn.ln_q, attn.ln_k = LayerNorm(cfg.d_head, *norm), LayerNorm(cfg.d_head, *norm)
        if cfg.ln_z:
            attn.ln_z = LayerNorm(cfg.n_heads * cfg.d_head, *norm)
        if cfg.rope is not None:
            attn.rope = torch.zeros(2, 1, cfg.n_tokens - cfg.n_prefix, cfg.d_head)
            attn.rope_halves = cfg.rope == "half"
            attn.hook_rot_q, attn.hook_rot_k = HookPoint(), HookPoint()
        return attn

    def project(self, x: Float[Tensor, "image token d_in"], letter: str) -> Float[Tensor, "image token head d_head"]:
        """The queries, keys or values ("Q", "K", "V") of every head for normalised tokens x."""
        weight, bias = getattr(self, f"W_{letter}"), getattr(self, f"b_{letter}")
        return F.linear(x, _as_linear(weight), bias.flatten()).unflatten(-1, bias.shape)

    def qkv(
        self, queries: Float[Tensor, "image query d_query"], x: Float[Tensor, "image key d_model"]
    ) -> tuple[
        Float[Tensor, "image query head d_head"],
        Float[Tensor, "image key head d_head"],
        Float[Tensor, "image key head d_head"],
    ]:
        """Queries and keys as they meet, normalised and rotated where a tower does that, and values.

        Fewer queries than keys are the first ones: those of the prefix, which no rotation turns, or one of a pool.
        """
        q, k = self.project(queries, "Q"), self.project(x, "K")
        if self.ln_q is not None and self.ln_k is not None:
            q, k = self.ln_q(q), self.ln_k(k)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(self.project(x, "V"))
        if self.rope is not None:
            q = _rotated(q, self.rope, self.rope_halves) if q.shape[1] == k.shape[1] else q
            k = _rotated(k, self.rope, self.rope_halves)
            q, k = self.hook_rot_q(q), self.hook_rot_k(k)
        return q, k, v

    def pattern(
        self, q: Float[Tensor, "image query head d_head"], k: Float[Tensor, "image key head d_head"]
    ) -> Float[Tensor, "image head query key"]:
        """softmax(q kᵀ / √d_head) over the keys, computed openly and with its hooks."""
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])
        return self.hook_pattern(self.hook_attn_scores(scores).softmax(-1))

    def mix(
        self,
        q: Float[Tensor, "image query head d_head"],
        k: Float[Tensor, "image key head d_head"],
        v: Float[Tensor, "image key head d_head"],
    ) -> Float[Tensor, "image query head d_head"]:
        """z: for every query, the values weighted by its attention."""
        if self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks():
            return (self.pattern(q, k) @ v.transpose(1, 2)).transpose(1, 2)
        fused = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return fused.transpose(1, 2)

    def mix_from_one(
        self, query: Float[Tensor, "image 1 d_query"], x: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image 1 head d_head"]:
        """z for a single query, without forming any key or value, and without hooks.

        q · (x W_K + b_K) = (W_K q) · x + q · b_K, whose last term is the same for every key and leaves the softmax as
        it is; and Σ_n A_n (x_n W_V + b_V) = (Σ_n A_n x_n) W_V + b_V. Keys that are rotated or normalised are no linear
        map of x: these towers form them.
        """
        if self.rope is not None or self.ln_k is not None:
            return self.mix(*self.qkv(query, x))
        return self.values_from_one(self.attention_from_one(self.project(query, "Q")[:, 0], x), x)

    def attention_from_one(
        self, q: Float[Tensor, "image head d_head"], x: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image head token"]:
        """The attention of one query, already projected, without forming any key."""
        folded = einsum(q, self.W_K, "image head d_head, head d_model d_head -> image head d_model")
        return (folded @ x.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)

    def values_from_one(
        self, attention: Float[Tensor, "image head token"], x: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image 1 head d_head"]:
        """z of a query with this attention, without forming any value."""
        mixed = einsum(attention @ x, self.W_V, "image head d_model, head d_model d_head -> image head d_head")
        return (mixed + self.b_V).unsqueeze(1)

    def out(self, z: Float[Tensor, "image token head d_head"]) -> Float[Tensor, "image token d_out"]:
        """What the layer adds to the residual stream: (Σ_h z_h W_O[h] + b_O) ⊙ scale, of normalised z if so built."""
        if self.ln_z is not None:
            z = self.ln_z(z.flatten(2)).view(z.shape)
        if self.hook_result.has_hooks():
            result = einsum(z, self.W_O, "image token head d_head, head d_head d_out -> image token head d_out")
            bias: Tensor = self.b_O
            if self.scale is not None:
                result, bias = result * self.scale, bias * self.scale
            return self.hook_result(result).sum(2) + bias
        added = F.linear(z.flatten(2), self.W_O.flatten(0, 1).T, self.b_O)
        return added if self.scale is None else added * self.scale

    def weighted_output(self) -> tuple[Float[Tensor, "head d_head d_out"], Float[Tensor, "d_out"]]:
        """W and b of the layer's output as an affine map of z, in float32 at least, with LayerScale in them.

        A sub-norm with its σ held at its measured value is affine too: with γ, β its weights, W is γ W_O with its mean
        over all heads' rows taken off, which is what centring does, b is b_O + β W_O, and z is to be divided by σ.
        """
        wide = torch.promote_types(self.W_O.dtype, torch.float32)
        weight: Tensor = self.W_O.to(wide)
        bias: Tensor = self.b_O.to(wide)
        if self.ln_z is not None:
            bias = bias + self.ln_z.b.to(wide) @ weight.flatten(0, 1)
            weight = weight * self.ln_z.w.to(wide).view(*weight.shape[:2], 1)
            weight = weight - weight.mean((0, 1))
        return (weight, bias) if self.scale is None else (weight * self.scale.to(wide), bias * self.scale.to(wide))

    def forward(self, x: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_out"]:
        """Attend from every token of the normalised residual stream x to every token."""
        return self.out(self.hook_z(self.mix(*self.qkv(x, x))))
