"""The two-layer perceptron of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from headlens.models.config import Activation, VisionConfig

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class MLP(nn.Module):
    """m(x) = (act(x W_in + b_in) W_out + b_out) ⊙ scale; `scale` is LayerScale's and absent without it.

    `hook_pre` and `hook_post` see the hidden units before and after the nonlinearity, [image token d_mlp]. W_in
    [d_model d_mlp] and W_out [d_mlp d_model] are TransformerLens' shapes, laid out for torch's linear maps.
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        self.W_in = nn.Parameter(torch.zeros(cfg.d_mlp, cfg.d_model).T)
        self.b_in = nn.Parameter(torch.zeros(cfg.d_mlp))
        self.W_out = nn.Parameter(torch.zeros(cfg.d_model, cfg.d_mlp).T)
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model))
        self.scale = nn.Parameter(torch.ones(cfg.d_model)) if cfg.layer_scale else None
        self.act = ACTIVATIONS[cfg.act]
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image token d_model"]:
        """What the MLP adds to the residual stream, for the normalised stream x."""
        hidden = self.hook_post(self.act(self.hook_pre(F.linear(x, self.W_in.T, self.b_in))))
        added = F.linear(hidden, self.W_out.T, self.b_out)
        return added if self.scale is None else added * self.scale
