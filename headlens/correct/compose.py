"""Corrections one after the other, in the order given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from headlens.correct.ablation import MeanAblation
from headlens.correct.base import CORRECTIONS, Correction
from headlens.correct.injection import KnowledgeInjection
from headlens.errors import CorrectionError


class Compose(Correction):
    """The first correction, then the second on its result, and so on; order matters where they touch the same heads.

    `fit` fits each on the reference as the ones before it leave it. No correction at all leaves everything as it is.
    One that changes the classifier (a calibrated classifier, a probe) can only stand last: it reads the embeddings that
    the edits before it leave.

    Raises:
        CorrectionError: for anything but corrections, and for a change of the classifier that is not the last.
    """

    name = "compose"

    def __init__(self, corrections: Sequence[Correction]):
        for one in corrections:
            if not isinstance(one, Correction):
                raise CorrectionError("corrections", f"a {type(one).__name__}", "Pass a list of corrections.")
        self.corrections = tuple(corrections)
        early = [one for one in self.corrections[:-1] if one.changes_classifier]
        if early:
            raise CorrectionError(
                "at most one correction that changes the classifier, in the last place",
                f"{early[0]!r} before {self.corrections[-1]!r}",
                "Two classifiers cannot follow each other: move it to the end, or leave the other out.",
            )

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.corrections))}])"

    @property
    def fitted(self) -> bool:
        """Whether every one is."""
        return all(one.fitted for one in self.corrections)

    @property
    def transductive(self) -> bool:
        """Whether any one is."""
        return any(one.transductive for one in self.corrections)

    @property
    def changes_classifier(self) -> bool:
        """Whether the last one does."""
        return any(one.changes_classifier for one in self.corrections)

    def fit(self, reference: Any) -> Compose:
        """A copy with each fitted on the reference as the ones before it leave it."""
        fitted: list[Correction] = []
        for one in self.corrections:
            fitted.append(one.fit(reference))
            reference = fitted[-1].apply(reference)
        return type(self)(fitted)

    def apply(self, target: Any) -> Any:
        """The target after all of them."""
        for one in self.corrections:
            target = one.apply(target)
        return target

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The last one's scores of the target as the ones before leave it."""
        if not self.corrections:
            return super().logits(target, classifier)
        for one in self.corrections[:-1]:
            target = one.apply(target)
        return self.corrections[-1].logits(target, classifier)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state of each, its arrays under its number."""
        parts: list[dict[str, Any]] = []
        arrays: dict[str, Tensor] = {}
        for number, one in enumerate(self.corrections):
            values, own = one.state()
            parts.append({"correction": one.name, **values})
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        return {"corrections": parts}, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> Compose:
        """The inverse of `state`."""
        parts = []
        for number, part in enumerate(values["corrections"]):
            prefix = f"{number}."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            parts.append(CORRECTIONS[part["correction"]].from_state(part, own))
        return cls(parts)


def locate_then_correct(
    spurious: Iterable[tuple[int, int]],
    salient: Iterable[tuple[int, int]],
    pairs: Float[Tensor, "pair 2 embed"],
    reference: Literal["split", "self"] = "split",
) -> Compose:
    """LTC (Yeo et al. 2025, arXiv 2505.17425): mean ablation of the spurious heads, then injection on the salient ones.

    Args:
        spurious: Z_SY of `headlens.locate.contrastive`.
        salient: Z_Y of the same.
        pairs: text embeddings that true features tell apart, not normalised.
        reference: where the means come from; see `MeanAblation`.
    """
    return Compose([MeanAblation(spurious, reference), KnowledgeInjection(salient, pairs)])
