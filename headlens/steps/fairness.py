"""The fairness audit: does ablating the candidates loosen the tie between attribute and prediction, and do others?

Steps, after Yasser et al. 2026 (arXiv 2603.11793), on the scored split:

1. Cramér's V of attribute × predicted class, and accuracy, before and after direct mean ablation of the candidates,
   with paired bootstrap intervals; what V the true classes alone account for (`metrics.within_class`); and the
   dependence within the true classes, T and D (`metrics.dependence`).
2. The same with random heads of the same pattern.
3. Each candidate alone; each class by itself; where the changed predictions went.
4. The total effect: the same heads replaced inside the forward pass, where later layers react. It needs the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens.heads import HeadId
from headlens.metrics import (
    AssociationChange,
    Bootstrap,
    Dependence,
    DependenceChange,
    WithinClass,
    cramers_v,
    v_of_tables,
    within_class,
)
from headlens.steps.ablate import ablation_control
from headlens.steps.controls import Predictions, RandomHeads
from headlens.steps.data import AuditData
from headlens.steps.locate import LocatedHeads
from headlens.steps.null import Relocate, depends, permuted, relocated
from headlens.steps.record import Fairness
from headlens.steps.total import total_predictions
from headlens.steps.verdicts import (
    Asked,
    Bias,
    FairnessRule,
    FairnessVerdict,
    Null,
    Questions,
    chance_agreement,
    judge_fairness,
    signed_gap,
)
from headlens.tables import Column, Kind, Shown, Table

_NOTHING = 1e-12  # a change of V below this is rounding: no share of it can be given


_MEASURES = {
    "cramers_v": "Cramér's V",
    "corrected": "Cramér's V, bias-corrected",
    "accuracy": "accuracy",
    "dependence": "D, within classes",
}


@dataclass(frozen=True)
class HeadShare:
    """One candidate ablated alone.

    Attributes:
        head: the head.
        cramers_v, accuracy: with this head alone ablated.
        change: of V, against no ablation.
        share: of the change that all candidates together make; None where they make none. Shares need not add up to
            one: heads may repeat each other, or only matter together.
    """

    head: HeadId
    cramers_v: float
    accuracy: float
    change: float
    share: float | None


@dataclass(frozen=True)
class TotalEffect:
    """The same ablation inside the forward pass, where later layers react, beside the direct one on the same images.

    Attributes:
        images: how many scored images were passed again.
        tokens: at which tokens the heads were replaced: "class" or "all".
        direct, total: the association's change by each.
    """

    images: int
    tokens: str
    direct: AssociationChange
    total: AssociationChange


@dataclass(frozen=True)
class ClassEffect:
    """What the ablation does to one class.

    Attributes:
        name: the class.
        images: scored images of it.
        accuracy_before, accuracy_after: share of them that are right.
        v_before, v_after: Cramér's V of attribute × (predicted as this class or not), over all scored images.
        gap_before, gap_after: largest less smallest accuracy on this class over the attribute's values.
        changed: its images whose prediction changed; `corrected` of these became right, `newly_wrong` became wrong.
    """

    name: str
    images: int
    accuracy_before: float
    accuracy_after: float
    v_before: float
    v_after: float
    gap_before: float
    gap_after: float
    changed: int
    corrected: int
    newly_wrong: int


@dataclass(frozen=True, eq=False, repr=False)
class FairnessResults(Shown):
    """One fairness audit, scored.

    Attributes:
        attribute: its name; `values`: its values' names; `inferred`: whether the values were inferred zero-shot.
        locator: how the candidates were located.
        classes: the classes' names.
        candidates: the heads that were ablated.
        change: Cramér's V (plain and corrected) and accuracy before and after, with paired intervals.
        within: what the true classes alone would give.
        dependence: of the predictions on the attribute within the true classes, before the ablation.
        removed: what of it the ablation takes away.
        labels_v: V of attribute × true class, for comparison.
        control: layer-matched random heads; None where none can be drawn.
        shares: each candidate alone.
        total: the effect inside the forward pass; None where it was not measured, and `total_note` says why.
        by_class: one entry a class.
        transitions: how many images moved from one predicted class (row) to another (column); zero on the diagonal.
        fate: of the changed predictions: "corrected", "newly wrong", "wrong before and after".
        predictions: predicted classes of the scored images, "before" and "after".
        located: the locator's own result; None for candidates that were named.
        verdict: what this allows one to say.
    """

    attribute: str
    values: tuple[str, ...]
    inferred: bool
    locator: str
    classes: tuple[str, ...]
    candidates: tuple[HeadId, ...]
    change: AssociationChange
    within: WithinClass
    dependence: Dependence
    removed: DependenceChange
    labels_v: float
    control: RandomHeads | None
    shares: tuple[HeadShare, ...]
    total: TotalEffect | None
    total_note: str
    by_class: tuple[ClassEffect, ...]
    transitions: Int[np.ndarray, "class class_after"]
    fate: dict[str, int]
    predictions: dict[str, np.ndarray]
    located: LocatedHeads | None
    verdict: FairnessVerdict

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `before`, `after`, `difference`, each with its interval's ends,
        `before_low` and so on; that of the difference is paired. D, the dependence, has one of its fall alone."""
        rows: list[tuple[Any, ...]] = []
        change = self.change
        for name in ("corrected", "cramers_v", "accuracy"):
            ends = [one.interval[name] for one in (change.before, change.after, change)]
            before, after = getattr(change.before, name), getattr(change.after, name)
            rows.append((name, before, *ends[0], after, *ends[1], after - before, *ends[2]))
        one, (low, high) = self.removed, self.removed.interval
        rows.append(("dependence", one.before, None, None, one.after, None, None, -one.removed, -high, -low))
        numbers = [f"{name}{end}" for name in ("before", "after", "difference") for end in ("", "_low", "_high")]
        return pd.DataFrame(rows, columns=["measure", *numbers]).astype(dict.fromkeys(numbers, float))

    def shown(self) -> Table:
        """The verdict's headline, and the measures with intervals in their columns; accuracy in per cent."""
        frame = self.table()
        frame["unit"] = ["percent" if name == "accuracy" else "number" for name in frame["measure"]]
        frame["measure"] = [_MEASURES[name] for name in frame["measure"]]
        columns: dict[str, Kind | Column] = {
            "measure": "text",
            "before": "value",
            "after": "value",
            "difference": "difference",
        }
        return Table(frame, columns, f"{self.verdict.headline}.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the predictions, which are arrays."""
        return {
            "attribute": self.attribute,
            "values": list(self.values),
            "attribute_inferred": self.inferred,
            "locator": self.locator,
            "classes": list(self.classes),
            "candidates": [list(head) for head in self.candidates],
            "change": asdict(self.change),
            "within_class": asdict(self.within),
            "dependence": asdict(self.dependence),
            "removed": asdict(self.removed),
            "labels_v": self.labels_v,
            "control": None if self.control is None else self.control.to_dict("cramers_v"),
            "shares": [asdict(share) | {"head": list(share.head)} for share in self.shares],
            "total": None if self.total is None else asdict(self.total),
            "total_note": self.total_note,
            "by_class": [_without_nan(asdict(effect)) for effect in self.by_class],
            "transitions": self.transitions.tolist(),
            "fate": self.fate,
            "verdict": self.verdict.to_dict(),
        }


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN: a class without images has no accuracy.
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in record.items()}


def fairness(
    data: AuditData,
    call: Fairness,
    located: LocatedHeads | None,
    relocate: Relocate | None = None,
    asked: Sequence[Asked] = (),
) -> FairnessResults:
    """Ablate the candidates and judge whether the attribute's hold on the predictions is focal.

    Args:
        data: the question's arrays.
        call: how it is measured; `call.heads` are the candidates where `located` is None.
        located: what the call's locator found.
        relocate: locates the candidates anew, for the verdict's null; None for candidates that were named.
        asked: what else was asked of these test images.
    """
    heads = tuple(call.heads or ()) if located is None else tuple(HeadId(*h) for h in located.located.spurious)
    values, labels, seed = data.test_values, data.test_labels, data.question.seed
    before, after = data.zero_shot, data.ablated(heads)
    questions = Questions.of(asked, Asked(data.question.attribute.name, call.locator, "fairness", heads))
    rule = replace(call.verdict_rule, alpha=call.verdict_rule.alpha / len(questions))
    bias = measure_bias(data, call, before, after, rule)
    within = within_class(
        labels,
        before,
        attribute=values,
        cluster=data.test_clusters,
        n_permutations=call.n_permutations,
        seed=seed,
    )
    control = ablation_control(data, "the candidates", heads, call.n_random_sets, rule.alpha)
    classes, moved = tuple(data.question.task.classes), before != after
    transitions = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(transitions, (before[moved], after[moved]), 1)
    total, total_note = _total(data, heads, after, call)
    results = FairnessResults(
        attribute=data.question.attribute.name,
        values=tuple(data.question.attribute.value_names),
        inferred=data.inferred,
        locator=call.locator,
        classes=classes,
        candidates=heads,
        change=bias.change,
        within=within,
        dependence=bias.dependence,
        removed=bias.removed,
        labels_v=cramers_v(values, labels),
        control=control,
        shares=_shares(data, heads, bias.change),
        total=total,
        total_note=total_note,
        by_class=tuple(_class_effect(c, name, values, labels, before, after) for c, name in enumerate(classes)),
        transitions=transitions,
        fate={
            "corrected": int((moved & (after == labels)).sum()),
            "newly wrong": int((moved & (before == labels)).sum()),
            "wrong before and after": int((moved & (before != labels) & (after != labels)).sum()),
        },
        predictions={"before": before, "after": after},
        located=located,
        verdict=questions.added_to(
            judge_fairness(bias, heads, data.store.n_layers * data.store.n_heads, control, rule),
            call.verdict_rule.alpha,
        ),
    )
    if not heads and located is not None and located.note:
        results = replace(results, verdict=results.verdict.with_remark(located.note))
    if data.inferred:
        results = replace(results, verdict=results.verdict.with_remark(_taken_for(data)))
    if not call.n_null:
        return results
    return replace(results, verdict=results.verdict.with_null(_null(data, call, rule, heads, relocate)))


def _taken_for(data: AuditData) -> str:
    """What inferred values go together with that is labelled: the classes, and the columns they go with most."""
    values, found = data.test_values, {}
    for name, column in data.further_columns.items():
        held = column != ""
        found[f"the column {name!r}"] = cramers_v(column[held], values[held], corrected=True)
    closest = sorted(found.items(), key=lambda one: -one[1])[:3]
    own = ("the classes", cramers_v(data.test_labels, values, corrected=True))
    listed = ", ".join(f"{v:.2f} with {name}" for name, v in (own, *closest))
    return (
        f"Cramér's V (bias-corrected) of the inferred values is {listed}; they may stand for what they go with, which "
        "no permutation shows."
    )


def measure_bias(
    data: AuditData,
    call: Fairness,
    before: Predictions,
    after: Predictions,
    rule: FairnessRule,
) -> Bias:
    """What a verdict on fairness reads of predictions before and after an ablation."""
    scored, seed = data.scored_images, data.question.seed
    found, removed = scored.dependence(
        after,
        before,
        alpha=rule.alpha,
        seed=seed,
        n_bootstrap=call.n_bootstrap,
        n_permutations=call.n_permutations,
    )
    return Bias(
        data.question.attribute.name,
        scored.association(after, before, Bootstrap(call.n_bootstrap, seed=seed)),
        found,
        removed,
        chance_agreement(scored.labels, after),
        data.inferred,
        signed_gap(found, data.question.task.classes, data.question.attribute.value_names),
    )


def _null(
    data: AuditData, call: Fairness, rule: FairnessRule, heads: tuple[HeadId, ...], relocate: Relocate | None
) -> Null:
    """The verdict with the attribute permuted within the true classes."""
    before, n_heads = data.zero_shot, data.store.n_layers * data.store.n_heads
    shown = claims = 0
    for other in permuted(data, call.n_null):
        if not depends(other, before, call.n_permutations, rule.alpha):
            continue
        found = None if relocate is None else relocated(other, relocate)
        own = heads if relocate is None else () if found is None else tuple(HeadId(*h) for h in found.spurious)
        bias = measure_bias(other, call, before, data.ablated(own), rule)
        verdict = judge_fairness(bias, own, n_heads, None, rule)
        shown += verdict.word != "not shown"
        if verdict.word == "inconclusive":
            control = ablation_control(other, "the candidates", own, call.n_random_sets, rule.alpha)
            claims += judge_fairness(bias, own, n_heads, control, rule).word == "focal"
    return Null(call.n_null, shown, claims)


def _shares(data: AuditData, heads: Sequence[HeadId], change: AssociationChange) -> tuple[HeadShare, ...]:
    scored, whole = data.scored_images, change.difference["cramers_v"]
    shares = []
    for head in heads:
        alone = scored.statistics(data.ablated([head]))
        moved = float(alone.cramers_v) - change.before.cramers_v
        share = moved / whole if abs(whole) > _NOTHING else None
        shares.append(HeadShare(head, float(alone.cramers_v), float(alone.average), moved, share))
    return tuple(shares)


def _class_effect(
    number: int,
    name: str,
    values: Int[np.ndarray, "image"],
    labels: Int[np.ndarray, "image"],
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "image"],
) -> ClassEffect:
    mine = labels == number
    as_this_class = np.zeros((2, int(values.max()) + 1, 2))
    for table, classes in zip(as_this_class, (before, after), strict=True):
        np.add.at(table, (values, (classes == number).astype(int)), 1)
    v = v_of_tables(as_this_class)

    def accuracy(classes: np.ndarray, where: np.ndarray) -> float:
        return float((classes[where] == number).mean()) if where.any() else float("nan")

    def gap(classes: np.ndarray) -> float:
        by_value = [accuracy(classes, mine & (values == value)) for value in np.unique(values[mine])]
        return max(by_value) - min(by_value) if by_value else float("nan")

    changed = mine & (before != after)
    return ClassEffect(
        name=name,
        images=int(mine.sum()),
        accuracy_before=accuracy(before, mine),
        accuracy_after=accuracy(after, mine),
        v_before=float(v[0]),
        v_after=float(v[1]),
        gap_before=gap(before),
        gap_after=gap(after),
        changed=int(changed.sum()),
        corrected=int((changed & (after == number)).sum()),
        newly_wrong=int((changed & (before == number)).sum()),
    )


def _total(
    data: AuditData, heads: Sequence[HeadId], after: Predictions, call: Fairness
) -> tuple[TotalEffect | None, str]:
    made = total_predictions(data, heads, call.total, call.tokens)
    if isinstance(made, str):
        return None, made
    scored, bootstrap = data.scored_images.some(made.places), Bootstrap(call.n_bootstrap, seed=data.question.seed)
    if len(np.unique(scored.values)) < 2:
        return None, f"The {len(made.places)} images that were passed again have one value of the attribute alone."
    direct, total = (
        scored.association(classes, made.before, bootstrap) for classes in (after[made.places], made.after)
    )
    return TotalEffect(len(made.places), made.tokens, direct, total), ""
