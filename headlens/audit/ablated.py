"""Any set of heads, ablated: group accuracies and the attribute's hold before and after, against random heads.

The heads may come from a locator, or from a person who clicked them. Each is replaced by its mean over the reference
split (direct mean ablation); the test split is scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headlens.audit.controls import RandomHeads
from headlens.audit.fairness_results import RandomAssociation
from headlens.errors import LocateError
from headlens.heads import HeadId, as_heads
from headlens.locate import HeadEffects, layer_matched
from headlens.metrics import (
    AssociationChange,
    Bootstrap,
    Evaluation,
    PairedDifference,
    association_change,
    cramers_v,
    evaluate,
    paired_difference,
)
from headlens.progress import progress

if TYPE_CHECKING:
    from headlens.audit.question import Question


@dataclass(frozen=True, eq=False)
class Ablated:
    """What replacing a set of heads by their reference means does to the scored images.

    Attributes:
        heads: the heads.
        before, after: accuracies, with intervals.
        difference: of the accuracies, paired.
        association: Cramér's V of attribute × predicted class before and after, with paired intervals.
        accuracy_control: accuracies under layer-matched random sets; None where none can be drawn.
        association_control: V under the same sets.
    """

    heads: tuple[HeadId, ...]
    before: Evaluation
    after: Evaluation
    difference: PairedDifference
    association: AssociationChange
    accuracy_control: RandomHeads | None
    association_control: RandomAssociation | None

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `before`, `after`, `difference`, its interval's ends `low` and `high`, the mean
        over the `random` sets, and `p`, the control's one-sided p-value, where the random sets are compared by it."""
        names = {"average": "average", "worst_group": "worst group", "gap": "gap"}
        names |= {f"groups.{name}": name for name in self.before.groups}
        random = self._random()
        rows = []
        for key, shown in names.items():
            before, after = _value(self.before, key), _value(self.after, key)
            p = self.accuracy_control.comparison.p if self.accuracy_control and key == "worst_group" else None
            rows.append((shown, before, after, after - before, *self.difference.interval[key], random.get(key), p))
        change, control = self.association, self.association_control
        before, after = change.before.cramers_v, change.after.cramers_v
        mean = None if control is None else float(control.cramers_v.mean())
        p = None if control is None else control.comparison.p
        rows.append(("Cramér's V", before, after, after - before, *change.interval["cramers_v"], mean, p))
        columns = ["measure", "before", "after", "difference", "low", "high", "random", "p"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float))

    def _random(self) -> dict[str, float]:
        if self.accuracy_control is None:
            return {}
        record: dict[str, Any] = self.accuracy_control.to_record()
        groups = {f"groups.{name}": value for name, value in record["groups"].items()}
        return {"average": record["average"], "worst_group": record["worst_group"], "gap": record["gap"]} | groups

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format, na_rep="")


def ablate(
    audit: Question,
    heads: Iterable[tuple[int, int]],
    *,
    draws: int = 100,
    bootstrap: int = 1000,
    effects: HeadEffects | None = None,
) -> Ablated:
    """Replace heads by their reference means, and score the test split before and after.

    Args:
        audit: whose classes, attribute and splits.
        heads: the heads, from any locator or none.
        draws: layer-matched random sets to compare with; all of them where no more exist, 0 for no control.
        bootstrap: resamples behind every interval.
        effects: `scored_effects(audit)`, where several sets are tried in turn.

    Raises:
        LocateError: for no head, a head outside the tower, or one named twice.

    Limits: heads that were chosen by looking at these very images are favoured by them; the random sets were not.
    """
    chosen = as_heads(heads, audit.store.n_layers, audit.store.n_heads)
    if not chosen:
        raise LocateError("at least one head to ablate", "none", "Select a head, or locate some first.")
    effects = scored_effects(audit) if effects is None else effects
    rows = audit.splits.test
    labels, values = audit.labels[rows], audit.values[rows]
    groups = np.asarray([audit.groups[row] for row in rows], dtype=object)
    before, after = effects.predictions().numpy(), effects.predictions(chosen).numpy()
    resampling = Bootstrap(bootstrap, seed=audit.seed)
    association = association_change(labels, after, baseline=before, attribute=values, bootstrap=resampling)
    one, two = (
        evaluate(labels, predicted, groups=groups, method=name, bootstrap=resampling)
        for name, predicted in (("zero-shot", before), ("selection ablated", after))
    )
    controls = _controls(audit, effects, chosen, labels, values, groups, draws, (one, two), association)
    return Ablated(
        heads=chosen,
        before=one,
        after=two,
        difference=paired_difference(labels, after, baseline=before, groups=groups, bootstrap=resampling),
        association=association,
        accuracy_control=controls[0],
        association_control=controls[1],
    )


def scored_effects(audit: Question) -> HeadEffects:
    """What ablating any heads does to the class scores of the test split, means being those of the reference split."""
    return HeadEffects.of(
        audit.among(audit.logits(audit.test.embedding), audit.splits.test),
        audit.test.project(audit.classifier),
        audit.parts().head_logits,
    )


def _controls(
    audit: Question,
    effects: HeadEffects,
    heads: tuple[HeadId, ...],
    labels: np.ndarray,
    values: np.ndarray,
    groups: np.ndarray,
    draws: int,
    evaluations: tuple[Evaluation, Evaluation],
    association: AssociationChange,
) -> tuple[RandomHeads, RandomAssociation] | tuple[None, None]:
    if draws == 0:
        return None, None
    try:
        sets = layer_matched(heads, *effects.shape, draws, audit.seed, exclude=heads)
    except LocateError:  # a layer of which half is chosen leaves too few others
        return None, None
    names = sorted(set(groups))
    membership = np.stack([groups == name for name in names]).astype(float)
    by_group, average, v = [], [], []
    with progress("Random heads", len(sets), unit="sets") as advance:
        for one in sets:
            predicted = effects.predictions(one).numpy()
            right = predicted == labels
            by_group.append(membership @ right / membership.sum(axis=1))
            average.append(right.mean())
            v.append(cramers_v(values, predicted))
            advance(1)
    exhaustive = len(sets) < draws
    return RandomHeads(
        method="selection ablated",
        sets=tuple(sets),
        groups=tuple(names),
        group_accuracy=np.stack(by_group),
        average=np.asarray(average),
        observed=evaluations[1].worst_group,
        baseline=evaluations[0].worst_group,
        exhaustive=exhaustive,
        seed=audit.seed,
    ), RandomAssociation(
        sets=tuple(sets),
        cramers_v=np.asarray(v),
        accuracy=np.asarray(average),
        observed=association.after.cramers_v,
        baseline=association.before.cramers_v,
        exhaustive=exhaustive,
        seed=audit.seed,
    )


def _value(evaluation: Evaluation, key: str) -> float:
    group = key.removeprefix("groups.")
    return float(evaluation.groups[group] if group != key else getattr(evaluation, key))
