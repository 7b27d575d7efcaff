"""Dependence within classes: T and D by hand, by permuting and drawing images, and what V gets wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kstest

from headlens.errors import MetricError
from headlens.metrics import (
    Bootstrap,
    PredictionStatistics,
    cramers_v,
    dependence,
    dependence_change,
    group_accuracy,
    permute_attribute,
)


def world(seed=0, images=307, classes=3, values=2, bias=0.3):
    generator = np.random.default_rng(seed)
    labels, attribute = generator.integers(classes, size=images), generator.integers(values, size=images)
    clean = np.where(generator.random(images) < 0.8, labels, generator.integers(classes, size=images))
    biased = np.where(generator.random(images) < bias, attribute % classes, clean)
    return labels, attribute, biased, clean


def by_hand(labels, attribute, predicted):
    t = d = 0.0
    for label in np.unique(labels):
        here = labels == label
        n, table = here.sum(), np.zeros((attribute.max() + 1, predicted.max() + 1))
        np.add.at(table, (attribute[here], predicted[here]), 1)
        table = table[table.any(1)][:, table.any(0)]
        chi2 = chi2_contingency(table, correction=False).statistic if min(table.shape) > 1 else 0.0
        t += chi2
        d += n / len(labels) * (chi2 / n - (table.shape[0] - 1) * (table.shape[1] - 1) / (n - 1))
    return t, d


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 3))
def test_t_and_d_are_their_formulas(seed, classes, values):
    labels, attribute, biased, _ = world(seed, 97, classes, values)
    found = dependence(labels, biased, attribute=attribute, n_permutations=3)
    assert (found.t, found.d) == pytest.approx(by_hand(labels, attribute, biased), abs=1e-9)


def test_p_is_that_of_permuting_the_images():
    labels, attribute, predicted, _ = world(3, 83, bias=0.1)
    found = dependence(labels, predicted, attribute=attribute, n_permutations=4000)
    generator = np.random.default_rng(1)
    drawn = [by_hand(labels, permute_attribute(labels, attribute, None, generator), predicted)[0] for _ in range(150)]
    p = np.mean(np.array(drawn) >= found.t - 1e-9)
    assert found.p == pytest.approx(p, abs=3 * (p * (1 - p) / 150) ** 0.5 + 0.01)
    assert found.expected == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 150**0.5)


def test_p_values_are_even_where_the_model_is_blind():
    p = [dependence(*world(seed, 151)[::3], attribute=world(seed, 151)[1], n_permutations=99).p for seed in range(80)]
    assert kstest(p, "uniform").pvalue > 1e-3 and np.mean(np.array(p) <= 0.05) <= 0.12


def test_a_bias_against_the_data_is_shown_and_lowers_v():
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=2000)
    attribute = np.where(generator.random(2000) < 0.85, labels, 1 - labels)
    # The model leans to the class that the attribute does *not* mostly go with.
    predicted = np.where(generator.random(2000) < 0.25, 1 - attribute, labels)
    found = dependence(labels, predicted, attribute=attribute, n_permutations=199)
    assert found.p == 1 / 200 and found.d > 0.01
    assert cramers_v(attribute, predicted) < cramers_v(attribute, labels)


def test_gaps_that_oppose_each_other_do_not_cancel():
    generator = np.random.default_rng(1)
    labels, attribute = generator.integers(2, size=1500), generator.integers(2, size=1500)
    correct = generator.random(1500) < np.where(labels == attribute, 0.9, 0.6)
    predicted = np.where(correct, labels, 1 - labels)
    found = dependence(labels, predicted, attribute=attribute, n_permutations=199)
    assert found.p == 1 / 200 and abs(found.gap) < 0.05
    assert found.gap_by_class["0"] < -0.2 and found.gap_by_class["1"] > 0.2


def test_losing_accuracy_does_not_remove_dependence():
    """Two class heads ablated: V falls by most of its excess, the gaps within classes double, and D grows."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=4000)
    attribute = np.where(generator.random(4000) < 0.8, labels, 1 - labels)
    noise = generator.normal(size=4000)
    before, after = (
        (weight * (2 * labels - 1) + 0.6 * (2 * attribute - 1) + noise > 0).astype(int) for weight in (1.3, 0.2)
    )
    assert cramers_v(attribute, after) < cramers_v(attribute, before)
    found = dependence_change(labels, after, baseline=before, attribute=attribute, bootstrap=Bootstrap(200))
    assert found.removed < 0 and found.interval[0] < 0 and found.share < 0 and found.share_interval[1] < 0.2


def test_what_is_removed_by_hand_and_its_interval():
    labels, attribute, biased, clean = world(5, 1200)
    found = dependence_change(labels, clean, baseline=biased, attribute=attribute, bootstrap=Bootstrap(300))
    assert found.before == pytest.approx(by_hand(labels, attribute, biased)[1])
    assert found.after == pytest.approx(by_hand(labels, attribute, clean)[1])
    assert found.removed == found.before - found.after and found.share == pytest.approx(1 - found.after / found.before)
    low, high = found.interval
    assert 0 < low < found.removed < high
    generator = np.random.default_rng(2)
    slow = []
    for _ in range(150):
        rows = generator.integers(1200, size=1200)
        one = [by_hand(labels[rows], attribute[rows], predicted[rows])[1] for predicted in (biased, clean)]
        slow.append(one[0] - one[1])
    assert found.interval == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.25 * (high - low))
    same = dependence_change(labels, biased, baseline=biased, attribute=attribute, bootstrap=Bootstrap(20))
    assert same.removed == 0 and same.interval == (0, 0) and same.share == 0


def test_no_dependence_has_no_share():
    labels, attribute = np.arange(40) % 2, np.arange(40) // 2 % 2
    found = dependence_change(labels, labels, baseline=labels, attribute=attribute, bootstrap=Bootstrap(20))
    assert found.before <= 0 and found.share is None and found.share_interval is None


# ---- clusters -------------------------------------------------------------------------------------------------------


def test_the_detectable_dependence_is_found_with_eighty_per_cent_power():
    n = 400
    labels, attribute = np.arange(n) % 2, np.arange(n) // 2 % 2
    d = dependence(labels, labels, attribute=attribute, n_permutations=1).detectable
    assert d == float("inf")  # nothing varies
    noise = np.random.default_rng(0).integers(0, 2, n)
    d = dependence(labels, noise, attribute=attribute, n_permutations=1).detectable
    assert d == pytest.approx(9.635 / n, rel=1e-3)  # Cohen 1988: λ of a χ² test of 2 degrees of freedom
    shift, found = d**0.5 / 2, []
    for seed in range(120):
        generator = np.random.default_rng(seed)
        predicted = generator.random(n) < 0.5 + shift * np.where(attribute == 1, 1, -1)
        found.append(dependence(labels, predicted.astype(int), attribute=attribute, n_permutations=199).p <= 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.12)


def test_clusters_of_one_value_exchange_it_whole():
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1])
    clusters = np.array([4, 4, 2, 2, 7, 7, 9, 9, 9])
    values = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    seen = set()
    for seed in range(40):
        moved = permute_attribute(labels, values, clusters, np.random.default_rng(seed))
        assert all(len(set(moved[clusters == one])) == 1 for one in (2, 4, 7, 9))
        assert sorted(moved[[0, 4]]) == [0, 1] and sorted(moved[[2, 6]]) == [0, 1]  # among clusters of the same class
        seen.add(tuple(moved))
    assert len(seen) == 4


def test_values_that_vary_within_clusters_move_within_them():
    labels, clusters = np.array([0, 0, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 1, 1])
    values = np.array([0, 1, 0, 1, 1, 1, 0])
    for seed in range(20):
        moved = permute_attribute(labels, values, clusters, np.random.default_rng(seed))
        assert [sorted(moved[rows]) for rows in ([0, 1], [2, 3], [4, 5, 6])] == [[0, 1], [0, 1], [0, 1, 1]]


def test_images_of_one_person_are_no_independent_evidence():
    """Mistakes that persons share: with 25 of them, the attribute goes with mistakes by chance far too often."""
    small = {True: 0, False: 0}
    for seed in range(20):
        generator = np.random.default_rng(seed)
        person = np.repeat(np.arange(24), 8)
        attribute, labels = generator.integers(2, size=24)[person], np.zeros(192, int)
        predicted = (generator.random(24) < 0.4).astype(int)[person]
        for known in small:
            found = dependence(
                labels, predicted, attribute=attribute, cluster=person if known else None, n_permutations=19
            )
            small[known] += found.p <= 0.05
    assert small[True] <= 4 and small[False] > 7


# ---- many sets of predictions ---------------------------------------------------------------------------------------


def test_statistics_of_predictions_are_the_measures():
    labels, attribute, biased, clean = world(7, 157)
    groups = np.array([f"{c}/{v}" for c, v in zip(labels, attribute, strict=True)])
    measure = PredictionStatistics(labels, attribute, groups=groups, bootstrap=Bootstrap(50, seed=3))
    for predicted in (biased, clean):
        found = measure(predicted)
        accuracy = group_accuracy(labels, predicted, groups=groups)
        assert found["worst_group"][0] == pytest.approx(accuracy.min())
        assert {name: found[f"groups.{name}"][0] for name in measure.groups} == pytest.approx(accuracy.to_dict())
        assert found["average"][0] == pytest.approx((predicted == labels).mean())
        assert found["cramers_v"][0] == pytest.approx(cramers_v(attribute, predicted))
        assert found["corrected"][0] == pytest.approx(cramers_v(attribute, predicted, corrected=True))
        assert found["dependence"][0] == pytest.approx(by_hand(labels, attribute, predicted)[1])
        assert {len(samples) for samples in found.values()} == {51}
    # The same resamples for every set: what does not differ between two predictions differs in no resample.
    one, other = measure(biased), measure(np.where(labels == 0, biased, clean))
    np.testing.assert_allclose(one["groups.0/1"], other["groups.0/1"])
    rows = np.random.default_rng(3).multinomial(157, np.full(157, 1 / 157), 50)
    np.testing.assert_allclose(one["average"][1:], (rows * (biased == labels)).sum(1) / 157)
    assert {len(samples) for samples in PredictionStatistics(labels, attribute)(clean).values()} == {1}


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dependence([0, 1], [0, 1], attribute=["a", "a"]), "attribute value 'a'"),
        (lambda: dependence([0, 1], [0, 1], attribute=["a", "b"]), "No class has images of both"),
        (lambda: dependence([0, 1], [0], attribute=["a", "b"]), "differ in length"),
        (lambda: dependence([0, 0], [0, 1], attribute=["a", "b"], n_permutations=0), "0 permutations"),
        (lambda: dependence([0, 0], [0, 1], attribute=["a", "b"], cluster=["x"]), "differ in length"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(MetricError, match=match) as caught:
        call()
    assert caught.value.remedy
