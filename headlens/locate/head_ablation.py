"""What the direct mean ablation of any set of heads does to the class scores.

A direct edit is a sum: replacing head h's contribution x_h by its reference mean x̄_h moves the score of class c by
−(x_h − x̄_h)·t_c, whatever else is ablated. So once a head's centred scores are known, a set of heads costs one addition
a head, and a search over hundreds of sets touches no embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId, HeadLike, as_heads

MAX_BYTES = 1 << 30
"""How much of the heads' class scores is kept in memory."""


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

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """What one head contributes to every image's embedding, along every direction."""
        ...


class HeadEffects:
    """Class scores of images, and how much of them each head brings beyond its reference mean.

    Made by `of`, where every head's scores are at hand, or by `of_view`, which makes a head's when it is asked for and
    keeps no more of them than `max_bytes`: all at once may not fit in memory.

    Args:
        logits: class scores of the images, nothing ablated.
        shape: layers, and heads of a layer.
        centred: (x_h − x̄_h)·t_c of one head.
        max_bytes: how much of the heads' scores is kept; more is computed again each time.
    """

    def __init__(
        self,
        logits: Float[Tensor, "image class"],
        shape: tuple[int, int],
        centred: Callable[[HeadId], Float[Tensor, "image class"]],
        max_bytes: int = MAX_BYTES,
    ):
        self.logits = logits
        self.shape = shape
        self.max_bytes = max_bytes
        self._make = centred
        self._made: dict[HeadId, Float[Tensor, "image class"]] = {}
        self._every: Float[Tensor, "image head class"] | None = None

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
                f"Head logits {list(head_logits.shape)} and a reference {list(reference.shape)} do not belong to "
                f"logits {list(logits.shape)}.",
                "Project both splits of one store, each of one image or more, on the same classifier.",
            )
        # The sum is taken in float64; a copy of either array in float64 would be twice its size.
        mean = reference.detach().mean(0, dtype=torch.float64).to(head_logits.dtype)
        return cls.of_centred(logits.detach(), head_logits.detach() - mean)

    @classmethod
    def of_centred(
        cls, logits: Float[Tensor, "image class"], centred: Float[Tensor, "image layer head class"]
    ) -> HeadEffects:
        """From (x_h − x̄_h)·t_c of all heads."""
        effects = cls(logits, (centred.shape[1], centred.shape[2]), lambda head: centred[:, head.layer, head.head])
        effects._every = centred.flatten(1, 2)
        return effects

    @classmethod
    def of_view(
        cls,
        logits: Float[Tensor, "image class"],
        view: Heads,
        reference: Heads,
        classifier: Float[Tensor, "class embed"],
    ) -> HeadEffects:
        """From the images' heads, those of the images whose mean replaces them, and the class embeddings.

        Raises:
            LocateError: for towers of different shapes.
        """
        shape, other = (view.n_layers, view.n_heads), (reference.n_layers, reference.n_heads)
        if shape != other:
            raise LocateError(
                f"The images have {shape[0]} layers of {shape[1]} heads, the reference {other[0]} of {other[1]}.",
                "Take both from one model.",
            )

        def centred(head: HeadId) -> Float[Tensor, "image class"]:
            own = view.project_head(*head, classifier)
            other = own if reference is view else reference.project_head(*head, classifier)
            return own - other.mean(0, dtype=torch.float64).to(own)

        return cls(logits, shape, centred)

    def centred(self, head: HeadLike) -> Float[Tensor, "image class"]:
        """(x_h − x̄_h)·t_c of one head."""
        (one,) = as_heads([head], *self.shape)
        if one in self._made:
            return self._made[one]
        made = self._make(one)
        if (len(self._made) + 1) * made.nbytes <= self.max_bytes:
            self._made[one] = made
        return made

    def block(self, heads: list[int]) -> Float[Tensor, "image some_head class"]:
        """The same for several heads, ascending and counted through the layers."""
        if self._every is None:
            return torch.stack([self.centred(divmod(head, self.shape[1])) for head in heads], dim=1)
        # A run of neighbours is a view; anything else is copied.
        run = bool(heads) and heads[-1] - heads[0] + 1 == len(heads)
        return self._every[:, heads[0] : heads[-1] + 1] if run else self._every[:, heads]

    def without(self, heads: Iterable[HeadLike]) -> Float[Tensor, "image class"]:
        """The class scores with these heads replaced by their reference means; equal to `MeanAblation` to rounding.

        Raises:
            LocateError: for a head outside the tower or a repeated one.
        """
        named = as_heads(heads, *self.shape)
        if not named:
            return self.logits
        if self._every is not None:
            return self.logits - self._every[:, [head.layer * self.shape[1] + head.head for head in named]].sum(1)
        logits = self.logits
        for head in named:
            logits = logits - self.centred(head)
        return logits

    def predictions(self, heads: Iterable[HeadLike] = ()) -> Int[Tensor, "image"]:
        """The class predicted with these heads ablated."""
        return self.without(heads).argmax(dim=-1)

    def heads(self) -> list[HeadId]:
        """Every head of the tower."""
        n_layers, n_heads = self.shape
        return [HeadId(layer, head) for layer in range(n_layers) for head in range(n_heads)]
