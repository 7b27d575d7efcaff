"""One pre-LN transformer block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.models.attention import Attention
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm
from headlens.models.mlp import MLP


class Block(nn.Module):
    """r ← r + attn(ln1(r)), then r ← r + mlp(ln2(r)).

    Hooks, all [image token d_model]: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`,
    `hook_resid_post`; the two `out` hooks see exactly what is added to the stream.
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        self.ln1 = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32)
        self.attn = Attention(cfg)
        self.ln2 = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32)
        self.mlp = MLP(cfg)
        self.hook_resid_pre = HookPoint()
        self.hook_attn_out = HookPoint()
        self.hook_resid_mid = HookPoint()
        self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(self, resid: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """Pass the residual stream through the block."""
        resid = self.hook_resid_pre(resid)
        resid = self.hook_resid_mid(resid + self.hook_attn_out(self.attn(self.ln1(resid))))
        return self.hook_resid_post(resid + self.hook_mlp_out(self.mlp(self.ln2(resid))))
