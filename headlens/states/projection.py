"""Text directions folded through the weights, ready to meet the head states of any number of images."""

from __future__ import annotations

from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import StoreError
from headlens.states.basis import HeadBasis

_NUMBERS = 1 << 19  # of images' own directions at once, so that they stay in the processor's cache
_FEW = 3  # directions that take less time one after the other than in a batched product


class Projection:
    """(z_lh/‖f‖) · (B_lh t) for every head and direction t.

    Under constants='spread' B is the uncentred basis, and each head further gets s (C(b_O[l]) · t) / H of
    its layer's output bias and (βP − m·1P) · t / (H (2L + 1)) of shift and mean, with s and m the image's
    `scale` and `shift`, 1P the basis' `ones`, H heads and L layers.

    Args:
        basis: the basis of all heads.
        directions: t.
        constants: "separate" or "spread".
        head: layer and head, where one alone is asked for.

    Raises:
        StoreError: for directions of another width, or an unknown `constants`.
    """

    def __init__(
        self,
        basis: HeadBasis,
        directions: Float[Tensor, "direction embed"],
        constants: str = "separate",
        head: tuple[int, int] | None = None,
    ):
        n_layers, n_heads, _, width = basis.shape
        if directions.ndim != 2 or directions.shape[1] != width:
            raise StoreError(
                f"directions of shape [direction, {width}]",
                f"shape {list(directions.shape)}",
                "Take them from the text tower of the model that the store was made with.",
            )
        if constants not in ("separate", "spread"):
            raise StoreError("constants to be 'separate' or 'spread'", repr(constants), "Choose one of the two.")
        basis = basis if head is None else basis.only(*head)
        texts = directions.detach().to(basis.beta)
        self.folded = basis.fold(texts, centre=constants == "separate")
        self.bias: Tensor | None = None
        if constants == "spread":
            ones = basis.ones @ texts.T
            share = n_heads * (2 * n_layers + 1)
            self.bias = (basis.layer_bias @ texts.T + basis.bias_mean[..., None] * ones) / n_heads
            self.once = basis.beta @ texts.T / share
            self.readout_bias, self.ones = basis.readout_bias @ texts.T / share, ones / share

    def between(
        self,
        z: Float[Tensor, "image layer head d_head"],
        norm: Float[Tensor, "image"],
        first: Int[Tensor, "image"],
        second: Int[Tensor, "image"],
    ) -> Float[Tensor, "image layer head"]:
        """(z_lh/‖f‖) · B_lh (t_first − t_second), each image with directions of its own, by their numbers."""
        result = norm.new_empty(z.shape[:3])
        for rows in torch.arange(len(z)).split(max(1, _NUMBERS // z[0].numel())):
            where = slice(int(rows[0]), int(rows[-1]) + 1)
            # index_select takes a third of the time of indexing by a tensor.
            along = self._by_direction.index_select(0, first[where])
            along.sub_(self._by_direction.index_select(0, second[where]))
            torch.sum(along.to(norm).mul_(z[where]), dim=-1, out=result[where])
        return result.div_(norm[:, None, None])

    @cached_property
    def _by_direction(self) -> Float[Tensor, "direction layer head d_head"]:
        return rearrange(self.folded, "layer head d_head direction -> direction layer head d_head").contiguous()

    def into(
        self,
        result: Float[Tensor, "image layer head direction"],
        z: Float[Tensor, "image layer head d_head"],
        scale: Float[Tensor, "image source"],
        shift: Float[Tensor, "image source"],
        norm: Float[Tensor, "image"],
    ) -> None:
        """Fill `result` for a block of images."""
        z = z.to(norm)
        if result.shape[-1] <= _FEW:
            for place, along in enumerate(self._by_direction.to(norm)):
                torch.sum(z * along, dim=-1, out=result[..., place])
        else:
            by_head = rearrange(z, "image layer head d_head -> (layer head) image d_head")
            weights = rearrange(self.folded.to(norm), "layer head d_head direction -> (layer head) d_head direction")
            scores = torch.bmm(by_head, weights).unflatten(0, z.shape[1:3])
            result.copy_(rearrange(scores, "layer head image direction -> image layer head direction"))
        if self.bias is not None:
            biases = torch.einsum("is,lst->ilt", scale, self.bias.to(norm))
            shares = self.once.to(norm) + scale @ self.readout_bias.to(norm) - shift @ self.ones.to(norm)
            result += (biases + shares[:, None])[:, :, None]
        result /= norm[:, None, None, None]
