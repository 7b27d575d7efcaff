"""A vision tower that owns its weights by head and lets any activation be read or replaced."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint

from headlens.errors import ModelError
from headlens.models.block import Block
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm
from headlens.models.residual_parts import ResidualParts, residual_parts
from headlens.states.head_states import HeadStates

Name = str | Callable[[str], bool]


class HookedVisionTransformer(HookedRootModule):
    """f = pool(LN(r)) P, where r is the residual stream after pre-LN blocks over a class token and patch tokens.

    Hooks, with the shapes they see: `hook_embed` and `hook_pos_embed` [image token d_model], `ln_pre.hook_scale`,
    `ln_pre.hook_normalized` (absent without a pre-norm), those of each `blocks.{l}` (see `Block`, `Attention`, `MLP`,
    `LayerNorm`), `ln_final.hook_scale`, `ln_final.hook_normalized` (no token axis where the pooling comes first) and
    `hook_embedding` [image embed]. `run_with_hooks`, `run_with_cache`, `hooks` and the cache are TransformerLens' own,
    save that a name which no hook point bears is an error.

    Args:
        cfg: the tower's shape and settings.

    Weights start at zero: build a tower with `from_open_clip`, or load a state dict.
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        self.cfg = cfg
        self.W_E = nn.Parameter(torch.zeros(cfg.d_model, 3, *cfg.patch_size))
        self.class_token = nn.Parameter(torch.zeros(cfg.d_model))
        self.W_pos = nn.Parameter(torch.zeros(cfg.n_tokens, cfg.d_model))
        self.hook_embed = HookPoint()
        self.hook_pos_embed = HookPoint()
        self.ln_pre = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32) if cfg.ln_pre else None
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg.n_layers)])
        self.ln_final = LayerNorm(cfg.d_model, cfg.eps, cfg.norm_in_float32)
        self.W_P = nn.Parameter(torch.zeros(cfg.d_model, cfg.d_embed))
        self.hook_embedding = HookPoint()
        self.setup()

    @classmethod
    def from_open_clip(cls, visual: nn.Module, copy: bool = True) -> HookedVisionTransformer:
        """Convert open_clip's `VisionTransformer`; `open_clip_weights.convert` says what is accepted.

        Args:
            visual: `model.visual` of an open_clip model.
            copy: own the weights. Without it they share the original's memory, for use where that is discarded.

        Raises:
            ModelError: for a tower of another kind, a setting that is not understood, or weights that are not finite.
        """
        from headlens.models.open_clip_weights import convert

        return convert(visual, copy=copy)

    @property
    def layers(self) -> tuple[Block, ...]:
        """The blocks, in order."""
        return tuple(cast(Block, block) for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_E.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the patch projection, to which images are cast."""
        return self.W_E.dtype

    def embed(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image token d_model"]:
        """The residual stream before the first block: patches and class token, their positions, the pre-norm."""
        if tuple(images.shape[1:]) != (3, *self.cfg.image_size):
            raise ModelError(
                f"images of shape [image, 3, {self.cfg.image_size[0]}, {self.cfg.image_size[1]}]",
                str(list(images.shape)),
                "Prepare the pixels with the model's own preprocess.",
            )
        patches = F.conv2d(images.to(self.dtype), self.W_E, stride=self.cfg.patch_size).flatten(2).transpose(1, 2)
        class_token = self.class_token.to(patches.dtype).expand(len(images), 1, -1)
        tokens = self.hook_embed(torch.cat([class_token, patches], dim=1))
        position = self.W_pos.to(tokens.dtype)
        if self.hook_pos_embed.has_hooks():
            # A hook may write into what it is given, so every image gets a copy of its own.
            position = self.hook_pos_embed(position.repeat(len(images), 1, 1))
        resid = tokens + position
        return resid if self.ln_pre is None else self.ln_pre(resid)

    def forward(self, images: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image embed"]:
        """Embed preprocessed images, [image 3 height width] -> [image embed], not normalised."""
        resid = self.embed(images)
        for block in self.blocks:
            resid = block(resid)
        first, second = (self._pool, self.ln_final) if self.cfg.ln_after_pool else (self.ln_final, self._pool)
        return self.hook_embedding(second(first(resid))[:, 0] @ self.W_P)

    def _pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, :1] if self.cfg.pool == "tok" else tokens[:, 1:].mean(1, keepdim=True)

    def residual_parts(
        self, images: Float[Tensor, "image channel height width"], per_token: bool = False
    ) -> ResidualParts:
        """The summands of the pooled residual; see `headlens.models.residual_parts`.

        Raises:
            ModelError: while hooks are set. They would not fire here, and what they change would go unseen.
        """
        if hooked := self.list_hooks():
            raise ModelError(
                "a tower without hooks while its head states are extracted",
                f"hooks on {', '.join(sorted(hooked))}",
                "Leave the `hooks` context or call reset_hooks() first; to see a hook's effect, use run_with_cache.",
            )
        # Gradients are kept where the caller asks for them with respect to the pixels, and cost nothing elsewhere.
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            return residual_parts(self, images, per_token)

    def read_out(self, x: Float[Tensor, "*batch d_model"], centre: bool = True) -> Float[Tensor, "*batch embed"]:
        """C(x) = (γ ⊙ (x − mean(x))) P for summands x of the residual that are already divided by σ.

        Args:
            x: the summands.
            centre: subtract each summand's own mean; the published 'spread' convention leaves it in.
        """
        wide = x.dtype
        with torch.autocast(x.device.type, enabled=False):
            if centre:
                x = x - x.mean(-1, keepdim=True)
            return x * self.ln_final.w.to(wide) @ self.W_P.to(wide)

    def head_states(self, images: Float[Tensor, "image channel height width"]) -> HeadStates:
        """Everything that the heads, MLPs and stem contribute to the embeddings, in the compact form.

        Costs less than `forward` with class-token pooling. No gradients, unless the images require them.

        Raises:
            ModelError: while hooks are set, or for images of another size.
        """
        parts = self.residual_parts(images)
        return HeadStates(
            z=parts.z,
            scale=parts.scale,
            shift=parts.shift,
            mlps=self.read_out(parts.mlps),
            stem=self.read_out(parts.stem),
            embedding=parts.embedding,
        )

    def token_states(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image layer head token d_head"]:
        """`HeadStates.z` by the token that the values come from; summed over tokens it is z.

        Times `basis.B[layer, head]` it is each token's contribution to the embedding through that head.

        Raises:
            ModelError: as `head_states`.
        """
        parts = self.residual_parts(images, per_token=True)
        assert parts.token_z is not None
        return parts.token_z

    def _check_name(self, name: Name) -> None:
        known = self.hook_dict
        if name in known if isinstance(name, str) else any(name(known_name) for known_name in known):
            return
        near = difflib.get_close_matches(name, known, n=3) if isinstance(name, str) else []
        raise ModelError(
            "the name of a hook point, or a condition that at least one of them meets",
            repr(name) if isinstance(name, str) else "a condition that none meets",
            f"Did you mean {' or '.join(near)}? " * bool(near) + "`tower.hook_dict` lists every hook point.",
        )

    def add_hook(self, name: Name, *args: Any, **kwargs: Any) -> None:
        """TransformerLens' `add_hook`; raises `ModelError` for a name that no hook point bears."""
        self._check_name(name)
        super().add_hook(name, *args, **kwargs)

    def _enable_hook(self, name: Name, *args: Any, **kwargs: Any) -> None:
        self._check_name(name)
        super()._enable_hook(name, *args, **kwargs)

    def get_caching_hooks(
        self, names_filter: Name | Collection[str] | None = None, *args: Any, **kwargs: Any
    ) -> tuple[dict, list, list]:
        """TransformerLens' `get_caching_hooks`; raises `ModelError` for a name that no hook point bears."""
        if names_filter is not None and not isinstance(names_filter, str) and not callable(names_filter):
            names_filter = list(names_filter)
        for name in names_filter if isinstance(names_filter, list) else [names_filter]:
            if name is not None:
                self._check_name(name)
        return super().get_caching_hooks(names_filter, *args, **kwargs)

    def run_with_cache(
        self, *args: Any, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Tensor, ActivationCache]:
        """TransformerLens' `run_with_cache`: the embedding, and the activations that `names_filter` admits.

        The cache answers to full names and to TransformerLens' short ones: `cache["z", 3]`, `cache["resid_post", -1]`.

        Raises:
            ModelError: for a name in `names_filter` that no hook point bears.
        """
        embedding, cache = super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **kwargs)
        return embedding, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)
