"""What a correction does to tasks that it was not made for: zero-shot accuracy on other classes and attributes.

Follows Yeo et al. 2025 (arXiv 2505.17425), who score a corrected model on tasks without the bias. Each task has images
and labels of its own; before and after are compared on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.accuracy import is_correct
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Interval, bootstrap_cells, small
from headlens.metrics.clusters import Clusters
from headlens.metrics.columns import Column


@dataclass(frozen=True)
class Collateral:
    """Accuracy of other tasks before and after a correction.

    Attributes:
        method: the correction's name.
        before: each task's accuracy without it.
        after: each task's accuracy with it.
        difference: after minus before.
        interval: the paired bootstrap interval of each difference.
        sizes: the images of each task.
        small: the tasks with fewer than 30 images.
        level: the intervals' level.
        n_bootstrap: how many resamples.
    """

    method: str
    before: dict[str, float]
    after: dict[str, float]
    difference: dict[str, float]
    interval: dict[str, Interval]
    sizes: dict[str, int]
    small: tuple[str, ...]
    level: float
    n_bootstrap: int

    @property
    def worst(self) -> tuple[str, float]:
        """The task that loses most, and its difference."""
        return min(self.difference.items(), key=lambda entry: entry[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            "interval": {name: list(ends) for name, ends in self.interval.items()},
            "small": list(self.small),
        }

    def table(self) -> pd.DataFrame:
        """One row a task: `task`, `before`, `after`, `difference`, `low`, `high`, `images`, `small`."""
        rows = [
            (n, self.before[n], self.after[n], self.difference[n], *self.interval[n], self.sizes[n], n in self.small)
            for n in self.before
        ]
        columns = ["task", "before", "after", "difference", "low", "high", "images", "small"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def collateral(
    method: str,
    tasks: Mapping[str, tuple[Column, Column, Column]],
    *,
    cluster: Mapping[str, Column] | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> Collateral:
    """Accuracy of other tasks before and after a correction, with paired bootstrap intervals of the differences.

    Args:
        method: the correction's name.
        tasks: for each task (other classes, or an attribute's own values) the true classes, the predictions after, and
            the predictions before, over the same images.
        cluster: for each task the person or scene that each of its images shows, where several show the same.
        bootstrap: resamples of each task's images.

    Raises:
        MetricError: for no task, or columns that do not match.

    Limits: an interval around zero means that no loss was seen on so many images, not that there is none; over many
    tasks some differences leave zero by chance.
    """
    if not tasks:
        raise MetricError("There is no task.", "Name one with its predictions before and after.")
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    difference: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    sizes: dict[str, int] = {}
    for name, (y_true, y_pred, baseline) in tasks.items():
        correct = [is_correct(y_true, one, y_true)[0] for one in (baseline, y_pred)]
        clusters = None if cluster is None else Clusters.beside(cluster[name], y_true=y_true)
        _, _, changes, ends = bootstrap_cells(one_cell(correct), (1,), correct, accuracy, bootstrap, clusters)
        before[name], after[name] = (float(c.mean()) for c in correct)
        difference[name], intervals[name], sizes[name] = changes["accuracy"], ends["accuracy"], len(correct[0])
    return Collateral(
        method, before, after, difference, intervals, sizes, small(sizes), bootstrap.level, bootstrap.n_bootstrap
    )


def one_cell(correct: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every image in one cell, for `bootstrap_cells`."""
    return [np.zeros(len(correct[0]), dtype=int)]


def accuracy(correct: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    """The share of correct images in the one cell of a task, for `bootstrap_cells`."""
    return {"accuracy": correct[..., 0] / images[..., 0]}
