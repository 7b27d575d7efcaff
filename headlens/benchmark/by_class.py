"""Heads and text pairs of the class that an image is taken for, as in CounterAnimal.

With 45 animals or 1,000 classes there is no one list of salient heads and no one list of pairs: LTC (arXiv 2505.17425)
locates Z_Y for every class, and injects what tells it from the class that it is mostly mistaken for. At test time the
class is not known; the one that zero-shot predicts stands in for it (see `headlens.locate.by_class`), so that the
result of an image depends on that image alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit import Audit, Ingredients
from headlens.audit.evidence import as_indices
from headlens.audit.methods import Builder, Method
from headlens.benchmark.by_image import ByImage, every_method, spread
from headlens.benchmark.slots import Pairs, fill_two, has_slots
from headlens.correct import Correction
from headlens.correct.targets import detached, embedding_of
from headlens.errors import CorrectionError, LocateError
from headlens.heads import HeadId
from headlens.locate import Located, layer_matched, margins_of, rivals, routes, salient_by_class
from headlens.prompts import encode_pairs


class ByClass(ByImage):
    """One correction for each of some classes; an image gets that of the class that zero-shot takes it for.

    Args:
        parts: the corrections, by the index of a class.
        classifier: the class embeddings that predict, unit norm.
        route: for every predicted class the class whose correction is used; −1 for the highest scored one with one.
    """

    name: ClassVar[str] = "by class"

    def __init__(
        self,
        parts: Mapping[int, Correction],
        classifier: Float[Tensor, "class embed"],
        route: Int[Tensor, "class"],
    ):
        super().__init__(parts)
        self.classifier, self.route = detached(classifier), detached(route)

    def keys(self, target: Any) -> list[int]:  # type: ignore[override]
        """The class whose correction each image gets, from its embedding alone."""
        embedding = embedding_of(target)
        scores = embedding @ self.classifier.T.to(embedding)
        own = self.route.to(scores.device)[scores.argmax(dim=1)]
        there = torch.as_tensor(sorted(self.parts), device=scores.device)
        highest = there[scores[:, there].argmax(dim=1)]
        return torch.where(own < 0, highest, own).tolist()

    def missing(self, key: int) -> CorrectionError:
        """For a route to a class without a correction."""
        return CorrectionError("a correction for every class of the route", f"none for class {key}", "Build it, too.")

    def with_parts(self, parts: Mapping[int, Correction]) -> ByClass:
        """The same rule over other parts."""
        return type(self)(parts, self.classifier, self.route)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The rule, and the state of each part, its arrays under its number."""
        parts, arrays = self.parts_state(lambda label: {"class": label})
        return {"parts": parts}, arrays | {"classifier": self.classifier, "route": self.route}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ByClass:
        """The inverse of `state`."""
        parts = cls.parts_from(values["parts"], arrays, lambda part: part["class"])
        return cls(parts, arrays["classifier"], arrays["route"])


@dataclass(frozen=True)
class Rivals:
    """What the reference images of one value of the attribute say about the classes.

    Attributes:
        value: that value.
        rival: for every class, by its index, the class that it is mostly mistaken for.
        route: for every predicted class the class whose heads an image gets; −1 for none.
    """

    value: str
    rival: dict[int, int]
    route: Int[Tensor, "class"]


def class_rivals(audit: Audit, value: str) -> Rivals:
    """The rivals of the classes, on the reference images with that value of the attribute."""
    evidence, rows = audit.evidence(), _members(audit, value)
    logits, labels = evidence.logits[rows], evidence.labels[rows]
    return Rivals(value, rivals(logits, labels), routes(logits, labels))


def class_heads(audit: Audit, value: str) -> dict[int, list[HeadId]]:
    """Z_Y of every class, located on the reference images with that value, without the spurious heads.

    A class without one gets the audit's own salient heads.
    """
    evidence, rows, located = audit.evidence(), _members(audit, value), audit.located()
    head_logits = evidence.store.subset(rows.numpy()).project(evidence.classifier)
    margins, decisions = margins_of(head_logits, evidence.logits[rows], evidence.labels[rows])
    return salient_by_class(margins, decisions, located.spurious, located.salient)


def methods_by_class(
    audit: Audit, found: Rivals, heads: Mapping[int, Sequence[HeadId]], pairs: Pairs | None, crossed: Pairs | None
) -> AbstractContextManager[None]:
    """Within it every registered method is built for each class, with its heads and its pairs.

    A method that brings a locator of its own keeps that locator's heads. Where a random control puts other heads in the
    place of the located ones, every class draws as many others of its own heads' layers.
    """
    classes, located = audit.task.classes, audit.located()

    def encoded(texts: Pairs | None, label: int) -> Tensor | None:
        if not has_slots(texts):
            return None  # the same for every class, as the audit has them
        return encode_pairs(fill_two(texts or (), (label, found.rival[label]), classes), audit.texts)

    of_class = {label: encoded(pairs, label) for label in heads}
    across = {label: encoded(crossed, label) for label in heads}

    def by_class(method: Method) -> Builder:
        def of(known: Ingredients, label: int) -> Ingredients:
            own, cross = of_class[label], across[label]
            known = replace(
                known,
                pairs=known.pairs if own is None else own,
                cross_pairs=known.cross_pairs if cross is None else cross,
            )
            if method.locator is not None:
                return known
            salient = list(heads[label])
            if not _same(known.location, located):
                salient = _others(salient, located.spurious, known.location, label, audit)
            return known.recast({"salient": salient})

        def built(known: Ingredients) -> Correction:
            parts = {label: method.build(of(known, label)) for label in heads}
            return spread(parts, lambda parts: ByClass(parts, audit.classifier, found.route))

        return built

    return every_method(by_class)


def _members(audit: Audit, value: str) -> Int[Tensor, "image"]:
    """Rows of the reference split with that value of the attribute; `LocateError` where there is none."""
    names = audit.attribute.value_names
    held = np.asarray(names, dtype=object)[audit.values[audit.splits.reference]]
    if not (held == value).any():
        raise LocateError(
            f"reference images of {audit.attribute.name} {value!r}, to locate salient heads on class by class",
            f"images of {', '.join(dict.fromkeys(held.tolist()))} alone",
            f"Set the suite's salient_on to one of {', '.join(names)} that occurs there.",
        )
    return as_indices(np.flatnonzero(held == value))


def _same(one: Located, other: Located) -> bool:
    return (one.spurious, one.salient) == (other.spurious, other.salient)


def _others(
    salient: list[HeadId], spurious: Sequence[HeadId], drawn: Located, label: int, audit: Audit
) -> list[HeadId]:
    """As many heads of the same layers, none of them located for this class; its own where no others are left."""
    cast = [number for head in (*drawn.spurious, *drawn.salient) for number in head]
    seed = int(np.random.SeedSequence([audit.seed, label, *cast]).generate_state(1)[0])
    barred = [*spurious, *drawn.spurious]
    try:
        sets = layer_matched(salient, audit.store.n_layers, audit.store.n_heads, 1, seed, exclude=barred)
    except LocateError:
        return salient
    return list(sets[0]) if sets else []
