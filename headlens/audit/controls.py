"""Random heads of the same layers: what a correction must beat before its heads can be said to matter.

Ablating any head moves some predictions. The control repeats the whole method with as many heads drawn from the same
layers, never a located one, and asks how often chance does as well as the located heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headlens.heads import HeadId
from headlens.metrics import RandomComparison, against_random


@dataclass(frozen=True)
class RandomHeads:
    """A method's scores with random heads in the place of the located ones.

    Attributes:
        method: the method that was repeated.
        sets: the heads of each draw; every possible set where there are no more than the draws asked for.
        groups: the names of the groups.
        group_accuracy: accuracy of each draw in each group, [draw, group].
        average: accuracy of each draw over all images, [draw].
        observed: worst-group accuracy with the located heads.
        baseline: worst-group accuracy without any correction.
        exhaustive: whether `sets` is every possible set.
        seed: of the draws.
    """

    method: str
    sets: tuple[tuple[HeadId, ...], ...]
    groups: tuple[str, ...]
    group_accuracy: np.ndarray
    average: np.ndarray
    observed: float
    baseline: float
    exhaustive: bool
    seed: int

    @property
    def worst_group(self) -> np.ndarray:
        """Worst-group accuracy of each draw, [draw]."""
        return self.group_accuracy.min(axis=1)

    @property
    def comparison(self) -> RandomComparison:
        """The observed worst-group accuracy against the draws': their mean and best, z-score and p-value."""
        return against_random(self.observed, self.worst_group.tolist())

    def to_record(self) -> dict[str, Any]:
        """A row beside the methods' own: means over the draws, and the central 95 % of the draws as intervals."""

        def spread(values: np.ndarray) -> list[float]:
            return [float(q) for q in np.quantile(values, [0.025, 0.975])]

        gap = self.average - self.worst_group
        columns = {"average": self.average, "worst_group": self.worst_group, "gap": gap}
        by_group = dict(zip(self.groups, self.group_accuracy.T, strict=True))
        return {
            "method": f"random heads ({self.method})",
            **{name: float(values.mean()) for name, values in columns.items()},
            "groups": {name: float(values.mean()) for name, values in by_group.items()},
            "interval": {name: spread(values) for name, values in columns.items()}
            | {f"groups.{name}": spread(values) for name, values in by_group.items()},
            "interval_of": "draws of random heads",
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the draws in full, so that everything can be computed again."""
        return {
            "method": self.method,
            "seed": self.seed,
            "exhaustive": self.exhaustive,
            "draws": len(self.sets),
            "observed": self.observed,
            "baseline": self.baseline,
            "mean": self.comparison.mean,
            "best": self.comparison.best,
            "z": self.comparison.z if np.isfinite(self.comparison.z) else None,
            "p": self.comparison.p,
            "sets": [[list(head) for head in heads] for heads in self.sets],
            "groups": list(self.groups),
            "group_accuracy": self.group_accuracy.tolist(),
            "average": self.average.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RandomHeads:
        """The inverse of `to_dict`."""
        return cls(
            method=data["method"],
            sets=tuple(tuple(HeadId(*head) for head in heads) for heads in data["sets"]),
            groups=tuple(data["groups"]),
            group_accuracy=np.asarray(data["group_accuracy"], dtype=float),
            average=np.asarray(data["average"], dtype=float),
            observed=data["observed"],
            baseline=data["baseline"],
            exhaustive=data["exhaustive"],
            seed=data["seed"],
        )
