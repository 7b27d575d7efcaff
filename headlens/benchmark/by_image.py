"""Corrections of which each image gets one of its own, by a rule that reads no label.

Some suites correct images of different kinds differently: each image of GenderBias-VL is classified between two
occupations of its own, and an animal of CounterAnimal gets heads and text pairs of the class that it is taken for.
What a method builds for every kind stands side by side in a `headlens.correct.ByImage`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headlens.correct import Compose, Correction, Probe
from headlens.registry import Registry
from headlens.serialization import digest
from headlens.steps.methods import Builder, Method

Wrap = Callable[[dict[Any, Correction]], Correction]


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
