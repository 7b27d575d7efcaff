"""The activations of a run, and TransformerLens' ways of taking the residual stream apart, for vision towers.

TransformerLens' cache assumes a language model whose embeddings enter the stream as they are and whose blocks add what
their weights compute. Here a norm may stand before the first block, LayerScale may multiply what is added, and a norm
may follow it. All of these are held at what was measured, so that the parts sum to the stream.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens import ActivationCache as TransformerLensCache
from transformer_lens.utilities.slice import Slice

from headlens.errors import ModelError

Parts = Tensor | tuple[Tensor, list[str]]


def _slice(value: Any) -> Slice:
    return value if isinstance(value, Slice) else Slice(value)


class ActivationCache(TransformerLensCache):
    """TransformerLens' cache; what it would compute incorrectly for a vision tower is computed here, or refused."""

    def __getitem__(self, key: Any) -> Tensor:
        """An activation by its full name or a short one: `cache["z", 3]`. Raises `KeyError` for one not kept."""
        return super().__getitem__(key)

    def _added(self, x: Tensor, layer: int, norm: str) -> Tensor:
        """What parts of a layer's output add to the stream: themselves, or, under post-norm, as its norm left them."""
        block = self.model.blocks[layer]
        if not block.post_norm:
            return x
        scale = self._kept(f"blocks.{layer}.{norm}.hook_scale")
        while scale.ndim < x.ndim:
            scale = scale.unsqueeze(-2)
        return (x - x.mean(-1, keepdim=True)) / scale * getattr(block, norm).w

    def _kept(self, name: str) -> Tensor:
        if name not in self.cache_dict:
            raise ModelError(
                f"The cache does not hold {name}, which this decomposition needs.",
                "Run run_with_cache without names_filter, or let it admit that name.",
            )
        return self.cache_dict[name]

    def _needs_stream(self) -> None:
        if not self.model.cfg.residual:
            raise ModelError("The tower has no residual stream.", "Use hl.decompose(vision, images).")

    def _stem(self, where: Slice) -> tuple[list[Tensor], list[str]]:
        """embed and pos_embed as they enter the stream, and the bias that a norm before the blocks adds."""
        norm = self.model.ln_pre
        embed, position = self._kept("hook_embed"), self._kept("hook_pos_embed")
        parts, labels = [embed, position], ["embed", "pos_embed"]
        if norm is not None:
            scale = self._kept("ln_pre.hook_scale")
            parts = [(x - x.mean(-1, keepdim=True)) / scale * norm.w for x in parts]
            parts.append(norm.b.expand(embed.shape))
            labels.append("ln_pre_bias")
        return [where.apply(x, dim=-2) for x in parts], labels

    def _layer(self, layer: int | None) -> int:
        n_layers: int = self.model.cfg.n_layers
        return n_layers if layer is None or layer == -1 else layer

    def decompose_resid(
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        mode: Any = "all",
        apply_ln: bool = False,
        pos_slice: Any = None,
        incl_embeds: bool = True,
        return_labels: bool = False,
    ) -> Parts:
        """The stream before a layer as the stack of what embeddings, attention layers and MLPs added.

        Under mode="all" the stack sums to `resid_pre` of the layer (`resid_mid` with `mlp_input`) exactly. A norm
        before the first block divides the embeddings by its measured σ, and its bias is a part, `ln_pre_bias`.
        """
        self._needs_stream()
        layer, where = self._layer(layer), _slice(pos_slice)
        parts, labels = self._stem(where) if incl_embeds else ([], [])
        for index in range(layer + mlp_input):
            for kind, wanted in (("attn", mode != "mlp"), ("mlp", mode != "attn" and index < layer)):
                if wanted:
                    parts.append(where.apply(self[f"{kind}_out", index], dim=-2))
                    labels.append(f"{index}_{kind}_out")
        stack = torch.stack(parts)
        if apply_ln:
            stack = self.apply_ln_to_stack(stack, layer, mlp_input=mlp_input, pos_slice=where)
        return (stack, labels) if return_labels else stack

    def compute_head_results(self) -> None:
        """Each head's own summand of the stream, from z where `hook_result` was not kept; LayerScale is in it."""
        for layer, block in enumerate(self.model.blocks):
            name = f"blocks.{layer}.attn.hook_result"
            if name in self.cache_dict:
                continue
            attn, z = block.attn, self._kept(f"blocks.{layer}.attn.hook_z")
            if attn.ln_z is not None:
                z = attn.ln_z(z.flatten(-2)).view(z.shape)
            result = einsum(z, attn.W_O, "... head d_head, head d_head d_out -> ... head d_out")
            self.cache_dict[name] = result if attn.scale is None else result * attn.scale

    def _ensure_head_results(self) -> bool:
        self.compute_head_results()
        return False

    def stack_head_results(
        self,
        layer: int = -1,
        return_labels: bool = False,
        incl_remainder: bool = False,
        pos_slice: Any = None,
        apply_ln: bool = False,
    ) -> Parts:
        """What every head of the layers before `layer` added to the stream, without the layers' output biases."""
        self._needs_stream()
        self.compute_head_results()
        layer, where = self._layer(layer), _slice(pos_slice)
        n_heads = self.model.cfg.n_heads
        parts = []
        for index in range(layer):
            added = self._added(self[f"blocks.{index}.attn.hook_result"], index, "ln1")
            parts.append(rearrange(where.apply(added, dim=-3), "... head d_model -> head ... d_model"))
        labels = [f"L{index}H{head}" for index in range(layer) for head in range(n_heads)]
        stream = where.apply(self["resid_post", layer - 1] if layer else self["resid_pre", 0], dim=-2)
        stack = torch.cat(parts) if parts else stream.new_zeros(0, *stream.shape)
        if incl_remainder:
            stack = torch.cat([stack, (stream - stack.sum(0))[None]])
            labels.append("remainder")
        if apply_ln:
            stack = self.apply_ln_to_stack(stack, layer, pos_slice=where)
        return (stack, labels) if return_labels else stack

    def get_neuron_results(
        self, layer: int, neuron_slice: Any = None, pos_slice: Any = None, project_output_onto: Tensor | None = None
    ) -> Tensor:
        """What every hidden unit of an MLP adds to the stream, LayerScale and post-norm included.

        Summed over the units, with the MLP's bias (scaled likewise), it is `mlp_out`.
        """
        neurons, where = _slice(neuron_slice), _slice(pos_slice)
        self._needs_stream()
        block = self.model.blocks[layer]
        weight = block.mlp.W_out if block.mlp.scale is None else block.mlp.W_out * block.mlp.scale
        weight = neurons.apply(weight, dim=0)
        hidden = self._kept(f"blocks.{layer}.mlp.hook_post")
        if block.post_norm:
            hidden = hidden / self._kept(f"blocks.{layer}.ln2.hook_scale")
            weight = (weight - weight.mean(-1, keepdim=True)) * block.ln2.w
        hidden = neurons.apply(where.apply(hidden, dim=-2), dim=-1)
        if project_output_onto is None:
            return hidden[..., None] * weight
        projected = weight @ project_output_onto
        return hidden * projected if project_output_onto.ndim == 1 else hidden[..., None] * projected

    def apply_ln_to_stack(
        self,
        residual_stack: Tensor,
        layer: int | None = None,
        mlp_input: bool = False,
        pos_slice: Any = None,
        batch_slice: Any = None,
        has_batch_dim: bool = True,
        recompute_ln: bool = False,
    ) -> Tensor:
        """γ ⊙ (x − mean(x))/σ for every summand x, with σ as measured; the norm's bias β is left out.

        γ is applied here, where TransformerLens expects it to be folded into the weights behind the norm.
        """
        layer = self._layer(layer)
        final = layer == self.model.cfg.n_layers
        norm = self.model.ln_final if final else getattr(self.model.blocks[layer], "ln2" if mlp_input else "ln1")
        if recompute_ln or norm is None or (not final and self.model.cfg.post_norm):
            raise ModelError(
                "There is no norm with a measured σ that these summands pass through.",
                "Leave out recompute_ln, and use the final layer in towers with post-norm blocks.",
            )
        if final and self.model.cfg.ln_after_pool:
            raise ModelError("The final norm reads pooled tokens.", "Use hl.decompose(vision, images).")
        scale = self._kept("ln_final.hook_scale" if final else f"blocks.{layer}.ln{1 + mlp_input}.hook_scale")
        where, batch = _slice(pos_slice), _slice(batch_slice)
        scale = where.apply(scale, dim=-2)
        if has_batch_dim:
            residual_stack = batch.apply(residual_stack, dim=1)
        if self.has_batch_dim:
            scale = batch.apply(scale)
        return (residual_stack - residual_stack.mean(-1, keepdim=True)) / scale * norm.w

    def logit_attrs(
        self,
        residual_stack: Tensor,
        tokens: Any,
        incorrect_tokens: Any = None,
        pos_slice: Any = None,
        batch_slice: Any = None,
        has_batch_dim: bool = True,
    ) -> Tensor:
        """Each summand's part of embedding · text, [component image token], before the embedding is normalised.

        Args:
            residual_stack: summands of the last residual stream.
            tokens: in place of a vocabulary's token, a text embedding: [embed], or [image embed] for one an image.
            incorrect_tokens: text embeddings that are subtracted from them.
            pos_slice: the tokens that the stack was taken at.
            batch_slice: the images to keep.
            has_batch_dim: whether the stack has an axis of images.
        """
        if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
            raise ModelError("A vision tower has no vocabulary.", "Pass text embeddings: clip.encode_text([...])[0].")
        if self.model.pool is not None:
            raise ModelError("An attention pool reads the stream.", "Use hl.decompose(vision, images).")
        texts = tokens if incorrect_tokens is None else tokens - incorrect_tokens
        directions = texts if self.model.W_P is None else texts @ self.model.W_P.T
        scaled = self.apply_ln_to_stack(
            residual_stack, -1, pos_slice=pos_slice, batch_slice=batch_slice, has_batch_dim=has_batch_dim
        )
        if directions.ndim == 2 and scaled.ndim == 4:
            directions = directions.unsqueeze(-2)
        return (scaled * directions).sum(-1)

    def get_full_resid_decomposition(
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        expand_neurons: bool = True,
        apply_ln: bool = False,
        pos_slice: Any = None,
        return_labels: bool = False,
        project_output_onto: Float[Tensor, "d_model *out"] | None = None,
    ) -> Parts:
        """The stream before a layer as heads, neurons (or MLPs), embeddings and biases, which sum to it exactly."""
        layer, where = self._layer(layer), _slice(pos_slice)
        heads, labels = self.stack_head_results(layer + mlp_input, return_labels=True, pos_slice=where)
        parts = [heads]
        for index in range(layer):
            if expand_neurons:
                neurons = self.get_neuron_results(index, pos_slice=where)
                parts.append(rearrange(neurons, "... neuron d_model -> neuron ... d_model"))
                labels += [f"L{index}N{neuron}" for neuron in range(self.model.cfg.d_mlp)]
            else:
                parts.append(where.apply(self["mlp_out", index], dim=-2)[None])
                labels.append(f"{index}_mlp_out")
        stem, names = self._stem(where)
        bias = self.model.accumulated_bias(layer, mlp_input, include_mlp_biases=expand_neurons)
        stack = torch.cat([*parts, torch.stack(stem), bias.expand(1, *stem[0].shape)])
        labels += [*names, "bias"]
        if apply_ln:
            stack = self.apply_ln_to_stack(stack, layer, mlp_input=mlp_input, pos_slice=where)
        if project_output_onto is not None:
            stack = stack @ project_output_onto
        return (stack, labels) if return_labels else stack
