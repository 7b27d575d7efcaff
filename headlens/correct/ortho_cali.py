"""The calibrated classifier as a correction: images stay as they are, and the class embeddings change.

Follows Chuang et al. 2023 (arXiv 2302.00070); the formula is in `headlens.correct.calibrate`.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.correct.base import Correction
from headlens.correct.calibrate import calibrate_classifier
from headlens.correct.targets import check_width, detached, embedding_of
from headlens.errors import CorrectionError


class OrthoCali(Correction):
    """logits = embedding · calibrate_classifier(classifier, spurious, pairs, weight)ᵀ. It needs no fit.

    Args:
        spurious: embeddings of the spurious prompts ("a photo of the water").
        pairs: embeddings of pairs that differ in the spurious attribute alone ("a landbird on land", "a landbird on
            water"); `headlens.prompts.cross_pairs` makes them from class and attribute prompts.
        weight: λ, 1000 as published.

    Raises:
        CorrectionError: for prompts and pairs of different widths; on `logits`, as `calibrate_classifier` does.

    Limits: `apply` returns what it is given, since only the classifier changes. A class prompt that lies in the span of
    the spurious prompts has nothing left to be calibrated.
    """

    name = "ortho-cali"

    def __init__(
        self,
        spurious: Float[Tensor, "prompt embed"],
        pairs: Float[Tensor, "pair 2 embed"],
        weight: float | int = 1000.0,
    ):
        if spurious.shape[-1] != pairs.shape[-1] or not len(spurious) or not len(pairs):
            raise CorrectionError(
                "prompts and pairs of one width, at least one of each",
                f"shapes {tuple(spurious.shape)} and {tuple(pairs.shape)}",
                "Encode them with one text tower.",
            )
        self.spurious, self.pairs, self.weight = detached(spurious), detached(pairs), float(weight)

    def __repr__(self) -> str:
        return f"OrthoCali({len(self.spurious)} spurious prompts, {len(self.pairs)} pairs, weight {self.weight:g})"

    @property
    def fitted(self) -> bool:
        """Always."""
        return True

    @property
    def changes_classifier(self) -> bool:
        """Always."""
        return True

    def fit(self, reference: Any) -> OrthoCali:
        """Itself: there is nothing to learn."""
        return self

    def apply(self, target: Any) -> Any:
        """The target as it is."""
        return target

    def classifier(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "class embed"]:
        """The calibrated class embeddings, rows of norm one."""
        where = classifier.device
        return calibrate_classifier(classifier, self.spurious.to(where), self.pairs.to(where), self.weight)

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The embeddings along the calibrated classifier."""
        embedding = embedding_of(target)
        check_width("classifier", classifier.shape[-1], embedding)
        return embedding @ self.classifier(classifier).T.to(embedding)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Weight, prompts and pairs."""
        return {"weight": self.weight}, {"spurious": self.spurious, "pairs": self.pairs}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> OrthoCali:
        """The inverse of `state`."""
        return cls(arrays["spurious"], arrays["pairs"], values["weight"])
