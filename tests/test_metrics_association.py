"""Bootstrap and permutation of Cramér's V from tables: equal to what drawing the images themselves would give."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ks_2samp, kstest

from headlens.errors import MetricError
from headlens.metrics import Bootstrap, association_change, cramers_v, v_of_tables, within_class
from headlens.metrics.association import permuted_tables


def columns(table):
    """One entry an image from counts [row, column]."""
    rows, places = np.indices(table.shape)
    return np.repeat(rows.ravel(), table.ravel()), np.repeat(places.ravel(), table.ravel())


def world(seed=0, images=211, values=2, classes=5, bias=0.4):
    """Attribute, labels, and predictions before and after: before leans to the attribute's own class."""
    rng = np.random.default_rng(seed)
    attribute, labels = rng.integers(values, size=images), rng.integers(classes, size=images)
    before = np.where(rng.random(images) < bias, attribute, labels)
    after = np.where(rng.random(images) < 0.8, labels, rng.integers(classes, size=images))
    return attribute, labels, before, after


FEW = Bootstrap(20)


def change_of(inputs, bootstrap=FEW):
    attribute, labels, before, after = inputs
    return association_change(labels, after, baseline=before, attribute=attribute, bootstrap=bootstrap)


def within(attribute, labels, predicted, n_permutations, seed=0):
    return within_class(labels, predicted, attribute=attribute, n_permutations=n_permutations, seed=seed)


# ---- V of many tables -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    table=arrays(np.int64, st.tuples(st.integers(2, 4), st.integers(1, 5)), elements=st.integers(0, 7)),
    corrected=st.booleans(),
)
def test_v_of_a_table_equals_v_of_its_images(table, corrected):
    assume((table.sum(1) > 0).sum() >= 2)
    value = float(v_of_tables(table.astype(float), corrected=corrected))
    assert value == pytest.approx(cramers_v(*columns(table), corrected=corrected), abs=1e-9)
    # Plain V ends at 1; Bergsma's form may exceed it by rounding alone.
    assert 0 <= value <= 1 + 1e-9


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), corrected=st.booleans())
def test_many_tables_at_once_and_empty_rows_and_columns(seed, corrected):
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, 9, (2, 7, 3, 5)).astype(float)
    whole = v_of_tables(tables, corrected=corrected)
    assert whole.shape == (2, 7)
    for place in np.ndindex(2, 7):
        assert whole[place] == v_of_tables(tables[place], corrected=corrected)
    padded = np.zeros((2, 7, 5, 11))
    padded[..., 1:4, [0, 2, 3, 7, 10]] = tables
    np.testing.assert_allclose(v_of_tables(padded, corrected=corrected), whole, atol=1e-12)
    turned = v_of_tables(tables.swapaxes(-1, -2), corrected=corrected)
    np.testing.assert_allclose(turned, whole, atol=1e-12)


@pytest.mark.parametrize("corrected", [False, True])
def test_tables_by_hand(corrected):
    none, one_row, one_column = np.zeros((2, 3)), np.array([[3.0, 4, 0], [0, 0, 0]]), np.array([[3.0, 0], [5, 0]])
    independent, single = np.array([[2.0, 4], [3, 6]]), np.array([[1.0, 0], [0, 0]])
    for table in (none, one_row, one_column, independent, single):
        assert v_of_tables(table, corrected=corrected) == 0
    assert v_of_tables(np.diag([4.0, 5, 6]), corrected=corrected) == pytest.approx(1)


def test_v_by_hand():
    # χ² = 20 · (8·6 − 2·4)² / (10·10·12·8) = 10/3 over 20 images: V = sqrt(1/6).
    assert float(v_of_tables(np.array([[8.0, 2], [4, 6]]))) == pytest.approx((1 / 6) ** 0.5)


# ---- before and after -----------------------------------------------------------------------------------------------


def test_observed_values_are_the_measures():
    attribute, labels, before, after = world(values=3)
    change = change_of((attribute, labels, before, after), Bootstrap(50))
    for found, predicted in ((change.before, before), (change.after, after)):
        assert found.cramers_v == pytest.approx(cramers_v(attribute, predicted))
        assert found.corrected == pytest.approx(cramers_v(attribute, predicted, corrected=True))
        assert found.accuracy == pytest.approx((predicted == labels).mean())
    assert change.difference == pytest.approx(
        {
            name: getattr(change.after, name) - getattr(change.before, name)
            for name in ("cramers_v", "corrected", "accuracy")
        }
    )
    assert (change.n_bootstrap, change.level, change.seed) == (50, 0.95, 0)


def test_agrees_with_drawing_images():
    attribute, labels, before, after = world(seed=2, images=151, values=3)
    rng = np.random.default_rng(5)
    drawn = {name: [] for name in ("cramers_v", "corrected", "accuracy")}
    for _ in range(400):
        rows = rng.integers(151, size=151)
        a, y, b, c = attribute[rows], labels[rows], before[rows], after[rows]
        tables = np.zeros((2, 3, 5))
        np.add.at(tables, (0, a, b), 1)
        np.add.at(tables, (1, a, c), 1)
        drawn["cramers_v"].append(np.diff(v_of_tables(tables))[0])
        drawn["corrected"].append(np.diff(v_of_tables(tables, corrected=True))[0])
        drawn["accuracy"].append((c == y).mean() - (b == y).mean())
    change = change_of((attribute, labels, before, after), Bootstrap(4000))
    for name, values in drawn.items():
        # The ends of 95 % intervals of 400 draws vary by about a seventh of their width.
        low, high = np.percentile(values, [2.5, 97.5])
        allowed = 0.2 * (high - low)
        assert change.interval[name] == pytest.approx((low, high), abs=allowed)
        assert change.interval[name][0] <= np.median(values) <= change.interval[name][1]


def test_the_pairing_is_kept():
    attribute, labels, before, _ = world(seed=4)
    same = change_of((attribute, labels, before, before), Bootstrap(200))
    assert set(same.interval.values()) == {(0.0, 0.0)} and set(same.difference.values()) == {0.0}
    assert same.before == same.after and same.before.interval["accuracy"][0] < same.before.accuracy
    rng = np.random.default_rng(0)
    other = rng.permutation(len(before))  # as far from it as from a stranger
    unpaired = change_of((attribute, labels, before, before[other]), Bootstrap(200))
    low, high = unpaired.interval["accuracy"]
    assert high - low > 0.05


def test_level_and_seed():
    inputs = world(seed=6)
    narrow, wide = (change_of(inputs, Bootstrap(500, level)) for level in (0.5, 0.99))
    for name in narrow.interval:
        assert wide.interval[name][0] < narrow.interval[name][0] < narrow.interval[name][1] < wide.interval[name][1]
    one, same, other = (change_of(inputs, Bootstrap(20, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), values=st.integers(2, 3))
def test_neither_order_nor_names_matter(seed, values):
    inputs = world(seed, images=67, values=values)
    rng = np.random.default_rng(seed)
    rows, classes = rng.permutation(67), rng.permutation(7)
    attribute, *rest = (column[rows] for column in inputs)
    moved = change_of((2 * attribute, *(classes[column] for column in rest)))
    found = change_of(inputs)
    assert moved.difference == pytest.approx(found.difference, abs=1e-12)
    assert moved.before.cramers_v == pytest.approx(found.before.cramers_v, abs=1e-12)


# ---- within the true classes ----------------------------------------------------------------------------------------


def test_labels_alone_make_v_large():
    """A perfect model of occupations that the values hold unevenly: V is large, and nothing is the model's own."""
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=600)
    attribute = (rng.random(600) < np.array([0.05, 0.2, 0.5, 0.8, 0.95])[labels]).astype(int)
    perfect = within(attribute, labels, labels, 200)
    assert perfect.observed > 0.6 and perfect.expected == pytest.approx(perfect.observed)
    assert perfect.p == 1 and abs(perfect.excess) < 1e-9
    # The same model, a third of whose predictions follow the attribute.
    biased = np.where(rng.random(600) < 0.33, 4 * attribute, labels)
    found = within(attribute, labels, biased, 200)
    assert found.p == 1 / 201 and found.excess == pytest.approx(found.observed - found.expected) and found.excess > 0.1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), values=st.integers(2, 4))
def test_margins_are_kept(seed, values):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 6, 5)
    owners = rng.multinomial(classes.sum(), np.full(values, 1 / values))
    tables = permuted_tables(rng, owners, classes, 23)
    assert (tables >= 0).all() and tables.shape == (23, values, 5)
    assert (tables.sum(1) == classes).all() and (tables.sum(2) == owners).all()


def test_agrees_with_permuting_the_images():
    attribute, labels, before, _ = world(seed=8, images=97, values=3, classes=3)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        shuffled = attribute.copy()
        for label in range(3):
            here = np.flatnonzero(labels == label)
            shuffled[here] = attribute[rng.permutation(here)]
        table = np.zeros((3, 3))
        np.add.at(table, (shuffled, before), 1)
        drawn.append(float(v_of_tables(table)))
    found = within(attribute, labels, before, 2000)
    assert found.expected == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 600**0.5)
    # And the whole distribution, from the same cells.
    tables = sum(
        permuted_tables(
            np.random.default_rng(label),
            np.bincount(attribute[labels == label], minlength=3),
            np.bincount(before[labels == label], minlength=3),
            2000,
        )
        for label in range(3)
    )
    assert ks_2samp(v_of_tables(tables), drawn).pvalue > 1e-3


def test_p_values_are_even_where_the_model_is_blind():
    values = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        labels = rng.integers(3, size=251)
        attribute = (rng.random(251) < np.array([0.2, 0.5, 0.8])[labels]).astype(int)
        blind = np.where(rng.random(251) < 0.6, labels, rng.integers(3, size=251))
        values.append(within(attribute, labels, blind, 99, seed).p)
    assert kstest(values, "uniform").pvalue > 1e-3
    assert np.mean(np.array(values) <= 0.05) < 0.11


def test_the_permutations_follow_the_seed():
    attribute, labels, before, _ = world(seed=3)
    one, same, other = (within(attribute, labels, before, 30, s) for s in (1, 1, 2))
    assert one == same and one != other


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"attribute": np.zeros(7, int)}, "attribute value 0"),
        ({"y_true": np.arange(7) - 1}, "`y_true` holds -1"),
        ({name: np.zeros(0, int) for name in ("attribute", "y_true", "baseline", "y_pred")}, "or are empty"),
    ],
)
def test_changes_that_are_refused(change, match):
    arguments = {name: np.arange(7) % 2 for name in ("attribute", "y_true", "baseline", "y_pred")} | change
    with pytest.raises(MetricError, match=match) as caught:
        association_change(**arguments)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "match"),
    [({"n_permutations": 0}, "0 permutations"), ({"attribute": np.ones(7, int)}, "attribute value 1")],
)
def test_permutations_that_are_refused(change, match):
    arguments = {name: np.arange(7) % 2 for name in ("attribute", "y_true", "y_pred")} | change
    with pytest.raises(MetricError, match=match):
        within_class(**arguments)


@pytest.mark.usefixtures("without_shape_checks")
def test_columns_of_different_lengths():
    with pytest.raises(MetricError, match="7 attribute, 6 y_true, 7 baseline, 7 y_pred"):
        change_of((np.arange(7) % 2, np.arange(6), np.arange(7), np.arange(7)))
