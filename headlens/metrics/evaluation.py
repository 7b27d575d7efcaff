"""One method's accuracies, with intervals: average, worst group, gap and every group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.bootstrap import Interval, by_name, cells, check_level, hits_of, interval, resample, summaries
from headlens.metrics.columns import Column
from headlens.metrics.groups import SMALL, Weighting


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of one method, as fractions.

    Attributes:
        method: the method's name, such as "zero-shot" or "ltc".
        average: the average accuracy, by `weighting`.
        worst_group: the lowest accuracy of any group.
        gap: average − worst group.
        groups: accuracy of each group, by name.
        sizes: how many images each group has.
        interval: low and high ends for "average", "worst_group", "gap" and "groups.<name>".
        small: the groups with fewer than 30 images, whose accuracy says little.
        weighting: what the average counts: "images", "groups" or "shares".
        level: the intervals' level.
        draws: how many resamples the intervals come from.
    """

    method: str
    average: float
    worst_group: float
    gap: float
    groups: dict[str, float]
    sizes: dict[str, int]
    interval: dict[str, Interval]
    small: tuple[str, ...] = ()
    weighting: str = "images"
    level: float = 0.95
    draws: int = 1000

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `Evaluation.from_dict` reads them back."""
        plain = asdict(self)
        plain["interval"] = {name: list(ends) for name, ends in self.interval.items()}
        plain["small"] = list(self.small)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. Raises `MetricError` for missing or unknown entries."""
        values = dict(plain)
        try:
            values["interval"] = {name: (float(a), float(b)) for name, (a, b) in values["interval"].items()}
            values["small"] = tuple(values.get("small", ()))
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MetricError(
                "the entries of Evaluation.to_dict", f"{sorted(values)} ({error})", "Evaluate again."
            ) from error

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `accuracy`, `low`, `high`, `images`, `small`."""
        rows: list[tuple[Any, ...]] = []
        total = sum(self.sizes.values())
        for name, value in (("average", self.average), ("worst_group", self.worst_group), ("gap", self.gap)):
            rows.append((name, value, *self.interval[name], total, False))
        for name, value in self.groups.items():
            rows.append((name, value, *self.interval[f"groups.{name}"], self.sizes[name], name in self.small))
        return pd.DataFrame(rows, columns=["measure", "accuracy", "low", "high", "images", "small"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def evaluate(
    method: str,
    predictions: Column,
    labels: Column,
    groups: Column,
    draws: int = 1000,
    seed: int = 0,
    *,
    weighting: Weighting = "images",
    level: float = 0.95,
) -> Evaluation:
    """Accuracy by group with bootstrap intervals over images (percentiles of `draws` resamples).

    Args:
        method: the name to report under.
        predictions: the predicted class of each image, as names or numbers.
        labels: the true class, of the same kind.
        groups: the group of each image; see `group_names`.
        draws: resamples of the images, all groups together: group sizes vary as they would between data sets.
        seed: the same seed gives the same intervals.
        weighting: what the average counts; see `average_accuracy`.
        level: the intervals' level.

    Raises:
        MetricError: as `group_accuracy`, and for fewer than two draws or a level outside (0, 1).

    Limits: the worst group is a minimum, so its resampled values lie a little below it where groups are close or
    small; the intervals speak of sampling images, not of other models, prompts or seeds.
    """
    check_level(level)
    hits, group = hits_of(predictions, labels, groups)
    names, counts = cells([hits], group)
    sizes = counts.sum(-1)
    drawn = resample(counts, draws, seed)
    samples = summaries(drawn[..., 1], drawn.sum(-1), names, by_name(weighting))
    # From the same counts: fairlearn's frame gives these very numbers (tested), in many times the time.
    observed = summaries(counts[None, :, 1], sizes[None], names, by_name(weighting))
    average = float(observed["average"][0])
    accuracies = {name: float(observed[f"groups.{name}"][0]) for name in names}
    worst = min(accuracies.values())
    return Evaluation(
        method=method,
        average=average,
        worst_group=worst,
        gap=average - worst,
        groups=accuracies,
        sizes={name: int(size) for name, size in zip(names, sizes, strict=True)},
        interval={name: interval(values, level) for name, values in samples.items()},
        small=tuple(name for name, size in zip(names, sizes, strict=True) if size < SMALL),
        weighting=weighting if isinstance(weighting, str) else "shares",
        level=level,
        draws=draws,
    )
