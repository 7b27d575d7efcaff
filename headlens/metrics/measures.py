"""Several measures of one method, each with a bootstrap interval, and how far each is from a baseline's.

The bootstrap is that of `headlens.metrics.bootstrap`: over images, by drawing how many fall into each cell, and with a
cell for each combination of right and wrong where a baseline is compared on the same images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from headlens.metrics.bootstrap import Interval, check_level, interval, resample

_Array = np.ndarray
Statistic = Callable[[_Array, _Array], dict[str, _Array]]
"""From right images and images, [draw …cell], to the measures of each draw."""


@dataclass(frozen=True)
class Measures:
    """Measures of one method.

    Attributes:
        method: the method's name.
        values: each measure, by its name.
        interval: the bootstrap interval of each.
        difference: each measure less the baseline's; empty where there is no baseline.
        difference_interval: the paired bootstrap interval of each difference.
        sizes: how many images (for a recall: queries) stand behind each number, by group.
        small: the groups with fewer than 30, whose numbers say little.
        level: the intervals' level.
        draws: how many resamples.
    """

    method: str
    values: dict[str, float]
    interval: dict[str, Interval]
    difference: dict[str, float] = field(default_factory=dict)
    difference_interval: dict[str, Interval] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    small: tuple[str, ...] = ()
    level: float = 0.95
    draws: int = 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        for name in ("interval", "difference_interval"):
            plain[name] = {measure: list(ends) for measure, ends in getattr(self, name).items()}
        return plain | {"small": list(self.small)}

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `value`, `low`, `high`, and with a baseline its difference and that's ends."""
        rows = [(name, value, *self.interval[name]) for name, value in self.values.items()]
        frame = pd.DataFrame(rows, columns=["measure", "value", "low", "high"])
        if not self.difference:
            return frame
        changes = [(self.difference[name], *self.difference_interval[name]) for name in self.values]
        return frame.join(pd.DataFrame(changes, columns=["difference", "difference_low", "difference_high"]))

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def count_cells(codes: list[_Array], shape: tuple[int, ...], hits: list[_Array]) -> _Array:
    """Images of each cell: [*shape, 2] for one model's hits, [*shape, 2, 2] for a baseline's and a model's."""
    counts = np.zeros((*shape, *[2] * len(hits)), dtype=np.int64)
    np.add.at(counts, (*codes, *[h.astype(int) for h in hits]), 1)
    return counts


def bootstrap_cells(
    counts: _Array, paired: bool, statistic: Statistic, draws: int, level: float, seed: int
) -> tuple[dict[str, float], dict[str, Interval], dict[str, float], dict[str, Interval]]:
    """Values, intervals, differences and their intervals, of cells that `count_cells` counted.

    Raises:
        MetricError: for fewer than two draws or a level outside (0, 1).
    """
    check_level(level)

    def both(c: _Array) -> tuple[dict[str, _Array], dict[str, _Array]]:
        if not paired:
            return statistic(c[..., 1], c.sum(-1)), {}
        sizes = c.sum((-1, -2))
        before, after = statistic(c[..., 1, :].sum(-1), sizes), statistic(c[..., :, 1].sum(-1), sizes)
        return after, {name: after[name] - before[name] for name in after}

    values, differences = both(counts[None])
    drawn, drawn_differences = both(resample(counts, draws, seed))
    return (
        {name: float(v[0]) for name, v in values.items()},
        {name: interval(v, level) for name, v in drawn.items()},
        {name: float(v[0]) for name, v in differences.items()},
        {name: interval(v, level) for name, v in drawn_differences.items()},
    )
