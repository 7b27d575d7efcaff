"""Accuracy by group: average, worst group, gap and every group, on fairlearn's MetricFrame, with intervals that cover.

A group is any value of the column `groups`; headlens names them "class/value", such as "landbird/water".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.bootstrap import Interval, count_cells, small
from headlens.metrics.clusters import Clusters, Quantile
from headlens.metrics.columns import Column, as_array, as_columns
from headlens.metrics.intervals import Ends, Paired, combination, largest_gap, lowest, pair, proportion
from headlens.tables import Column as Cells
from headlens.tables import Kind, Shown, Table

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame

Weighting = Literal["images", "groups"] | Mapping[Any, float | int]
_Array: TypeAlias = np.ndarray


def group_names(labels: Column, attribute: Column) -> _Array:
    """The group of each image, "class/value", from its class and its attribute's value by name."""
    label, value = as_columns(labels=labels, attribute=attribute)
    return np.asarray([f"{c}/{v}" for c, v in zip(label.tolist(), value.tolist(), strict=True)], dtype=object)


def outcomes(y_true: Column, y_pred: Column, groups: Column) -> tuple[_Array, _Array, _Array]:
    """True and predicted classes as codes of one numbering, and the groups.

    Raises:
        MetricError: see `group_accuracy`.
    """
    true, predicted, group = as_columns(y_true=y_true, y_pred=y_pred, groups=groups)
    if (predicted.dtype.kind in "OUST") != (true.dtype.kind in "OUST"):
        raise MetricError(
            f"Predictions ({predicted.dtype}) and labels ({true.dtype}) are names in one and numbers in the other.",
            "Turn predicted numbers into names by the order of the classes, or names into numbers.",
        )
    codes, _ = pd.factorize(np.concatenate([predicted, true]))
    return codes[len(predicted) :], codes[: len(predicted)], group


def is_correct(y_true: Column, y_pred: Column, groups: Column) -> tuple[_Array, _Array]:
    """Whether each prediction is correct, and each image's group."""
    true, predicted, group = outcomes(y_true, y_pred, groups)
    return np.asarray(predicted == true), group


def metric_frame(y_true: Column, y_pred: Column, *, groups: Column) -> MetricFrame:
    """fairlearn's frame with `accuracy` and `count` for each group, all images in `.overall`."""
    # Slow to import, and audits count for themselves.
    from fairlearn.metrics import MetricFrame, count
    from sklearn.metrics import accuracy_score

    true, predicted, group = outcomes(y_true, y_pred, groups)
    return MetricFrame(
        metrics={"accuracy": accuracy_score, "count": count},
        y_true=true,
        y_pred=predicted,
        sensitive_features=pd.Series(group, name="group"),
    )


def group_accuracy(y_true: Column, y_pred: Column, *, groups: Column) -> pd.Series:
    """The share of correct predictions in each group, as a fraction, sorted by group.

    Args:
        y_true: the true class of each image, as names or numbers.
        y_pred: the predicted class, of the same kind.
        groups: the group of each image; see `group_names`.

    Raises:
        MetricError: for columns of different lengths, with missing values or without an image, and for predictions
            and labels of which one holds names and the other numbers.
    """
    return metric_frame(y_true, y_pred, groups=groups).by_group["accuracy"].astype(float).rename("accuracy")


def worst_group(y_true: Column, y_pred: Column, *, groups: Column) -> float:
    """The lowest accuracy of any group. Raises as `group_accuracy` does."""
    return float(group_accuracy(y_true, y_pred, groups=groups).min())


def average_accuracy(y_true: Column, y_pred: Column, *, groups: Column, weighting: Weighting = "images") -> float:
    """The average accuracy: over images, over groups, or over groups with given shares.

    Args:
        y_true: the true classes.
        y_pred: the predicted classes.
        groups: the group of each image.
        weighting: "images" counts every image once, "groups" every group once; a mapping from group to share (the
            training split's, say) weights the groups by it, divided by the sum of the shares.

    Raises:
        MetricError: as `group_accuracy`, and for shares that are negative, all zero, or miss a group.
    """
    frame = metric_frame(y_true, y_pred, groups=groups)
    accuracy = frame.by_group["accuracy"].to_numpy(dtype=float)
    weights = group_weights(list(frame.by_group.index), frame.by_group["count"].to_numpy(dtype=float), weighting)
    return float((accuracy * weights).sum())


def group_weights(names: list[Any], sizes: _Array, weighting: Weighting) -> _Array:
    """The weight of each group in an average, summing to one; see `average_accuracy`."""
    if isinstance(weighting, str):
        if weighting not in ("images", "groups"):
            raise MetricError(f"There is no weighting {weighting!r}.", "Choose 'images', 'groups' or a mapping.")
        weights = sizes if weighting == "images" else np.ones(len(names))
    else:
        missing = [name for name in names if name not in weighting]
        if missing:
            raise MetricError(f"Group {missing[0]!r} has no share.", f"Give shares for {names}.")
        weights = as_array([weighting[name] for name in names], "weighting").astype(float)
    if (weights < 0).any() or weights.sum() <= 0:
        raise MetricError(f"Shares {weights.tolist()} are below zero, or all zero.", "Check the shares.")
    return np.asarray(weights / weights.sum(), dtype=float)


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """Accuracies of one method, as fractions.

    Attributes:
        method: the method's name, such as "zero-shot" or "ltc".
        average: the average accuracy, by `weighting`.
        worst_group: the lowest accuracy of any group.
        gap: average − worst group.
        groups: accuracy of each group, by name.
        sizes: how many images each group has.
        interval: low and high ends for "average", "worst_group", "gap" and "groups.<name>".
        small: the groups with fewer than 30 images, whose accuracy is uncertain.
        weighting: what the average counts: "images", "groups" or "shares".
        level: the intervals' level.
        clusters: how many clusters the images fall into; None where each stands for itself.
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
    clusters: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        plain["interval"] = {name: list(ends) for name, ends in self.interval.items()}
        plain["small"] = list(self.small)
        return plain

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `accuracy`, `low`, `high`, `images`, `small`."""
        rows: list[tuple[Any, ...]] = []
        total = sum(self.sizes.values())
        for name, value in (("average", self.average), ("worst_group", self.worst_group), ("gap", self.gap)):
            rows.append((name, value, *self.interval[name], total, False))
        for name, value in self.groups.items():
            rows.append((name, value, *self.interval[f"groups.{name}"], self.sizes[name], name in self.small))
        return pd.DataFrame(rows, columns=["measure", "accuracy", "low", "high", "images", "small"])

    def shown(self) -> Table:
        """The table to be read: in per cent, the interval beside its value."""
        frame = self.table().assign(measure=["average", "worst group", "gap", *self.groups])
        columns: dict[str, Kind | Cells] = {
            "measure": "text",
            "accuracy": Cells("percent", interval=("low", "high")),
            "images": "count",
        }
        return Table(frame, columns, f"{self.method}, {100 * self.level:.0f} % intervals")


def evaluate(
    y_true: Column,
    y_pred: Column,
    *,
    groups: Column,
    method: str = "",
    weighting: Weighting = "images",
    level: float = 0.95,
    cluster: Column | None = None,
) -> Evaluation:
    """Accuracy by group with intervals over images; see `headlens.metrics.intervals`.

    Args:
        y_true: the true class of each image, as names or numbers.
        y_pred: the predicted class, of the same kind.
        groups: the group of each image; see `group_names`.
        method: the name to report under.
        weighting: what the average counts; see `average_accuracy`.
        level: the intervals' level.
        cluster: the person or scene that each image shows, where several show the same.

    Raises:
        MetricError: as `group_accuracy`, and for a level outside (0, 1).

    Limits: the interval of the worst group holds whichever group it is, so that a group of few images, which may be
    worse than it looks, makes it wide. Intervals are about sampling images, not about other models or prompts.
    """
    check_level(level)
    correct, codes, names, clusters = _prepare(y_true, y_pred, groups, cluster)
    counts = count_cells([codes], (len(names),), [correct]).astype(float)
    k, n = counts[:, 1], counts.sum(-1)
    accuracy = k / n
    weights = n / n.sum() if weighting == "images" else group_weights(names, n, _by_name(weighting))
    average = float((accuracy * weights).sum())
    scale, whole = np.ones(len(n)), np.ones(1)
    if clusters is not None:
        residuals = correct - accuracy[codes]
        shrunk = clusters.shrinkage(level)
        scale, whole = (shrunk / clusters.design_effect(residuals, of) for of in (codes, None))
    k, n, tail = k * scale, n * scale, (1 - level) / 2
    ends: Ends
    if weighting == "images":
        ends = proportion(correct.sum() * whole, len(correct) * whole, tail)
    else:
        ends = combination(k, n, weights, tail)
    low, high = proportion(k, n, tail)
    by_group = {f"groups.{name}": (float(low[i]), float(high[i])) for i, name in enumerate(names)}
    sizes = {name: int(size) for name, size in zip(names, counts.sum(-1), strict=True)}
    worst = float(accuracy.min())
    return Evaluation(
        method=method,
        average=average,
        worst_group=worst,
        gap=average - worst,
        groups={name: float(one) for name, one in zip(names, accuracy, strict=True)},
        sizes=sizes,
        interval={
            "average": pair(ends),
            "worst_group": pair(lowest(k, n, level)),
            "gap": pair(largest_gap(k, n, weights, level)),
            **by_group,
        },
        small=small(sizes),
        weighting=weighting if isinstance(weighting, str) else "shares",
        level=level,
        clusters=None if clusters is None else clusters.count,
    )


@dataclass(frozen=True, repr=False)
class PairedDifference(Shown):
    """How a model differs from a baseline on the same images.

    Attributes:
        difference: the model minus the baseline, for "average", "worst_group", "gap" and "groups.<name>".
        interval: the paired interval of each difference.
        level: the intervals' level.
        clusters: how many clusters the images fall into; None where each stands for itself.
    """

    difference: dict[str, float]
    interval: dict[str, Interval]
    level: float = 0.95
    clusters: int | None = None

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `difference`, `low`, `high`."""
        rows = [(name, value, *self.interval[name]) for name, value in self.difference.items()]
        return pd.DataFrame(rows, columns=["measure", "difference", "low", "high"])

    def shown(self) -> Table:
        """The table to be read: in points of per cent, the interval beside its value."""
        columns: dict[str, Kind | Cells] = {
            "measure": "text",
            "difference": Cells("points", interval=("low", "high")),
        }
        return Table(self.table(), columns, f"Minus the baseline, paired {100 * self.level:.0f} % intervals")


def paired_difference(
    y_true: Column,
    y_pred: Column,
    *,
    baseline: Column,
    groups: Column,
    weighting: Weighting = "images",
    level: float = 0.95,
    cluster: Column | None = None,
) -> PairedDifference:
    """Compare predictions with a baseline's of the same images, with paired intervals; see `metrics.intervals`.

    Args:
        y_true: the true classes.
        y_pred: the predictions, such as after a correction.
        baseline: the predictions that they are compared with, such as zero-shot ones.
        groups: the group of each image.
        weighting: what the average counts; see `average_accuracy`.
        level: the intervals' level.
        cluster: the person or scene that each image shows, where several show the same.

    Raises:
        MetricError: as `group_accuracy`, and for a level outside (0, 1).

    The worst group before and the worst one after may be two groups.
    """
    check_level(level)
    before, codes, names, clusters = _prepare(y_true, baseline, groups, cluster)
    after, *_ = _prepare(y_true, y_pred, groups, cluster)
    counts = count_cells([codes], (len(names),), [before, after]).astype(float)
    n = counts.sum((-1, -2))
    first, second = counts[:, 1].sum(-1) / n, counts[:, :, 1].sum(-1) / n
    weights = n / n.sum() if weighting == "images" else group_weights(names, n, _by_name(weighting))
    quantile, inflate, whole = Quantile(), np.ones(len(n)), np.ones(1)
    if clusters is not None:
        quantile = clusters.quantile
        residuals = [before - first[codes], after - second[codes], (after - second[codes]) - (before - first[codes])]
        inflate, whole = (
            np.max([clusters.design_effect(one, of) for one in residuals], axis=0) for of in (codes, None)
        )
    paired, tail = Paired.of(counts, inflate), (1 - level) / 2
    z = float(quantile(tail))
    every = Paired.of(counts.sum(0)[None], whole)
    average = every.change(np.ones(1), z) if weighting == "images" else paired.change(weights, z)
    gain = float(second.min() - first.min())
    change = float((weights * (second - first)).sum())
    difference = {"average": change, "worst_group": gain, "gap": change - gain}
    interval = {
        "average": pair(average),
        "worst_group": pair(paired.gain(tail, quantile)),
        "gap": pair(paired.widening(weights, tail, quantile)),
    }
    for name, moved, low, high in zip(names, second - first, *paired.changes(z), strict=True):
        difference[f"groups.{name}"] = float(moved)
        interval[f"groups.{name}"] = float(low), float(high)
    return PairedDifference(difference, interval, level, None if clusters is None else clusters.count)


def check_level(level: float) -> None:
    """Raise `MetricError` for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise MetricError(f"Level {level} is not between 0 and 1.", "Pass level=0.95, for example.")


def _prepare(
    y_true: Column, y_pred: Column, groups: Column, cluster: Column | None
) -> tuple[_Array, _Array, list[str], Clusters | None]:
    """Whether each prediction is correct, the groups as codes with their names, and the clusters."""
    correct, group = is_correct(y_true, y_pred, groups)
    codes, names = pd.factorize(group, sort=True)
    return correct, codes, [str(name) for name in names], Clusters.beside(cluster, groups=groups)


def _by_name(weighting: Weighting) -> Weighting:
    """The weighting with shares, where it has any, by the groups' names as text."""
    return weighting if isinstance(weighting, str) else {str(name): share for name, share in weighting.items()}
