"""The fairness audit: does ablating the located heads loosen the tie between attribute and prediction, and do others?

Steps, after Yasser et al. 2026 (arXiv 2603.11793), on the scored split:

1. Cramér's V of attribute × predicted class, and accuracy, before and after direct mean ablation of the candidates,
   with paired bootstrap intervals; and what V the true classes alone account for (`metrics.within_class`).
2. The same with layer-matched random heads: as many of each layer, never a candidate.
3. Each candidate alone; each class by itself; where the changed predictions went.
4. The total effect: the same heads replaced inside the forward pass, where later layers react. It needs the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from headlens.audit.fairness_results import (
    ClassEffect,
    FairnessResults,
    HeadShare,
    RandomAssociation,
    TotalEffect,
)
from headlens.audit.fairness_verdict import FairnessRule, judge_fairness
from headlens.audit.total_effect import total_predictions
from headlens.correct import Tokens
from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import HeadEffects, layer_matched
from headlens.metrics import Bootstrap, association_change, cramers_v, v_of_tables, within_class
from headlens.progress import progress

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

_NOTHING = 1e-12  # a change of V below this is rounding: no share of it can be told


def fairness(
    audit: Audit,
    draws: int,
    bootstrap: int,
    permutations: int,
    total: int,
    tokens: Tokens,
    rule: FairnessRule | None,
) -> FairnessResults:
    """See `Audit.fairness`."""
    heads = list(audit.located().spurious)
    rows = audit.splits.test
    values, labels = audit.values[rows], audit.labels[rows]
    logits = audit.among(audit.logits(audit.test.embedding), rows)
    effects = HeadEffects.of_view(logits, audit.test, audit.reference, audit.classifier)
    before, after = effects.predictions().numpy(), effects.predictions(heads).numpy()
    resampling = Bootstrap(bootstrap, seed=audit.seed)
    change = association_change(labels, after, baseline=before, attribute=values, bootstrap=resampling)
    within = within_class(labels, before, attribute=values, n_permutations=permutations, seed=audit.seed)
    control = _control(
        effects, heads, values, labels, change.after.cramers_v, change.before.cramers_v, draws, audit.seed
    )
    classes = tuple(audit.task.classes)
    moved = before != after
    transitions = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(transitions, (before[moved], after[moved]), 1)
    return FairnessResults(
        attribute=audit.attribute.name,
        values=tuple(audit.attribute.value_names),
        inferred=audit.inferred,
        classes=classes,
        candidates=tuple(heads),
        change=change,
        within=within,
        labels_v=cramers_v(values, labels),
        control=control,
        shares=_shares(effects, heads, values, labels, change.before.cramers_v, change.difference["cramers_v"]),
        total=_total(audit, heads, after, total, tokens, bootstrap),
        by_class=tuple(_class_effect(c, name, values, labels, before, after) for c, name in enumerate(classes)),
        transitions=transitions,
        fate={
            "corrected": int((moved & (after == labels)).sum()),
            "newly wrong": int((moved & (before == labels)).sum()),
            "wrong before and after": int((moved & (before != labels) & (after != labels)).sum()),
        },
        predictions={"before": before, "after": after},
        verdict=judge_fairness(
            audit.attribute.name,
            len(heads),
            audit.store.n_layers * audit.store.n_heads,
            change,
            within,
            None if control is None else control.beaten,
            None if control is None else control.comparison.p,
            0 if control is None else len(control.sets),
            rule,
        ),
    )


def _tables(values: np.ndarray, predictions: Sequence[np.ndarray]) -> np.ndarray:
    """One contingency table of value × predicted class for each set of predictions."""
    columns = int(max(p.max() for p in predictions)) + 1
    tables = np.zeros((len(predictions), int(values.max()) + 1, columns))
    for table, predicted in zip(tables, predictions, strict=True):
        np.add.at(table, (values, predicted), 1)
    return tables


def _control(
    effects: HeadEffects,
    heads: list[HeadId],
    values: Int[np.ndarray, "image"],
    labels: Int[np.ndarray, "image"],
    observed: float,
    baseline: float,
    draws: int,
    seed: int,
) -> RandomAssociation | None:
    if not heads or draws == 0:
        return None
    try:
        sets = layer_matched(heads, *effects.shape, draws, seed, exclude=heads)
    except LocateError:  # a layer of which half is named leaves too few others
        return None
    predictions = []
    with progress("Random heads", len(sets), unit="sets") as advance:
        for chosen in sets:
            predictions.append(effects.predictions(chosen).numpy())
            advance(1)
    return RandomAssociation(
        sets=tuple(sets),
        cramers_v=v_of_tables(_tables(values, predictions)),
        accuracy=np.array([(predicted == labels).mean() for predicted in predictions]),
        observed=observed,
        baseline=baseline,
        exhaustive=len(sets) < draws,
        seed=seed,
    )


def _shares(
    effects: HeadEffects,
    heads: list[HeadId],
    values: Int[np.ndarray, "image"],
    labels: Int[np.ndarray, "image"],
    baseline: float,
    whole: float,
) -> tuple[HeadShare, ...]:
    shares = []
    for head in heads:
        predicted = effects.predictions([head]).numpy()
        v = float(v_of_tables(_tables(values, [predicted]))[0])
        share = (v - baseline) / whole if abs(whole) > _NOTHING else None
        shares.append(HeadShare(head, v, float((predicted == labels).mean()), v - baseline, share))
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
    one_or_rest = v_of_tables(_tables(values, [(before == number).astype(int), (after == number).astype(int)]))

    def accuracy(predicted: np.ndarray, where: np.ndarray) -> float:
        return float((predicted[where] == number).mean()) if where.any() else float("nan")

    def gap(predicted: np.ndarray) -> float:
        by_value = [accuracy(predicted, mine & (values == value)) for value in np.unique(values[mine])]
        return max(by_value) - min(by_value) if by_value else float("nan")

    changed = mine & (before != after)
    return ClassEffect(
        name=name,
        images=int(mine.sum()),
        accuracy_before=accuracy(before, mine),
        accuracy_after=accuracy(after, mine),
        v_before=float(one_or_rest[0]),
        v_after=float(one_or_rest[1]),
        gap_before=gap(before),
        gap_after=gap(after),
        changed=int(changed.sum()),
        corrected=int((changed & (after == number)).sum()),
        newly_wrong=int((changed & (before == number)).sum()),
    )


def _total(
    audit: Audit, heads: list[HeadId], after: Int[np.ndarray, "image"], images: int, tokens: Tokens, bootstrap: int
) -> TotalEffect | None:
    if not heads or images == 0 or audit.clip is None:
        return None
    made = total_predictions(audit, heads, images, tokens)
    if made is None:
        return None
    places, before_again, total_after = made
    rows = audit.splits.test[places]
    values, labels = audit.values[rows], audit.labels[rows]
    if len(np.unique(values)) < 2:
        return None
    resampling = Bootstrap(bootstrap, seed=audit.seed)
    compared = [
        association_change(labels, predicted, baseline=before_again, attribute=values, bootstrap=resampling)
        for predicted in (after[places], total_after)
    ]
    return TotalEffect(len(places), tokens, *compared)
