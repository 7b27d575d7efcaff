"""What a method is given beside texts and images, found by watching what it reads.

A table that sets a probe, trained on labels, beside a method that read nothing but texts has to say so. A method says
it by what its builder reads: this holds for one that a user registered in a notebook cell as for the built-in ones.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from headlens.audit import Ingredients
from headlens.steps.methods import Method
from headlens.benchmark.measures import is_probe
from headlens.correct import Correction

HEADS, LABELS, VALUES = "heads", "labels", "attribute"
FAMILIES = (
    "zero-shot",
    "texts alone",
    "located heads",
    "random heads",
    "fitted on reference labels",
    "trained on labels",
    "could not be fitted here",
)
"""The parts of the table, in their order."""

_WATCHED = {"labels": LABELS, "values": VALUES}


class _Watched(Ingredients):
    """Ingredients that remember which of the reference split's labels were read."""

    def __getattribute__(self, name: str) -> Any:
        if name in _WATCHED:
            object.__getattribute__(self, "__dict__").setdefault("_read", set()).add(_WATCHED[name])
        return object.__getattribute__(self, name)


def given(method: Method, known: Ingredients) -> tuple[str, ...]:
    """What of the reference split a registered method is given.

    Returns:
        "heads" where it rests on located heads, whose location read the reference split; "labels" and "attribute" where
        it is fitted on its classes and attribute values. Nothing for a method of texts alone.
    """
    watched = _Watched(**{one.name: getattr(known, one.name) for one in fields(Ingredients)})
    method.build(watched)
    read = watched.__dict__.get("_read", set())
    return (*((HEADS,) if method.roles else ()), *(what for what in (LABELS, VALUES) if what in read))


def family(name: str, read: tuple[str, ...], correction: Correction | None) -> str:
    """The part of the table that a method stands in: one of `FAMILIES`."""
    if correction is None:
        return FAMILIES[0] if name == "zero-shot" else FAMILIES[-1]
    if is_probe(correction):
        return "trained on labels"
    if HEADS in read:
        return "located heads"
    return "fitted on reference labels" if read else "texts alone"
