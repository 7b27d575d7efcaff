"""LTC with pairs that nobody wrote: proposed from the text bank, as a row of its own."""

from __future__ import annotations

from functools import cache

from headlens.correct import Correction, locate_then_correct
from headlens.prompts import ProposedPairs, encode_pairs, propose_pairs
from headlens.steps.data import AuditData
from headlens.steps.methods import ROLES, Ingredients, Method

NAME = "ltc with proposed pairs"
_COUNT = 6


def method_of_proposed_pairs(data: AuditData) -> tuple[Method, list[str]]:
    """The method, and a list that gets a sentence on the pairs once it is built.

    The pairs are those of the bank that best tell the classes apart and least the attribute's values; labels of images
    are not read for them.
    """
    said: list[str] = []

    @cache
    def proposed() -> ProposedPairs:
        prototypes = data.question.attribute.prototypes(data.texts)
        found = propose_pairs(data.bank, data.texts, data.classifier, prototypes, _COUNT)
        listed = "; ".join(f"{first} / {second}" for first, second in found.pairs)
        said.append(f"Pairs proposed from the text bank, for {NAME}: {listed}.")
        return found

    def build(known: Ingredients) -> Correction:
        return locate_then_correct(known.spurious, known.salient, encode_pairs(proposed().pairs, data.texts))

    return Method(build, ROLES), said
