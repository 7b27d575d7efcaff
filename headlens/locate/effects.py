"""What the direct mean ablation of any set of heads does to the class scores, from one projection.

A direct edit is a sum: replacing head h's contribution x_h by its reference mean x̄_h moves the score of class c by
−(x_h − x̄_h)·t_c, whatever else is ablated. So once every head's centred scores are known, a set of heads costs one
addition a head, and a search over hundreds of sets touches no embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId, as_heads


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """Class scores, and how much of them each head brings beyond its reference mean.

    Attributes:
        logits: class scores of the images, nothing ablated.
        centred: (x_h − x̄_h)·t_c, with x̄ the mean over the reference images.
    """

    logits: Float[Tensor, "image class"]
    centred: Float[Tensor, "image layer head class"]

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "image class"],
        head_logits: Float[Tensor, "image layer head class"],
        reference: Float[Tensor, "reference_image layer head class"],
    ) -> HeadEffects:
        """From `embedding @ classifier.T`, `store.project(classifier)`, and the same projection of the reference split.

        Raises:
            LocateError: for shapes that disagree, or a reference without images.
        """
        expected = (len(logits), *reference.shape[1:3], logits.shape[1])
        if tuple(head_logits.shape) != expected or reference.shape[1:] != head_logits.shape[1:] or not len(reference):
            raise LocateError(
                f"head logits of shape {list(expected)} and a reference of one image or more",
                f"{list(head_logits.shape)} and {list(reference.shape)}",
                "Project both splits of one store on the same classifier.",
            )
        # The sum is taken in float64; a copy of either array in float64 would be twice its size.
        mean = reference.detach().mean(0, dtype=torch.float64).to(head_logits.dtype)
        return cls(logits.detach(), head_logits.detach() - mean)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and heads of a layer."""
        return self.centred.shape[1], self.centred.shape[2]

    def without(self, heads: Iterable[tuple[int, int]]) -> Float[Tensor, "image class"]:
        """The class scores with these heads replaced by their reference means; equal to `MeanAblation` to rounding.

        Raises:
            LocateError: for a head outside the tower or a repeated one.
        """
        named = as_heads(heads, *self.shape)
        if not named:
            return self.logits
        layers, indices = (torch.tensor(part) for part in zip(*named, strict=True))
        return self.logits - self.centred[:, layers, indices].sum(1)

    def predictions(self, heads: Iterable[tuple[int, int]] = ()) -> Int[Tensor, "image"]:
        """The class predicted with these heads ablated."""
        return self.without(heads).argmax(dim=-1)

    def heads(self) -> list[HeadId]:
        """Every head of the tower."""
        n_layers, n_heads = self.shape
        return [HeadId(layer, head) for layer in range(n_layers) for head in range(n_heads)]
