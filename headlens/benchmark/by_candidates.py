"""Text pairs that depend on which classes an image is weighed between, as in GenderBias-VL.

There every image is weighed between two occupations, and what tells *these two* apart is injected (LTC, arXiv
2505.17425). So a method is built once for each two classes, with the pairs filled with their names, and an image gets
the scores of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.audit import METHODS, Audit, Ingredients
from headlens.audit.methods import Builder
from headlens.correct import CORRECTIONS, Correction
from headlens.errors import CorrectionError
from headlens.manifest import candidate_indices
from headlens.prompts import TextPairs, encode_pairs, fill_pairs

Two = tuple[int, int]


class ByCandidates(Correction):
    """One correction for each two classes that images are weighed between; an image gets its own's scores.

    Args:
        parts: the corrections, by the indices of two classes, the smaller one first.
        classes: the names of all classes, as the manifest's column `candidates` has them.
    """

    name: ClassVar[str] = "by candidates"

    def __init__(self, parts: Mapping[Two, Correction], classes: Sequence[str]):
        self.parts, self.classes = dict(parts), tuple(classes)

    def __repr__(self) -> str:
        return f"ByCandidates({len(self.parts)} times {next(iter(self.parts.values()), None)!r})"

    @property
    def fitted(self) -> bool:
        """Whether every one is."""
        return all(one.fitted for one in self.parts.values())

    @property
    def transductive(self) -> bool:
        """Whether any one is."""
        return any(one.transductive for one in self.parts.values())

    @property
    def changes_classifier(self) -> bool:
        """Whether any one does."""
        return any(one.changes_classifier for one in self.parts.values())

    def fit(self, reference: Any) -> ByCandidates:
        """A copy with each fitted on the whole reference."""
        return type(self)({two: one.fit(reference) for two, one in self.parts.items()}, self.classes)

    def apply(self, target: Any) -> Any:
        """Raises `CorrectionError`: there is no one corrected target, only scores of each image."""
        raise CorrectionError(
            "scores, by .logits()", ".apply()", "Each image has a correction of its own; take one of .parts to apply."
        )

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """Each image's scores under the correction of its own two classes.

        Raises:
            CorrectionError: for a target without a manifest with candidates, or with two that have no correction.
        """
        twos = two_candidates(target, self.classes)
        scores: Tensor | None = None
        for two in dict.fromkeys(twos):
            if two not in self.parts:
                names = " and ".join(self.classes[i] for i in two)
                raise CorrectionError("candidates that a correction was built for", names, "Build one for them, too.")
            rows = np.flatnonzero([own == two for own in twos])
            one = self.parts[two]
            # A transductive one takes its means from all scored images, not from those of two classes alone.
            if one.transductive:
                part = one.logits(target, classifier)[rows]
            else:
                part = one.logits(target.subset(rows), classifier)
            if scores is None:
                scores = part.new_zeros((len(twos), part.shape[1]))
            scores[torch.as_tensor(rows)] = part
        assert scores is not None
        return scores

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state of each, its arrays under its number."""
        parts: list[dict[str, Any]] = []
        arrays: dict[str, Tensor] = {}
        for number, (two, one) in enumerate(self.parts.items()):
            values, own = one.state()
            parts.append({"candidates": list(two), "correction": one.name, **values})
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        return {"classes": list(self.classes), "parts": parts}, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ByCandidates:
        """The inverse of `state`."""
        parts = {}
        for number, part in enumerate(values["parts"]):
            prefix = f"{number}."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            first, second = part["candidates"]
            parts[first, second] = CORRECTIONS[part["correction"]].from_state(part, own)
        return cls(parts, values["classes"])


def two_candidates(target: Any, classes: Sequence[str]) -> list[Two]:
    """The two classes that each image is weighed between, the one of the smaller index first.

    Which of the two is the true one must not show, and does not: a pair of texts and its reverse do the same.

    Raises:
        CorrectionError: where the target's manifest does not say, or names other than two.
    """
    manifest = getattr(target, "manifest", None)
    if manifest is None or "candidates" not in manifest.columns:
        raise CorrectionError(
            "images with a column `candidates` in their manifest", "none", "Write [first class, second class] as JSON."
        )
    found = candidate_indices(manifest, classes)
    for own in found:
        if own is None or len(set(own)) != 2:
            raise CorrectionError("two candidates for every image", f"{own}", "Name two classes.")
    return [(min(own), max(own)) for own in found if own is not None]


def has_slots(pairs: Sequence[Sequence[str]] | None) -> bool:
    """Whether pairs wait for the names of two classes."""
    return any("{" in text for pair in pairs or () for text in pair)


def filled(pairs: Sequence[Sequence[str]], twos: Sequence[Two], classes: Sequence[str]) -> TextPairs:
    """The pairs of all of these two classes, each once."""
    return list(dict.fromkeys(pair for two in twos for pair in _fill(pairs, two, classes)))


def _fill(pairs: Sequence[Sequence[str]], two: Two, classes: Sequence[str]) -> TextPairs:
    words = {"first": classes[two[0]].lower(), "second": classes[two[1]].lower()}
    done: TextPairs = []
    for pair in pairs:
        used = {name: word for name, word in words.items() if any(f"{{{name}}}" in text for text in pair)}
        done += fill_pairs([pair], **used)
    return done


@contextmanager
def methods_by_candidates(
    audit: Audit, pairs: Sequence[Sequence[str]], crossed: Sequence[Sequence[str]] | None
) -> Iterator[None]:
    """Within it every registered method is built for each two classes, with the pairs of these two.

    A random control builds a method by its name, and so gets the same.
    """
    classes = audit.task.classes
    twos = list(dict.fromkeys(two_candidates(audit.test, classes)))
    of_two = {two: encode_pairs(_fill(pairs, two, classes), audit.texts) for two in twos}
    across = {two: encode_pairs(_fill(crossed, two, classes), audit.texts) for two in twos} if crossed else {}
    before = dict(METHODS)

    def by_two(build: Builder) -> Builder:
        def built(known: Ingredients) -> Correction:
            own = {
                two: replace(known, pairs=of_two[two], cross_pairs=across.get(two, known.cross_pairs)) for two in twos
            }
            return ByCandidates({two: build(ingredients) for two, ingredients in own.items()}, classes)

        return built

    try:
        METHODS.update({name: replace(method, build=by_two(method.build)) for name, method in before.items()})
        yield
    finally:
        METHODS.clear()
        METHODS.update(before)
