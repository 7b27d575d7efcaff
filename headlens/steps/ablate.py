"""Any set of heads, ablated: group accuracies and the attribute's association before and after, against random heads.

The heads may come from a locator, or from a person who clicked them. Each is replaced by its mean over the reference
split (direct mean ablation); the test split is scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.random_heads import ALPHA
from headlens.metrics import AssociationChange, Bootstrap, Evaluation, PairedDifference
from headlens.steps.controls import Draw, RandomHeads, random_head_control
from headlens.steps.data import AuditData
from headlens.steps.record import Ablate
from headlens.tables import Column, Kind, Shown, Table, listed


@dataclass(frozen=True, eq=False, repr=False)
class HeadAblation(Shown):
    """What replacing a set of heads by their reference means does to the scored images.

    Attributes:
        heads: the heads.
        before, after: accuracies, with intervals.
        difference: of the accuracies, paired.
        association: Cramér's V of attribute × predicted class before and after, with paired intervals.
        control: layer-matched random sets; None where none can be drawn.
    """

    heads: tuple[HeadId, ...]
    before: Evaluation
    after: Evaluation
    difference: PairedDifference
    association: AssociationChange
    control: RandomHeads | None

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `before`, `after`, `difference`, its interval's ends `low` and `high`, the mean
        over the `random` sets, and `p`, the control's one-sided p-value, where the random sets are compared by it."""
        names = {"average": "average", "worst_group": "worst group", "gap": "gap"}
        names |= {f"groups.{name}": name for name in self.before.groups}
        random, p = self._random()
        rows: list[tuple[Any, ...]] = []
        for key, shown in names.items():
            before, after = _value(self.before, key), _value(self.after, key)
            low, high = self.difference.interval[key]
            rows.append((shown, before, after, after - before, low, high, random.get(key), p.get(key)))
        change = self.association
        for key, shown in (("corrected", "Cramér's V, bias-corrected"), ("cramers_v", "Cramér's V")):
            before, after = getattr(change.before, key), getattr(change.after, key)
            low, high = change.interval[key]
            rows.append((shown, before, after, after - before, low, high, random.get(key), p.get(key)))
        columns = ["measure", "before", "after", "difference", "low", "high", "random", "p"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float))

    def shown(self) -> Table:
        """The table to be read: accuracies in per cent, their differences in points, with intervals."""
        frame = self.table()
        frame["unit"] = ["number" if name.startswith("Cramér") else "percent" for name in frame["measure"]]
        columns: dict[str, Kind | Column] = {
            "measure": "text",
            "before": "value",
            "after": "value",
            "difference": Column("difference", interval=("low", "high")),
            "random": Column("value", "random heads"),
            "p": "p",
        }
        return Table(frame, columns, f"Ablating {listed(self.heads)}")

    def _random(self) -> tuple[dict[str, float], dict[str, float]]:
        """The means over the random sets, and the p-values, by measure."""
        if self.control is None:
            return {}, {}
        record: dict[str, Any] = self.control.to_record()
        v = self.control.comparison("cramers_v")
        means = {name: record[name] for name in ("average", "worst_group", "gap")}
        means |= {f"groups.{name}": value for name, value in record["groups"].items()}
        return means | {"cramers_v": v.mean}, {"worst_group": self.control.comparison().p, "cramers_v": v.p}


def ablate(data: AuditData, call: Ablate) -> HeadAblation:
    """Replace heads by their reference means, and score the test split before and after.

    Args:
        data: the question's arrays.
        call: the heads, and how they are compared.

    Raises:
        LocateError: for no head, or a head outside the tower.

    Limits: heads that were chosen by looking at these very images are favoured by them; the random sets were not.
    """
    if not call.heads:
        raise LocateError("No head is chosen to ablate.", "Select a head, or locate some first.")
    scored, before, after = data.scored_images, data.zero_shot, data.ablated(call.heads)
    return HeadAblation(
        heads=call.heads,
        before=scored.evaluation(before, "zero-shot"),
        after=scored.evaluation(after, "selection ablated"),
        difference=scored.difference(after, before),
        association=scored.association(after, before, Bootstrap(call.n_bootstrap, seed=data.question.seed)),
        control=ablation_control(data, "the selection", call.heads, call.n_random_sets),
    )


def ablation_control(
    data: AuditData, name: str, heads: tuple[HeadId, ...], n_random_sets: int, alpha: float = ALPHA
) -> RandomHeads | None:
    """The mean ablation of heads beside that of random ones.

    Args:
        data: the question's arrays.
        name: what the ablation is called.
        heads: the heads.
        n_random_sets: how many sets are wanted.
        alpha: what p-values are held to.
    """
    return random_head_control(
        name,
        {"spurious": heads},
        lambda cast: data.ablated(cast["spurious"]),
        data.scored_images,
        Draw(data.store.n_layers, data.store.n_heads, n_random_sets, data.question.seed, alpha),
        before=data.zero_shot,
        after=data.ablated(heads),
    )


def _value(evaluation: Evaluation, key: str) -> float:
    group = key.removeprefix("groups.")
    return float(evaluation.groups[group] if group != key else getattr(evaluation, key))
