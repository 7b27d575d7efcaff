"""A head's label: one line from its first texts and their categories, by a rule that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_CLEAR_MEANING = "no clear meaning"


@dataclass(frozen=True)
class LabelRule:
    """How a label is made. Looked at are a head's first `leading` texts, at most a quarter of its width.

    1. Where they explain less than `minimum_explained` of the head's variance, or less than `minimum_lift` times what
       as many of its directions hold on average (their number / the head's width): 'no clear meaning'.
    2. Else, where the leading category holds at least `minimum_category` of what they explain: its name; and where one
       of its texts holds at least `minimum_text` of that: 'name, mostly text'.
    3. Else the two leading categories, as 'mixed: name and name'.

    The rule reads a bank's categories: it cannot name what the bank does not hold, and a label is a summary to check
    against the head's images, not a finding.
    """

    leading: int = 5
    minimum_explained: float | int = 0.25
    minimum_lift: float | int = 1.5
    minimum_category: float | int = 0.5
    minimum_text: float | int = 0.5


def label(
    texts: Sequence[str], categories: Sequence[str], share: Sequence[float], width: int | None, rule: LabelRule
) -> str:
    """Apply the rule.

    Args:
        texts: in the order of choice.
        categories: of each text.
        share: of the head's variance, of each text.
        width: d of the head; None where only its contributions are known, and then nothing is said of it.
        rule: the thresholds.
    """
    leading = rule.leading if width is None else min(rule.leading, max(1, width // 4))
    first = list(zip(texts, categories, share, strict=True))[:leading]
    explained = sum(part for _, _, part in first)
    even = 0.0 if width is None else leading / width
    if explained <= 0 or explained < max(rule.minimum_explained, rule.minimum_lift * even):
        return NO_CLEAR_MEANING
    held: dict[str, float] = {}
    for _, category, part in first:
        held[category] = held.get(category, 0.0) + part
    ranked = sorted(held, key=lambda name: -held[name])
    if held[ranked[0]] < rule.minimum_category * explained:
        return f"mixed: {ranked[0]} and {ranked[1]}"
    text, part = max(((t, p) for t, c, p in first if c == ranked[0]), key=lambda pair: pair[1])
    return f"{ranked[0]}, mostly {text}" if part >= rule.minimum_text * held[ranked[0]] else ranked[0]
