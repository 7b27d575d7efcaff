"""What a search over interventions found: the heads whose ablation improves a measure most.

**An oracle, not evidence.** Such heads were chosen by the very measure that they are then said to improve: they show
what an ablation can reach, and how much of that a locator reaches that never saw the measure. On other images than
those searched on, the improvement is an honest estimate; on the same ones it is the best of many and too large.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from headlens.heads import HeadId, HeadScores


@dataclass(frozen=True, eq=False)
class Oracle:
    """The heads that a search chose, in the form of every locator's result.

    Attributes:
        method: "single-head sweep", "greedy sweep" or "best set".
        objective: what was improved: "cramers_v", "balanced_v", "worst_group" or "average".
        baseline: the objective with no head ablated.
        values: the objective with each head ablated alone.
        improvement: how much better that is than the baseline; below zero where it is worse.
        minimum: what a step had to improve by for its head to be named.
        spurious: the chosen heads; best first, or in the order in which they were added.
        path: the objective with the first 1, 2, … of these heads ablated together.
        how: how the heads were searched for, in words.
        salient: always empty; it stands here so that corrections read every locator's result alike.
    """

    method: str
    objective: str
    baseline: float
    values: Float[Tensor, "layer head"]
    improvement: Float[Tensor, "layer head"]
    minimum: float
    spurious: list[HeadId]
    path: tuple[float, ...]
    how: str
    salient: list[HeadId] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The objective with all chosen heads ablated together; the baseline where none was chosen."""
        return self.path[-1] if self.path else self.baseline

    def scores(self) -> HeadScores:
        """The improvement by each head alone as `HeadScores`, with the chosen heads selected."""
        threshold = self.minimum if self.method == "single-head sweep" else None
        return HeadScores(f"improvement of {self.objective}", self.improvement, threshold, tuple(self.spurious))

    def table(self) -> pd.DataFrame:
        """One row a head, best first: `head`, `alone`, `improvement`, `chosen`, `together`.

        `alone` is the objective with this head ablated, `chosen` the head's place among the chosen ones, from 1, or 0,
        and `together` the objective with it and those before it ablated, missing where it was not chosen.
        """
        rows = []
        for head, improvement in self.scores():
            place = self.spurious.index(head) + 1 if head in self.spurious else 0
            together = self.path[place - 1] if place else float("nan")
            rows.append((str(head), float(self.values[head]), improvement, place, together))
        frame = pd.DataFrame(rows, columns=["head", "alone", "improvement", "chosen", "together"])
        return frame.sort_values("improvement", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)
