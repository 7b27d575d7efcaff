"""What a vision tower is made of, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu"]
Pool = Literal["tok", "avg", "attention"]


@dataclass(frozen=True)
class PoolConfig:
    """An attention pool: one query, learnt with the weights, over the tokens of the last residual.

    Attributes:
        n_heads: its heads, p in the formulae.
        d_head: width of one.
        d_query: width of the query before its projection.
        d_out: width of what the pool returns.
        n_queries: learnt queries; the first one alone reaches the embedding.
        prefix: whether the class token and the registers are attended to, or the patches alone.
        ln_query: whether the query is normalised before its projection.
        ln_post: whether what the pool returns is normalised.
        d_mlp: hidden width of the MLP behind the attention, o ← o + mlp(ln2(o)); 0 without one.
        act: that MLP's nonlinearity.
    """

    n_heads: int
    d_head: int
    d_query: int
    d_out: int
    n_queries: int = 1
    prefix: bool = False
    ln_query: bool = False
    ln_post: bool = False
    d_mlp: int = 0
    act: Activation = "gelu"


@dataclass(frozen=True)
class VisionConfig:
    """The shape and the settings of a vision transformer, from CLIP's own to those of other families.

    Attributes:
        n_layers: blocks.
        n_heads: attention heads in a block.
        d_model: width of the residual stream, M in the formulae.
        d_head: width of one head, d.
        d_mlp: hidden width of an MLP.
        d_embed: width of the joint image-text space, D.
        image_size: height and width of the input, in pixels.
        patch_size: height and width of a patch, in pixels.
        pool: "tok" reads the embedding off the class token, "avg" off the mean of the image tokens, "attention" off
            an attention pool.
        ln_after_pool: whether the final LayerNorm comes after the pooling; of consequence for "avg" alone.
        ln_pre: whether a LayerNorm stands between the embeddings and the first block.
        layer_scale: whether each block scales what it adds to the residual stream by learnt factors.
        act: the MLPs' nonlinearity.
        eps: the constant that each LayerNorm adds to the variance.
        norm_in_float32: whether a half-precision tower normalises in float32.
        family: whose layout the weights came from: a name in `headlens.models.families.FAMILIES`.
        attention_pool: the pool's own sizes, under pool="attention".
        class_token: "learnt"; "mean", the mean of the patches (ResNets' attention pool); or "none".
        n_registers: learnt tokens behind the class token that the embedding is never read off.
        stem: "conv", one strided convolution; or "module", the convolutions of the original in front of the blocks.
        patch_bias: whether that one convolution has a bias.
        positions: which tokens have a learnt position: "all", "patches" or "none".
        rope: whether queries and keys of patches are rotated by their position, in pairs of neighbours
            ("interleaved") or of halves ("half").
        qk_norm: whether each head's queries and keys are normalised.
        ln_z: whether the heads' values, side by side, are normalised before W_O (EVA-02's sub-norm).
        gated: whether the MLP multiplies act(x W_gate) and x W_in.
        mlp_ln_in: whether the MLP has a norm of its own before its first layer.
        mlp_ln_hidden: the same before its last layer.
        post_norm: whether a block normalises what attention and MLP add, instead of what they read.
        residual: whether there is a residual stream. Without one there is a single attention layer, whose output at the
            class token is the embedding: a ResNet's attention pool.
        project: whether W_P maps the pooled vector to the embedding; without it the pooled vector is the embedding.
        project_bias: whether that map has a bias.
        device: where a tower's weights are, for readers who are used to TransformerLens'; kept by the tower, and no
            setting: configurations that differ in it are equal.
        dtype: the same of the weights' type.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_embed: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    pool: Pool = "tok"
    ln_after_pool: bool = False
    ln_pre: bool = True
    layer_scale: bool = False
    act: Activation = "gelu"
    eps: float = 1e-5
    norm_in_float32: bool = False
    family: str = "open_clip"
    attention_pool: PoolConfig | None = None
    class_token: Literal["learnt", "mean", "none"] = "learnt"
    n_registers: int = 0
    stem: Literal["conv", "module"] = "conv"
    patch_bias: bool = False
    positions: Literal["all", "patches", "none"] = "all"
    rope: Literal["interleaved", "half"] | None = None
    qk_norm: bool = False
    ln_z: bool = False
    gated: bool = False
    mlp_ln_in: bool = False
    mlp_ln_hidden: bool = False
    post_norm: bool = False
    residual: bool = True
    project: bool = True
    project_bias: bool = False
    device: torch.device | None = field(default=None, compare=False)
    dtype: torch.dtype | None = field(default=None, compare=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; pixels that do not fill a patch are left out, as a strided convolution does."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def n_ctx(self) -> int:
        """TransformerLens' name of `n_tokens`."""
        return self.n_tokens

    @property
    def act_fn(self) -> str:
        """TransformerLens' name of `act`."""
        return self.act

    @property
    def n_prefix(self) -> int:
        """Tokens in front of the patches: the class token (number 0, where there is one) and the registers."""
        return self.n_registers + (self.class_token != "none")

    @property
    def n_tokens(self) -> int:
        """The tokens of the prefix and one token a patch, row by row."""
        return self.n_prefix + self.grid[0] * self.grid[1]

    @property
    def n_pool_heads(self) -> int:
        """Over how many weightings of tokens the readout adds up: the attention pool's heads, else one."""
        return self.attention_pool.n_heads if self.attention_pool is not None else 1

    @property
    def n_sources(self) -> int:
        """How many numbers an image needs for what biases contribute: see `HeadStates.scale`."""
        if self.attention_pool is not None:
            return self.attention_pool.n_heads + self.attention_pool.ln_post
        return 1 + self.n_layers * self.post_norm

    @property
    def d_pooled(self) -> int:
        """Width of the vector that the readout pools, before W_P."""
        if self.attention_pool is not None:
            return self.attention_pool.d_out
        return self.d_model if self.residual else self.d_embed

    @property
    def d_state(self) -> int:
        """Width of a head's state z in a store: d_head, or with an attention pool the smaller of its heads × d_head and
        the embedding's width."""
        return self.d_head if self.attention_pool is None else min(self.n_pool_heads * self.d_head, self.d_embed)
