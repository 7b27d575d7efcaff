"""A vision tower that owns its weights by head and lets any activation be read or replaced."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import FactoredMatrix

from headlens.errors import ModelError
from headlens.models.activation_cache import ActivationCache
from headlens.models.families.conversion import convert
from headlens.models.readout import Readout, read_out
from headlens.models.residual_parts import ResidualParts, residual_parts
from headlens.models.tower import Tower
from headlens.states.head_states import HeadStates
from headlens.states.kept_basis import compact

Name = str | Callable[[str], bool]

_STACKED = dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), "attn")
_STACKED |= dict.fromkeys(("W_in", "W_gate", "W_out", "b_in", "b_gate", "b_out"), "mlp")


class HookedVisionTransformer(Tower):
    """A `Tower` that converts, decomposes and caches: f = pool(LN(r)) P, r the residual stream after the blocks.

    `run_with_hooks`, `run_with_cache` and `hooks` are TransformerLens' own, except that a name which no hook point has
    is an error. Weights start at zero: use `from_open_clip` or `from_transformers`, or load a state dict.
    """

    @classmethod
    def from_open_clip(cls, visual: nn.Module, copy: bool = True) -> HookedVisionTransformer:
        """Convert the vision tower of an open_clip model; `headlens.models.families` says which are accepted.

        Args:
            visual: `model.visual` of an open_clip model, or a vision transformer of timm.
            copy: own the weights. Without it they share the original's memory, for use where that is discarded.

        Raises:
            ModelError: for a tower of another kind, a setting that is not understood, or weights that are not finite.
        """
        return convert(cls, visual, copy=copy)

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

    def residual_parts(
        self,
        images: Float[Tensor, "image channel height width"],
        per_token: bool = False,
        layers: Collection[int] | None = None,
    ) -> ResidualParts:
        """The summands of the pooled residual, or the heads of some layers alone; see `headlens.models.residual_parts`.

        Raises:
            ModelError: for images of another size, and while hooks are set. They would not fire here, and what they
                change would go unseen.
        """
        if hooked := self.list_hooks():
            raise ModelError(
                "a tower without hooks while its head states are extracted",
                f"hooks on {', '.join(sorted(hooked))}",
                "Leave the `hooks` context or call reset_hooks() first; to see a hook's effect, use run_with_cache.",
            )
        images = self.checked(images)
        # Gradients are kept where the caller asks for them with respect to the pixels, and cost nothing elsewhere.
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            return residual_parts(self, images, per_token, layers)

    def readout(self, dtype: torch.dtype) -> Readout:
        """The affine map from a residual that is divided by σ to the embedding: see `Readout`."""
        return Readout.of(self, dtype)

    def read_out(self, x: Float[Tensor, "*batch d_model"], centre: bool = True) -> Float[Tensor, "*batch embed"]:
        """C(x) for summands x of the residual that are already divided by σ: see `headlens.models.readout.read_out`."""
        return read_out(self, x, centre)

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
