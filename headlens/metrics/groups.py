"""Accuracy by group, on fairlearn's MetricFrame.

A group is any value of the column `groups`; headlens names them "class/value", such as "landbird/water".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame, count
from sklearn.metrics import accuracy_score

from headlens.errors import MetricError
from headlens.metrics.columns import Column, as_array, as_columns

SMALL = 30
"""Groups with fewer images than this are marked: their accuracy moves by more than three points an image."""

Weighting = Literal["images", "groups"] | Mapping[Any, float | int]
_Array: TypeAlias = np.ndarray


def group_names(labels: Column, attribute: Column) -> _Array:
    """The group of each image, "class/value", from its class and its attribute's value by name."""
    label, value = as_columns(labels=labels, attribute=attribute)
    return np.asarray([f"{c}/{v}" for c, v in zip(label.tolist(), value.tolist(), strict=True)], dtype=object)


def outcomes(predictions: Column, labels: Column, groups: Column) -> tuple[_Array, _Array, _Array]:
    """Predictions and labels as codes of one numbering, and the groups.

    Raises:
        MetricError: see `group_accuracy`.
    """
    predicted, true, group = as_columns(predictions=predictions, labels=labels, groups=groups)
    if (predicted.dtype.kind in "OUST") != (true.dtype.kind in "OUST"):
        raise MetricError(
            "predictions and labels of one kind, both names or both numbers",
            f"{predicted.dtype} predictions and {true.dtype} labels",
            "Turn predicted numbers into names by the order of the classes, or names into numbers.",
        )
    codes, _ = pd.factorize(np.concatenate([predicted, true]))
    return codes[: len(predicted)], codes[len(predicted) :], group


def metric_frame(predictions: Column, labels: Column, groups: Column) -> MetricFrame:
    """fairlearn's frame with `accuracy` and `count` for each group, all images in `.overall`."""
    predicted, true, group = outcomes(predictions, labels, groups)
    return MetricFrame(
        metrics={"accuracy": accuracy_score, "count": count},
        y_true=true,
        y_pred=predicted,
        sensitive_features=pd.Series(group, name="group"),
    )


def group_accuracy(predictions: Column, labels: Column, groups: Column) -> pd.Series:
    """The share of right predictions in each group, as a fraction, sorted by group.

    Raises:
        MetricError: for columns of different lengths, with missing values or without an image, and for predictions
            and labels of which one holds names and the other numbers.
    """
    return metric_frame(predictions, labels, groups).by_group["accuracy"].astype(float).rename("accuracy")


def worst_group(predictions: Column, labels: Column, groups: Column) -> float:
    """The lowest accuracy of any group. Raises as `group_accuracy` does."""
    return float(group_accuracy(predictions, labels, groups).min())


def average_accuracy(predictions: Column, labels: Column, groups: Column, weighting: Weighting = "images") -> float:
    """The average accuracy: over images, over groups, or over groups with given shares.

    Args:
        weighting: "images" counts every image once, "groups" every group once; a mapping from group to share (the
            training split's, say) weighs the groups by it, divided by the sum of the shares.

    Raises:
        MetricError: as `group_accuracy`, and for shares that are negative, all zero, or miss a group.
    """
    frame = metric_frame(predictions, labels, groups)
    accuracy = frame.by_group["accuracy"].to_numpy(dtype=float)
    weights = group_weights(list(frame.by_group.index), frame.by_group["count"].to_numpy(dtype=float), weighting)
    return float((accuracy * weights).sum())


def group_weights(names: list[Any], sizes: _Array, weighting: Weighting) -> _Array:
    """The weight of each group in an average, summing to one; see `average_accuracy`."""
    if isinstance(weighting, str):
        if weighting not in ("images", "groups"):
            raise MetricError("weighting 'images', 'groups' or a mapping", repr(weighting), "Choose one of these.")
        weights = sizes if weighting == "images" else np.ones(len(names))
    else:
        missing = [name for name in names if name not in weighting]
        if missing:
            raise MetricError("a share for every group", f"none for {missing[0]!r}", f"Give shares for {names}.")
        weights = as_array([weighting[name] for name in names], "weighting").astype(float)
    if (weights < 0).any() or weights.sum() <= 0:
        raise MetricError("shares of at least zero, not all zero", f"{weights.tolist()}", "Check the shares.")
    return np.asarray(weights / weights.sum(), dtype=float)
