"""Where each head can write: the weights that carry a head's own coordinates into the joint embedding space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from headlens.errors import StoreError
from headlens.models.readout import Readout, read_out

if TYPE_CHECKING:
    from headlens.models.tower import Tower

_NUMBERS = 1 << 24  # of a basis that is kept as factors, put together at a time


@dataclass(frozen=True)
class HeadBasis:
    """B_lh = centre(W_O[l, h] ⊙ layer scale) diag(γ) V, from the weights alone; V is the projection P.

    γ, β are the final LayerNorm's. A head's contribution never leaves the row space of B_lh: with z from `HeadStates`
    it is z_lh B_lh, and its dot product with a text direction t is z_lh · (B_lh t), so that a direction is folded
    through the weights once and never through the data.

    With an attention pool of heads p, V is Σ_p W_V[p] W_O[p] P, and B_lh is a column of blocks, one for each p. It is
    large, and kept as its factors `inner` and `outer`. Where z is the contribution itself, B_lh is the identity and
    neither of the three is kept. Read it through the methods, which serve all forms.

    Attributes:
        layer_bias: C(b_O[l]) for one unit of each source of `HeadStates.scale`, layer by layer.
        readout_bias: what the readout itself adds for one unit of each source.
        beta: what it adds to every image alike; βP without an attention pool.
        head_mean: the mean of each row of W_O[l, h] ⊙ layer scale, which centring removed; B + head_mean ⊗ ones is
            the uncentred basis of constants='spread'.
        bias_mean: the mean of each source's bias of each layer.
        ones: what a residual of all ones would contribute uncentred, for each source.
        B: one d_head × embed matrix a head.
        inner: centre(W_O[l, h] ⊙ layer scale) diag(γ) W_V[p].
        outer: W_O[p] P.
        inner_ones: γ W_V[p]; uncentred, `inner` is larger by head_mean ⊗ inner_ones.
        stem: C(the class token before the first block) for σ = 1, the same for every image; None where that token is
            not read, and the stem holds the patches.
    """

    layer_bias: Float[Tensor, "layer source embed"]
    readout_bias: Float[Tensor, "source embed"]
    beta: Float[Tensor, "embed"]
    head_mean: Float[Tensor, "layer head d_head"]
    bias_mean: Float[Tensor, "layer source"]
    ones: Float[Tensor, "source embed"]
    B: Float[Tensor, "layer head d_head embed"] | None = None
    inner: Float[Tensor, "layer head pool d_head d_pool"] | None = None
    outer: Float[Tensor, "pool d_pool embed"] | None = None
    inner_ones: Float[Tensor, "pool d_pool"] | None = None
    stem: Float[Tensor, "embed"] | None = None

    @classmethod
    @torch.no_grad()
    def from_vision(cls, vision: Tower, whole: bool = False) -> HeadBasis:
        """Fold a tower's weights, in float32 at least.

        Args:
            vision: the tower.
            whole: keep the factors also where pool heads × d_head are more than the embedding's width, and a store
                holds contributions.
        """
        with torch.autocast(vision.device.type, enabled=False):
            return cls._folded(vision, whole)

    @classmethod
    def _folded(cls, vision: Tower, whole: bool) -> HeadBasis:
        cfg = vision.cfg
        wide = torch.promote_types(vision.dtype, torch.float32)
        readout = Readout.of(vision, wide)
        layer_bias = readout.bias.new_zeros(cfg.n_layers, *readout.bias.shape)
        bias_mean = layer_bias.new_zeros(layer_bias.shape[:2])
        head_mean, folded = [], None
        pooled = readout.inner is not None
        identity = pooled and not whole and cfg.n_pool_heads * cfg.d_head > cfg.d_embed
        for layer, block in enumerate(vision.layers):
            weight, biases = block.head_weights()
            head_mean.append(weight.mean(-1))
            sources = cfg.n_pool_heads
            if pooled:  # the bias reaches each head of the pool
                assert readout.inner is not None and readout.outer is not None
                centred = (biases[0] - biases[0].mean()) * readout.gain
                values = einsum(centred, readout.inner, "d_model, pool d_model d_pool -> pool d_pool")
                layer_bias[layer, :sources] = einsum(
                    values, readout.outer, "pool d_pool, pool d_pool embed -> pool embed"
                )
                bias_mean[layer, :sources] = biases[0].mean()
                kept = (weight - weight.mean(-1, keepdim=True)) * readout.gain
                kept = einsum(
                    kept, readout.inner, "head d_head d_model, pool d_model d_pool -> head pool d_head d_pool"
                )
            else:
                where = [0] if len(biases) == 1 else [0, 1 + layer]
                layer_bias[layer, where] = readout(biases[:, None])
                bias_mean[layer, where] = biases.mean(-1) * readout.centred
                kept = readout(weight.unsqueeze(-2))
            if not identity:
                # Into place, layer by layer: it is the one large thing here, and a list of parts would hold it twice.
                folded = kept.new_empty(cfg.n_layers, *kept.shape) if folded is None else folded
                folded[layer] = kept
        means = torch.stack(head_mean) * readout.centred
        return cls(
            layer_bias=layer_bias,
            readout_bias=readout.bias,
            beta=readout.beta,
            head_mean=means,
            bias_mean=bias_mean,
            ones=readout.ones(),
            B=None if pooled else folded,
            inner=folded if pooled and not identity else None,
            outer=readout.outer if not identity else None,
            inner_ones=readout.inner_ones() if pooled and not identity else None,
            stem=_class_stem(vision, wide) if cfg.pool == "tok" else None,
        )

    @classmethod
    def of_weights(cls, B: Float[Tensor, "layer head d_head embed"]) -> HeadBasis:
        """The basis of heads of which nothing but these weights is known: no biases, no means that were taken off."""
        return replace(
            cls.identity(B.shape[0], B.shape[1], B.shape[3], B.dtype), B=B, head_mean=B.new_zeros(B.shape[:3])
        )

    @classmethod
    def identity(cls, n_layers: int, n_heads: int, width: int, dtype: torch.dtype) -> HeadBasis:
        """The basis of states that are contributions themselves, of a model that is not known."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype)

        return cls(
            layer_bias=zeros(n_layers, 1, width),
            readout_bias=zeros(1, width),
            beta=zeros(width),
            head_mean=zeros(n_layers, n_heads, width),
            bias_mean=zeros(n_layers, 1),
            ones=zeros(1, width),
        )

    def only(self, layer: int, head: int) -> HeadBasis:
        """The basis of one head alone."""
        layers, where = slice(layer, layer + 1), (slice(layer, layer + 1), slice(head, head + 1))
        return replace(
            self,
            layer_bias=self.layer_bias[layers],
            bias_mean=self.bias_mean[layers],
            head_mean=self.head_mean[where],
            B=None if self.B is None else self.B[where],
            inner=None if self.inner is None else self.inner[where],
        )

    @property
    def is_identity(self) -> bool:
        """Whether z is the contribution itself."""
        return self.B is None and self.inner is None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Layers, heads, the width of z, and the embedding's."""
        n_layers, n_heads, d_head = self.head_mean.shape
        embed = len(self.beta)
        if self.is_identity:
            return n_layers, n_heads, embed, embed
        return n_layers, n_heads, d_head * (1 if self.inner is None else self.inner.shape[2]), embed

    @property
    def bias(self) -> Float[Tensor, "source embed"]:
        """What all biases add for one unit of each source; with `beta` it is the constant term."""
        return self.layer_bias.sum(0) + self.readout_bias

    def of(self, layer: int, head: int) -> Float[Tensor, "d_state embed"]:
        """B of one head."""
        if self.B is not None:
            return self.B[layer, head]
        if self.inner is None or self.outer is None:
            return torch.eye(len(self.beta), dtype=self.beta.dtype, device=self.beta.device)
        blocks = einsum(
            self.inner[layer, head], self.outer, "pool d_head d_pool, pool d_pool embed -> pool d_head embed"
        )
        return blocks.flatten(0, 1)

    def in_parts(self, heads: Sequence[tuple[int, int]]) -> Iterator[tuple[slice, Float[Tensor, "head d_state embed"]]]:
        """B of chosen heads, with their places: all at once where they are kept so, else a few at a time."""
        if self.B is not None:
            layers, places = [layer for layer, _ in heads], [head for _, head in heads]
            yield slice(0, len(heads)), self.B[layers, places]
            return
        width, embed = self.shape[2:]
        step = max(1, _NUMBERS // (width * embed))
        for start in range(0, len(heads), step):
            part = heads[start : start + step]
            yield slice(start, start + len(part)), torch.stack([self.of(*head) for head in part])

    def variance(self, scatter: Float[Tensor, "layer head d_state d_state_too"]) -> Float[Tensor, "layer head"]:
        """tr(Bᵀ S B) of every head: the total scatter of its contributions, from that of z, in the type of S."""
        n_layers, n_heads = self.shape[:2]
        if self.is_identity:
            return scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
        heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        squares = scatter.flatten(0, 1)
        parts = [
            ((w := weights.to(squares)) @ w.mT * squares[where]).sum((1, 2)) for where, weights in self.in_parts(heads)
        ]
        return torch.cat(parts).view(n_layers, n_heads)

    def fold(
        self, directions: Float[Tensor, "direction embed"], centre: bool = True
    ) -> Float[Tensor, "layer head d_state direction"]:
        """B_lh t for every head and direction: the dot product of z_lh with it is the head's score along t.

        Raises:
            StoreError: uncentred, for contributions, of which the centred part alone is kept.
        """
        texts = directions.to(self.beta.device, torch.promote_types(directions.dtype, self.beta.dtype)).T
        if self.B is not None:
            folded = self.B.to(texts) @ texts
            return folded if centre else folded + self.head_mean[..., None] * (self.ones[0].to(texts) @ texts)
        n_layers, n_heads, width, _ = self.shape
        if self.inner is None or self.outer is None or self.inner_ones is None:
            self._refuse_uncentred(centre)
            return texts.expand(n_layers, n_heads, width, -1)
        inside = self.outer.to(texts) @ texts
        folded = einsum(
            self.inner.to(texts), inside, "l h pool d_head d_pool, pool d_pool direction -> l h pool d_head direction"
        )
        if not centre:
            ones = einsum(self.inner_ones.to(texts), inside, "pool d_pool, pool d_pool direction -> pool direction")
            folded = folded + self.head_mean[:, :, None, :, None] * ones[:, None]
        return folded.flatten(2, 3)

    def contributions(
        self, z: Float[Tensor, "image layer head *token d_state"], centre: bool = True
    ) -> Float[Tensor, "image layer head *token embed"]:
        """z B for every head (and token), with each row's own mean left in unless `centre`."""
        if self.is_identity:
            self._refuse_uncentred(centre)
            return z
        # One batched product writes the result once; its memory order is layer, head, image, token.
        rows = rearrange(z, "image layer head ... d -> (layer head) image ... d").flatten(1, -2)
        if self.B is not None:
            matrix = self.B if centre else self.B + self.head_mean[..., None] * self.ones[0]
            written = rows @ matrix.flatten(0, 1).to(z)
        else:
            assert self.inner is not None and self.outer is not None and self.inner_ones is not None
            inner = self.inner
            if not centre:
                inner = inner + self.head_mean[:, :, None, :, None] * self.inner_ones[:, None]
            by_pool = rows.unflatten(-1, inner.shape[2:4]).transpose(1, 2) @ inner.flatten(0, 1).to(z)
            written = by_pool.transpose(1, 2).flatten(-2) @ self.outer.flatten(0, 1).to(z)
        by_head = written.view(*z.shape[1:3], z.shape[0], *z.shape[3:-1], written.shape[-1])
        return rearrange(by_head, "layer head image ... embed -> image layer head ... embed")

    def _refuse_uncentred(self, centre: bool) -> None:
        if not centre:
            raise StoreError(
                "These head states are contributions under constants='separate', in the narrower of two forms, and the "
                "means that 'spread' leaves in do not follow from them.",
                "Leave out constants='spread', or use decompose on the images.",
            )


def _class_stem(vision: Tower, dtype: torch.dtype) -> Float[Tensor, "embed"]:
    """What the class token before the first block contributes for σ = 1; no pixel reaches it."""
    if vision.class_token is None:  # the mean of the patches, read by an attention layer without a residual stream
        return torch.zeros(vision.cfg.d_embed, dtype=dtype, device=vision.device)
    token = vision.class_token.to(vision.dtype) + vision.W_pos[0].to(vision.dtype)
    if vision.ln_pre is not None:
        mean, sigma = vision.ln_pre.statistics(token)
        token = (token.to(mean) - mean) / sigma * vision.ln_pre.w.to(mean) + vision.ln_pre.b.to(mean)
    return read_out(vision, token.to(dtype))
