"""Is a correction better than the same correction on random heads?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headlens.errors import MetricError


@dataclass(frozen=True)
class RandomComparison:
    """One observed value against the values of random controls.

    Attributes:
        observed: the value with the located heads.
        mean: the controls' mean.
        best: the controls' largest value.
        z: (observed − mean) / standard deviation of the controls; NaN where they do not vary.
        p: (1 + #{controls ≥ observed}) / (1 + draws), one-sided.
        draws: how many controls.
    """

    observed: float
    mean: float
    best: float
    z: float
    p: float
    draws: int


def against_random(observed: float, controls: Sequence[float]) -> RandomComparison:
    """Compare a value for which larger is better (worst-group accuracy, say) with those of random heads.

    See `headlens.locate.layer_matched` for the sets. Raises `MetricError` where there is no control or a value is not
    finite. Limit: with few distinct sets p cannot be small, whatever the effect.
    """
    values = np.asarray(list(controls), dtype=float)
    if values.size == 0 or not np.isfinite([observed, *values]).all():
        raise MetricError(
            "There is no control."
            if values.size == 0
            else f"{observed} or one of {values.tolist()[:5]} is not finite.",
            "Draw controls with headlens.locate.layer_matched.",
        )
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    z = (observed - float(values.mean())) / spread if spread > 0 else float("nan")
    p = (1 + int((values >= observed).sum())) / (1 + values.size)
    return RandomComparison(float(observed), float(values.mean()), float(values.max()), z, p, int(values.size))
