"""What a question reads of the reference split whatever its attribute: made once, and handed on to the next question.

A pass over the head states takes longer than everything else that a question needs. Class scores depend on the images
and the classes, moments on the images alone: who asks several questions in turn, as the explorer does, holds on to the
parts of one and lets those of the next adopt them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.extraction import HeadStore
from headlens.locate import HeadEffects
from headlens.states import Moments, head_moments


class Parts:
    """Class scores, heads' parts of them, and moments, each made when asked for.

    Args:
        store: head states of the reference split.
        classifier: the class embeddings, unit norm.
        among: puts the classes that an image is not weighed between below all others.
    """

    def __init__(
        self,
        store: HeadStore,
        classifier: Float[Tensor, "class embed"],
        among: Callable[[Float[Tensor, "image class"]], Float[Tensor, "image class"]],
    ):
        self.store = store
        self.classifier = classifier
        self._among = among

    @cached_property
    def logits(self) -> Float[Tensor, "image class"]:
        """Class scores of the unit embeddings."""
        return self._among(self.store.embedding @ self.classifier.T.to(self.store.embedding))

    @cached_property
    def head_logits(self) -> Float[Tensor, "image layer head class"]:
        """Every head's part of them."""
        return self.store.project(self.classifier)

    @cached_property
    def effects(self) -> HeadEffects:
        """What ablating any heads does to the class scores of these images."""
        return HeadEffects.of(self.logits, self.head_logits, self.head_logits)

    @cached_property
    def moments(self) -> Moments:
        """Mean and scatter of every head."""
        return head_moments(self.store)

    def adopt(self, other: Parts) -> None:
        """Take over what was made for another question of the same images: the moments, and the class scores where the
        classes are the same.

        Args:
            other: of the same rows of the same store, which is not looked at again.
        """
        names = ["moments"]
        if torch.equal(self.classifier, other.classifier):
            names += ["logits", "head_logits", "effects"]
        for name in names:
            if name in vars(other):
                vars(self).setdefault(name, vars(other)[name])
