"""What a locator returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from headlens.heads import HeadId, HeadScores


@dataclass(frozen=True, eq=False)
class Location:
    """The heads that decide, with the numbers and the rule that named them.

    Attributes:
        correct: V_C, each head's share of (or mean credit over) the rightly classified images.
        wrong: V_W, the same over the wrongly classified images; zero where a locator looks at right ones alone.
        threshold: γ; a head is named where its difference exceeds it, strictly.
        spurious: the heads with V_W − V_C > γ (Z_SY), largest difference first.
        salient: the heads with V_C − V_W > γ (Z_Y, or Z_S for an attribute), largest difference first.
        n_correct: how many images V_C counts.
        n_wrong: how many images V_W counts.
        method: the locator's name.
        groups: the conflicting (class, value) groups, where the locator was told them.
    """

    correct: Float[Tensor, "layer head"]
    wrong: Float[Tensor, "layer head"]
    threshold: float
    spurious: list[HeadId]
    salient: list[HeadId]
    n_correct: int
    n_wrong: int
    method: str = "contrastive"
    groups: tuple[tuple[str, str], ...] = field(default=())

    @property
    def difference(self) -> Float[Tensor, "layer head"]:
        """V_W − V_C: above zero where a head decides wrong images more often than right ones."""
        return self.wrong - self.correct

    @property
    def heads(self) -> list[HeadId]:
        """The salient heads; for an attribute's own task these are the attribute's heads, Z_S."""
        return self.salient

    def scores(self) -> HeadScores:
        """V_W − V_C as `HeadScores`, with the spurious heads selected."""
        return HeadScores("V_W − V_C", self.difference, self.threshold, tuple(self.spurious))

    def table(self) -> pd.DataFrame:
        """One row for each head with a credit, largest difference first: `head`, `V_C`, `V_W`, `difference`, `role`."""
        roles = dict.fromkeys(self.spurious, "spurious") | dict.fromkeys(self.salient, "salient")
        rows = []
        for head, difference in self.scores():
            right, wrong = float(self.correct[head]), float(self.wrong[head])
            if right != 0 or wrong != 0:
                rows.append((str(head), right, wrong, difference, roles.get(head, "")))
        frame = pd.DataFrame(rows, columns=["head", "V_C", "V_W", "difference", "role"])
        return frame.sort_values("difference", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)
