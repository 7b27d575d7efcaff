"""Heads and text pairs of the class that an image is taken for, as in CounterAnimal.

With 45 animals or 1,000 classes there is no one list of salient heads and no one list of pairs: LTC (arXiv 2505.17425)
locates Z_Y for every class, and injects what tells it from the class that it is mostly mistaken for. At test time the
class is not known; the one that zero-shot predicts stands in for it (see `headlens.locate.by_class`), so that the
result of an image depends on that image alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from headlens.audit import Audit
from headlens.benchmark.by_image import every_method, spread
from headlens.benchmark.slots import Pairs, fill_two, has_slots
from headlens.correct import ByClass, Correction
from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import Located, layer_matched, rivals, routes, salient_by_class
from headlens.prompts import encode_pairs
from headlens.registry import Registry
from headlens.steps.controls import Cast
from headlens.steps.data import margins_along
from headlens.steps.methods import ROLES, Builder, Ingredients, Method


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
    evidence, rows = audit.evidence, _members(audit, value)
    logits, labels = evidence.logits[rows], evidence.labels[rows]
    return Rivals(value, rivals(logits, labels), routes(logits, labels))


def class_heads(audit: Audit, value: str) -> dict[int, list[HeadId]]:
    """Z_Y of every class, located on the reference images with that value, without the spurious heads.

    A class without one gets the audit's own salient heads.
    """
    evidence, rows, located = audit.evidence, _members(audit, value), _located(audit)
    chosen = evidence.store.subset(rows.numpy())
    margins, decisions = margins_along(chosen, evidence.classifier, evidence.logits[rows], evidence.labels[rows])
    return salient_by_class(margins, decisions, located.spurious, located.salient)


def methods_by_class(
    audit: Audit, found: Rivals, heads: Mapping[int, Sequence[HeadId]], pairs: Pairs | None, crossed: Pairs | None
) -> Registry[Method]:
    """The audit's methods, each built for each class, with its heads and its pairs.

    A method that brings a locator of its own keeps that locator's heads. Where a random control puts other heads in the
    place of the located ones, every class draws as many others of its own heads' layers.
    """
    classes, located = audit.task.classes, _located(audit)

    def encoded(texts: Pairs | None, label: int) -> Tensor | None:
        if not has_slots(texts):
            return None  # the same for every class, as the audit has them
        return encode_pairs(fill_two(texts or (), (label, found.rival[label]), classes), audit.data.texts)

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
            drawn = {"spurious": known.spurious, "salient": known.salient}
            if any(drawn[role] != tuple(getattr(located, role)) for role in ROLES):
                salient = _others(salient, located.spurious, drawn, label, audit)
            return known.recast({"salient": salient})

        def built(known: Ingredients) -> Correction:
            parts = {label: method.build(of(known, label)) for label in heads}
            return spread(
                parts, lambda parts: ByClass(tuple(parts.values()), tuple(parts), audit.data.classifier, found.route)
            )

        return built

    return every_method(audit.methods, by_class)


def _members(audit: Audit, value: str) -> Int[Tensor, "image"]:
    """Rows of the reference split with that value of the attribute; `LocateError` where there is none."""
    names = audit.attribute.value_names
    held = np.asarray(names, dtype=object)[audit.data.values[audit.splits.reference]]
    if not (held == value).any():
        raise LocateError(
            f"reference images of {audit.attribute.name} {value!r}, to locate salient heads on class by class",
            f"images of {', '.join(dict.fromkeys(held.tolist()))} alone",
            f"Set the suite's salient_on to one of {', '.join(names)} that occurs there.",
        )
    return torch.as_tensor(np.flatnonzero(held == value))


def _located(audit: Audit) -> Located:
    return audit.location or audit.locate()


def _others(salient: list[HeadId], spurious: Sequence[HeadId], drawn: Cast, label: int, audit: Audit) -> list[HeadId]:
    """As many heads of the same layers, none of them located for this class; its own where no others are left."""
    cast = [number for heads in drawn.values() for head in heads for number in head]
    seed = int(np.random.SeedSequence([audit.question.seed, label, *cast]).generate_state(1)[0])
    barred = [*spurious, *drawn["spurious"]]
    try:
        sets = layer_matched(salient, audit.store.n_layers, audit.store.n_heads, 1, seed, exclude=barred)
    except LocateError:
        return salient
    return list(sets[0]) if sets else []
