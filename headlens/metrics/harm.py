"""Who is harmed: what each value of an attribute meets in each class, before and after a correction.

With N(v, c, k) the number of images of value v and true class c that are predicted as class k:

    accuracy(c, v)        = N(v, c, c) / Σ_k N(v, c, k)                      of the images of class c and value v
    selection rate(c, v)  = Σ_i N(v, i, c) / Σ_{i, k} N(v, i, k)             how often c is predicted for value v
    difference(c, v)      = accuracy(c, v) − accuracy of the class's images of all other values
    ratio(c, v)           = accuracy(c, v) / that accuracy
    demographic parity difference(c) = max_v − min_v of the selection rate; its ratio is min_v / max_v
    equalised odds difference(c)     = the larger of max_v − min_v of the true, and of the false positive rate

The last three are fairlearn's, of class c compared with the rest. A number that no image determines is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from headlens.errors import MetricError
from headlens.metrics.accuracy import evaluate, paired_difference
from headlens.metrics.bootstrap import SMALL, STANDARD, Bootstrap, count_cells
from headlens.metrics.clusters import Clusters
from headlens.metrics.columns import Column, as_array

Counts = Int[np.ndarray, "value class class_predicted"]
Indices = Int[np.ndarray, "image"]


def confusion(y_true: Indices, y_pred: Indices, attribute: Indices, shape: tuple[int, int]) -> Counts:
    """How many images of each value and true class are predicted as each class.

    Args:
        y_true, y_pred: the true and the predicted class of each image, as indices.
        attribute: the attribute's value of each, as an index; images of −1 are left out.
        shape: how many values, and how many classes.
    """
    n_values, n_classes = shape
    counts = np.zeros((n_values, n_classes, n_classes), dtype=np.int64)
    held = attribute >= 0
    np.add.at(counts, (attribute[held], y_true[held], y_pred[held]), 1)
    return counts


def transitions(before: Indices, after: Indices, n_classes: int) -> Int[np.ndarray, "class class_after"]:
    """How many images moved from one predicted class (row) to another (column); zero on the diagonal."""
    moved = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(moved, (before[before != after], after[before != after]), 1)
    return moved


def transitions_by_fate(
    y_true: Indices, before: Indices, after: Indices, n_classes: int
) -> dict[str, Int[np.ndarray, "class class_after"]]:
    """`transitions` of the predictions that were "corrected", "newly wrong", and "wrong before and after"."""
    fates = {
        "corrected": after == y_true,
        "newly wrong": before == y_true,
        "wrong before and after": (after != y_true) & (before != y_true),
    }
    return {name: transitions(before[mask], after[mask], n_classes) for name, mask in fates.items()}


def harm(
    y_true: Indices,
    y_pred: Indices,
    *,
    baseline: Indices,
    attribute: Indices,
    classes: Sequence[str],
    values: Sequence[str],
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> pd.DataFrame:
    """One row a class and value that has images: what its images meet before and after.

    Args:
        y_true: the true class of each image, as an index.
        y_pred: the predicted class after a correction.
        baseline: the predicted class before.
        attribute: the attribute's value of each image, as an index; images of −1 are left out.
        classes: the classes' names.
        values: the values' names.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of each class's images, the same before and after.

    Returns:
        `class`, `value`, `images`, `small` (fewer than 30), and with `_before` and `_after` the `accuracy`,
        `selection`, `difference`, its interval's ends `difference_…_low` and `…_high`, and `ratio`.

    Raises:
        MetricError: for columns of different lengths.

    Limits: of many groups some differ by chance; an interval speaks of sampling images, not of other prompts.
    """
    if len({len(column) for column in (y_true, y_pred, baseline, attribute)}) != 1:
        raise MetricError(
            "The columns have different lengths.", "Take labels, predictions and values of the same rows."
        )
    clusters, rates = Clusters.beside(cluster, y_true=y_true), {}
    for when, predicted in (("before", baseline), ("after", y_pred)):
        counts = confusion(y_true, predicted, attribute, (len(values), len(classes)))
        rates[when] = counts.sum(axis=1) / np.maximum(counts.sum(axis=(1, 2)), 1)[:, None]  # [value, class]
    rows = []
    for c, name in enumerate(classes):
        mine = (y_true == c) & (attribute >= 0)
        if not mine.any():
            continue
        columns = attribute[mine], baseline[mine] == c, y_pred[mine] == c
        cells = count_cells(columns[:1], (len(values),), columns[1:])  # [value, correct before?, correct after?]
        drawn = bootstrap.tables(columns, cells.shape, None if clusters is None else Clusters.of(clusters.codes[mine]))
        found = {"before": _compared(cells, drawn, 1), "after": _compared(cells, drawn, 2)}
        for v, value in enumerate(values):
            if images := int(cells[v].sum()):
                row = {"class": name, "value": value, "images": images, "small": images < SMALL}
                for when, (accuracy, difference, ratio, samples) in found.items():
                    low, high = _interval(bootstrap, samples[:, v])
                    row |= {
                        f"accuracy_{when}": accuracy[v],
                        f"selection_{when}": rates[when][v, c],
                        f"difference_{when}": difference[v],
                        f"difference_{when}_low": low,
                        f"difference_{when}_high": high,
                        f"ratio_{when}": ratio[v],
                    }
                rows.append(row)
    return pd.DataFrame(rows)


Vector = Float[np.ndarray, "value"]


def _compared(
    cells: Int[np.ndarray, "value 2 2"], drawn: Float[np.ndarray, "draw value 2 2"], axis: int
) -> tuple[Vector, Vector, Vector, Float[np.ndarray, "draw value"]]:
    """Accuracy, difference and ratio of each value in one class, and the resampled differences."""

    def measured(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        correct, images = counts.take(1, axis=axis - 3).sum(-1), counts.sum((-1, -2))
        others = correct.sum(-1, keepdims=True) - correct, images.sum(-1, keepdims=True) - images
        with np.errstate(invalid="ignore", divide="ignore"):
            return correct / images, others[0] / others[1]

    own, rest = measured(cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = own / rest
    resampled = measured(drawn)
    return own, own - rest, ratio, resampled[0] - resampled[1]


def _interval(bootstrap: Bootstrap, samples: np.ndarray) -> tuple[float, float]:
    return bootstrap.interval(samples) if np.isfinite(samples).any() else (np.nan, np.nan)


def parity(before: Counts, after: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Demographic parity and equalised odds of each class compared with the rest.

    Args:
        before, after: what `confusion` counted; values without images are left out.
        classes: the classes' names.

    Returns:
        One row a class: `class`, and with `_before` and `_after` the `dp_difference`, `dp_ratio` and `eo_difference`.
    """
    columns: dict[str, Sequence[object]] = {"class": list(classes)}
    for when, counts in (("before", before), ("after", after)):
        held = counts[counts.sum(axis=(1, 2)) > 0]
        total, true, chosen = held.sum(axis=(1, 2))[:, None], held.sum(axis=2), held.sum(axis=1)
        hit = np.diagonal(held, axis1=1, axis2=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            selection, tpr, fpr = chosen / total, hit / true, (chosen - hit) / (total - true)
            columns[f"dp_difference_{when}"] = np.ptp(selection, axis=0)
            columns[f"dp_ratio_{when}"] = selection.min(axis=0) / selection.max(axis=0)
        columns[f"eo_difference_{when}"] = np.maximum(np.ptp(tpr, axis=0), np.ptp(fpr, axis=0))
    return pd.DataFrame(columns)


def intersections(
    y_true: Indices,
    y_pred: Indices,
    *,
    baseline: Indices,
    attributes: Mapping[str, Sequence[str] | np.ndarray],
    cluster: Column | None = None,
) -> pd.DataFrame:
    """Accuracy of every combination of several attributes' values, before and after.

    Args:
        y_true, y_pred, baseline: as for `harm`.
        attributes: by name, the value of every image in words; "" for none, which leaves the image out. The true class
            may be one of them.
        cluster: the person or scene that each image shows, where several show the same.

    Returns:
        One row a combination that has images: the attributes' values, `images`, `small` (fewer than 30), and
        `accuracy_before`, `accuracy_after` and `change`, each with the ends of its interval, as
        `headlens.metrics.evaluate` and `paired_difference` have it.

    Limits: the more attributes are crossed, the fewer images a cell has, and the more cells stand out by chance.
    """
    frame = pd.DataFrame(attributes)
    held = (frame != "").all(axis=1).to_numpy()
    cells = frame[held].groupby(list(attributes), sort=True)
    found = cells.size().reset_index(name="images")
    found["small"] = found["images"] < SMALL
    true, before, after = y_true[held], baseline[held], y_pred[held]
    groups, own = cells.ngroup().to_numpy(), None if cluster is None else as_array(cluster, "cluster")[held]
    for when, predicted in (("before", before), ("after", after)):
        one = evaluate(true, predicted, groups=groups, cluster=own)
        ends = [one.interval[f"groups.{cell}"] for cell in one.groups]
        found[f"accuracy_{when}"] = list(one.groups.values())
        found[[f"accuracy_{when}_low", f"accuracy_{when}_high"]] = ends
    both = paired_difference(true, after, baseline=before, groups=groups, cluster=own)
    cells_of = [f"groups.{cell}" for cell in one.groups]
    found["change"] = [both.difference[name] for name in cells_of]
    found[["change_low", "change_high"]] = [both.interval[name] for name in cells_of]
    return found
