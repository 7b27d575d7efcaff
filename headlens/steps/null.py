"""A verdict's own null: the same steps with the attribute permuted within the true classes of either part.

Classes, predictions and how often class and attribute go together stay as they are; only that an image has its own
value of the attribute is lost. Whatever is then named or claimed says nothing of the attribute.

Steps are taken in order of cost, and no further where a claim is no longer possible: T alone first, then heads are
located, then a correction is fitted, and random heads are drawn where all else holds. Counts are those of the whole
rule all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from headlens.errors import LocateError, MetricError
from headlens.locate import Located
from headlens.metrics import dependence, permute_attribute
from headlens.progress import progress
from headlens.steps.controls import Predictions
from headlens.steps.data import AuditData
from headlens.steps.verdicts import ALPHA

_SEED = 23  # apart from the seeds of splits, draws and resamples
Relocate = Callable[[AuditData], Located]
"""Locates heads anew, as the audit did."""


def permuted(data: AuditData, n: int) -> Iterator[AuditData]:
    """The question's arrays with the attribute permuted within the classes of either part, n times."""
    parts = (data.splits.reference, data.splits.test)
    with progress("The verdict's null", n, unit="draws") as advance:
        for draw in range(n):
            generator, values = np.random.default_rng([data.question.seed, _SEED, draw]), data.values.copy()
            for rows in parts:
                values[rows] = permute_attribute(data.labels[rows], values[rows], data.clusters_of(rows), generator)
            yield data.with_values(values)
            advance(1)


def relocated(data: AuditData, relocate: Relocate) -> Located | None:
    """What the locator finds; None where it refuses, as it does where there is nothing to contrast."""
    try:
        return relocate(data)
    except LocateError:
        return None


def depends(data: AuditData, predictions: Predictions, n_permutations: int = 1000, alpha: float = ALPHA) -> bool:
    """Whether T shows that predictions of the scored images depend on the attribute; nothing is claimed without, nor
    where no class has images of two values."""
    try:
        found = dependence(
            data.test_labels,
            predictions,
            attribute=data.test_values,
            cluster=data.test_clusters,
            n_permutations=n_permutations,
            seed=data.question.seed,
        )
    except MetricError:
        return False
    return found.p <= alpha
