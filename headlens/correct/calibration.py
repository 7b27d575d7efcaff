"""Calibrating a zero-shot classifier away from spurious directions: images stay, and the class embeddings change.

Follows Chuang et al. 2023, *Debiasing Vision-Language Models via Biased Prompts* (arXiv 2302.00070):

1. P0 = I − projection on the span of the spurious prompts (such as "a photo with a water background").
2. M = mean over candidate pairs (i, j) of (e_i − e_j)(e_i − e_j)ᵀ: texts that differ in the spurious attribute alone
   ("a waterbird on land" / "on water") and ought to mean the same.
3. t ← unit(t P0 (λM + I)⁻¹).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.correct.base import ClassifierCorrection
from headlens.correct.views import along
from headlens.errors import CorrectionError


def calibrate_classifier(
    classifier: Float[Tensor, "class embed"],
    spurious: Float[Tensor, "prompt embed"],
    pairs: Float[Tensor, "pair 2 embed"],
    weight: float | int = 1000.0,
) -> Float[Tensor, "class embed"]:
    """Rows unit(t P0 (λM + I)⁻¹): the classifier without the spurious span, and nearly blind to the pairs' differences.

    Args:
        classifier: the class embeddings.
        spurious: embeddings of the spurious prompts; brought to unit norm here.
        pairs: embeddings of the candidate pairs; brought to unit norm here.
        weight: λ.

    Returns:
        Class embeddings of norm one, in the precision of `classifier`.

    Raises:
        CorrectionError: for widths that disagree, no prompt or no pair, numbers that are not finite, a weight below
            zero, prompts of norm zero, and where a class has nothing left outside the spurious span.

    Limits: images are left as they are; what of the bias lies outside the prompts' span stays. λ multiplies the
    rounding of M, so M's terms are formed in the precision of the prompts, as published, and inverted in float64.
    """
    width = classifier.shape[-1]
    if spurious.shape[-1] != width or pairs.shape[-1] != width or not len(spurious) or not len(pairs):
        raise CorrectionError(
            f"prompts and pairs of width {width}, at least one of each",
            f"shapes {tuple(spurious.shape)} and {tuple(pairs.shape)}",
            "Encode them with the text tower that made the classifier.",
        )
    if not weight >= 0:
        raise CorrectionError("a weight of zero or more", f"{weight}", "The published value is 1000.")
    for name, values in (("classifier", classifier), ("prompts", spurious), ("pairs", pairs)):
        if not bool(torch.isfinite(values).all()) or not bool((values.norm(dim=-1) > 0).all()):
            raise CorrectionError(f"finite {name} of norm above zero", "NaN, infinite or zero rows", "Check the texts.")
    outside = torch.eye(width, dtype=torch.float64, device=classifier.device) - _projection(_unit(spurious))
    spread = _spread(_unit(pairs))
    shrink = torch.linalg.inv(weight * spread + torch.eye(width, dtype=torch.float64, device=classifier.device))
    rows = classifier.double() @ outside @ shrink
    if bool((rows.norm(dim=1) <= 1e-9 * classifier.double().norm(dim=1)).any()):
        raise CorrectionError(
            "a part of every class embedding outside the span of the spurious prompts",
            f"a class with nothing left after removing {len(spurious)} prompts",
            "Use fewer spurious prompts, and none that names a class.",
        )
    return normalize(rows, dim=1).to(classifier.dtype)


def _unit(x: Float[Tensor, "... embed"]) -> Float[Tensor, "... embed"]:
    return normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def _projection(prompts: Float[Tensor, "prompt embed"]) -> Float[Tensor, "embed embed"]:
    _, sizes, basis = torch.linalg.svd(prompts.double(), full_matrices=False)
    # Prompts that repeat each other span less than their number; a basis vector of mere rounding must not count.
    kept = basis[sizes > sizes[0] * max(prompts.shape) * torch.finfo(prompts.dtype).eps]
    return kept.T @ kept


def _spread(pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "embed embed"]:
    total = torch.zeros(pairs.shape[-1], pairs.shape[-1], dtype=torch.float64, device=pairs.device)
    for a, b in pairs:
        term = torch.outer(a, a) + torch.outer(b, b) - torch.outer(a, b) - torch.outer(b, a)
        total += term.double()
    return total / len(pairs)


@dataclass(frozen=True, eq=False, repr=False)
class OrthoCali(ClassifierCorrection):
    """logits = embedding · calibrate_classifier(classifier, spurious, pairs, weight)ᵀ. It needs no fit.

    Attributes:
        spurious: embeddings of the spurious prompts ("a photo of the water").
        pairs: embeddings of pairs that differ in the spurious attribute alone ("a landbird on land", "a landbird on
            water"); `headlens.prompts.cross_pairs` makes them from class and attribute prompts.
        weight: λ, 1000 as published.

    Raises:
        CorrectionError: for prompts and pairs of different widths; on `logits`, as `calibrate_classifier` does.

    Limits: a class prompt that lies in the span of the spurious prompts has nothing left to be calibrated.
    """

    name: ClassVar[str] = "ortho-cali"
    spurious: Float[Tensor, "prompt embed"]
    pairs: Float[Tensor, "pair 2 embed"]
    weight: float | int = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(weight=float(self.weight))
        if self.spurious.shape[-1] != self.pairs.shape[-1] or not len(self.spurious) or not len(self.pairs):
            raise CorrectionError(
                "prompts and pairs of one width, at least one of each",
                f"shapes {tuple(self.spurious.shape)} and {tuple(self.pairs.shape)}",
                "Encode them with one text tower.",
            )

    def classifier(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "class embed"]:
        """The calibrated class embeddings, rows of norm one."""
        where = classifier.device
        return calibrate_classifier(classifier, self.spurious.to(where), self.pairs.to(where), self.weight)

    def scores(
        self, embedding: Float[Tensor, "image embed"], classifier: Float[Tensor, "class embed"]
    ) -> Float[Tensor, "image class"]:
        """The embeddings along the calibrated classifier."""
        return along(embedding, self.classifier(classifier))
