"""The written rule by which a head gets a label, or none."""

from __future__ import annotations

from dataclasses import dataclass

NO_CLEAR_MEANING = "no clear meaning"


@dataclass(frozen=True)
class LabelRule:
    """How poles are found, tested and named; see `headlens.explain.poles` for the steps.

    Attributes:
        poles: principal directions of a head that are looked at.
        minimum_share: of the head's variance; a direction with less is not tested and names nothing.
        texts: texts at each end of a pole.
        nearest: a text is a candidate where it is among this many nearest ones of at least one image; 0 for all texts.
        false_discoveries: the expected share of chance labels among the labels of all heads together.
        draws: random directions behind the null, over all heads together.

    A bank can only name what is in it, and a label is a summary to check against the head's images. What a head does
    to a decision only an intervention shows.
    """

    poles: int = 3
    minimum_share: float | int = 0.15
    texts: int = 5
    nearest: int = 5
    false_discoveries: float | int = 0.05
    draws: int = 25_000
