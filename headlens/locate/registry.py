"""The locators by name: what the audit, the command line, the report and the benchmark iterate over.

A locator here takes (head_logits, logits, labels, conflicting) as `contrastive` does and returns a `Location`. Adding
one is adding a file and a line below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from headlens.errors import LocateError
from headlens.locate.contrast import contrastive, contrastive_full
from headlens.locate.location import Location

Locator = Callable[..., Location]

LOCATORS: dict[str, Locator] = {
    "contrastive": contrastive,
    "contrastive-full": contrastive_full,
    "contrastive-soft": partial(contrastive, credit="soft"),
}


def locator(name: str) -> Locator:
    """The locator called `name`. Raises `LocateError` for an unknown one."""
    if name not in LOCATORS:
        raise LocateError(f"one of the locators {', '.join(LOCATORS)}", repr(name), "Choose one of these.")
    return LOCATORS[name]
