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


def _as_linear(weight: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "inner d_model"]:
    return weight.transpose(1, 2).flatten(0, 1)


class Attention(nn.Module):
    """z_h = softmax(q_h k_hᵀ / √d_head) v_h for every head h; the output is Σ_h z_h W_O[h] + b_O.

    Hooks, with the shapes they see: `hook_q`, `hook_k`, `hook_v`, `hook_z` [image token head d_head];
    `hook_attn_scores` (scaled, before the softmax) and `hook_pattern` [image head query key]; `hook_result`, each
    head's own summand, [image token head d_model]. Attention is fused unless scores or pattern are listened to, and
    results are computed only when they are.

    With LayerScale, `scale` multiplies what the layer adds to the residual stream, and so each head's summand and b_O.
    """

    W_Q: nn.Parameter
    W_K: nn.Parameter
    W_V: nn.Parameter
    b_Q: nn.Parameter
    b_K: nn.Parameter
    b_V: nn.Parameter

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        heads, d_model, d_head = cfg.n_heads, cfg.d_model, cfg.d_head
        for letter in "QKV":
            flat = torch.zeros(heads, d_head, d_model)
            self.register_parameter(f"W_{letter}", nn.Parameter(flat.transpose(1, 2)))
            self.register_parameter(f"b_{letter}", nn.Parameter(torch.zeros(heads, d_head)))
        self.W_O = nn.Parameter(torch.zeros(d_model, heads, d_head).permute(1, 2, 0))
        self.b_O = nn.Parameter(torch.zeros(d_model))
        self.scale = nn.Parameter(torch.ones(d_model)) if cfg.layer_scale else None
        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()

    def project(self, x: Float[Tensor, "image token d_model"], letter: str) -> Float[Tensor, "image token head d_head"]:
        """The queries, keys or values ("Q", "K", "V") of every head for normalised tokens x."""
        weight, bias = getattr(self, f"W_{letter}"), getattr(self, f"b_{letter}")
        return F.linear(x, _as_linear(weight), bias.flatten()).unflatten(-1, bias.shape)

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
        """z: for every query, the values weighed by its attention."""
        if self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks():
            return (self.pattern(q, k) @ v.transpose(1, 2)).transpose(1, 2)
        fused = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return fused.transpose(1, 2)

    def mix_from_one(
        self, query: Float[Tensor, "image 1 d_model"], x: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image 1 head d_head"]:
        """z for a single query, without forming any key or value, and without hooks.

        q · (x W_K + b_K) = (W_K q) · x + q · b_K, whose last term is the same for every key and leaves the softmax as
        it is; and Σ_n A_n (x_n W_V + b_V) = (Σ_n A_n x_n) W_V + b_V.
        """
        q = self.project(query, "Q")[:, 0]
        folded = einsum(q, self.W_K, "image head d_head, head d_model d_head -> image head d_model")
        attention = (folded @ x.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
        mixed = einsum(attention @ x, self.W_V, "image head d_model, head d_model d_head -> image head d_head")
        return (mixed + self.b_V).unsqueeze(1)

    def out(self, z: Float[Tensor, "image token head d_head"]) -> Float[Tensor, "image token d_model"]:
        """What the layer adds to the residual stream: (Σ_h z_h W_O[h] + b_O) ⊙ scale."""
        if self.hook_result.has_hooks():
            result = einsum(z, self.W_O, "image token head d_head, head d_head d_model -> image token head d_model")
            bias: Tensor = self.b_O
            if self.scale is not None:
                result, bias = result * self.scale, bias * self.scale
            return self.hook_result(result).sum(2) + bias
        added = F.linear(z.flatten(2), self.W_O.flatten(0, 1).T, self.b_O)
        return added if self.scale is None else added * self.scale

    def weighted_output(self) -> tuple[Float[Tensor, "head d_head d_model"], Float[Tensor, "d_model"]]:
        """W_O and b_O with LayerScale's factors in them, in float32 at least."""
        wide = torch.promote_types(self.W_O.dtype, torch.float32)
        weight: Tensor = self.W_O.to(wide)
        bias: Tensor = self.b_O.to(wide)
        return (weight, bias) if self.scale is None else (weight * self.scale.to(wide), bias * self.scale.to(wide))

    def forward(self, x: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """Attend from every token of the normalised residual stream x to every token."""
        q = self.hook_q(self.project(x, "Q"))
        k = self.hook_k(self.project(x, "K"))
        v = self.hook_v(self.project(x, "V"))
        return self.out(self.hook_z(self.mix(q, k, v)))
