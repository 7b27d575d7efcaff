"""A vision tower that owns its weights by head and lets any activation be read or replaced."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import FactoredMatrix, HookedRootModule
from transformer_lens.hook_points import HookPoint

from headlens.errors import ModelError
from headlens.models.activation_cache import ActivationCache
from headlens.models.attention_pool import AttentionPool, check_pool
from headlens.models.block import Block
from headlens.models.config import VisionConfig
from headlens.models.layer_norm import LayerNorm
from headlens.models.readout import Readout
from headlens.models.residual_parts import ResidualParts, residual_parts
from headlens.states.head_states import HeadStates
from headlens.states.kept_basis import compact

Name = str | Callable[[str], bool]

_STACKED = dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), "attn")
_STACKED |= dict.fromkeys(("W_in", "W_gate", "W_out", "b_in", "b_gate", "b_out"), "mlp")


class HookedVisionTransformer(HookedRootModule):
    """f = pool(LN(r)) P, where r is the residual stream after the blocks over a class token and patch tokens.

    `cfg` says what a family has besides, or in place of, these (registers, rotations, norms, an attention pool, …).

    Hooks, with the shapes they see: `hook_embed` and `hook_pos_embed` [image token d_model], `ln_pre.hook_scale`,
    `ln_pre.hook_normalized` (absent without a pre-norm), those of each `blocks.{l}` (see `Block`, `Attention`, `MLP`,
    `LayerNorm`), `ln_final.hook_scale`, `ln_final.hook_normalized` (no token axis where the pooling comes first), those
    of `pool` where there is an attention pool (see `AttentionPool`) and `hook_embedding` [image embed].
    `run_with_hooks`, `run_with_cache`, `hooks` and the cache are TransformerLens' own, except that a name which no hook
    point has is an error.

    Args:
        cfg: the tower's shape and settings.

        stem: the original's convolutions in front of the blocks, for a family that has more than one; they return
            [image patch d_model], or [image d_model row column].

    Weights start at zero: build a tower with `from_open_clip` or `from_transformers`, or load a state dict.
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

    @classmethod
    def from_open_clip(cls, visual: nn.Module, copy: bool = True) -> HookedVisionTransformer:
        """Convert the vision tower of an open_clip model; `headlens.models.families` says which are accepted.

        Args:
            visual: `model.visual` of an open_clip model, or a vision transformer of timm.
            copy: own the weights. Without it they share the original's memory, for use where that is discarded.

        Raises:
            ModelError: for a tower of another kind, a setting that is not understood, or weights that are not finite.
        """
        from headlens.models.families.conversion import convert

        return convert(visual, copy=copy)

    @classmethod
    def from_transformers(cls, model: nn.Module, copy: bool = True) -> HookedVisionTransformer:
        """Convert the vision tower of a CLIP, SigLIP or SigLIP 2 of transformers, alone or inside the whole model.

        Args:
            model: `CLIPModel`, `CLIPVisionModelWithProjection`, `SiglipModel`, `SiglipVisionModel`, `Siglip2Model`, …
            copy: own the weights. Without it they share the original's memory, for use where that is discarded.

        Raises:
            ModelError: as `from_open_clip`.
        """
        return cls.from_open_clip(model, copy)

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

    def _stacked(self, part: str, name: str) -> Tensor:
        found = [getattr(getattr(block, part), name) for block in self.layers]
        if any(one is None for one in found):
            raise ModelError(f"The tower's blocks have no {part}.{name}.", "Its family has no such weight.")
        return torch.stack(found)

    def __getattr__(self, name: str) -> Any:
        """TransformerLens' stacked weights, by layer: W_Q, W_K, W_V, W_O, W_in, W_gate, W_out and their biases."""
        if name in _STACKED:
            return self._stacked(_STACKED[name], name)
        return super().__getattr__(name)

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_Kᵀ of every head, [layer head d_model d_model], as factors."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every head, as factors, with LayerScale in W_O, since the stream gets it so."""
        out = torch.stack([block.attn.weighted_output()[0] for block in self.layers])
        return FactoredMatrix(self.W_V.to(out), out)

    def all_head_labels(self) -> list[str]:
        """L0H0, L0H1, …"""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """What the output biases of the blocks before a layer add to the stream, LayerScale included.

        Raises:
            ModelError: under post-norm, where each image divides them by its own σ.
        """
        if self.cfg.post_norm:
            raise ModelError("The blocks are post-norm: their biases add up image by image.", "Use hl.decompose.")
        total = self.W_pos.new_zeros(self.cfg.d_model)
        for index, block in enumerate(self.layers[: layer + mlp_input]):
            attn = block.attn
            total = total + (attn.b_O if attn.scale is None else attn.b_O * attn.scale)
            if include_mlp_biases and index < layer:
                total = total + (block.mlp.b_out if block.mlp.scale is None else block.mlp.b_out * block.mlp.scale)
        return total

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

    def readout(self, dtype: torch.dtype) -> Readout:
        """The affine map from a residual that is divided by σ to the embedding: see `Readout`."""
        return Readout.of(self, dtype)

    def read_out(self, x: Float[Tensor, "*batch d_model"], centre: bool = True) -> Float[Tensor, "*batch embed"]:
        """C(x) = (γ ⊙ (x − mean(x))) P for summands x of the residual that are already divided by σ.

        Args:
            x: the summands; with an attention pool, one for each of its heads, [*batch pool d_model].
            centre: subtract each summand's own mean; the published 'spread' convention leaves it in.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self.readout(x.dtype)(x if self.pool is not None else x.unsqueeze(-2), centre)

    def head_states(self, images: Float[Tensor, "image channel height width"]) -> HeadStates:
        """Everything that the heads, MLPs and stem contribute to the embeddings, in the compact form.

        Costs less than `forward` with class-token pooling. No gradients, unless the images require them.

        Raises:
            ModelError: while hooks are set, or for images of another size.
        """
        parts = self.residual_parts(images)
        with torch.autocast(images.device.type, enabled=False):
            readout = self.readout(parts.scale.dtype)
            return HeadStates(
                z=compact(self, parts.z),
                scale=parts.scale,
                shift=parts.shift,
                mlps=readout(parts.mlps),
                stem=readout(parts.stem),
                pool=readout.project(parts.pool),
                embedding=parts.embedding,
            )

    def token_states(
        self, images: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image layer head token d_state"]:
        """`HeadStates.z` by the token that the values come from; summed over tokens it is z.

        Read through the basis it is each token's contribution to the embedding through that head.

        Raises:
            ModelError: as `head_states`.
        """
        return compact(self, self.residual_parts(images, per_token=True).token_z)

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
        """TransformerLens' `add_hook`; raises `ModelError` for a name that no hook point has."""
        self._check_name(name)
        super().add_hook(name, *args, **kwargs)

    def _enable_hook(self, name: Name, *args: Any, **kwargs: Any) -> None:
        self._check_name(name)
        super()._enable_hook(name, *args, **kwargs)

    def get_caching_hooks(
        self, names_filter: Name | Collection[str] | None = None, *args: Any, **kwargs: Any
    ) -> tuple[dict, list, list]:
        """TransformerLens' `get_caching_hooks`; raises `ModelError` for a name that no hook point has."""
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

        The cache is headlens' own `ActivationCache`. It answers to full names and to TransformerLens' short ones:
        `cache["z", 3]`, `cache["resid_post", -1]`.

        Raises:
            ModelError: for a name in `names_filter` that no hook point has.
        """
        embedding, cache = super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **kwargs)
        return embedding, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)
