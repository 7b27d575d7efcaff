"""Scoring fitted corrections on the test split, against zero-shot and against random heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from headlens.audit.casts import random_casts
from headlens.audit.controls import RandomHeads
from headlens.audit.methods import build
from headlens.audit.methods import method as registered
from headlens.audit.results import Results
from headlens.audit.verdict import judge
from headlens.correct import Correction
from headlens.metrics import Bootstrap, Evaluation, evaluate, paired_difference
from headlens.progress import progress

if TYPE_CHECKING:
    from headlens.audit.audit import Audit


Predict = Callable[[], Int[np.ndarray, "image"]]
Remember = Callable[[Correction, Predict], Int[np.ndarray, "image"]]
"""From an unfitted correction, and what would predict with it, to its predictions: made now, or kept from before."""


def score(
    audit: Audit, controlled: Sequence[str], draws: int, bootstrap: int, remember: Remember | None = None
) -> Results:
    """Evaluate zero-shot and every fitted correction; `controlled` also against random heads. See `Audit.evaluate`."""
    labels = audit.labels[audit.splits.test]
    groups = [audit.groups[row] for row in audit.splits.test]
    predictions = {"zero-shot": _predict(audit, None)}
    predictions |= {name: _predict(audit, correction) for name, correction in audit.corrections.items()}
    resampling = Bootstrap(bootstrap, seed=audit.seed)
    evaluations = {
        name: evaluate(labels, predicted, groups=groups, method=name, bootstrap=resampling)
        for name, predicted in predictions.items()
    }
    controls = {
        name: control
        for name in controlled
        if (control := _control(audit, name, evaluations, labels, groups, draws, remember)) is not None
    }
    judged = "ltc" if "ltc" in evaluations else next(reversed(evaluations))
    difference = paired_difference(
        labels, predictions[judged], baseline=predictions["zero-shot"], groups=groups, bootstrap=resampling
    )
    verdict = judge(
        judged,
        len(audit.located().spurious),
        difference.difference["worst_group"],
        difference.interval["worst_group"],
        controls.get(judged),
    )
    return Results(evaluations, predictions, controls, verdict)


def _predict(audit: Audit, correction: Correction | None) -> Int[np.ndarray, "image"]:
    if correction is None:
        logits = audit.logits(audit.test.embedding)
    else:
        logits = correction.logits(audit.test, audit.classifier.to(audit.test.embedding))
    return audit.among(logits, audit.splits.test).argmax(dim=-1).numpy()


def _fit_and_predict(audit: Audit, correction: Correction) -> Int[np.ndarray, "image"]:
    return _predict(audit, correction.fit(audit.reference))


def _control(
    audit: Audit,
    method: str,
    evaluations: dict[str, Evaluation],
    labels: Int[np.ndarray, "image"],
    groups: list[str],
    draws: int,
    remember: Remember | None,
) -> RandomHeads | None:
    known = audit.ingredients_of(method)
    casts, exhaustive = random_casts(
        known, registered(method).roles, audit.store.n_layers, audit.store.n_heads, draws, audit.seed
    )
    if not casts:
        return None
    names = sorted(set(groups))
    membership = np.stack([np.asarray(groups) == name for name in names]).astype(float)
    rows, averages = [], []
    with progress(f"Random heads for {method}", len(casts), unit="sets") as advance:
        for cast in casts:
            correction = build(method, known.recast(cast))
            predict = partial(_fit_and_predict, audit, correction)
            right = (predict() if remember is None else remember(correction, predict)) == labels
            rows.append(membership @ right / membership.sum(axis=1))
            averages.append(right.mean())
            advance(1)
    return RandomHeads(
        method=method,
        sets=tuple(tuple(head for heads in cast.values() for head in heads) for cast in casts),
        groups=tuple(names),
        group_accuracy=np.stack(rows),
        average=np.asarray(averages),
        observed=evaluations[method].worst_group,
        baseline=evaluations["zero-shot"].worst_group,
        exhaustive=exhaustive,
        seed=audit.seed,
    )
