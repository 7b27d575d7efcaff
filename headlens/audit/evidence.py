"""What a locator may read: the reference split seen through a task and an attribute, each part made when asked for.

A locator that reads class scores touches no text bank, and one that reads moments no class: so a question costs what it
needs, and a locator registered in a notebook cell has everything at hand that the built-in ones have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit.parts import Parts
from headlens.audit.texts import TextEmbeddings
from headlens.extraction import HeadStore
from headlens.locate import ConflictingGroups, HeadEffects, concept_directions
from headlens.prompts import Attribute, TextBank, ZeroShotTask
from headlens.states import Moments


@dataclass(frozen=True, eq=False)
class Evidence:
    """The reference split of an audit.

    Attributes:
        store: its head states.
        task: the classes.
        attribute: the attribute.
        classifier: the class embeddings, unit norm.
        labels: the true class of each image, as an index.
        values: the attribute's value of each image, as an index.
        texts: embeds prompts, and remembers them.
        bank_of: makes the general text bank, in words that the model knows.
        conflicting_of: finds the conflicting groups from the zero-shot predictions.
        parts: what of these does not depend on the attribute.
        seed: of every draw.
    """

    store: HeadStore
    task: ZeroShotTask
    attribute: Attribute
    classifier: Float[Tensor, "class embed"]
    labels: Int[Tensor, "image"]
    values: Int[Tensor, "image"]
    texts: TextEmbeddings
    bank_of: Callable[[], TextBank] = field(repr=False)
    conflicting_of: Callable[[Int[Tensor, "image"]], ConflictingGroups] = field(repr=False)
    parts: Parts = field(repr=False)
    seed: int = 0

    @property
    def logits(self) -> Float[Tensor, "image class"]:
        """Class scores of the unit embeddings."""
        return self.parts.logits

    @property
    def head_logits(self) -> Float[Tensor, "image layer head class"]:
        """Every head's part of them."""
        return self.parts.head_logits

    @property
    def effects(self) -> HeadEffects:
        """What ablating any heads does to the class scores of these images."""
        return self.parts.effects

    @cached_property
    def conflicting(self) -> ConflictingGroups:
        """The groups in which attribute and class conflict."""
        return self.conflicting_of(self.logits.argmax(dim=-1))

    @cached_property
    def directions(self) -> Float[Tensor, "direction embed"]:
        """The attribute's concept vectors."""
        return concept_directions(self.attribute.prototypes(self.texts))

    @property
    def moments(self) -> Moments:
        """Mean and scatter of every head."""
        return self.parts.moments

    @cached_property
    def prompts(self) -> Float[Tensor, "prompt embed"]:
        """The embeddings of all of the attribute's prompts, not normalised, in the order of the values."""
        return self.texts(attribute_prompts(self.attribute))

    @cached_property
    def bank(self) -> TextBank:
        """The general texts."""
        return self.bank_of()

    @cached_property
    def bank_embeddings(self) -> Float[Tensor, "text embed"]:
        """Their embeddings, not normalised."""
        return self.texts(self.bank.texts)


def attribute_prompts(attribute: Attribute) -> Sequence[str]:
    """All prompts of all values, one after the other."""
    return [prompt for prompts in attribute.values.values() for prompt in prompts]


def as_indices(values: object) -> Int[Tensor, "image"]:
    """Indices as a tensor of torch's index type."""
    return torch.as_tensor(values).to(torch.long)
