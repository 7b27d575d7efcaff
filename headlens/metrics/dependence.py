"""Do predictions depend on an attribute within the true classes, how strongly, and how much does a correction remove?

What V measures over all images is in part the classes' own: where classes and attribute go together, correct
predictions alone make V large, and losing accuracy makes it small. Within each true class c neither is so. With the
table of attribute value × predicted class of the n_c images of class c, χ²_c its χ², r_c and k_c its occupied rows and
columns:

    T = Σ_c χ²_c                                                       *shown*: against the attribute permuted within
                                                                       classes; either direction counts, and gaps that
                                                                       oppose each other between classes add up
    D = Σ_c (n_c / n) [χ²_c / n_c − (r_c − 1)(k_c − 1) / (n_c − 1)]    *how much*: about 0 without dependence, and below
                                                                       it by chance (not clipped)
    removed = D before − D after, paired on the same images

Permutations and resamples are drawn as tables, not image by image, unless images come in clusters: then whole clusters
are permuted among those of the same classes (where the attribute is constant within clusters; else images within each
cluster and class), and whole clusters are resampled.

Ours; the measure that it stands beside is Cramér's V of Yasser et al. 2026 (arXiv 2603.11793).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import chdtri, chndtrinc

from headlens.errors import MetricError
from headlens.metrics.association import permuted_tables, v_of_tables
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Interval
from headlens.metrics.clusters import Clusters, permutations
from headlens.metrics.columns import Column, as_columns, cells_of
from headlens.metrics.random_heads import TOLERANCE

_CELLS = 20_000_000  # counts held at once
_DENSE = 10_000  # entries below which a sparse matrix is slower
Counts = Float[np.ndarray, "draw cell"]


class Strata:
    """Cells of (true class, attribute value, predicted class) that occur, and the statistics of counts of them.

    Args:
        labels, values, predictions: indices of each image; the cells are those that occur.
    """

    def __init__(
        self,
        labels: Int[np.ndarray, "image"],
        values: Int[np.ndarray, "image"],
        predictions: Int[np.ndarray, "image"],
    ):
        cells, self.of_image = cells_of(labels, values, predictions)
        self.labels, self.values, self.predictions = cells
        self.classes, self._class = np.unique(self.labels, return_inverse=True)
        self.groups, self._row = cells_of(*cells[:2])
        columns, self._column = cells_of(*cells[[0, 2]])
        self._row_class = np.searchsorted(self.classes, self.groups[0])
        self._column_class = np.searchsorted(self.classes, columns[0])

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> Counts:
        """Images of each cell, as one draw."""
        return np.bincount(self.of_image, minlength=len(self))[None].astype(float)

    def chi2(self, counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """χ²_c, n_c and (r_c − 1)(k_c − 1), each of [draw class]."""
        n, rows, columns = (
            counts @ _indicator(of, size)
            for of, size in (
                (self._class, len(self.classes)),
                (self._row, self.groups.shape[1]),
                (self._column, len(self._column_class)),
            )
        )
        product = rows[:, self._row] * columns[:, self._column]
        terms = np.divide(counts**2, product, out=np.zeros_like(counts), where=product > 0)
        chi2 = n * np.maximum(terms @ _indicator(self._class, len(self.classes)) - 1, 0.0)
        r = (rows > 0).astype(float) @ _indicator(self._row_class, len(self.classes))
        k = (columns > 0).astype(float) @ _indicator(self._column_class, len(self.classes))
        return np.where(n > 0, chi2, 0.0), n, np.maximum(r - 1, 0) * np.maximum(k - 1, 0)

    def dependence(self, counts: Counts) -> Float[np.ndarray, "draw"]:
        """D."""
        chi2, n, freedom = self.chi2(counts)
        parts = np.where(n > 1, chi2 - n * freedom / np.maximum(n - 1, 1), 0.0)
        return np.asarray(parts.sum(1) / n.sum(1))


def _indicator(of: Int[np.ndarray, "cell"], size: int) -> csr_array | Float[np.ndarray, "cell part"]:
    if len(of) * size <= _DENSE:
        return (of[:, None] == np.arange(size)).astype(float)
    return csr_array((np.ones(len(of)), (np.arange(len(of)), of)), shape=(len(of), size))


@dataclass(frozen=True)
class Dependence:
    """Of predictions on an attribute, within the true classes.

    Attributes:
        t: T.
        expected: T's mean with the attribute permuted within classes.
        p: (1 + permutations with T at least the observed) / (1 + permutations).
        d: D.
        gap: of an attribute with two values, the mean over classes (weighted by images) of the accuracy on the second
            value minus that on the first, with its sign; None for more values. Gaps that oppose each other cancel here.
        gap_by_class: the same of each class that has images of both values.
        n_permutations, seed: of the permutations.
        detectable: the smallest D that T finds with 80 % power at p ≤ alpha with so many images: λ / n, by the
            noncentral χ² distribution of noncentrality λ with as many degrees of freedom as T has.
    """

    t: float
    expected: float
    p: float
    d: float
    gap: float | None
    gap_by_class: dict[str, float]
    n_permutations: int
    seed: int
    detectable: float = 0.0


def dependence(
    y_true: Column,
    y_pred: Column,
    *,
    attribute: Column,
    cluster: Column | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Dependence:
    """Test whether predictions depend on an attribute within the true classes.

    Args:
        y_true: the true class of each image.
        y_pred: the predicted class.
        attribute: the attribute's value.
        cluster: the person or scene that each image shows, where several show the same.
        n_permutations: how many permutations of the attribute within the classes.
        seed: the same seed gives the same permutations.
        alpha: the level at which `detectable` is found.

    Raises:
        MetricError: for columns that do not match, an attribute with one value, no class with images of two values, or
            fewer than one permutation.

    Limits: classes with one value alone say nothing, and are in D's weights all the same. A small p shows that
    predictions differ between values, not that the attribute itself is the reason.
    """
    if n_permutations < 1:
        raise MetricError(f"{n_permutations} permutations are none.", "Pass n_permutations=1000, for example.")
    labels, values, predictions, classes, clusters = _codes(y_true, y_pred, attribute, cluster)
    strata = Strata(labels, values, predictions)
    counts = strata.counts()
    chi2, _, freedom = (part.sum() for part in strata.chi2(counts))
    t = float(chi2)
    null = _permuted(labels, values, predictions, clusters, n_permutations, np.random.default_rng(seed))
    reached = int((null >= t - TOLERANCE * max(1.0, t)).sum())
    gap, by_class = _gaps(labels, values, predictions, classes)
    return Dependence(
        t=t,
        expected=float(null.mean()),
        p=(1 + reached) / (1 + n_permutations),
        d=float(strata.dependence(counts)[0]),
        gap=gap,
        gap_by_class=by_class,
        n_permutations=n_permutations,
        seed=seed,
        detectable=_detectable(float(freedom), alpha) / len(labels),
    )


def _detectable(freedom: float, alpha: float, power: float = 0.8) -> float:
    """The noncentrality that a χ² test at this level finds with this power; infinite where nothing can vary."""
    if freedom < 1:
        return float("inf")
    return float(chndtrinc(chdtri(freedom, alpha), freedom, 1 - power))


def _codes(
    y_true: Column, y_pred: Column, attribute: Column, cluster: Column | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], Clusters | None]:
    """Classes and predictions in one numbering, values, the classes' names, and clusters."""
    true, predicted, held = as_columns(y_true=y_true, y_pred=y_pred, attribute=attribute)
    both, names = pd.factorize(np.concatenate([true, predicted]), sort=True)
    values, kinds = pd.factorize(held, sort=True)
    labels = both[: len(true)]
    if len(kinds) < 2:
        raise MetricError(f"All images have the attribute value {kinds[0]!r}.", "Score images of two values or more.")
    clusters = Clusters.beside(cluster, attribute=attribute)
    return labels, values, both[len(true) :], [str(name) for name in names], clusters


def _gaps(
    labels: np.ndarray, values: np.ndarray, predictions: np.ndarray, classes: Sequence[str]
) -> tuple[float | None, dict[str, float]]:
    if values.max() != 1:
        return None, {}
    gaps, sizes = {}, []
    for label in np.unique(labels):
        first, second = (predictions[(labels == label) & (values == value)] == label for value in (0, 1))
        if len(first) and len(second):
            gaps[classes[label]] = float(second.mean() - first.mean())
            sizes.append(len(first) + len(second))
    if not gaps:
        raise MetricError("No class has images of both values.", "Within classes, there is nothing to compare.")
    return float(np.average(list(gaps.values()), weights=sizes)), gaps


def _permuted(
    labels: Int[np.ndarray, "image"],
    values: Int[np.ndarray, "image"],
    predictions: Int[np.ndarray, "image"],
    clusters: Clusters | None,
    n_permutations: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "permutation"]:
    """T of the attribute permuted within classes."""
    total = np.zeros(n_permutations)
    if clusters is not None:
        drawn = permutations(labels, values, clusters.codes, n_permutations, generator)
        for place, permuted in enumerate(drawn):
            strata = Strata(labels, permuted, predictions)
            total[place] = strata.chi2(strata.counts())[0].sum()
        return total
    for label in np.unique(labels):
        here = labels == label
        rows, columns = (np.unique(of[here], return_counts=True)[1] for of in (values, predictions))
        if len(rows) < 2 or len(columns) < 2:
            continue
        expected = np.outer(rows, columns) / here.sum()
        for start in range(0, n_permutations, step := max(1, _CELLS // expected.size)):
            tables = permuted_tables(generator, rows, columns, min(step, n_permutations - start))
            total[start : start + step] += ((tables - expected) ** 2 / expected).sum((-2, -1))
    return total


# ---- before and after -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DependenceChange:
    """How much of the dependence within classes a correction removes.

    Attributes:
        before, after: D.
        removed: D before minus D after; below zero where the correction adds dependence.
        interval: its paired bootstrap interval.
        share: removed / before; None where there was no dependence to remove (D ≤ 0).
        share_interval: the interval of the share; None where some resample has no dependence to remove.
        n_bootstrap, level, seed: of the bootstrap.
    """

    before: float
    after: float
    removed: float
    interval: Interval
    share: float | None
    share_interval: Interval | None
    n_bootstrap: int
    level: float
    seed: int


def dependence_change(
    y_true: Column,
    y_pred: Column,
    *,
    baseline: Column,
    attribute: Column,
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> DependenceChange:
    """Compare two sets of predictions of the same images by D, paired.

    Args:
        y_true: the true class of each image.
        y_pred: the predicted class after a correction.
        baseline: the predicted class before it.
        attribute: the attribute's value.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images, or of the clusters.

    Raises:
        MetricError: as `dependence`.

    Limits: resampling adds dependence of its own, about (r_c − 1)(k_c − 1) / n_c a class, on both sides alike; with
    fewer than about 30 images a class and many predicted classes the interval lies too low.
    """
    labels, values, after, _, clusters = _codes(y_true, y_pred, attribute, cluster)
    _, _, before, _, _ = _codes(y_true, baseline, attribute, cluster)
    strata = [Strata(labels, values, predictions) for predictions in (before, after)]
    joint = np.stack([one.of_image for one in strata])
    cells, of_image = cells_of(*joint)
    maps = [_indicator(cells[i], len(one)) for i, one in enumerate(strata)]

    def both(counts: Counts) -> Float[np.ndarray, "model draw"]:
        return np.stack([one.dependence(counts @ of) for one, of in zip(strata, maps, strict=True)])

    d = both(np.bincount(of_image, minlength=cells.shape[1])[None].astype(float))[:, 0]
    drawn = np.concatenate([both(part) for part in bootstrap.cells(of_image, clusters)], axis=1)
    removed = drawn[0] - drawn[1]
    share = share_interval = None
    if d[0] > 0:
        share = float(1 - d[1] / d[0])
        share_interval = bootstrap.interval(removed / drawn[0]) if (drawn[0] > 0).all() else None
    return DependenceChange(
        before=float(d[0]),
        after=float(d[1]),
        removed=float(d[0] - d[1]),
        interval=bootstrap.interval(removed),
        share=share,
        share_interval=share_interval,
        n_bootstrap=bootstrap.n_bootstrap,
        level=bootstrap.level,
        seed=bootstrap.seed,
    )


# ---- many sets of predictions ---------------------------------------------------------------------------------------


class PredictionStatistics:
    """What is compared between the located heads and random ones, for many predictions of the same images: "average",
    "worst_group", "groups.<class/value>", "cramers_v", "corrected" and "dependence" (D), each with the same resamples.

    Args:
        y_true: the true class of each image, as an index into the classes.
        attribute: the attribute's value, as an index; −1 where it is not labelled: such an image counts in its group
            and in no association.
        groups: the group of each image; class and value by default.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images or clusters, the same for all predictions; None for the values alone.
    """

    def __init__(
        self,
        y_true: Int[np.ndarray, "image"],
        attribute: Int[np.ndarray, "image"],
        *,
        groups: Column | None = None,
        cluster: Column | None = None,
        bootstrap: Bootstrap | None = None,
    ):
        self._labels, self._values = np.asarray(y_true), np.asarray(attribute)
        named = groups if groups is not None else [f"{c}/{v}" for c, v in zip(self._labels, self._values, strict=True)]
        (names,) = as_columns(groups=named)
        self._group, found = pd.factorize(names, sort=True)
        self.groups = tuple(str(name) for name in found)
        self._weights = np.ones((1, len(self._labels)))
        if bootstrap is not None:
            drawn = bootstrap.images(len(self._labels), Clusters.beside(cluster, groups=names))
            self._weights = np.concatenate([self._weights, np.stack(list(drawn))])
        self._of_group = _indicator(self._group, len(self.groups))
        self._images = self._weights @ self._of_group
        self._held = self._values >= 0
        self._held_weights = self._weights[:, self._held]

    def __call__(self, y_pred: Int[np.ndarray, "image"]) -> dict[str, Float[np.ndarray, "sample"]]:
        """Each statistic's value, followed by its resamples, if there are any."""
        predictions = np.asarray(y_pred)
        correct = (self._weights * (predictions == self._labels)) @ self._of_group
        images, held = self._images, self._held
        with np.errstate(invalid="ignore"):
            accuracy = correct / np.where(images > 0, images, np.nan)
        strata = Strata(self._labels[held], self._values[held], predictions[held])
        counts = self._held_weights @ _indicator(strata.of_image, len(strata))
        tables = np.zeros((len(counts), int(self._values.max()) + 1, int(predictions.max()) + 1))
        for cell in range(len(strata)):
            tables[:, strata.values[cell], strata.predictions[cell]] += counts[:, cell]
        return {
            "average": correct.sum(1) / images.sum(1),
            "worst_group": np.nanmin(accuracy, axis=1),
            **{f"groups.{name}": accuracy[:, i] for i, name in enumerate(self.groups)},
            "cramers_v": v_of_tables(tables),
            "corrected": v_of_tables(tables, corrected=True),
            "dependence": strata.dependence(counts),
        }
