"""LayerNorm with hooks on its scale and its output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint


class LayerNorm(nn.Module):
    """y = w ⊙ (x − μ)/σ + b with μ = mean(x), σ = sqrt(var(x) + eps), over the last axis.

    `hook_scale` sees σ, [image token 1]; `hook_normalized` sees y, [image token d_model], as in TransformerLens.
    Torch's fused kernel does the work unless something listens to σ, so that a tower without hooks repeats the
    original's rounding.

    Args:
        d_model: width of x.
        eps: added to the variance.
        in_float32: normalise half-precision x in float32 and round the result. Wider x is never narrowed.
    """

    def __init__(self, d_model: int, eps: float, in_float32: bool = False):
        super().__init__()
        self.eps = eps
        self.in_float32 = in_float32
        self.w = nn.Parameter(torch.ones(d_model))
        self.b = nn.Parameter(torch.zeros(d_model))
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def _widen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.in_float32:
            return x, self.w, self.b
        wide = torch.promote_types(x.dtype, torch.float32)
        return x.to(wide), self.w.to(wide), self.b.to(wide)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Normalise x; see the class."""
        wide, w, b = self._widen(x)
        if self.hook_scale.has_hooks():
            centred = wide - wide.mean(-1, keepdim=True)
            scale = self.hook_scale((centred.square().mean(-1, keepdim=True) + self.eps).sqrt())
            y = centred / scale * w + b
        else:
            y = F.layer_norm(wide, w.shape, w, b, self.eps)
        return self.hook_normalized(y.to(x.dtype))

    def statistics(self, x: Float[Tensor, "*batch d_model"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """μ and σ of x, in float32 at least."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=-1, correction=0)
        return mean, (variance + self.eps).sqrt()
