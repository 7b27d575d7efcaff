"""Groups, heads and names as documents write them; numbers are written by `headlens.tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headlens.locate import Located
from headlens.metrics import SMALL
from headlens.tables import listed

if TYPE_CHECKING:
    from headlens.steps.audited import Audited


def today() -> str:
    """The date that a document carries."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def few(sizes: Mapping[str, int], what: str = "Groups") -> str:
    """A sentence on the groups under 30 images, smallest first; "" where there are none."""
    small = sorted((size, name) for name, size in sizes.items() if size < SMALL)
    if not small:
        return ""
    shown = listed((f"{name} ({size})" for size, name in small), 12)
    return f"{what} under {SMALL} images, whose accuracy says little: {shown}."


def counted(names: Sequence[str]) -> str:
    """The names of up to six classes, else how many there are."""
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} classes"


def candidates(count: int) -> str:
    """ "the one candidate" or "the 3 candidates"."""
    return "the one candidate" if count == 1 else f"the {count} candidates"


def attribute_name(audit: Audited) -> str:
    """The attribute, and that its values are inferred where they are."""
    return f"{audit.attribute.name} (inferred)" if audit.data.inferred else audit.attribute.name


def location_of(audit: Audited) -> Located | None:
    """The located heads: the audit's own, or the candidates of its fairness audit."""
    if audit.location is not None or audit.fairness_results is None:
        return audit.location
    found = audit.fairness_results.located
    return Located("named", audit.fairness_results.candidates) if found is None else found.located
