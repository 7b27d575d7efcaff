"""Several images of one person or scene are worth fewer than as many images of different ones.

The number of images is divided by the design effect 1 + (m − 1)ρ (Kish 1965), m the mean size of the cluster that an
image is in and ρ the correlation within clusters, and Student's distribution with the clusters' degrees of freedom is
used where a normal one is without clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.stats import norm
from scipy.stats import t as student


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
