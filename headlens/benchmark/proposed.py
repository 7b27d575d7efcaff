"""LTC with pairs that nobody wrote: proposed from the text bank, as a row of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from headlens.audit import METHODS, Audit, Ingredients
from headlens.steps.methods import ROLES, Method
from headlens.correct import Correction, locate_then_correct
from headlens.errors import TaskError
from headlens.prompts import ProposedPairs, encode_pairs, propose_pairs

NAME = "ltc with proposed pairs"
_COUNT = 6


@contextmanager
def method_of_proposed_pairs(audit: Audit) -> Iterator[list[str]]:
    """Within it `NAME` is a registered method. Yields sentences on the pairs, empty until the method was built.

    The pairs are those of the bank that best tell the classes apart and least the attribute's values; labels of images
    are not read for them.
    """
    said: list[str] = []

    @cache
    def proposed() -> ProposedPairs:
        prototypes = audit.attribute.prototypes(audit.data.texts)
        found = propose_pairs(audit.data.bank, audit.data.texts, audit.data.classifier, prototypes, _COUNT)
        listed = "; ".join(f"{first} / {second}" for first, second in found.pairs)
        said.append(f"Pairs proposed from the text bank, for {NAME}: {listed}.")
        return found

    def build(known: Ingredients) -> Correction:
        pairs = encode_pairs(proposed().pairs, audit.data.texts)
        return locate_then_correct(known.location.spurious, known.location.salient, pairs)

    if NAME in METHODS:
        raise TaskError(f"a registry without {NAME!r}", "one with it", "Register that method under another name.")
    METHODS[NAME] = Method(build, ROLES)
    try:
        yield said
    finally:
        METHODS.pop(NAME, None)
