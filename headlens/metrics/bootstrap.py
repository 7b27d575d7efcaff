"""Bootstrap over images, without ever drawing an image.

Whether each image is right is all that accuracies depend on, so resampling n images with replacement is the same as
drawing how many fall into each cell (group × right or wrong) from a multinomial distribution with the observed shares:
exact, and as quick for a million images as for a hundred. For two models that are compared on the same images the
cells are group × (first right?) × (second right?), which keeps the pairing.

The group sizes vary from draw to draw as they would from data set to data set. A group that a draw leaves empty has no
accuracy in that draw; it is left out of that draw's worst group and of the mean over groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.columns import Column
from headlens.metrics.groups import Weighting, group_weights, outcomes

Interval = tuple[float, float]
_Array = np.ndarray


def interval(samples: _Array, level: float = 0.95) -> Interval:
    """The percentile interval of resampled values, draws that have none left out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def cells(hits: list[_Array], groups: _Array) -> tuple[list[str], _Array]:
    """Count the images of each group by which of the models are right: names, and counts [group, 2, 2, …]."""
    codes, names = pd.factorize(groups, sort=True)
    counts = np.zeros((len(names), *[2] * len(hits)), dtype=np.int64)
    np.add.at(counts, (codes, *[h.astype(int) for h in hits]), 1)
    return [str(n) for n in names], counts


def resample(counts: _Array, draws: int, seed: int) -> _Array:
    """Draw the cell counts of `draws` resampled data sets: [draw, group, 2, …]."""
    if draws < 2:
        raise MetricError("two draws or more", str(draws), "Pass draws=1000, for example.")
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, counts.ravel() / total, size=draws)
    return drawn.reshape(draws, *counts.shape)


def summaries(right: _Array, sizes: _Array, names: list[str], weighting: Weighting) -> dict[str, _Array]:
    """Average, worst group, gap and every group's accuracy, from counts [draw group] of right images and of images."""
    with np.errstate(invalid="ignore"):
        accuracy = right / np.where(sizes > 0, sizes, np.nan)
    if isinstance(weighting, str) and weighting == "images":
        average = right.sum(-1) / sizes.sum(-1)
    else:
        weights = np.where(sizes > 0, group_weights(names, np.ones(len(names)), weighting), 0.0)
        average = np.nansum(accuracy * weights, -1) / np.where(weights.sum(-1) > 0, weights.sum(-1), np.nan)
    worst = np.nanmin(accuracy, axis=-1)
    by_group = {f"groups.{name}": accuracy[..., i] for i, name in enumerate(names)}
    return {"average": average, "worst_group": worst, "gap": average - worst, **by_group}


@dataclass(frozen=True)
class PairedDifference:
    """How the second model differs from the first on the same images.

    Attributes:
        difference: second minus first, for "average", "worst_group", "gap" and "groups.<name>".
        interval: the bootstrap interval of each difference.
        level: the intervals' level.
        draws: how many resamples.
    """

    difference: dict[str, float]
    interval: dict[str, Interval]
    level: float
    draws: int

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `difference`, `low`, `high`."""
        rows = [(name, value, *self.interval[name]) for name, value in self.difference.items()]
        return pd.DataFrame(rows, columns=["measure", "difference", "low", "high"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def paired_difference(
    first: Column,
    second: Column,
    labels: Column,
    groups: Column,
    *,
    weighting: Weighting = "images",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Compare two sets of predictions of the same images: second minus first, with paired bootstrap intervals.

    Args:
        first: the first model's predictions, such as zero-shot.
        second: the second model's, such as after a correction.
        labels: the true classes.
        groups: the group of each image.
        weighting: what the average counts; see `average_accuracy`.
        draws: how many resamples of the images.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Raises:
        MetricError: as `group_accuracy`, and for fewer than two draws or a level outside (0, 1).
    """
    check_level(level)
    hits, group = [], np.empty(0)
    for predictions in (first, second):
        right, group = hits_of(predictions, labels, groups)
        hits.append(right)
    if len(hits[0]) != len(hits[1]):
        raise MetricError("two predictions an image", f"{len(hits[0])} and {len(hits[1])}", "Use the same rows.")
    names, counts = cells(hits, group)
    shares = by_name(weighting)

    def difference(c: _Array) -> dict[str, _Array]:
        sizes = c.sum((-1, -2))
        one = summaries(c[..., 1, :].sum(-1), sizes, names, shares)
        two = summaries(c[..., :, 1].sum(-1), sizes, names, shares)
        return {name: two[name] - one[name] for name in one}

    observed = {name: float(value[0]) for name, value in difference(counts[None]).items()}
    drawn = difference(resample(counts, draws, seed))
    return PairedDifference(observed, {name: interval(v, level) for name, v in drawn.items()}, level, draws)


def hits_of(predictions: Column, labels: Column, groups: Column) -> tuple[_Array, _Array]:
    """Whether each prediction is right, and each image's group."""
    predicted, true, group = outcomes(predictions, labels, groups)
    return np.asarray(predicted == true), group


def by_name(weighting: Weighting) -> Weighting:
    """The weighting with shares, where it has any, by the groups' names as text."""
    return weighting if isinstance(weighting, str) else {str(name): share for name, share in weighting.items()}


def check_level(level: float) -> None:
    """Raises `MetricError` for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise MetricError("a level between 0 and 1", f"{level}", "Pass level=0.95, for example.")
