"""Is a statistic better with the located heads than with random ones?

The sets are drawn, and the statistics computed, by `headlens.locate.random_heads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from headlens.errors import MetricError
from headlens.metrics.bootstrap import Interval, interval

TOLERANCE = 1e-9
"""Statistics that differ by less are equal: they are fractions of images, computed by one function, up to rounding."""


@dataclass(frozen=True)
class RandomComparison:
    """One statistic of the located heads, compared with that of random ones.

    Attributes:
        observed: the statistic with the located heads.
        mean: the controls' mean.
        best: the controls' best value.
        z: (observed − mean) / standard deviation of the controls, above zero where the located heads do better; NaN
            where the controls do not vary.
        p: (1 + #{controls at least as good}) / (1 + controls), one-sided; a tie counts against the located heads.
        effect: how much better than the controls' mean the located heads do; below zero where they do worse.
        effect_interval: its interval: over images, where the statistic came with resamples, else over the controls.
        n: how many controls.
    """

    observed: float
    mean: float
    best: float
    z: float
    p: float
    effect: float
    effect_interval: Interval
    n: int

    @property
    def share_at_least(self) -> float:
        """The share of the controls that do at least as well."""
        return (round(self.p * (1 + self.n)) - 1) / self.n


def against_random(
    observed: float | Float[np.ndarray, "sample"],
    controls: Sequence[float] | Float[np.ndarray, "set"] | Float[np.ndarray, "set sample"],
    *,
    lower_is_better: bool = False,
    level: float = 0.95,
) -> RandomComparison:
    """Compare a statistic with those of random heads.

    Args:
        observed: the statistic with the located heads; an array has its value first, then paired bootstrap resamples.
        controls: the same with each random set, by the same function.
        lower_is_better: of the statistic.
        level: of the effect's interval.

    Raises:
        MetricError: where there is no control or a value is not finite.

    Limits: with few distinct sets p cannot be small, whatever the effect.
    """
    own, others = np.atleast_1d(np.asarray(observed, float)), np.asarray(controls, float)
    others = others.reshape(len(others), -1) if others.size else others
    if not others.size:
        raise MetricError("There is no control.", "Draw random sets with headlens.locate.draw_head_sets.")
    if not (np.isfinite(own[0]) and np.isfinite(others[:, 0]).all()):
        raise MetricError(
            "The statistic of the located heads or of a control is not finite.", "Score images of every group."
        )
    sign = -1.0 if lower_is_better else 1.0
    value, values = sign * own[0], sign * others[:, 0]
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    effect = float(value - mean)
    if len(own) > 1:
        ends = interval(sign * (own[1:] - others[:, 1:].mean(axis=0)), level)
    elif len(values) > 1:
        reach = float(student.isf((1 - level) / 2, len(values) - 1)) * spread / sqrt(len(values))
        ends = (effect - reach, effect + reach)
    else:
        ends = (float("-inf"), float("inf"))
    return RandomComparison(
        observed=float(own[0]),
        mean=sign * mean,
        best=sign * float(values.max()),
        z=effect / spread if spread > TOLERANCE else float("nan"),
        p=(1 + int((values >= value - TOLERANCE).sum())) / (1 + len(values)),
        effect=effect,
        effect_interval=ends,
        n=len(values),
    )
