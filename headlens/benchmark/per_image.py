"""Corrections that differ from image to image, by a rule that reads no label.

Some suites correct images of different kinds differently. What a method builds for each kind stands side by side in a
`headlens.correct.ByImage`:

- GenderBias-VL classifies each image between two occupations of its own, and injects what distinguishes *these two*
  (LTC, arXiv 2505.17425): a method is built once for each two classes, with text pairs that name them.
- With CounterAnimal's 45 animals, or 1,000 classes, there is no one list of salient heads or of pairs. LTC locates Z_Y
  for every class, and injects what distinguishes it from the class that it is mostly mistaken for. At test time the
  class is not known; the one that zero-shot predicts is used instead (see `headlens.locate.by_class`), so that the
  result of an image depends on that image alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from headlens.audit import Audit
from headlens.correct import ByClass, ByImage, Compose, Correction, Probe
from headlens.errors import CorrectionError, LocateError
from headlens.heads import HeadId
from headlens.locate import Located, rivals, routes, salient_by_class
from headlens.manifest import candidate_indices
from headlens.prompts import TextPairs, encode_pairs, fill_pairs
from headlens.registry import Registry
from headlens.serialization import digest
from headlens.steps.data import AuditData, margins_along
from headlens.steps.methods import ROLES, Builder, Ingredients, Method

Two = tuple[int, int]
Pairs = Sequence[Sequence[str]]
Wrap = Callable[[dict[Any, Correction]], Correction]


def has_slots(pairs: Pairs | None) -> bool:
    """Whether pairs wait for the names of two classes."""
    return any("{" in text for pair in pairs or () for text in pair)


def fill_two(pairs: Pairs, two: Two, classes: Sequence[str]) -> TextPairs:
    """The pairs with the names of these two classes; a pair without slots stays as it is."""
    words = {"first": classes[two[0]].lower(), "second": classes[two[1]].lower()}
    done: TextPairs = []
    for pair in pairs:
        used = {name: word for name, word in words.items() if any(f"{{{name}}}" in text for text in pair)}
        done += fill_pairs([pair], **used)
    return done


def filled(pairs: Pairs, twos: Sequence[Two], classes: Sequence[str]) -> TextPairs:
    """The pairs of all of these two classes, each once."""
    return list(dict.fromkeys(pair for two in twos for pair in fill_two(pairs, two, classes)))


def of_headlens(correction: Correction) -> bool:
    """Whether all of its classes are headlens' own; the code of others, as in a notebook cell, may have changed."""
    return all(type(one).__module__.startswith("headlens.") for one in correction.walk())


def spread(parts: dict[Any, Correction], wrap: Wrap) -> Correction:
    """One correction from those that a method built for every kind of image.

    Where they are all the same, one of them will do. A probe on top is trained once, on what its image's own correction
    leaves of every reference image.
    """
    if all(map(of_headlens, parts.values())) and len({digest(one) for one in parts.values()}) == 1:
        return next(iter(parts.values()))
    composed = [one for one in parts.values() if isinstance(one, Compose) and one.corrections]
    if len(composed) == len(parts) and all(isinstance(one.corrections[-1], Probe) for one in composed):
        below: dict[Any, Correction] = {
            key: Compose(one.corrections[:-1]) for key, one in parts.items() if isinstance(one, Compose)
        }
        return Compose([spread(below, wrap), composed[0].corrections[-1]])
    return wrap(parts)


def every_method(methods: Registry[Method], change: Callable[[Method], Builder]) -> Registry[Method]:
    """The methods of a registry, each built by what `change` makes of it; random controls get the same."""
    return Registry(methods.kind, {name: replace(one, builder=change(one)) for name, one in methods.items()})


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
    place of the located ones, every class draws as many of its own heads' layers.
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
                salient = _drawn_for(label, salient, known, audit)
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


def _drawn_for(label: int, salient: Sequence[HeadId], drawn: Ingredients, audit: Audit) -> list[HeadId]:
    """As many heads of the same layers as a class has salient ones, of all but the ablated heads; the located ones may
    be among them, as in every random control. Each draw of the control has a draw of its own for the class."""
    cast = [number for heads in (drawn.spurious, drawn.salient) for head in heads for number in head]
    generator = np.random.default_rng([audit.question.seed, label, *cast])
    found: list[HeadId] = []
    for layer, count in sorted(Counter(head.layer for head in salient).items()):
        free = [one for j in range(audit.store.n_heads) if (one := HeadId(layer, j)) not in drawn.spurious]
        picked = generator.choice(len(free), min(count, len(free)), replace=False)
        found += [free[i] for i in sorted(picked)]
    return found
