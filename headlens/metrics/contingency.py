"""Bootstrap and permutation of Cramér's V, without ever drawing an image.

V of attribute × predicted class, and the accuracy, depend on the images through one table alone: how many of them have
each (attribute value, prediction before, prediction after), and whether these predictions are right. Resampling n
images with replacement is drawing that table from a multinomial distribution, which keeps the pairing of before and
after; giving the attribute out anew within each true class is drawing it from a hypergeometric one. Both are exact, and
as quick for a million images as for a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from headlens.errors import MetricError
from headlens.metrics.bootstrap import Interval, check_level, interval

_MEASURES = ("cramers_v", "corrected", "accuracy")


@dataclass(frozen=True)
class Association:
    """How strongly an attribute and the predicted class go together, and how often the class is right.

    Attributes:
        cramers_v: V of attribute × predicted class.
        corrected: Bergsma's bias-corrected V.
        accuracy: share of the images whose class is right.
        interval: bootstrap interval of each of the three, by name.
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
        difference: after less before, for "cramers_v", "corrected" and "accuracy".
        interval: the paired bootstrap interval of each difference.
        draws, level, seed: of the bootstrap.
    """

    before: Association
    after: Association
    difference: dict[str, float]
    interval: dict[str, Interval]
    draws: int
    level: float
    seed: int


@dataclass(frozen=True)
class WithinClass:
    """The association that the true classes alone would give, were the predictions blind to the attribute.

    Attributes:
        observed: V of attribute × predicted class.
        expected: its mean when the attribute is given out anew at random within each true class.
        p: (1 + permutations with V at least the observed) / (1 + permutations).
        draws, seed: of the permutations.
    """

    observed: float
    expected: float
    p: float
    draws: int
    seed: int

    @property
    def excess(self) -> float:
        """How much of V the true classes do not account for: observed less expected."""
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
    attribute: Int[np.ndarray, "image"],
    labels: Int[np.ndarray, "image"],
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "image"],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> AssociationChange:
    """Compare two sets of predictions by their association with an attribute and by accuracy, pairwise.

    Args:
        attribute: the attribute's value of each image, as an index.
        labels: the true class of each image, as an index.
        before: predicted classes, as indices.
        after: predicted classes after a correction.
        draws: bootstrap resamples of the images.
        level: of the intervals.
        seed: the same seed gives the same intervals.

    Raises:
        MetricError: for columns of different lengths, no images, one attribute value alone, negative indices, fewer
            than two draws, or a level outside (0, 1).

    Limits: percentile intervals of V lie somewhat too high for small data, as V itself does; the corrected V does less.
    """
    check_level(level)
    if draws < 2:
        raise MetricError("two draws or more", str(draws), "Pass draws=1000, for example.")
    values, true, *predicted = _columns(attribute=attribute, labels=labels, before=before, after=after)
    n_values, n_classes = int(values.max()) + 1, int(max(column.max() for column in predicted)) + 1
    hits = [column == true for column in predicted]
    # Only cells that occur: a table of every combination would be classes² wide.
    cells, counts = np.unique(np.stack([values, *predicted, *hits]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=draws)
    observed = _measures(cells, counts[None].astype(float), n_values, n_classes)
    sampled = _measures(cells, drawn.astype(float), n_values, n_classes)

    def one(which: int) -> Association:
        values = {name: float(observed[name][which][0]) for name in _MEASURES}
        return Association(
            values["cramers_v"],
            values["corrected"],
            values["accuracy"],
            {name: interval(sampled[name][which], level) for name in _MEASURES},
        )

    return AssociationChange(
        one(0),
        one(1),
        {name: float(observed[name][1][0] - observed[name][0][0]) for name in _MEASURES},
        {name: interval(sampled[name][1] - sampled[name][0], level) for name in _MEASURES},
        draws,
        level,
        seed,
    )


def within_class(
    attribute: Int[np.ndarray, "image"],
    labels: Int[np.ndarray, "image"],
    predictions: Int[np.ndarray, "image"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> WithinClass:
    """Is the attribute associated with the predictions beyond what the true classes account for?

    Where an occupation is held by one gender mostly, right predictions alone make V large. The null keeps every image's
    class and prediction, and gives the attribute out anew within each class: what V exceeds then is the model's own.

    Args:
        attribute: the attribute's value of each image, as an index.
        labels: the true class of each image, as an index.
        predictions: the predicted class of each image, as an index.
        draws: permutations.
        seed: the same seed gives the same permutations.

    Raises:
        MetricError: as `association_change`.
    """
    if draws < 1:
        raise MetricError("one permutation or more", str(draws), "Pass draws=1000, for example.")
    values, true, predicted = _columns(attribute=attribute, labels=labels, predictions=predictions)
    n_values, n_classes = int(values.max()) + 1, int(max(true.max(), predicted.max())) + 1
    table = np.zeros((n_values, n_classes))
    np.add.at(table, (values, predicted), 1)
    generator = np.random.default_rng(seed)
    drawn = np.zeros((draws, n_values, n_classes))
    for label in np.unique(true):
        here = true == label
        drawn += _given_out_anew(
            generator,
            np.bincount(values[here], minlength=n_values),
            np.bincount(predicted[here], minlength=n_classes),
            draws,
        )
    observed, null = float(v_of_tables(table)), v_of_tables(drawn)
    # A permutation that gives the very same table must count as reaching it, whatever the last bit of its V.
    reached = int((null >= observed - 1e-12).sum())
    return WithinClass(observed, float(null.mean()), (1 + reached) / (1 + draws), draws, seed)


def _given_out_anew(
    generator: np.random.Generator,
    values: Int[np.ndarray, "value"],
    classes: Int[np.ndarray, "class"],
    draws: int,
) -> Float[np.ndarray, "draw value class"]:
    """Tables with both margins kept: the values' owners drawn one value after the other, without replacement."""
    left = np.broadcast_to(classes, (draws, len(classes))).copy()
    tables = np.zeros((draws, len(values), len(classes)))
    for value, count in enumerate(values[:-1]):
        drawn = np.zeros_like(left)
        wanted, rest = np.full(draws, count), left.sum(1)
        for column in np.flatnonzero(classes):
            rest = rest - left[:, column]
            drawn[:, column] = generator.hypergeometric(left[:, column], rest, wanted)
            wanted = wanted - drawn[:, column]
        tables[:, value] = drawn
        left -= drawn
    tables[:, -1] = left
    return tables


def _measures(
    cells: Int[np.ndarray, "column cell"], counts: Float[np.ndarray, "draw cell"], n_values: int, n_classes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    attribute, *both = cells
    measured: dict[str, list[np.ndarray]] = {name: [] for name in _MEASURES}
    for predicted, right in (both[0::2], both[1::2]):
        flat = np.zeros((len(counts), n_values * n_classes))
        for position in np.unique(place := attribute * n_classes + predicted):
            flat[:, position] = counts[:, place == position].sum(1)
        tables = flat.reshape(len(counts), n_values, n_classes)
        measured["cramers_v"].append(v_of_tables(tables))
        measured["corrected"].append(v_of_tables(tables, corrected=True))
        measured["accuracy"].append(counts[:, right == 1].sum(1) / counts.sum(1))
    return {name: (parts[0], parts[1]) for name, parts in measured.items()}


def _columns(**columns: np.ndarray) -> list[np.ndarray]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise MetricError(
            "columns of one length, one entry an image",
            ", ".join(f"{len(column)} {name}" for name, column in columns.items()),
            "Take all of them from the same images.",
        )
    for name, column in columns.items():
        if column.min() < 0:
            raise MetricError(f"{name} as indices from 0", str(column.min()), "Leave out images without one.")
    first = next(iter(columns))
    if len(np.unique(columns[first])) < 2:
        raise MetricError(
            "two attribute values or more among the images",
            f"value {columns[first][0]} alone",
            "Score a split that holds both.",
        )
    return list(columns.values())
