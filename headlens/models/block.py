"""One transformer block."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.models.attention import Attention
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm
from headlens.models.mlp import MLP


class Block(nn.Module):
    """r ← r + attn(ln1(r)), then r ← r + mlp(ln2(r)).

    With `post_norm` it is r ← r + ln1(attn(r)), then r ← r + ln2(mlp(r)). Without a residual stream (a ResNet's
    attention pool) it is r ← attn(r), and there is neither norm nor MLP.

    Hooks, all [image token d_model]: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`,
    `hook_resid_post`; the two `out` hooks see exactly what is added to the stream.
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        self.post_norm, self.residual = cfg.post_norm, cfg.residual
        self.attn = Attention.of_block(cfg)
        self.hook_resid_pre = HookPoint()
        self.hook_attn_out = HookPoint()
        self.hook_resid_post = HookPoint()
        if not cfg.residual:
            return
        self.ln1 = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32)
        self.ln2 = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32)
        self.mlp = MLP.of_block(cfg)
        self.hook_resid_mid = HookPoint()
        self.hook_mlp_out = HookPoint()

    def attn_in(self, resid: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """What the attention layer reads."""
        return self.ln1(resid) if self.residual and not self.post_norm else resid

    def attn_out(self, z: Float[Tensor, "image token head d_head"]) -> Float[Tensor, "image token d_out"]:
        """What attention adds to the stream for mixed values z."""
        added = self.attn.out(z)
        return self.hook_attn_out(self.ln1(added) if self.post_norm else added)

    def mlp_out(self, resid: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """What the MLP adds to the stream."""
        return self.hook_mlp_out(self.ln2(self.mlp(resid)) if self.post_norm else self.mlp(self.ln2(resid)))

    def forward(self, resid: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_out"]:
        """Pass the residual stream through the block."""
        resid = self.hook_resid_pre(resid)
        attn = self.attn
        x = self.attn_in(resid)
        added = self.attn_out(attn.hook_z(attn.mix(*attn.qkv(x, x))))
        if not self.residual:
            return self.hook_resid_post(added)
        resid = self.hook_resid_mid(resid + added)
        return self.hook_resid_post(resid + self.mlp_out(resid))

    def divisors(
        self, z: Float[Tensor, "image token head d_head"]
    ) -> tuple[Float[Tensor, "image token"] | None, Float[Tensor, "image token"] | None]:
        """What norms behind the values divide by: z in all, and the output bias; None where there is no such norm.

        With these held at their measured values, what attention adds is an affine map of z: see `head_weights`.
        """
        ln_z = self.attn.ln_z
        inner = None if ln_z is None else ln_z.statistics(z.flatten(2))[1]
        if not self.post_norm:
            return inner, None
        outer = self.ln1.statistics(self.attn.out(z))[1]
        return outer if inner is None else inner * outer, outer

    def head_weights(self) -> tuple[Float[Tensor, "head d_head d_out"], Float[Tensor, "bias d_out"]]:
        """W and biases of what attention adds, as an affine map of z divided by its divisor.

        The first bias is added as it is. Under post-norm the second one is divided by the norm's σ; with γ, β the
        norm's weights, W and b are centred and multiplied by γ, and β is the first bias.
        """
        weight, bias = self.attn.weighted_output()
        if not self.post_norm:
            return weight, bias[None]
        gain, shift = self.ln1.w.to(bias), self.ln1.b.to(bias)
        weight, bias = (x - x.mean(-1, keepdim=True) for x in (weight, bias))
        return weight * gain, torch.stack([shift, bias * gain])
