"""The same as `headlens.locate.effects`, made head by head when asked.

For the few heads that an audit ablates, on any number of images: the scores of all heads at once may not fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId, as_heads


@runtime_checkable
class Heads(Protocol):
    """A store, or a part of one."""

    @property
    def n_layers(self) -> int:
        """Layers of the tower."""
        ...

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        ...

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """What one head contributes to every image's embedding."""
        ...


class ViewEffects:
    """Class scores of images, and what ablating any set of heads does to them.

    Args:
        logits: class scores with nothing ablated.
        view: the images' heads.
        reference: the images whose mean replaces a head's contribution.
        classifier: the class embeddings.

    Raises:
        LocateError: for towers of different shapes.
    """

    def __init__(
        self,
        logits: Float[Tensor, "image class"],
        view: Heads,
        reference: Heads,
        classifier: Float[Tensor, "class embed"],
    ):
        self.shape = (view.n_layers, view.n_heads)
        if (reference.n_layers, reference.n_heads) != self.shape:
            raise LocateError(
                f"a reference of {self.shape[0]} layers of {self.shape[1]} heads",
                f"{reference.n_layers} layers of {reference.n_heads}",
                "Take both from one model.",
            )
        self.logits = logits
        self._view, self._reference, self._classifier = view, reference, classifier
        self._centred: dict[HeadId, Float[Tensor, "image class"]] = {}

    def centred(self, head: tuple[int, int]) -> Float[Tensor, "image class"]:
        """(x_h − x̄_h)·t_c of one head, kept once it was made."""
        (one,) = as_heads([head], *self.shape)
        if one not in self._centred:
            mean = self._reference.heads(*one).mean(0, dtype=torch.float64)
            own = self._view.heads(*one)
            classes = self._classifier.T.to(own)
            self._centred[one] = own @ classes - (mean @ classes.double()).to(own)
        return self._centred[one]

    def without(self, heads: Iterable[tuple[int, int]]) -> Float[Tensor, "image class"]:
        """The class scores with these heads replaced by their reference means; equal to `MeanAblation` to rounding.

        Raises:
            LocateError: for a head outside the tower or a repeated one.
        """
        logits = self.logits
        for head in as_heads(heads, *self.shape):
            logits = logits - self.centred(head)
        return logits

    def predictions(self, heads: Iterable[tuple[int, int]] = ()) -> Int[Tensor, "image"]:
        """The class predicted with these heads ablated."""
        return self.without(heads).argmax(dim=-1)
