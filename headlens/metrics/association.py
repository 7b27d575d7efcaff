"""How strongly an attribute and the predicted class go together.

    V = sqrt(χ² / (n · min(rows − 1, columns − 1)))          (Cramér 1946)

and its form corrected for the value that chance alone gives, after Bergsma 2013, *A bias-correction for Cramér's V and
Tschuprow's T*: with φ² = χ²/n, r rows and c columns,

    φ̃² = max(0, φ² − (r − 1)(c − 1)/(n − 1)),  r̃ = r − (r − 1)²/(n − 1),  c̃ = c − (c − 1)²/(n − 1)
    Ṽ = sqrt(φ̃² / min(r̃ − 1, c̃ − 1))

Bootstrap and permutation draw no image. V and the accuracy depend on the images through one table alone: how many of
them have each (attribute value, prediction before, prediction after), and whether these predictions are correct.
Resampling n images with replacement is drawing that table from a multinomial distribution, which keeps the pairing of
before and after; permuting the attribute within each true class is drawing it from a hypergeometric one. Both are
exact, and as quick for a million images as for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from headlens.errors import MetricError
from headlens.metrics.bootstrap import STANDARD, Bootstrap, Interval
from headlens.metrics.clusters import Clusters, permutations
from headlens.metrics.columns import Column, as_columns, cells_of
from headlens.metrics.intervals import pair, proportion, v_interval

_MEASURES = ("cramers_v", "corrected", "accuracy")
_CELLS = 20_000_000  # of tables, held at once


def cramers_v(attribute: Column, predictions: Column, corrected: bool = False) -> float:
    """Cramér's V of attribute × predicted class, from 0 (independent) to 1 (one determines the other).

    Where a single class is predicted for every image, nothing goes together with anything: 0, by convention.

    Args:
        attribute: the attribute's value of each image.
        predictions: the predicted class of each image.
        corrected: Bergsma's form, which is near 0 for independent columns however small the data.

    Raises:
        MetricError: for columns of different lengths or with missing values, and for an attribute with one value.

    Limits: V has no sign and does not show which value fares worse; uncorrected, it grows as the data shrink.
    """
    values, predicted = as_columns(attribute=attribute, predictions=predictions)
    rows, row_names = pd.factorize(values)
    columns, column_names = pd.factorize(predicted)
    if len(row_names) < 2:
        raise MetricError(f"All images have the attribute value {row_names[0]!r}.", "Check the attribute's column.")
    if len(column_names) < 2:
        return 0.0
    cells = rows * len(column_names) + columns
    table = np.bincount(cells, minlength=len(row_names) * len(column_names)).reshape(len(row_names), -1)
    if not corrected:
        return float(association(table, method="cramer", correction=False))
    n, (r, c) = table.sum(), table.shape
    phi2 = chi2_contingency(table, correction=False).statistic / n
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    # Every image in a row or column of its own: the correction takes all there is.
    return float((phi2 / smaller) ** 0.5) if smaller > 0 else 0.0


@dataclass(frozen=True)
class Association:
    """How strongly an attribute and the predicted class go together, and how often the class is correct.

    Attributes:
        cramers_v: V of attribute × predicted class.
        corrected: Bergsma's bias-corrected V.
        accuracy: share of the images whose class is correct.
        interval: the interval of each of the three, by name. V has one, plain or corrected: the correction is of what
            is observed, and the interval is that of V in the population.
    """

    cramers_v: float
    corrected: float
    accuracy: float
    interval: dict[str, Interval]


@dataclass(frozen=True)
class AssociationChange:
    """Before and after on the same images.

    Attributes:
        before, after: each with its own intervals.
        difference: after minus before, for "cramers_v", "corrected" and "accuracy".
        interval: the paired bootstrap interval of each difference.
        n_bootstrap, level, seed: of the bootstrap.
    """

    before: Association
    after: Association
    difference: dict[str, float]
    interval: dict[str, Interval]
    n_bootstrap: int
    level: float
    seed: int


@dataclass(frozen=True)
class WithinClass:
    """The association that the true classes alone would give, were the predictions blind to the attribute.

    Attributes:
        observed: V of attribute × predicted class.
        expected: its mean when the attribute is permuted within each true class.
        p: (1 + permutations with V at least the observed) / (1 + permutations).
        n_permutations, seed: of the permutations.
    """

    observed: float
    expected: float
    p: float
    n_permutations: int
    seed: int

    @property
    def excess(self) -> float:
        """How much of V the true classes do not account for: observed minus expected."""
        return self.observed - self.expected


def v_of_tables(tables: Float[np.ndarray, "*draw row column"], corrected: bool = False) -> Float[np.ndarray, "*draw"]:
    """Cramér's V of many contingency tables at once; 0 where a row's or a column's images all fall together.

    Rows and columns that a table leaves empty do not count as values or classes of it.
    """
    tables = np.asarray(tables, dtype=float)
    n = tables.sum((-2, -1))
    rows, columns = tables.sum(-1), tables.sum(-2)
    expected = rows[..., :, None] * columns[..., None, :] / np.where(n > 0, n, 1)[..., None, None]
    terms = np.divide((tables - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    phi2 = terms.sum((-2, -1)) / np.where(n > 0, n, 1)
    r, c = (rows > 0).sum(-1).astype(float), (columns > 0).sum(-1).astype(float)
    if corrected:
        less = np.maximum(n - 1, 1)
        phi2 = np.maximum(0.0, phi2 - (r - 1) * (c - 1) / less)
        r, c = r - (r - 1) ** 2 / less, c - (c - 1) ** 2 / less
    smaller = np.minimum(r, c) - 1
    # One table alone gives a number where an array is promised.
    return np.asarray(np.sqrt(np.divide(phi2, smaller, out=np.zeros_like(smaller), where=smaller > 1e-12)))


def association_change(
    y_true: Int[np.ndarray, "image"],
    y_pred: Int[np.ndarray, "image"],
    *,
    baseline: Int[np.ndarray, "image"],
    attribute: Int[np.ndarray, "image"],
    cluster: Column | None = None,
    bootstrap: Bootstrap = STANDARD,
) -> AssociationChange:
    """Compare two sets of predictions by their association with an attribute and by accuracy, pairwise.

    Args:
        y_true: the true class of each image, as an index.
        y_pred: predicted classes after a correction, as indices.
        baseline: predicted classes before it.
        attribute: the attribute's value of each image, as an index.
        cluster: the person or scene that each image shows, where several show the same.
        bootstrap: resamples of the images, or of the clusters, behind the intervals of the differences.

    Raises:
        MetricError: for columns of different lengths, no images, one attribute value alone, or negative indices.

    Intervals of V and of the accuracy are those of `headlens.metrics.intervals`.

    Limits: the percentile intervals of the differences of V lie somewhat off for small data, where both V are near 0;
    see `headlens.metrics.dependence_change`.
    """
    values, true, *predicted = _columns(attribute=attribute, y_true=y_true, baseline=baseline, y_pred=y_pred)
    n_values, n_classes = int(values.max()) + 1, int(max(column.max() for column in predicted)) + 1
    correct = [column == true for column in predicted]
    # Only cells that occur: a table of every combination would be classes² wide.
    cells, of_image = cells_of(values, *predicted, *(one.astype(np.int64) for one in correct))
    clusters = Clusters.beside(cluster, attribute=values)
    observed = _measures(cells, np.bincount(of_image)[None].astype(float), n_values, n_classes)
    parts = [_measures(cells, part, n_values, n_classes) for part in bootstrap.cells(of_image, clusters)]
    sampled = {name: tuple(np.concatenate([part[name][i] for part in parts]) for i in (0, 1)) for name in _MEASURES}

    def one(which: int) -> Association:
        found = {name: float(observed[name][which][0]) for name in _MEASURES}
        table = np.zeros((n_values, n_classes))
        np.add.at(table, (values, predicted[which]), 1)
        images, effect = float(len(values)), 1.0
        right = correct[which].astype(float)
        if clusters is not None:
            effect = _design_effect(values, predicted[which], clusters) / clusters.shrinkage(bootstrap.level)
            of_accuracy = clusters.design_effect(right - right.mean())[0] / clusters.shrinkage(bootstrap.level)
            images /= of_accuracy
        v = pair(v_interval(table, bootstrap.level, effect))
        ends = proportion(np.array(right.mean() * images), np.array(images), (1 - bootstrap.level) / 2)
        return Association(
            found["cramers_v"],
            found["corrected"],
            found["accuracy"],
            {"cramers_v": v, "corrected": v, "accuracy": pair(ends)},
        )

    return AssociationChange(
        one(0),
        one(1),
        {name: float(observed[name][1][0] - observed[name][0][0]) for name in _MEASURES},
        {name: bootstrap.interval(sampled[name][1] - sampled[name][0]) for name in _MEASURES},
        bootstrap.n_bootstrap,
        bootstrap.level,
        bootstrap.seed,
    )


def within_class(
    y_true: Int[np.ndarray, "image"],
    y_pred: Int[np.ndarray, "image"],
    *,
    attribute: Int[np.ndarray, "image"],
    cluster: Column | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> WithinClass:
    """Is the attribute associated with the predictions beyond what the true classes account for?

    Where an occupation is held by one gender mostly, correct predictions alone make V large. The null keeps every
    image's class and prediction, and permutes the attribute within each class: what V exceeds then is the model's own.

    Args:
        y_true: the true class of each image, as an index.
        y_pred: the predicted class of each image, as an index.
        attribute: the attribute's value of each image, as an index.
        cluster: the person or scene that each image shows, where several show the same; see
            `headlens.metrics.permute_attribute`.
        n_permutations: how many permutations.
        seed: the same seed gives the same permutations.

    Raises:
        MetricError: as `association_change`.
    """
    if n_permutations < 1:
        raise MetricError(f"{n_permutations} permutations are none.", "Pass n_permutations=1000, for example.")
    values, true, predicted = _columns(attribute=attribute, y_true=y_true, y_pred=y_pred)
    n_values, n_classes = int(values.max()) + 1, int(max(true.max(), predicted.max())) + 1
    table = np.zeros((n_values, n_classes))
    np.add.at(table, (values, predicted), 1)
    generator = np.random.default_rng(seed)
    drawn = np.zeros((n_permutations, n_values, n_classes))
    clusters = Clusters.beside(cluster, attribute=values)
    if clusters is not None:
        permuted = permutations(true, values, clusters.codes, n_permutations, generator)
        for one, held in zip(drawn, permuted, strict=True):
            np.add.at(one, (held, predicted), 1)
    for label in np.unique(true) if clusters is None else ():
        here = true == label
        rows, columns = np.bincount(values[here], minlength=n_values), np.bincount(predicted[here], minlength=n_classes)
        drawn += permuted_tables(generator, rows, columns, n_permutations)
    observed, null = float(v_of_tables(table)), v_of_tables(drawn)
    # A permutation that gives the very same table must count as reaching it, whatever the last bit of its V.
    reached = int((null >= observed - 1e-12).sum())
    return WithinClass(observed, float(null.mean()), (1 + reached) / (1 + n_permutations), n_permutations, seed)


def permuted_tables(
    generator: np.random.Generator,
    values: Int[np.ndarray, "value"],
    classes: Int[np.ndarray, "class"],
    n_tables: int,
) -> Float[np.ndarray, "draw value class"]:
    """Tables with both margins kept: the images of one value after the other drawn without replacement."""
    left = np.broadcast_to(classes, (n_tables, len(classes))).copy()
    tables = np.zeros((n_tables, len(values), len(classes)))
    for value, count in enumerate(values[:-1]):
        drawn = np.zeros_like(left)
        wanted, rest = np.full(n_tables, count), left.sum(1)
        for column in np.flatnonzero(classes):
            rest = rest - left[:, column]
            drawn[:, column] = generator.hypergeometric(left[:, column], rest, wanted)
            wanted = wanted - drawn[:, column]
        tables[:, value] = drawn
        left -= drawn
    tables[:, -1] = left
    return tables


def _design_effect(values: Int[np.ndarray, "image"], predicted: Int[np.ndarray, "image"], clusters: Clusters) -> float:
    """1 + (m − 1)ρ for the table of value × predicted class: ρ is how alike the residuals of two images of a cluster
    are, (value − its mean) ⊗ (class − its mean)."""
    shape = int(values.max()) + 1, int(predicted.max()) + 1
    by_value, by_class = (np.bincount(of) / len(of) for of in (values, predicted))
    order = np.argsort(clusters.codes, kind="stable")
    sizes = np.bincount(clusters.codes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total, step = 0.0, max(1, _CELLS // (shape[0] * shape[1]))
    for first in range(0, len(sizes), step):
        few = sizes[first : first + step]
        rows = order[starts[first] : starts[first + len(few)]]
        sums = np.zeros((len(few), *shape))
        np.add.at(sums, (clusters.codes[rows] - first, values[rows], predicted[rows]), 1)
        sums -= sums.sum(2, keepdims=True) * by_class + by_value[:, None] * sums.sum(1, keepdims=True)
        total += float(((sums + few[:, None, None] * np.outer(by_value, by_class)) ** 2).sum())
    even = 1 - (by_value**2).sum(), 1 - (by_class**2).sum()
    each = (1 - 2 * by_value + (by_value**2).sum())[values] * (1 - 2 * by_class + (by_class**2).sum())[predicted]
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs == 0 or min(even) <= 0:
        return 1.0
    rho = float(np.clip((total - each.sum()) / pairs / each.mean(), 0.0, 1.0))
    return 1 + (float((sizes**2).sum()) / len(values) - 1) * rho


def _measures(
    cells: Int[np.ndarray, "column cell"], counts: Float[np.ndarray, "draw cell"], n_values: int, n_classes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    attribute, *both = cells
    measured: dict[str, list[np.ndarray]] = {name: [] for name in _MEASURES}
    for predicted, correct in (both[0::2], both[1::2]):
        flat = np.zeros((len(counts), n_values * n_classes))
        for position in np.unique(place := attribute * n_classes + predicted):
            flat[:, position] = counts[:, place == position].sum(1)
        tables = flat.reshape(len(counts), n_values, n_classes)
        measured["cramers_v"].append(v_of_tables(tables))
        measured["corrected"].append(v_of_tables(tables, corrected=True))
        measured["accuracy"].append(counts[:, correct == 1].sum(1) / counts.sum(1))
    return {name: (parts[0], parts[1]) for name, parts in measured.items()}


def _columns(**columns: np.ndarray) -> list[np.ndarray]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise MetricError(
            f"Columns differ in length, or are empty: {', '.join(f'{len(c)} {name}' for name, c in columns.items())}.",
            "Take all of them from the same images.",
        )
    for name, column in columns.items():
        if column.min() < 0:
            raise MetricError(
                f"`{name}` holds {column.min()}, which is no index.", "Count from 0, and leave out images without one."
            )
    first = next(iter(columns))
    if len(np.unique(columns[first])) < 2:
        raise MetricError(
            f"All images have attribute value {columns[first][0]}.",
            "Score a split that holds both.",
        )
    return list(columns.values())
