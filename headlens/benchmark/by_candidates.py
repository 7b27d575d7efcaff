"""Text pairs that depend on which classes an image is weighed between, as in GenderBias-VL.

There every image is weighed between two occupations, and what tells *these two* apart is injected (LTC, arXiv
2505.17425). So a method is built once for each two classes, with the pairs filled with their names, and an image gets
the correction of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from headlens.benchmark.by_image import ByImage, every_method, spread
from headlens.benchmark.slots import Pairs, Two, fill_two
from headlens.correct import Correction
from headlens.errors import CorrectionError
from headlens.manifest import candidate_indices
from headlens.prompts import encode_pairs
from headlens.registry import Registry
from headlens.steps.data import AuditData
from headlens.steps.methods import Builder, Ingredients, Method


class ByCandidates(ByImage):
    """One correction for each two classes that images are weighed between.

    Args:
        parts: the corrections, by the indices of two classes, the smaller one first.
        classes: the names of all classes, as the manifest's column `candidates` has them.
    """

    name: ClassVar[str] = "by candidates"

    def __init__(self, parts: Mapping[Two, Correction], classes: Sequence[str]):
        super().__init__(parts)
        self.classes = tuple(classes)

    def keys(self, target: Any) -> list[Two]:  # type: ignore[override]
        """The two classes of each image. Raises `CorrectionError` where the target's manifest does not say."""
        return two_candidates(target, self.classes)

    def missing(self, key: Two) -> CorrectionError:
        """For two classes that no correction was built for."""
        names = " and ".join(self.classes[i] for i in key)
        return CorrectionError("candidates that a correction was built for", names, "Build one for them, too.")

    def with_parts(self, parts: Mapping[Two, Correction]) -> ByCandidates:
        """The same rule over other parts."""
        return type(self)(parts, self.classes)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state of each, its arrays under its number."""
        parts, arrays = self.parts_state(lambda two: {"candidates": list(two)})
        return {"classes": list(self.classes), "parts": parts}, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ByCandidates:
        """The inverse of `state`."""
        return cls(cls.parts_from(values["parts"], arrays, lambda part: tuple(part["candidates"])), values["classes"])


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
            return spread(parts, lambda parts: ByCandidates(parts, classes))

        return built

    return every_method(methods, by_two)
