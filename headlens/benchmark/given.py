"""The parts of a benchmark's table, by what a method is given beside texts and images.

A table that sets a probe, trained on labels, beside a method that read nothing but texts has to say so.
"""

from __future__ import annotations

from headlens.benchmark.measures import is_probe
from headlens.steps.evaluate import Fitted

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


def given(fitted: Fitted) -> tuple[str, ...]:
    """What of the reference split a method was given: "heads", "labels", "attribute"; nothing for texts alone."""
    return (*(("heads",) if fitted.roles else ()), *fitted.given)


def family(fitted: Fitted | None) -> str:
    """The part of the table that a method stands in; None for zero-shot."""
    if fitted is None:
        return "zero-shot"
    if is_probe(fitted.correction):
        return "trained on labels"
    if fitted.roles:
        return "located heads"
    return "fitted on reference labels" if fitted.given else "texts alone"
