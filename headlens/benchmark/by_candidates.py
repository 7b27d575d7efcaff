"""Text pairs that depend on the two candidate classes of an image, as in GenderBias-VL.

There every image is classified between two occupations, and what tells *these two* apart is injected (LTC, arXiv
2505.17425). So a method is built once for each two classes, with the pairs filled with their names, and an image gets
the correction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from headlens.benchmark.by_image import every_method, spread
from headlens.benchmark.slots import Pairs, Two, fill_two
from headlens.correct import ByImage, Correction
from headlens.errors import CorrectionError
from headlens.manifest import candidate_indices
from headlens.prompts import encode_pairs
from headlens.registry import Registry
from headlens.steps.data import AuditData
from headlens.steps.methods import Builder, Ingredients, Method


@dataclass(frozen=True, eq=False, repr=False)
class ByCandidates(ByImage):
    """One correction for each two candidate classes.

    Attributes:
        parts: the corrections.
        twos: the two classes that each of them is for, by their indices, the smaller one first.
        classes: the names of all classes, as the manifest's column `candidates` has them.
    """

    name: ClassVar[str] = "by candidates"
    twos: tuple[Two, ...]
    classes: tuple[str, ...]

    def choose(self, target: Any) -> Int[np.ndarray, "image"]:
        """The part for the two classes of each image.

        Raises:
            CorrectionError: where the target's manifest does not say, or for two classes that no part is for.
        """
        part_of = {two: number for number, two in enumerate(self.twos)}
        found = two_candidates(target, self.classes)
        for two in dict.fromkeys(found):
            if two not in part_of:
                names = " and ".join(self.classes[i] for i in two)
                raise CorrectionError("candidates that a correction was built for", names, "Build one for them, too.")
        return np.asarray([part_of[two] for two in found])


def two_candidates(target: Any, classes: Sequence[str]) -> list[Two]:
    """The two candidate classes of each image, the one of the smaller index first.

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


def methods_by_candidates(
    data: AuditData, methods: Registry[Method], pairs: Pairs, crossed: Pairs | None
) -> Registry[Method]:
    """The methods, each built for each two classes, with the pairs of these two."""
    classes = data.question.task.classes
    twos = list(dict.fromkeys(two_candidates(data.test, classes)))
    of_two = {two: encode_pairs(fill_two(pairs, two, classes), data.texts) for two in twos}
    across = {two: encode_pairs(fill_two(crossed, two, classes), data.texts) for two in twos} if crossed else {}

    def by_two(method: Method) -> Builder:
        def built(known: Ingredients) -> Correction:
            own = {
                two: replace(known, pairs=of_two[two], cross_pairs=across.get(two, known.cross_pairs)) for two in twos
            }
            parts = {two: method.build(ingredients) for two, ingredients in own.items()}
            return spread(parts, lambda parts: ByCandidates(tuple(parts.values()), tuple(parts), tuple(classes)))

        return built

    return every_method(methods, by_two)
