"""Corrections one after the other, and corrections of which each image gets one of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.correct.base import Correction
from headlens.correct.directions import KnowledgeInjection
from headlens.correct.head_ablation import MeanAblation
from headlens.correct.views import Piece, RoutedView, described, embedding_of, put_together
from headlens.errors import CorrectionError
from headlens.heads import HeadId


@dataclass(frozen=True, eq=False, repr=False)
class Compose(Correction):
    """The first correction, then the second on its result, and so on; order matters where they touch the same heads.

    `fit` fits each on the reference as the ones before it leave it. No correction at all leaves everything as it is.
    One that changes the classifier (a calibrated classifier, a probe) can only stand last: it reads the embeddings that
    the edits before it leave. Under `constants` targets are first seen in that convention, for which they have to be
    stores (`HeadStore.with_constants`): an array does not say which convention it is in.

    Attributes:
        corrections: the corrections, in their order.
        constants: "spread", or None for targets as they come.

    Raises:
        CorrectionError: for anything but corrections, and for a change of the classifier that is not the last; on use
            under `constants`, for a target that is no store.
    """

    name: ClassVar[str] = "compose"
    corrections: Sequence[Correction]
    constants: Literal["separate", "spread"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(corrections=_checked(self.corrections))
        early = [one for one in self.corrections[:-1] if one.changes_classifier]
        if early:
            raise CorrectionError(
                "at most one correction that changes the classifier, in the last place",
                f"{early[0]!r} before {self.corrections[-1]!r}",
                "Two classifiers cannot follow each other: move it to the end, or leave the other out.",
            )

    def fit(self, reference: Any) -> Compose:
        """A copy with each fitted on the reference as the ones before it leave it."""
        fitted: list[Correction] = []
        reference = self._seen(reference)
        for one in self.corrections:
            fitted.append(one.fit(reference))
            reference = fitted[-1].apply(reference)
        return replace(self, corrections=tuple(fitted))

    def change(self, target: Any) -> Any:
        """The target after all of them."""
        target = self._seen(target)
        for one in self.corrections:
            target = one.apply(target)
        return target

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The last one's scores of the target as the ones before leave it."""
        if not self.corrections:
            return super().logits(target, classifier)
        target = self._seen(target)
        for one in self.corrections[:-1]:
            target = one.apply(target)
        return self.corrections[-1].logits(target, classifier)

    def _seen(self, target: Any) -> Any:
        if self.constants is None:
            return target
        if not callable(getattr(target, "with_constants", None)):
            raise CorrectionError(
                f"a store, which has contributions under constants={self.constants!r}",
                described(target),
                "Apply it to a store or its subset.",
            )
        return target.with_constants(self.constants)


@dataclass(frozen=True, eq=False, repr=False)
class ByImage(Correction):
    """Several corrections, of which each image gets one, by a rule that reads no label.

    A subclass is a rule. Some suites correct images of different kinds differently: each image of GenderBias-VL is
    scored between two occupations of its own, and an animal of CounterAnimal gets heads and text pairs of the class
    that it is taken for.

    Attributes:
        parts: the corrections.
    """

    parts: Sequence[Correction]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(parts=_checked(self.parts))

    @abstractmethod
    def choose(self, target: Any) -> Int[np.ndarray, "image"]:
        """For each image of the target, which part it gets. Raises `CorrectionError` for an image without one."""

    def learn(self, reference: Any) -> dict[str, Any]:
        """Each part, fitted on the whole reference."""
        return {"parts": tuple(one.fit(reference) for one in self.parts)}

    def change(self, target: Any) -> RoutedView:
        """The target, each image as its own correction leaves it; needs a target with `subset`, such as a store."""
        pieces = [piece._replace(view=one.apply(piece.view)) for one, piece in self._routed(target)]
        return RoutedView(target, pieces)

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """Each image's scores under its own correction.

        Raises:
            CorrectionError: for a target that cannot be taken apart, or an image of a kind that no part is for.
        """
        routed = self._routed(target)
        return put_together(
            [piece for _, piece in routed], [one.logits(piece.view, classifier) for one, piece in routed]
        )

    def _routed(self, target: Any) -> list[tuple[Correction, Piece]]:
        if not callable(getattr(target, "subset", None)):
            raise CorrectionError(
                "a store, whose images can be taken apart", described(target), "Pass a store or its subset."
            )
        chosen = self.choose(target)
        routed = []
        for number in np.unique(chosen):
            one, rows = self.parts[number], np.flatnonzero(chosen == number)
            # A transductive one takes its means from all scored images, not from those of its own kind alone.
            piece = Piece(rows, target, rows) if one.transductive else Piece(rows, target.subset(rows))
            routed.append((one, piece))
        return routed


@dataclass(frozen=True, eq=False, repr=False)
class ByClass(ByImage):
    """One correction for each of some classes; an image gets that of the class that zero-shot takes it for.

    Attributes:
        parts: the corrections.
        labels: the class that each of them is for, by its index.
        classifier: the class embeddings that predict, unit norm.
        route: for every predicted class the class whose correction is used; −1 for the highest scored one with one.

    Raises:
        CorrectionError: for labels that do not fit the parts, and a route to a class without a correction.
    """

    name: ClassVar[str] = "by class"
    labels: Sequence[int]
    classifier: Float[Tensor, "class embed"]
    route: Int[Tensor, "class"]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(labels=tuple(int(label) for label in self.labels))
        if len(self.labels) != len(self.parts):
            raise CorrectionError(
                f"a class for each of {len(self.parts)} corrections", f"{len(self.labels)}", "Name one each."
            )
        missing = sorted(set(self.route.tolist()) - {-1, *self.labels})
        if missing:
            raise CorrectionError(
                "a correction for every class of the route", f"none for class {missing[0]}", "Build it, too."
            )

    def choose(self, target: Any) -> Int[np.ndarray, "image"]:
        """The part whose class each image is taken for, from its embedding alone."""
        embedding = embedding_of(target)
        scores = embedding @ self.classifier.T.to(embedding)
        own = self.route.to(scores.device)[scores.argmax(dim=1)]
        there = torch.as_tensor(sorted(self.labels), device=scores.device)
        highest = there[scores[:, there].argmax(dim=1)]
        part_of = {label: number for number, label in enumerate(self.labels)}
        return np.asarray([part_of[label] for label in torch.where(own < 0, highest, own).tolist()])


def locate_then_correct(
    spurious: Iterable[tuple[int, int]],
    salient: Iterable[tuple[int, int]],
    pairs: Float[Tensor, "pair 2 embed"],
    reference: Literal["split", "self"] = "split",
    constants: Literal["separate", "spread"] | None = None,
) -> Compose:
    """LTC (Yeo et al. 2025, arXiv 2505.17425): mean ablation of the spurious heads, then injection on the salient ones.

    Args:
        spurious: Z_SY of `headlens.locate.contrastive`.
        salient: Z_Y of the same.
        pairs: text embeddings that true features distinguish, not normalised.
        reference: where the means come from; see `MeanAblation`.
        constants: "spread" for the published convention; see `Compose`.
    """
    ablated, injected = ([HeadId.of(head) for head in heads] for heads in (spurious, salient))
    return Compose([MeanAblation(ablated, reference), KnowledgeInjection(injected, pairs)], constants)


def _checked(corrections: Sequence[Any]) -> tuple[Correction, ...]:
    for one in corrections:
        if not isinstance(one, Correction):
            raise CorrectionError(f"A {type(one).__name__} is not a correction.", "Pass a list of corrections.")
    return tuple(corrections)
