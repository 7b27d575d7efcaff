"""The weights of a vision tower by head, and its forward pass with a hook point at every activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from headlens.errors import ModelError, check_type
from headlens.models.attention_pool import AttentionPool, check_pool
from headlens.models.block import Block
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm


class Tower(HookedRootModule):
    """f = pool(LN(r)) P, where r is the residual stream after the blocks over a class token and patch tokens.

    `cfg` says what a family has besides, or in place of, these (registers, rotations, norms, an attention pool, …).

    Hooks, with the shapes they see: `hook_embed` and `hook_pos_embed` [image token d_model], `ln_pre.hook_scale`,
    `ln_pre.hook_normalized` (absent without a pre-norm), those of each `blocks.{l}` (see `Block`, `Attention`, `MLP`,
    `LayerNorm`), `ln_final.hook_scale`, `ln_final.hook_normalized` (no token axis where the pooling comes first), those
    of `pool` where there is an attention pool (see `AttentionPool`) and `hook_embedding` [image embed].

    Args:
        cfg: the tower's shape and settings.
        stem: the original's convolutions in front of the blocks, for a family that has more than one; they return
            [image patch d_model], or [image d_model row column].

    What the algebra reads of a tower is here; what users hold is `HookedVisionTransformer`. Weights start at zero.
    """

    def __init__(self, cfg: VisionConfig, stem: nn.Module | None = None):
        super().__init__()
        check_pool(cfg)
        self.cfg = cfg
        norm = (cfg.eps, cfg.norm_in_float32)
        self.stem = stem
        self.W_E = nn.Parameter(torch.zeros(cfg.d_model, 3, *cfg.patch_size)) if cfg.stem == "conv" else None
        self.b_E = nn.Parameter(torch.zeros(cfg.d_model)) if cfg.patch_bias else None
        self.class_token = nn.Parameter(torch.zeros(cfg.d_model)) if cfg.class_token == "learnt" else None
        self.registers = nn.Parameter(torch.zeros(cfg.n_registers, cfg.d_model)) if cfg.n_registers else None
        self.W_pos = nn.Parameter(torch.zeros(cfg.n_tokens, cfg.d_model))
        self.hook_embed = HookPoint()
        self.hook_pos_embed = HookPoint()
        self.ln_pre = LayerNorm(cfg.d_model, *norm) if cfg.ln_pre else None
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.n_layers)])
        self.ln_final = LayerNorm(cfg.d_model, *norm) if cfg.residual else None
        self.pool = AttentionPool(cfg) if cfg.attention_pool is not None else None
        self.W_P = nn.Parameter(torch.zeros(cfg.d_pooled, cfg.d_embed)) if cfg.project else None
        self.b_P = nn.Parameter(torch.zeros(cfg.d_embed)) if cfg.project_bias else None
        self.hook_embedding = HookPoint()
        self.setup()

    @property
    def layers(self) -> tuple[Block, ...]:
        """The blocks, in order."""
        return tuple(cast(Block, block) for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_pos.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, to which images are cast."""
        return self.layers[0].attn.W_O.dtype

    @property
    def first_read(self) -> int:
        """The first token that the embedding is read off; the class token alone is read under pool="tok"."""
        pool = self.cfg.attention_pool
        return 0 if self.cfg.pool == "tok" or (pool is not None and pool.prefix) else self.cfg.n_prefix

    def embed(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image token d_model"]:
        """The residual stream before the first block: patches and class token, their positions, the pre-norm."""
        if tuple(images.shape[1:]) != (3, *self.cfg.image_size):
            raise ModelError(
                f"images of shape [image, 3, {self.cfg.image_size[0]}, {self.cfg.image_size[1]}]",
                str(list(images.shape)),
                "Prepare the pixels with the model's own preprocess.",
            )
        patches = self._patches(images.to(self.dtype))
        prefix = []
        if self.cfg.class_token == "mean":
            prefix.append(patches.mean(1, keepdim=True))
        if self.class_token is not None:
            prefix.append(self.class_token.to(patches.dtype).expand(len(images), 1, -1))
        if self.registers is not None:
            prefix.append(self.registers.to(patches.dtype).expand(len(images), -1, -1))
        tokens = self.hook_embed(torch.cat([*prefix, patches], dim=1))
        position = self.W_pos.to(tokens.dtype)
        if self.hook_pos_embed.has_hooks():
            # A hook may write into what it is given, so every image gets a copy of its own.
            position = self.hook_pos_embed(position.repeat(len(images), 1, 1))
        resid = tokens + position
        return resid if self.ln_pre is None else self.ln_pre(resid)

    def _patches(self, images: Tensor) -> Tensor:
        if self.stem is not None:
            out = self.stem(images)
            return out.flatten(2).transpose(1, 2) if out.ndim == 4 else out
        assert self.W_E is not None
        return F.conv2d(images, self.W_E, self.b_E, stride=self.cfg.patch_size).flatten(2).transpose(1, 2)

    def forward(
        self, images: Float[Tensor, "image channel height width"], stop_at_layer: int | None = None
    ) -> Float[Tensor, "image embed"] | Float[Tensor, "image token d_model"]:
        """Embed preprocessed images, [image 3 height width] -> [image embed], not normalised.

        Args:
            images: preprocessed pixels.
            stop_at_layer: return the residual stream before this block instead; negative numbers count from the end.
        """
        resid = self.embed(images)
        for block in self.layers[:stop_at_layer]:
            resid = block(resid)
        return self.embedding_of(resid) if stop_at_layer is None else resid

    def embedding_of(self, resid: Float[Tensor, "image token d_model"]) -> Float[Tensor, "image embed"]:
        """The embedding that is read off a residual stream: final norm, pooling and projection, with their hooks."""
        norm: Callable[[Tensor], Tensor] = nn.Identity() if self.ln_final is None else self.ln_final
        first, second = (self._pool, norm) if self.cfg.ln_after_pool else (norm, self._pool)
        return self.hook_embedding(self.project(second(first(resid))[:, 0]))

    def _pool(self, tokens: Tensor) -> Tensor:
        if self.cfg.pool == "tok":
            return tokens[:, :1]
        tokens = tokens[:, self.first_read :]
        return tokens.mean(1, keepdim=True) if self.pool is None else self.pool(tokens)

    def project(self, pooled: Float[Tensor, "image d_pooled"]) -> Float[Tensor, "image embed"]:
        """The embedding of pooled vectors: x P, with a bias where the family has one; x itself without a projection."""
        if self.W_P is None:
            return pooled
        return pooled @ self.W_P if self.b_P is None else torch.addmm(self.b_P, pooled, self.W_P)


def check_pixels(images: object) -> None:
    """Raise `ModelError` for images that are not a tensor of preprocessed pixels."""
    how = "Prepare a picture with the model's own preprocess: clip.preprocess(image)[None], one row for each image."
    check_type("What should be pixels", images, Tensor, how, ModelError)
