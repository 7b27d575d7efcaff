"""The two-layer perceptron of a block or a pool."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.models.config import Activation, VisionConfig
from headlens.models.layer_norm import LayerNorm

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * (1.702 * x).sigmoid_(),
    "silu": F.silu,
}


class MLP(nn.Module):
    """m(x) = (act(x W_in + b_in) W_out + b_out) ⊙ scale; `scale` is LayerScale's and absent without it.

    A gated one has act(x W_gate + b_gate) ⊙ (x W_in + b_in) as hidden units. `ln_in` normalises x and `ln_hidden` the
    hidden units, where a family does that.

    `hook_pre` sees what the nonlinearity is applied to and `hook_post` the hidden units, [image token d_mlp];
    `hook_pre_linear` the other factor of a gated one. W_in, W_gate [d_model d_mlp] and W_out [d_mlp d_model] are
    TransformerLens' shapes, laid out for torch's linear maps.

    Args:
        d_model: width of x.
        d_mlp: hidden width.
        act: the nonlinearity.
    """

    hook_pre_linear: HookPoint  # of a gated one

    def __init__(self, d_model: int, d_mlp: int, act: Activation):
        super().__init__()
        self.W_in = nn.Parameter(torch.zeros(d_mlp, d_model).T)
        self.b_in = nn.Parameter(torch.zeros(d_mlp))
        self.W_out = nn.Parameter(torch.zeros(d_model, d_mlp).T)
        self.b_out = nn.Parameter(torch.zeros(d_model))
        self.W_gate: nn.Parameter | None = None
        self.b_gate: nn.Parameter | None = None
        self.scale: nn.Parameter | None = None
        self.ln_in: LayerNorm | None = None
        self.ln_hidden: LayerNorm | None = None
        self.act = ACTIVATIONS[act]
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    @classmethod
    def of_block(cls, cfg: VisionConfig) -> MLP:
        """The MLP of a tower's block, with whatever its family adds."""
        mlp = cls(cfg.d_model, cfg.d_mlp, cfg.act)
        norm = (cfg.eps, cfg.norm_in_float32)
        if cfg.gated:
            mlp.W_gate = nn.Parameter(torch.zeros(cfg.d_mlp, cfg.d_model).T)
            mlp.b_gate = nn.Parameter(torch.zeros(cfg.d_mlp))
            mlp.hook_pre_linear = HookPoint()
        if cfg.layer_scale:
            mlp.scale = nn.Parameter(torch.ones(cfg.d_model))
        if cfg.mlp_ln_in:
            mlp.ln_in = LayerNorm(cfg.d_model, *norm)
        if cfg.mlp_ln_hidden:
            mlp.ln_hidden = LayerNorm(cfg.d_mlp, *norm)
        return mlp

    def forward(self, x: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """What the MLP adds to the residual stream, for the normalised stream x."""
        if self.ln_in is not None:
            x = self.ln_in(x)
        linear = F.linear(x, self.W_in.T, self.b_in)
        if self.W_gate is None:
            hidden = self.act(self.hook_pre(linear))
        else:
            gate = self.act(self.hook_pre(F.linear(x, self.W_gate.T, self.b_gate)))
            hidden = gate * self.hook_pre_linear(linear)
        if self.ln_hidden is not None:
            hidden = self.ln_hidden(hidden)
        added = F.linear(self.hook_post(hidden), self.W_out.T, self.b_out)
        return added if self.scale is None else added * self.scale
