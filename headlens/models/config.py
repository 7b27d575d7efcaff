"""What a vision tower is made of, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]
Pool = Literal["tok", "avg"]


@dataclass(frozen=True)
class VisionConfig:
    """The shape and the settings of a pre-LN vision transformer.

    Attributes:
        n_layers: blocks.
        n_heads: attention heads in a block.
        d_model: width of the residual stream, M in the formulae.
        d_head: width of one head, d.
        d_mlp: hidden width of an MLP.
        d_embed: width of the joint image-text space, D.
        image_size: height and width of the input, in pixels.
        patch_size: height and width of a patch, in pixels.
        pool: "tok" reads the embedding off the class token, "avg" off the mean of the image tokens.
        ln_after_pool: whether the final LayerNorm comes after the pooling; of consequence for "avg" alone.
        ln_pre: whether a LayerNorm stands between the embeddings and the first block.
        layer_scale: whether each block scales what it adds to the residual stream by learnt factors.
        act: the MLPs' nonlinearity.
        eps: the constant that each LayerNorm adds to the variance.
        norm_in_float32: whether a half-precision tower normalises in float32.
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

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; pixels that do not fill a patch are left out, as a strided convolution does."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def n_tokens(self) -> int:
        """The class token (number 0) and one token a patch, row by row."""
        return 1 + self.grid[0] * self.grid[1]
