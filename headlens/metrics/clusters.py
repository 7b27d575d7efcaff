"""Several images of one person or scene are worth fewer than as many images of different ones.

The number of images is divided by the design effect 1 + (m − 1)ρ (Kish 1965), m the mean size of the cluster that an
image is in and ρ the correlation within clusters, and Student's distribution with the clusters' degrees of freedom is
used where a normal one is without clusters. Resamples draw whole clusters (`headlens.metrics.bootstrap`), a mean's
variance is that of the clusters' sums, and what is permuted is exchanged between clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.stats import norm
from scipy.stats import t as student

from headlens.metrics.columns import Column, as_columns


class Quantile:
    """The upper quantile of Student's distribution, or of the normal one without degrees of freedom."""

    def __init__(self, freedom: int | None = None):
        self.freedom = freedom

    def __call__(self, tail: float | np.ndarray) -> np.ndarray:
        return np.asarray(norm.isf(tail) if self.freedom is None else student.isf(tail, self.freedom))


@dataclass(frozen=True)
class Clusters:
    """Which images show one person or scene, as an index for each image."""

    codes: Int[np.ndarray, "image"]

    @classmethod
    def of(cls, cluster: Shaped[np.ndarray, "image"]) -> Clusters:
        """From names."""
        return cls(pd.factorize(cluster)[0])

    @classmethod
    def beside(cls, cluster: Column | None, **columns: Column) -> Clusters | None:
        """From a column that must be as long as the others; None for none.

        Raises:
            MetricError: for columns of different lengths, or missing values.
        """
        return None if cluster is None else cls.of(as_columns(**columns, cluster=cluster)[-1])

    @property
    def count(self) -> int:
        """How many clusters."""
        return int(self.codes.max()) + 1

    @property
    def quantile(self) -> Quantile:
        """Quantiles with the clusters' degrees of freedom."""
        return Quantile(max(1, self.count - 1))

    def correlation(self, residuals: Float[np.ndarray, "image *value"]) -> float:
        """ρ, how alike two images of one cluster are: the mean product of their residuals over the mean square, between
        0 and 1. Residuals of several values are summed over."""
        rows = np.asarray(residuals, float).reshape(len(self.codes), -1)
        sums = np.zeros((self.count, rows.shape[1]))
        np.add.at(sums, self.codes, rows)
        sizes = np.bincount(self.codes)
        pairs = float((sizes * (sizes - 1)).sum())
        square = float((rows**2).sum())
        if pairs == 0 or square == 0:
            return 0.0
        return float(np.clip(((sums**2).sum() - square) / pairs / (square / len(rows)), 0.0, 1.0))

    def design_effect(
        self, residuals: Float[np.ndarray, "image *value"], groups: Int[np.ndarray, "image"] | None = None
    ) -> Float[np.ndarray, "group"]:
        """1 + (m − 1)ρ of each group, m the mean size of the cluster, within the group, that an image sees."""
        rho = self.correlation(residuals)
        groups = np.zeros(len(self.codes), dtype=int) if groups is None else groups
        sizes = np.zeros((int(groups.max()) + 1, self.count))
        np.add.at(sizes, (groups, self.codes), 1)
        images = sizes.sum(1)
        seen = np.divide((sizes**2).sum(1), images, out=np.ones(len(images)), where=images > 0)
        return 1 + (seen - 1) * rho

    def shrinkage(self, level: float) -> float:
        """What a number of images is multiplied by, so that a normal quantile has the width of Student's."""
        tail = (1 - level) / 2
        return float(norm.isf(tail) / self.quantile(tail)) ** 2


# ---- permutations ---------------------------------------------------------------------------------------------------


def permute_attribute(
    labels: Int[np.ndarray, "image"],
    values: Int[np.ndarray, "image"],
    clusters: Int[np.ndarray, "image"] | None,
    generator: np.random.Generator,
) -> Int[np.ndarray, "image"]:
    """The attribute permuted within the true classes: the null of every claim about an attribute.

    Args:
        labels: the true class of each image.
        values: the attribute's value.
        clusters: which images belong together. Where each cluster has one value, clusters with the same classes
            exchange theirs; else images exchange theirs within a cluster and class.
        generator: draws the permutation.
    """
    return next(permutations(labels, values, clusters, 1, generator))


def permutations(
    labels: Int[np.ndarray, "image"],
    values: Int[np.ndarray, "image"],
    clusters: Int[np.ndarray, "image"] | None,
    n_permutations: int,
    generator: np.random.Generator,
) -> Iterator[Int[np.ndarray, "image"]]:
    """So many permutations of the attribute; see `permute_attribute`."""
    unit, held, block = np.arange(len(labels)), values, labels
    if clusters is not None:
        _, first, unit = np.unique(clusters, return_index=True, return_inverse=True)
        if (values[first][unit] == values).all():
            pairs = np.unique(np.stack([unit, labels]), axis=1)
            classes = [tuple(part) for part in np.split(pairs[1], np.flatnonzero(np.diff(pairs[0])) + 1)]
            held, block = values[first], pd.factorize(pd.Series(classes, dtype=object))[0]
        else:
            unit, block = np.arange(len(labels)), pd.factorize(pd.MultiIndex.from_arrays([unit, labels]))[0]
    order = np.argsort(block, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    for _ in range(n_permutations):
        drawn = held.copy()
        for rows in blocks:
            drawn[rows] = held[generator.permutation(rows)]
        yield drawn[unit]
