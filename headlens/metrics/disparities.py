"""Differences between the values of an attribute: in how often a class is predicted, and in accuracy.

- fairlearn's demographic parity and equalised odds differences, for one predicted class against the rest.
- Occupation gap (Yeo et al. 2025, arXiv 2505.17425, on GenderBias-VL): the mean over classes of
  |accuracy on one value − accuracy on the other|, over all classes and over those with the largest gap at baseline.
- Common−counter gap (Wang et al. 2024, arXiv 2403.11497): accuracy on common minus accuracy on counter images, over
  images or as the mean over classes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from headlens.errors import MetricError
from headlens.metrics.accuracy import is_correct
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Measures, bootstrap_cells, count_cells, small
from headlens.metrics.clusters import Clusters
from headlens.metrics.columns import Column, as_columns

_Array = np.ndarray


def demographic_parity_difference(y_true: Column, y_pred: Column, *, attribute: Column, positive: Any) -> float:
    """The largest difference, over values of the attribute, in how often class `positive` is predicted.

    The true classes do not enter, as in fairlearn.

    Raises:
        MetricError: for columns that do not match.
    """
    _, predicted, values = as_columns(y_true=y_true, y_pred=y_pred, attribute=attribute)
    chosen = (predicted == positive).astype(int)
    from fairlearn import metrics as fairlearn_metrics

    difference = fairlearn_metrics.demographic_parity_difference(chosen, chosen, sensitive_features=values)
    return float(difference)


def equalized_odds_difference(y_true: Column, y_pred: Column, *, attribute: Column, positive: Any) -> float:
    """The larger of the differences in true and in false positive rates, over values of the attribute.

    Raises:
        MetricError: for columns that do not match, and where some value has no image of class `positive`, or none of
            another class, so that a rate is not determined.
    """
    true, predicted, values = as_columns(y_true=y_true, y_pred=y_pred, attribute=attribute)
    actual = (true == positive).astype(int)
    for value in dict.fromkeys(values.tolist()):
        if len(set(actual[values == value].tolist())) < 2:
            raise MetricError(
                f"Value {value!r} does not have both images of class {positive!r} and of others.",
                "Leave the value out, or use demographic_parity_difference.",
            )
    chosen = (predicted == positive).astype(int)
    from fairlearn import metrics as fairlearn_metrics

    return float(fairlearn_metrics.equalized_odds_difference(actual, chosen, sensitive_features=values))


def occupation_gap(
    y_true: Column,
    y_pred: Column,
    *,
    attribute: Column,
    method: str = "",
    baseline: Column | None = None,
    n_worst: int = 10,
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> Measures:
    """mean over classes of |accuracy on one value − accuracy on the other|: "overall", and over the "worst" classes.

    Args:
        y_true: the true class (occupation) of each image.
        y_pred: the predicted class.
        attribute: the attribute's value, of which there are two.
        method: the name to report under.
        baseline: the predictions of the method that this one is compared with, such as zero-shot. The worst classes are
            those with its largest gaps; without a baseline, those of `y_pred` themselves.
        n_worst: how many classes count as worst; all where there are fewer.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images.

    Returns:
        Measures "overall", "worst" and "class.<name>", the signed gap of each class: accuracy on the value that sorts
        first minus accuracy on the other. `sizes` are those of "class/value".

    Raises:
        MetricError: as `evaluate`, for an attribute without exactly two values, and for a class without images of both.

    Limits: accuracies of few images differ by chance, so that the mean of absolute differences lies above zero for a
    model without any gap. The worst classes are chosen by the baseline's numbers and move towards the mean by
    themselves: compare with random heads, and choose them on another split where there is one.
    """
    classes, values, codes, correct = _prepare(y_true, y_pred, attribute, baseline)
    counts = count_cells(codes, (len(classes), 2), correct)
    images = counts.reshape(*counts.shape[:2], -1).sum(-1)
    sizes = {f"{c}/{v}": int(images[i, j]) for i, c in enumerate(classes) for j, v in enumerate(values)}
    for name, size in sizes.items():
        if size == 0:
            raise MetricError(f"There is no image of {name}.", "Leave the class out of all columns.")
    first_correct = counts[..., 1] if len(correct) == 1 else counts[..., 1, :].sum(-1)
    before = np.abs(np.diff(first_correct / counts.reshape(*counts.shape[:2], -1).sum(-1), axis=1))[:, 0]
    order = np.argsort(-before, kind="stable")[: max(1, n_worst)]

    def statistic(correct: _Array, images: _Array) -> dict[str, _Array]:
        with np.errstate(invalid="ignore"):
            accuracy = correct / np.where(images > 0, images, np.nan)
        gap = accuracy[..., 0] - accuracy[..., 1]
        means = {"overall": _mean_of(np.abs(gap)), "worst": _mean_of(np.abs(gap[..., order]))}
        return means | {f"class.{name}": gap[..., i] for i, name in enumerate(classes)}

    clusters = Clusters.beside(cluster, attribute=attribute)
    found = bootstrap_cells(codes, (len(classes), 2), correct, statistic, bootstrap, clusters)
    return Measures(method, *found, sizes, small(sizes), bootstrap.level, bootstrap.n_bootstrap)


def value_gap(
    y_true: Column,
    y_pred: Column,
    *,
    attribute: Column,
    values: tuple[Any, Any] = ("common", "counter"),
    method: str = "",
    baseline: Column | None = None,
    over: Literal["images", "classes"] = "images",
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> Measures:
    """Accuracy on the images of one value minus accuracy on those of another: the common−counter gap, for example.

    Args:
        y_true: the true class of each image.
        y_pred: the predicted class.
        attribute: the attribute's value; images of other values than the two are left out.
        values: the value whose accuracy is expected to be larger, and the other.
        method: the name to report under.
        baseline: the predictions of the method that this one is compared with.
        over: "images" counts every image once; "classes" takes the mean of each class's accuracy, of the classes that
            have images of the value.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images.

    Returns:
        Measures named by the two values, and "gap". `sizes` are those of the two values.

    Raises:
        MetricError: as `evaluate`, for a value that does not occur, and for another `over`.

    Limits: the two sets hold different photographs; a gap may have other reasons than the attribute.
    """
    if over not in ("images", "classes"):
        raise MetricError(f"An average over {over!r} is not known.", "Choose 'images' or 'classes'.")
    (given,) = as_columns(attribute=attribute)
    first, second = values
    for value in values:
        if not (given == value).any():
            found = ", ".join(map(str, dict.fromkeys(given.tolist())))
            raise MetricError(f"There is no image of {value!r}.", f"Name two values that occur: {found}.")
    used = (given == first) | (given == second)
    every = as_columns(y_true=y_true, y_pred=y_pred, attribute=attribute, **_given(baseline))
    classes, _, codes, correct = _prepare(*[column[used] for column in every])
    codes[1] = (given[used] == second).astype(int)  # the order in which the values were named
    counts = count_cells(codes, (len(classes), 2), correct)

    def statistic(correct: _Array, images: _Array) -> dict[str, _Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            if over == "images":
                accuracy = correct.sum(-2) / images.sum(-2)
            else:
                accuracy = _mean_of(np.moveaxis(correct / np.where(images > 0, images, np.nan), -2, -1))
        one, other = accuracy[..., 0], accuracy[..., 1]
        return {str(first): one, str(second): other, "gap": one - other}

    clusters = Clusters.beside(cluster, attribute=attribute)
    together = None if clusters is None else Clusters.of(clusters.codes[used])
    found_values = bootstrap_cells(codes, (len(classes), 2), correct, statistic, bootstrap, together)
    totals = counts.reshape(len(classes), 2, -1).sum((0, 2))
    sizes = {str(first): int(totals[0]), str(second): int(totals[1])}
    return Measures(method, *found_values, sizes, small(sizes), bootstrap.level, bootstrap.n_bootstrap)


def _given(baseline: Column | None) -> dict[str, Column]:
    return {} if baseline is None else {"baseline": baseline}


def _prepare(
    y_true: Column, y_pred: Column, attribute: Column, baseline: Column | None = None
) -> tuple[list[str], list[Any], list[_Array], list[_Array]]:
    """Class names, the two values, [class codes, value codes], and whether (baseline and) predictions are correct."""
    true, _, held, *_ = as_columns(y_true=y_true, y_pred=y_pred, attribute=attribute, **_given(baseline))
    correct = [is_correct(y_true, one, attribute)[0] for one in (baseline, y_pred) if one is not None]
    class_codes, classes = pd.factorize(true, sort=True)
    value_codes, values = pd.factorize(held, sort=True)
    if len(values) != 2:
        raise MetricError(
            f"The attribute has {len(values)} values, not two: {list(values)[:5]}.", "Leave the others out."
        )
    return [str(name) for name in classes], list(values), [class_codes, value_codes], correct


def _mean_of(gaps: _Array) -> _Array:
    """The mean over the last axis of what is there; NaN where nothing is."""
    there = np.isfinite(gaps)
    total = np.where(there, gaps, 0.0).sum(-1)
    return np.asarray(np.divide(total, there.sum(-1), out=np.full(total.shape, np.nan), where=there.any(-1)))
