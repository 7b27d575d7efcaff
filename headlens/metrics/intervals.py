"""Intervals that cover: of accuracies, of the worst of several, and of Cramér's V, at equality and away from it.

A bootstrap of a minimum, a gap or V does not cover where groups are equal: the minimum is taken after resampling, so
that all resampled values lie on one side of the truth. Here each group has an interval of its own, and the minimum of
several accuracies μ_g is bounded by what bounds each:

- *Worst group.* low = min_g low_g(α/2): the group that truly is the worst is below its own lower end in α/2 of the
  cases. high = min_g high_g(α/2m), m the number of groups that may be the worst (Bonferroni: any of them may look
  better than it is).
- *Gap.* The same for max_g (average − μ_g).
- *Gain* of the worst group between two models on the same images: min_g a_g − min_h b_h lies between
  max_h min_g low(a_g − b_h) and min_g max_h high(a_g − b_h), and between min_g (a_g − b_g) and max_g (a_g − b_g).
- *V.* The noncentrality of χ² for which the observed one is at either end of its distribution (Smithson 2003), made
  wider by what the multinomial distribution varies more than the noncentral χ² does.

A group's interval is Clopper and Pearson's (1934), a linear combination's Zou and Donner's (2008), a difference's
Wald's after half an image is added to every cell (Agresti and Min 2005). All of it is closed form: no draw, no seed.
`benchmarks/calibration.py` measures their coverage.

Where several images show one person or scene, see `headlens.metrics.clusters`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv, chndtrinc
from scipy.stats import chi2, norm

from headlens.metrics.bootstrap import Interval
from headlens.metrics.clusters import Quantile

_SELECT = 0.005
"""Tail at which a group is out of the question for being the worst."""

Groups = Float[np.ndarray, "*data group"]
Ends = tuple[np.ndarray | np.floating, np.ndarray | np.floating]
"""Low and high, of each data set; a number each where there is one."""


def proportion(
    correct: Float[np.ndarray, "*#data"], images: Float[np.ndarray, "*#data"], tail: float | Float[np.ndarray, "*#data"]
) -> tuple[Float[np.ndarray, "*#data"], Float[np.ndarray, "*#data"]]:
    """Clopper–Pearson ends: each is on the wrong side of the truth in at most `tail` of the cases. Images may be
    fractions; a group without any has the interval 0 to 1."""
    correct, images = np.asarray(correct, float), np.asarray(images, float)
    wrong = images - correct
    low = np.where(correct > 0, betaincinv(np.maximum(correct, 1e-12), wrong + 1, tail), 0.0)
    high = np.where(wrong > 0, betaincinv(correct + 1, np.maximum(wrong, 1e-12), 1 - np.asarray(tail)), 1.0)
    return np.asarray(low), np.asarray(np.where(images > 0, high, 1.0))


def _may_be_lowest(correct: Groups, images: Groups) -> Bool[np.ndarray, "*data group"]:
    low, high = proportion(correct, images, _SELECT)
    return np.asarray(low <= high.min(-1, keepdims=True))


def lowest(correct: Groups, images: Groups, level: float = 0.95) -> Ends:
    """The interval of the lowest of several proportions.

    Args:
        correct: how many images of each group are correct.
        images: how many it has.
        level: of the interval.
    """
    tail = (1 - level) / 2
    several = _may_be_lowest(correct, images).sum(-1, keepdims=True)
    shared = np.broadcast_to(tail / several, np.shape(correct))
    return proportion(correct, images, tail)[0].min(-1), proportion(correct, images, shared)[1].min(-1)


def combination(
    correct: Groups, images: Groups, weights: Float[np.ndarray, "*row group"], tail: float | np.ndarray
) -> Ends:
    """The interval of Σ_g weight_g μ_g, for each row of weights, from those of the groups (Zou and Donner 2008).

    Args:
        correct: of each group, [*data group].
        images: of each group.
        weights: [row group], or [group] for one combination.
        tail: of each row, or of all: then the groups' own intervals are made once.
    """
    rows = np.atleast_2d(weights)
    k, n = (np.asarray(x, float)[..., None, :] for x in (correct, images))
    share = np.divide(k, n, out=np.zeros(np.broadcast_shapes(k.shape, n.shape)), where=n > 0)
    low, high = proportion(k, n, np.asarray(tail, float)[..., None])
    middle = (rows * share).sum(-1)
    below = np.where(rows > 0, share - low, share - high)
    above = np.where(rows > 0, high - share, low - share)
    ends = middle - np.sqrt(((rows * below) ** 2).sum(-1)), middle + np.sqrt(((rows * above) ** 2).sum(-1))
    return ends if np.ndim(weights) > 1 else (ends[0][..., 0], ends[1][..., 0])


def independent_difference(first: tuple[float, Interval], second: tuple[float, Interval]) -> tuple[float, float, float]:
    """Two estimates from different images: the second minus the first, and its interval (Zou and Donner 2008).

    For estimates p, q with intervals [l, u] and [m, v], the difference q − p lies between
    q − p − √((q − m)² + (u − p)²) and q − p + √((v − q)² + (p − l)²); of proportions this is Newcombe's (1998).

    Args:
        first: an estimate and its interval.
        second: another, from images that are not the first's, with an interval of the same level.
    """
    (p, (low, high)), (q, (lower, higher)) = first, second
    below, above = np.hypot(q - lower, high - p), np.hypot(higher - q, p - low)
    return q - p, float(q - p - below), float(q - p + above)


def largest_gap(correct: Groups, images: Groups, weights: Float[np.ndarray, "group"], level: float = 0.95) -> Ends:
    """The interval of the average minus the lowest proportion.

    Args:
        correct: of each group.
        images: of each group.
        weights: of the groups in the average, summing to one.
        level: of the interval.
    """
    tail = (1 - level) / 2
    rows = weights[None, :] - np.eye(len(weights))
    several = _may_be_lowest(correct, images).sum(-1, keepdims=True)
    low, _ = combination(correct, images, rows, tail / several)
    _, high = combination(correct, images, rows, tail)
    return np.maximum(low.max(-1), 0.0), high.max(-1)


# ---- two models on the same images ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Accuracies of groups before and after, with their variances, from counts of [group, before, after].

    Attributes:
        before, after: accuracy of each group, half an image added to every cell.
        before_variance, after_variance, covariance: of these.
    """

    before: Float[np.ndarray, "*data group"]
    after: Float[np.ndarray, "*data group"]
    before_variance: Float[np.ndarray, "*data group"]
    after_variance: Float[np.ndarray, "*data group"]
    covariance: Float[np.ndarray, "*data group"]

    @classmethod
    def of(cls, counts: Float[np.ndarray, "*data group 2 2"], inflate: float | np.ndarray = 1.0) -> Paired:
        """From images by whether they are correct before and after; `inflate` is the design effect of clusters."""
        counts = np.asarray(counts, float) + 0.5
        n = counts.sum((-1, -2))
        before, after = counts[..., 1, :].sum(-1) / n, counts[..., :, 1].sum(-1) / n
        scale = inflate / n
        covariance = (counts[..., 1, 1] / n - before * after) * scale
        return cls(before, after, before * (1 - before) * scale, after * (1 - after) * scale, covariance)

    @property
    def variance(self) -> Float[np.ndarray, "*data group"]:
        """Of after_g − before_g."""
        return self.after_variance + self.before_variance - 2 * self.covariance

    def changes(self, z: float) -> tuple[Groups, Groups]:
        """The interval of after_g − before_g of every group."""
        middle, spread = self.after - self.before, np.sqrt(self.variance)
        return middle - z * spread, middle + z * spread

    def change(self, weights: Float[np.ndarray, "group"], z: float) -> Ends:
        """The interval of Σ_g weight_g (after_g − before_g)."""
        middle = ((self.after - self.before) * weights).sum(-1)
        spread = np.sqrt((self.variance * weights**2).sum(-1))
        return middle - z * spread, middle + z * spread

    def _lowest(self) -> tuple[Bool[np.ndarray, "*data group"], Bool[np.ndarray, "*data group"]]:
        """Which groups may be the worst before, and after."""
        z = norm.isf(_SELECT)
        both = []
        for mean, variance in ((self.before, self.before_variance), (self.after, self.after_variance)):
            reach = z * np.sqrt(variance)
            both.append(mean - reach <= (mean + reach).min(-1, keepdims=True))
        return both[0], both[1]

    def gain(self, tail: float, quantile: Quantile) -> Ends:
        """The interval of the worst group's accuracy after minus the worst group's before."""
        before, after = self._lowest()
        difference = self.after[..., :, None] - self.before[..., None, :]  # [after group, before group]
        own = np.eye(difference.shape[-1])
        spread = np.sqrt(
            self.after_variance[..., :, None]
            + self.before_variance[..., None, :]
            - 2 * own * self.covariance[..., None, :]
        )
        z_low, z_high = (quantile(tail / few.sum(-1))[..., None, None] for few in (before, after))
        low = np.where(after[..., :, None], difference - z_low * spread, np.inf).min(-2)
        high = np.where(before[..., None, :], difference + z_high * spread, -np.inf).max(-1)
        same_low, same_high = _same(difference, quantile(tail) * spread)
        return (
            np.maximum(np.where(before, low, -np.inf).max(-1), np.where(after, same_low, np.inf).min(-1)),
            np.minimum(np.where(after, high, np.inf).min(-1), np.where(before, same_high, -np.inf).max(-1)),
        )

    def widening(self, weights: Float[np.ndarray, "group"], tail: float, quantile: Quantile) -> Ends:
        """The interval of the gap (average − worst group) after minus that before."""
        before, after = self._lowest()
        change = ((self.after - self.before) * weights).sum(-1)[..., None, None]
        difference = change - (self.after[..., :, None] - self.before[..., None, :])
        whole = (self.variance * weights**2).sum(-1)[..., None, None]
        own = np.eye(difference.shape[-1])
        shared_after = (weights * (self.after_variance - self.covariance))[..., :, None]
        shared_before = (weights * (self.before_variance - self.covariance))[..., None, :]
        spread = np.sqrt(
            np.maximum(
                whole
                + self.after_variance[..., :, None]
                + self.before_variance[..., None, :]
                - 2 * own * self.covariance[..., None, :]
                - 2 * shared_after
                - 2 * shared_before,
                0.0,
            )
        )
        z_low, z_high = (quantile(tail / few.sum(-1))[..., None, None] for few in (after, before))
        low = np.where(before[..., None, :], difference - z_low * spread, np.inf).min(-1)
        high = np.where(after[..., :, None], difference + z_high * spread, -np.inf).max(-2)
        same_low, same_high = _same(difference, quantile(tail) * spread)
        return (
            np.maximum(np.where(after, low, -np.inf).max(-1), np.where(before, same_low, np.inf).min(-1)),
            np.minimum(np.where(before, high, np.inf).min(-1), np.where(after, same_high, -np.inf).max(-1)),
        )


def _same(
    difference: Float[np.ndarray, "*data group group"], reach: Float[np.ndarray, "*data group group"]
) -> tuple[Groups, Groups]:
    """The ends of each group's own difference."""
    low, high = (np.diagonal(end, axis1=-2, axis2=-1) for end in (difference - reach, difference + reach))
    return low, high


# ---- Cramér's V -----------------------------------------------------------------------------------------------------


def v_interval(tables: Float[np.ndarray, "*data row column"], level: float = 0.95, design_effect: float = 1.0) -> Ends:
    """The interval of Cramér's V in the population that tables of counts were drawn from.

    Args:
        tables: one table, or many. Rows and columns without an image do not count.
        level: of the interval.
        design_effect: of clusters; the tables are taken as of so many times fewer images.

    The lower end is 0 exactly where independence is not rejected at about that level. With λ the noncentrality,
    V = sqrt(λ / (n · min(r − 1, c − 1))); the distance of λ's ends from χ² − (r − 1)(c − 1) is multiplied by the square
    root of how much more χ² varies, by the delta method, than the noncentral distribution does, where it does. Tails
    are 0.6 of (1 − level) / 2, which covers in sparse tables too.
    """
    counts = np.asarray(tables, float) / design_effect
    n = np.maximum(counts.sum((-2, -1)), 1e-12)
    joint = counts / n[..., None, None]
    row, column = joint.sum(-1, keepdims=True), joint.sum(-2, keepdims=True)
    expected = row * column
    ratio = np.divide(joint, expected, out=np.zeros_like(joint), where=expected > 0)
    phi2 = np.maximum((joint * ratio).sum((-2, -1)) - 1, 0.0)
    r, c = ((part > 0).sum((-2, -1)) for part in (row, column))
    freedom = np.maximum((r - 1) * (c - 1), 1).astype(float)
    observed = n * phi2
    # The influence of a cell on φ², whose variance is that of φ² times the number of images.
    square = joint * ratio
    by_row = np.divide(square.sum(-1, keepdims=True), row, out=np.zeros_like(row), where=row > 0)
    by_column = np.divide(square.sum(-2, keepdims=True), column, out=np.zeros_like(column), where=column > 0)
    influence = 2 * ratio - by_row - by_column
    centred = influence - (joint * influence).sum((-2, -1), keepdims=True)
    variance = n * (joint * centred**2).sum((-2, -1))
    centre = np.maximum(observed - freedom, 0.0)
    wider = np.sqrt(np.maximum((np.maximum(variance - 4 * freedom, 0) + 2 * freedom) / (4 * centre + 2 * freedom), 1.0))
    tail = 0.6 * (1 - level) / 2
    low = _noncentrality(observed, freedom, 1 - tail)
    # A table may look more even than chance allows; the upper end is then that of a middling one.
    high = _noncentrality(np.maximum(observed, chi2.ppf(0.5, freedom)), freedom, tail)
    low = np.where(low > 0, np.maximum(centre - (centre - low) * wider, 0.0), 0.0)
    high = centre + np.maximum(high - centre, 0.0) * wider
    scale = n * np.maximum(np.minimum(r, c) - 1, 1)
    single = np.minimum(r, c) < 2  # one predicted class: V is 0 by convention, and nothing is known of it
    ends = (np.sqrt(np.clip(end / scale, 0.0, 1.0)) for end in (low, high))
    low, high = (np.where(single, 0.0, end) for end in ends)
    return low, high


def _noncentrality(
    observed: np.ndarray | np.floating, freedom: np.ndarray | np.floating, share: float
) -> Float[np.ndarray, "*data"]:
    """λ for which `share` of the noncentral χ² lies below the observed value; 0 where none is small enough."""
    observed, freedom = np.broadcast_arrays(np.asarray(observed, float), np.asarray(freedom, float))
    found = np.zeros(observed.shape)
    some = chi2.cdf(observed, freedom) > share
    found[some] = chndtrinc(observed[some], freedom[some], share)
    return found


def pair(ends: Ends) -> Interval:
    """One interval as plain numbers."""
    low, high = (float(np.squeeze(end)) for end in ends)
    return low, high
