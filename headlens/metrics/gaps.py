"""Differences between the accuracies of two values of an attribute: by class, and over all.

- Occupation gap (Yeo et al. 2025, arXiv 2505.17425, on GenderBias-VL): the mean over classes of
  |accuracy on one value − accuracy on the other|, over all classes and over those with the largest gap at baseline.
- Common−counter gap (Wang et al. 2024, arXiv 2403.11497): accuracy on common less accuracy on counter images, over
  images or as the mean over classes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.bootstrap import hits_of
from headlens.metrics.columns import Column, as_columns
from headlens.metrics.groups import SMALL
from headlens.metrics.measures import Measures, bootstrap_cells, count_cells

_Array = np.ndarray


def occupation_gap(
    method: str,
    predictions: Column,
    labels: Column,
    attribute: Column,
    *,
    baseline: Column | None = None,
    worst: int = 10,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Measures:
    """mean over classes of |accuracy on one value − accuracy on the other|: "overall", and over the "worst" classes.

    Args:
        method: the name to report under.
        predictions: the predicted class of each image.
        labels: the true class (occupation).
        attribute: the attribute's value, of which there are two.
        baseline: the predictions of the method that this one is compared with, such as zero-shot. The worst classes are
            those with its largest gaps; without a baseline, those of `predictions` themselves.
        worst: how many classes count as worst; all where there are fewer.
        draws: resamples of the images.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Returns:
        Measures "overall", "worst" and "class.<name>", the signed gap of each class: accuracy on the value that sorts
        first less accuracy on the other. `sizes` are those of "class/value".

    Raises:
        MetricError: as `evaluate`, for an attribute without exactly two values, and for a class without images of both.

    Limits: accuracies of few images differ by chance, so that the mean of absolute differences lies above zero for a
    model without any gap. The worst classes are chosen by the baseline's numbers and move towards the mean by
    themselves: compare with random heads, and choose them on another split where there is one.
    """
    classes, values, codes, hits = _prepare(predictions, labels, attribute, baseline)
    counts = count_cells(codes, (len(classes), 2), hits)
    sizes = _sizes(counts, classes, values)
    for name, size in sizes.items():
        if size == 0:
            raise MetricError(
                f"images of {values[0]!r} and of {values[1]!r} in every class",
                f"none in {name}",
                "Leave the class out of all columns.",
            )
    first_right = counts[..., 1] if len(hits) == 1 else counts[..., 1, :].sum(-1)
    before = np.abs(np.diff(first_right / counts.reshape(*counts.shape[:2], -1).sum(-1), axis=1))[:, 0]
    order = np.argsort(-before, kind="stable")[: max(1, worst)]

    def statistic(right: _Array, images: _Array) -> dict[str, _Array]:
        with np.errstate(invalid="ignore"):
            accuracy = right / np.where(images > 0, images, np.nan)
        gap = accuracy[..., 0] - accuracy[..., 1]
        means = {"overall": _mean_of(np.abs(gap)), "worst": _mean_of(np.abs(gap[..., order]))}
        return means | {f"class.{name}": gap[..., i] for i, name in enumerate(classes)}

    found = bootstrap_cells(counts, baseline is not None, statistic, draws, level, seed)
    return Measures(method, *found, sizes, _small(sizes), level, draws)


def value_gap(
    method: str,
    predictions: Column,
    labels: Column,
    attribute: Column,
    first: Any = "common",
    second: Any = "counter",
    *,
    baseline: Column | None = None,
    over: Literal["images", "classes"] = "images",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Measures:
    """Accuracy on the images of one value less accuracy on those of another: the common−counter gap, for example.

    Args:
        method: the name to report under.
        predictions: the predicted class of each image.
        labels: the true class.
        attribute: the attribute's value; images of other values are left out.
        first: the value whose accuracy counts as the larger.
        second: the other.
        baseline: the predictions of the method that this one is compared with.
        over: "images" counts every image once; "classes" takes the mean of each class's accuracy, of the classes that
            have images of the value.
        draws: resamples of the images.
        level: the intervals' level.
        seed: the same seed gives the same intervals.

    Returns:
        Measures named by the two values, and "gap". `sizes` are those of the two values.

    Raises:
        MetricError: as `evaluate`, for a value that does not occur, and for another `over`.

    Limits: the two sets hold different photographs; a gap may have other reasons than the attribute.
    """
    if over not in ("images", "classes"):
        raise MetricError("over 'images' or 'classes'", repr(over), "Choose one of these.")
    (given,) = as_columns(attribute=attribute)
    for value in (first, second):
        if not (given == value).any():
            found = ", ".join(map(str, dict.fromkeys(given.tolist())))
            raise MetricError(f"images of {value!r}", f"images of {found} alone", "Name two values that occur.")
    used = (given == first) | (given == second)
    every = as_columns(predictions=predictions, labels=labels, attribute=attribute, **_given(baseline))
    classes, _, codes, hits = _prepare(*[column[used] for column in every])
    codes[1] = (given[used] == second).astype(int)  # the order in which the values were named
    counts = count_cells(codes, (len(classes), 2), hits)

    def statistic(right: _Array, images: _Array) -> dict[str, _Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            if over == "images":
                accuracy = right.sum(-2) / images.sum(-2)
            else:
                accuracy = _mean_of(np.moveaxis(right / np.where(images > 0, images, np.nan), -2, -1))
        one, other = accuracy[..., 0], accuracy[..., 1]
        return {str(first): one, str(second): other, "gap": one - other}

    found_values = bootstrap_cells(counts, baseline is not None, statistic, draws, level, seed)
    totals = counts.reshape(len(classes), 2, -1).sum((0, 2))
    sizes = {str(first): int(totals[0]), str(second): int(totals[1])}
    return Measures(method, *found_values, sizes, _small(sizes), level, draws)


def _given(baseline: Column | None) -> dict[str, Column]:
    return {} if baseline is None else {"baseline": baseline}


def _prepare(
    predictions: Column, labels: Column, attribute: Column, baseline: Column | None = None
) -> tuple[list[str], list[Any], list[_Array], list[_Array]]:
    """Class names, the two values, [class codes, value codes], and whether (baseline and) predictions are right."""
    given = as_columns(predictions=predictions, labels=labels, attribute=attribute, **_given(baseline))
    hits = [hits_of(one, labels, attribute)[0] for one in ([] if baseline is None else [given[3]]) + [given[0]]]
    class_codes, classes = pd.factorize(given[1], sort=True)
    value_codes, values = pd.factorize(given[2], sort=True)
    if len(values) != 2:
        raise MetricError(
            "an attribute with exactly two values", f"{len(values)}: {list(values)[:5]}", "Leave the others out."
        )
    return [str(name) for name in classes], list(values), [class_codes, value_codes], hits


def _mean_of(gaps: _Array) -> _Array:
    """The mean over the last axis of what is there; NaN where nothing is."""
    there = np.isfinite(gaps)
    total = np.where(there, gaps, 0.0).sum(-1)
    return np.asarray(np.divide(total, there.sum(-1), out=np.full(total.shape, np.nan), where=there.any(-1)))


def _sizes(counts: _Array, classes: list[str], values: list[Any]) -> dict[str, int]:
    images = counts.reshape(*counts.shape[:2], -1).sum(-1)
    return {f"{c}/{v}": int(images[i, j]) for i, c in enumerate(classes) for j, v in enumerate(values)}


def _small(sizes: dict[str, int]) -> tuple[str, ...]:
    return tuple(name for name, size in sizes.items() if size < SMALL)
