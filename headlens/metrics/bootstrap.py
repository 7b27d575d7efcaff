"""Bootstrap over images, without ever drawing an image.

Whether each image is correct is all that accuracies depend on, so resampling n images with replacement is the same as
drawing how many fall into each cell (group × correct or not) from a multinomial distribution with the observed shares:
exact, and as quick for a million images as for a hundred. For two models that are compared on the same images the
cells are group × (first correct?) × (second correct?), which keeps the pairing.

The group sizes vary from draw to draw as they would from data set to data set. A group that a draw leaves empty has no
accuracy in that draw; it is left out of that draw's worst group and of the mean over groups.

Where several images show one person or scene, whole clusters are drawn: how many of each, and with them their images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array

from headlens.errors import MetricError
from headlens.metrics.clusters import Clusters

Interval = tuple[float, float]
_Array = np.ndarray
Statistic = Callable[[_Array, _Array], dict[str, _Array]]
"""From correct images and images, [draw …cell], to the measures of each draw."""

_COUNTS = 20_000_000  # held at once
SMALL = 30
"""Groups with fewer images than this are marked: their accuracy moves by more than three points an image."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        n_bootstrap: how many resamples.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Raises:
        MetricError: for fewer than two resamples or a level outside (0, 1).
    """

    n_bootstrap: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_bootstrap < 2:
            raise MetricError(f"{self.n_bootstrap} resamples give no interval.", "Pass n_bootstrap=1000, for example.")
        if not 0 < self.level < 1:
            raise MetricError(f"Level {self.level} is not between 0 and 1.", "Pass level=0.95, for example.")

    def tables(self, columns: Sequence[_Array], shape: tuple[int, ...], clusters: Clusters | None = None) -> _Array:
        """Counts of resampled data sets, [draw, *shape]; each column is an index of every image along one axis."""
        of_image = np.ravel_multi_index([np.asarray(column, dtype=np.int64) for column in columns], shape)
        drawn = np.concatenate(list(self.cells(of_image, clusters, prod(shape))))
        return drawn.reshape(len(drawn), *shape)

    def cells(self, of_image: _Array, clusters: Clusters | None = None, size: int = 0) -> Iterator[_Array]:
        """Counts of resampled data sets, [draw cell], a few draws at a time.

        Args:
            of_image: the cell of each image, counted from 0.
            clusters: which images are drawn together.
            size: how many cells there are, if more than occur.
        """
        counts = np.bincount(of_image, minlength=size)
        generator = np.random.default_rng(self.seed)
        of_cluster = None
        if clusters is not None:
            entries = (np.ones(len(of_image)), (clusters.codes, of_image))
            of_cluster = coo_array(entries, shape=(clusters.count, len(counts))).tocsr()
        for start in range(0, self.n_bootstrap, step := max(1, _COUNTS // len(counts))):
            size = min(step, self.n_bootstrap - start)
            if of_cluster is None:
                yield generator.multinomial(len(of_image), counts / len(of_image), size).astype(float)
            else:
                even = np.full(of_cluster.shape[0], 1 / of_cluster.shape[0])
                yield generator.multinomial(of_cluster.shape[0], even, size) @ of_cluster

    def images(self, count: int, clusters: Clusters | None = None) -> Iterator[_Array]:
        """How often each image is in one resampled data set after the other; images of one cluster alike."""
        units = count if clusters is None else clusters.count
        generator, even = np.random.default_rng(self.seed), np.full(units, 1 / units)
        for _ in range(self.n_bootstrap):
            drawn = generator.multinomial(units, even)
            yield drawn if clusters is None else drawn[clusters.codes]

    def interval(self, samples: _Array) -> Interval:
        """The percentile interval of resampled values, draws that have none left out."""
        return interval(samples, self.level)


STANDARD = Bootstrap()
"""1,000 resamples, 95 %, seed 0."""


def interval(samples: _Array, level: float = 0.95) -> Interval:
    """The percentile interval of resampled values, draws that have none left out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def count_cells(codes: Sequence[_Array], shape: tuple[int, ...], correct: Sequence[_Array]) -> _Array:
    """Images of each cell: [*shape, 2] for one model's correctness, [*shape, 2, 2] for a baseline's and a model's."""
    counts = np.zeros((*shape, *[2] * len(correct)), dtype=np.int64)
    np.add.at(counts, (*codes, *[c.astype(int) for c in correct]), 1)
    return counts


@dataclass(frozen=True)
class Measures:
    """Measures of one method, each with a bootstrap interval, and how far each is from a baseline's.

    Attributes:
        method: the method's name.
        values: each measure, by its name.
        interval: the bootstrap interval of each.
        difference: each measure minus the baseline's; empty where there is no baseline.
        difference_interval: the paired bootstrap interval of each difference.
        sizes: how many images (for a recall: queries) stand behind each number, by group.
        level: the intervals' level.
        n_bootstrap: how many resamples.
    """

    method: str
    values: dict[str, float]
    interval: dict[str, Interval]
    difference: dict[str, float] = field(default_factory=dict)
    difference_interval: dict[str, Interval] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    small: tuple[str, ...] = ()
    level: float = 0.95
    n_bootstrap: int = 1000

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


def small(sizes: dict[str, int]) -> tuple[str, ...]:
    """The groups with fewer than 30."""
    return tuple(name for name, size in sizes.items() if size < SMALL)


def bootstrap_cells(
    codes: Sequence[_Array],
    shape: tuple[int, ...],
    correct: Sequence[_Array],
    statistic: Statistic,
    bootstrap: Bootstrap,
    clusters: Clusters | None = None,
) -> tuple[dict[str, float], dict[str, Interval], dict[str, float], dict[str, Interval]]:
    """Values, intervals, differences and their intervals, of the cells that `count_cells` counts; a baseline's
    correctness first where there is one."""
    paired = len(correct) > 1

    def both(c: _Array) -> tuple[dict[str, _Array], dict[str, _Array]]:
        if not paired:
            return statistic(c[..., 1], c.sum(-1)), {}
        sizes = c.sum((-1, -2))
        before, after = statistic(c[..., 1, :].sum(-1), sizes), statistic(c[..., :, 1].sum(-1), sizes)
        return after, {name: after[name] - before[name] for name in after}

    values, differences = both(count_cells(codes, shape, correct)[None])
    whole = (*shape, *[2] * len(correct))
    drawn, drawn_differences = both(bootstrap.tables([*codes, *correct], whole, clusters))
    return (
        {name: float(v[0]) for name, v in values.items()},
        {name: bootstrap.interval(v) for name, v in drawn.items()},
        {name: float(v[0]) for name, v in differences.items()},
        {name: bootstrap.interval(v) for name, v in drawn_differences.items()},
    )
