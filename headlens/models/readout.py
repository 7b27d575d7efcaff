"""What stands between the last residual and the embedding, as an affine map with everything measured held fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from headlens.models.tower import Tower


@dataclass(frozen=True)
class Readout:
    """C(x) = Σ_p ((x_p − mean(x_p)) ⊙ γ) V_p for summands x_p of the residual, weighted for each head p of the pool.

    Without an attention pool there is one p, and V is the projection P. With one, V_p = W_V[p] W_O[p] P; a norm behind
    the pool is in W_O (centred, times its γ), and its 1/σ in the weights of x.

    Attributes:
        gain: γ of the final LayerNorm; ones without it.
        inner: W_V of the pool's heads; None without a pool.
        outer: the rest of V_p; None for the identity.
        P: the projection; None for the identity.
        bias: what is added for one unit of each source of `HeadStates.scale` besides the layers' output biases.
        beta: what is added once.
        centred: whether there is a final LayerNorm.
    """

    gain: Float[Tensor, "d_model"]
    inner: Float[Tensor, "pool d_model d_pool"] | None
    outer: Float[Tensor, "pool d_pool embed"] | None
    P: Float[Tensor, "d_pooled embed"] | None
    bias: Float[Tensor, "source embed"]
    beta: Float[Tensor, "embed"]
    centred: bool

    @classmethod
    def of(cls, vision: Tower, dtype: torch.dtype) -> Readout:
        """Fold a tower's weights."""
        cfg, pool, norm = vision.cfg, vision.pool, vision.ln_final
        width = cfg.d_model if norm is not None else cfg.d_embed
        gain = vision.W_pos.new_ones(width, dtype=dtype) if norm is None else norm.w.to(dtype)
        constant = torch.zeros_like(gain) if norm is None else norm.b.to(dtype)
        P = None if vision.W_P is None else vision.W_P.to(dtype)
        bias = gain.new_zeros(cfg.n_sources, cfg.d_embed)
        inner = outer = None
        if pool is not None:
            attn = pool.attn
            inner, out = attn.W_V.to(dtype), attn.W_O.to(dtype)
            values = einsum(constant, inner, "d_model, pool d_model d_pool -> pool d_pool") + attn.b_V.to(dtype)
            constant = einsum(values, out, "pool d_pool, pool d_pool d_out -> d_out") + attn.b_O.to(dtype)
            if pool.ln_post is not None:
                post = pool.ln_post.w.to(dtype)
                out, constant = ((x - x.mean(-1, keepdim=True)) * post for x in (out, constant))
                bias[-1] = constant if P is None else constant @ P
                constant = pool.ln_post.b.to(dtype)
            outer = out if P is None else out @ P
        beta = constant if P is None else constant @ P
        if vision.b_P is not None:
            beta = beta + vision.b_P.to(dtype)
        return cls(gain, inner, outer, P, bias, beta, norm is not None)

    def __call__(self, x: Float[Tensor, "*batch pool d_model"], centre: bool = True) -> Float[Tensor, "*batch embed"]:
        """C(x), or, without `centre`, the same with each summand's own mean left in."""
        if centre and self.centred:
            x = x - x.mean(-1, keepdim=True)
        x = x * self.gain
        if self.inner is None or self.outer is None:
            x = x.squeeze(-2)
            return x if self.P is None else x @ self.P
        values = einsum(x, self.inner, "... pool d_model, pool d_model d_pool -> ... pool d_pool")
        return values.flatten(-2) @ self.outer.flatten(0, 1)

    def project(self, x: Float[Tensor, "image d_pooled"]) -> Float[Tensor, "image embed"]:
        """What is added behind the pool, projected."""
        return x if self.P is None else x @ self.P

    def ones(self) -> Float[Tensor, "source embed"]:
        """What a residual of all ones would contribute uncentred, for each source of `HeadStates.shift`."""
        if self.inner is None or self.outer is None:
            one = self.gain if self.P is None else self.gain @ self.P
            return one.expand(len(self.bias), -1)
        by_head: Tensor = einsum(self.inner_ones(), self.outer, "pool d_pool, pool d_pool embed -> pool embed")
        return torch.nn.functional.pad(by_head, (0, 0, 0, len(self.bias) - len(by_head)))

    def inner_ones(self) -> Float[Tensor, "pool d_pool"]:
        """The same inside the pool's heads."""
        assert self.inner is not None
        return einsum(self.gain, self.inner, "d_model, pool d_model d_pool -> pool d_pool")


def read_out(vision: Tower, x: Float[Tensor, "*batch d_model"], centre: bool = True) -> Float[Tensor, "*batch embed"]:
    """C(x) = (γ ⊙ (x − mean(x))) P for summands x of the residual that are already divided by σ.

    Args:
        vision: the tower.
        x: the summands; with an attention pool, one for each of its heads, [*batch pool d_model].
        centre: subtract each summand's own mean; the published 'spread' convention leaves it in.
    """
    with torch.autocast(x.device.type, enabled=False):
        return Readout.of(vision, x.dtype)(x if vision.pool is not None else x.unsqueeze(-2), centre)
