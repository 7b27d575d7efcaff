"""Corrections of which each image gets one of its own, by a rule that reads no label.

Some suites correct images of different kinds differently: each image of GenderBias-VL is weighed between two
occupations of its own, and an animal of CounterAnimal gets heads and text pairs of the class that it is taken for.
What a method builds for every kind stands here side by side, and `keys` says which one an image gets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from headlens.benchmark.digest import digest_of
from headlens.benchmark.routed_view import RoutedView, put_together
from headlens.correct import CORRECTIONS, Compose, Correction, Probe
from headlens.errors import CorrectionError
from headlens.registry import Registry
from headlens.steps.methods import Builder, Method

Own = TypeVar("Own", bound="ByImage")
Wrap = Callable[[dict[Any, Correction]], Correction]


class ByImage(Correction):
    """Several corrections, of which each image gets one.

    Args:
        parts: the corrections, by the kind of image that each is for.
    """

    def __init__(self, parts: Mapping[Any, Correction]):
        self.parts = dict(parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.parts)} times {next(iter(self.parts.values()), None)!r})"

    @abstractmethod
    def keys(self, target: Any) -> list[Hashable]:
        """For each image of the target, which part it gets."""

    @abstractmethod
    def missing(self, key: Any) -> CorrectionError:
        """The error for an image of a kind that no part is for."""

    @abstractmethod
    def with_parts(self: Own, parts: Mapping[Any, Correction]) -> Own:
        """The same rule over other parts."""

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

    def fit(self: Own, reference: Any) -> Own:
        """A copy with each fitted on the whole reference."""
        return self.with_parts({key: one.fit(reference) for key, one in self.parts.items()})

    def apply(self, target: Any) -> RoutedView:
        """The target, each image as its own correction leaves it; needs a target with `subset`, such as a store."""
        return RoutedView(target, [(rows, one.apply(part), own) for rows, one, part, own in self._routed(target)])

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """Each image's scores under its own correction.

        Raises:
            CorrectionError: for a target that cannot be taken apart, or an image of a kind that no part is for.
        """
        return put_together(
            [(rows, one.logits(part, classifier), own) for rows, one, part, own in self._routed(target)]
        )

    def _routed(self, target: Any) -> Iterator[tuple[np.ndarray, Correction, Any, np.ndarray | None]]:
        if not callable(getattr(target, "subset", None)):
            raise CorrectionError(
                "a store, whose images can be taken apart", f"a {type(target).__name__}", "Pass a store or its subset."
            )
        keys = self.keys(target)
        for key in dict.fromkeys(keys):
            if key not in self.parts:
                raise self.missing(key)
            rows, one = np.flatnonzero([own == key for own in keys]), self.parts[key]
            # A transductive one takes its means from all scored images, not from those of its own kind alone.
            yield (rows, one, target, rows) if one.transductive else (rows, one, target.subset(rows), None)

    def parts_state(self, write: Callable[[Any], dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """The state of each part beside what `write` makes of its kind; its arrays under its number."""
        parts: list[dict[str, Any]] = []
        arrays: dict[str, Tensor] = {}
        for number, (key, one) in enumerate(self.parts.items()):
            values, own = one.state()
            parts.append(write(key) | {"correction": one.name, **values})
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
        return parts, arrays

    @staticmethod
    def parts_from(
        saved: list[dict[str, Any]], arrays: dict[str, Tensor], read: Callable[[dict[str, Any]], Any]
    ) -> dict[Any, Correction]:
        """The inverse of `parts_state`."""
        parts = {}
        for number, part in enumerate(saved):
            prefix = f"{number}."
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            parts[read(part)] = CORRECTIONS[part["correction"]].from_state(part, own)
        return parts


def spread(parts: dict[Any, Correction], wrap: Wrap) -> Correction:
    """One correction from those that a method built for every kind of image.

    Where they are all the same, one of them will do. A probe on top is trained once, on what its image's own correction
    leaves of every reference image.
    """
    digests = {digest_of(one) for one in parts.values()}
    if len(digests) == 1 and None not in digests:
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
