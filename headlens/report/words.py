"""Numbers and lists in the words of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from headlens.metrics import SMALL


def percent(value: float | int) -> str:
    """A share as per cent to one decimal; a dash where it is not a number."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "–"


def points(value: float | int) -> str:
    """A difference of shares, with its sign."""
    return f"{100 * value:+.1f}" if math.isfinite(value) else "–"


def number(value: float | int) -> str:
    """A measure such as Cramér's V, to three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def change(value: float | int) -> str:
    """A difference of such measures, with its sign."""
    return f"{value:+.3f}" if math.isfinite(value) else "–"


def listed(names: Iterable[object], most: int = 8) -> str:
    """ "a, b and 4 more"; "none" for nothing."""
    texts = [str(name) for name in names]
    if len(texts) <= most:
        return ", ".join(texts) or "none"
    return f"{', '.join(texts[:most])} and {len(texts) - most} more"


def few(sizes: Mapping[str, int], what: str = "Groups") -> str:
    """A sentence on the groups under 30 images, smallest first; "" where there are none."""
    small = sorted((size, name) for name, size in sizes.items() if size < SMALL)
    if not small:
        return ""
    shown = listed((f"{name} ({size})" for size, name in small), 12)
    return f"{what} under {SMALL} images, whose accuracy says little: {shown}."


def counted(names: Sequence[str], most: int = 6) -> str:
    """The names where they are few, else how many there are."""
    return ", ".join(names) if len(names) <= most else f"{len(names)} classes"


def candidates(count: int) -> str:
    """ "the one candidate" or "the 3 candidates"."""
    return "the one candidate" if count == 1 else f"the {count} candidates"
