"""Corrections of which each image gets one of its own, by a rule that reads no label.

Some suites correct images of different kinds differently: each image of GenderBias-VL is weighed between two
occupations of its own, and an animal of CounterAnimal gets heads and text pairs of the class that it is taken for.
What a method builds for every kind stands side by side in a `headlens.correct.ByImage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from headlens.audit import METHODS
from headlens.audit.methods import Method
from headlens.correct import Compose, Correction, Probe
from headlens.serialization import digest

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


@contextmanager
def every_method(change: Callable[[Method], Any]) -> Iterator[None]:
    """Within it every registered method is built by what `change` makes of it.

    A random control builds a method by its name, and so gets the same.
    """
    before = dict(METHODS)
    try:
        METHODS.update({name: replace(method, build=change(method)) for name, method in before.items()})
        yield
    finally:
        METHODS.clear()
        METHODS.update(before)
