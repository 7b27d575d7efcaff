"""Accuracy by group: average, worst group, gap and every group, on fairlearn's MetricFrame, with intervals.

A group is any value of the column `groups`; headlens names them "class/value", such as "landbird/water".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, count
from sklearn.metrics import accuracy_score

from headlens.errors import MetricError
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Interval, count_cells, small
from headlens.metrics.columns import Column, as_array, as_columns

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


def summaries(correct: _Array, sizes: _Array, names: list[str], weighting: Weighting) -> dict[str, _Array]:
    """Average, worst group, gap and every group's accuracy, from counts [draw group] of correct images and images."""
    with np.errstate(invalid="ignore"):
        accuracy = correct / np.where(sizes > 0, sizes, np.nan)
    if isinstance(weighting, str) and weighting == "images":
        average = correct.sum(-1) / sizes.sum(-1)
    else:
        weights = np.where(sizes > 0, group_weights(names, np.ones(len(names)), weighting), 0.0)
        average = np.nansum(accuracy * weights, -1) / np.where(weights.sum(-1) > 0, weights.sum(-1), np.nan)
    worst = np.nanmin(accuracy, axis=-1)
    by_group = {f"groups.{name}": accuracy[..., i] for i, name in enumerate(names)}
    return {"average": average, "worst_group": worst, "gap": average - worst, **by_group}


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
        small: the groups with fewer than 30 images, whose accuracy is uncertain.
        weighting: what the average counts: "images", "groups" or "shares".
        level: the intervals' level.
        n_bootstrap: how many resamples the intervals come from.
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
    n_bootstrap: int = 1000

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

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def evaluate(
    y_true: Column,
    y_pred: Column,
    *,
    groups: Column,
    method: str = "",
    weighting: Weighting = "images",
    bootstrap: Bootstrap = STANDARD,
) -> Evaluation:
    """Accuracy by group with bootstrap intervals over images.

    Args:
        y_true: the true class of each image, as names or numbers.
        y_pred: the predicted class, of the same kind.
        groups: the group of each image; see `group_names`.
        method: the name to report under.
        weighting: what the average counts; see `average_accuracy`.
        bootstrap: resamples of the images, all groups together: group sizes vary as they would between data sets.

    Raises:
        MetricError: as `group_accuracy`.

    Limits: the worst group is a minimum, so its resampled values lie a little below it where groups are close or
    small; the intervals speak of sampling images, not of other models, prompts or seeds.
    """
    correct, group = is_correct(y_true, y_pred, groups)
    names, counts = _cells([correct], group)
    sizes = counts.sum(-1)
    drawn = bootstrap.resample(counts)
    samples = summaries(drawn[..., 1], drawn.sum(-1), names, _by_name(weighting))
    # From the same counts: fairlearn's frame gives these very numbers (tested), in many times the time.
    observed = summaries(counts[None, :, 1], sizes[None], names, _by_name(weighting))
    average = float(observed["average"][0])
    accuracies = {name: float(observed[f"groups.{name}"][0]) for name in names}
    worst = min(accuracies.values())
    by_size = {name: int(size) for name, size in zip(names, sizes, strict=True)}
    return Evaluation(
        method=method,
        average=average,
        worst_group=worst,
        gap=average - worst,
        groups=accuracies,
        sizes=by_size,
        interval={name: bootstrap.interval(values) for name, values in samples.items()},
        small=small(by_size),
        weighting=weighting if isinstance(weighting, str) else "shares",
        level=bootstrap.level,
        n_bootstrap=bootstrap.n_bootstrap,
    )


@dataclass(frozen=True)
class PairedDifference:
    """How a model differs from a baseline on the same images.

    Attributes:
        difference: the model minus the baseline, for "average", "worst_group", "gap" and "groups.<name>".
        interval: the bootstrap interval of each difference.
        level: the intervals' level.
        n_bootstrap: how many resamples.
    """

    difference: dict[str, float]
    interval: dict[str, Interval]
    level: float
    n_bootstrap: int

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `difference`, `low`, `high`."""
        rows = [(name, value, *self.interval[name]) for name, value in self.difference.items()]
        return pd.DataFrame(rows, columns=["measure", "difference", "low", "high"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def paired_difference(
    y_true: Column,
    y_pred: Column,
    *,
    baseline: Column,
    groups: Column,
    weighting: Weighting = "images",
    bootstrap: Bootstrap = STANDARD,
) -> PairedDifference:
    """Compare predictions with a baseline's of the same images, with paired bootstrap intervals.

    Args:
        y_true: the true classes.
        y_pred: the predictions, such as after a correction.
        baseline: the predictions that they are compared with, such as zero-shot ones.
        groups: the group of each image.
        weighting: what the average counts; see `average_accuracy`.
        bootstrap: resamples of the images.

    Raises:
        MetricError: as `group_accuracy`.
    """
    before, group = is_correct(y_true, baseline, groups)
    after, _ = is_correct(y_true, y_pred, groups)
    names, counts = _cells([before, after], group)
    shares = _by_name(weighting)

    def difference(c: _Array) -> dict[str, _Array]:
        sizes = c.sum((-1, -2))
        one = summaries(c[..., 1, :].sum(-1), sizes, names, shares)
        two = summaries(c[..., :, 1].sum(-1), sizes, names, shares)
        return {name: two[name] - one[name] for name in one}

    observed = {name: float(value[0]) for name, value in difference(counts[None]).items()}
    drawn = difference(bootstrap.resample(counts))
    intervals = {name: bootstrap.interval(values) for name, values in drawn.items()}
    return PairedDifference(observed, intervals, bootstrap.level, bootstrap.n_bootstrap)


def _cells(correct: list[_Array], groups: _Array) -> tuple[list[str], _Array]:
    """Count the images of each group by which of the models are correct: names, and counts [group, 2, 2, …]."""
    codes, names = pd.factorize(groups, sort=True)
    return [str(name) for name in names], count_cells([codes], (len(names),), correct)


def _by_name(weighting: Weighting) -> Weighting:
    """The weighting with shares, where it has any, by the groups' names as text."""
    return weighting if isinstance(weighting, str) else {str(name): share for name, share in weighting.items()}
