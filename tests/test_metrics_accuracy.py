"""Accuracy by group, evaluations and their bootstrap intervals."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import MetricError
from headlens.metrics import (
    Bootstrap,
    against_random,
    average_accuracy,
    demographic_parity_difference,
    equalized_odds_difference,
    evaluate,
    group_accuracy,
    group_names,
    paired_difference,
    worst_group,
)

PREDICTED = ["a", "a", "b", "b", "c", "a", "c"]
TRUE = ["a", "b", "b", "b", "c", "c", "c"]
GROUPS = ["x", "x", "x", "y", "y", "z", "z"]


def random_columns(seed, images=211, classes=3, groups=5, accuracy=0.7):
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    wrong = (labels + generator.integers(1, classes, size=images)) % classes
    return np.where(generator.random(images) < accuracy, labels, wrong), labels, generator.integers(groups, size=images)


def scored(columns, **options):
    predicted, labels, groups = columns
    return evaluate(labels, predicted, groups=groups, **options)


@pytest.mark.parametrize("prefix", ["", "ltc_"])
def test_golden_group_accuracy(golden, prefix):
    raw = golden("methods")
    predictions = raw[f"{prefix}pred"]
    found = group_accuracy(torch.from_numpy(raw["labels"]), torch.from_numpy(predictions), groups=raw["groups"])
    expected = {int(g): float(a) for g, a in raw[f"{prefix}group_accuracy"]}
    assert list(found.index) == sorted(expected)
    np.testing.assert_allclose(found.to_numpy(), [expected[g] for g in sorted(expected)], atol=2e-6)
    worst = worst_group(raw["labels"], predictions, groups=raw["groups"])
    assert worst == pytest.approx(min(expected.values()), abs=2e-6)
    average = average_accuracy(raw["labels"], predictions, groups=raw["groups"])
    assert average == pytest.approx(float(raw[f"{prefix}accuracy"]), abs=2e-6)


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical, tuple])
def test_columns_in_any_form(form):
    found = group_accuracy(form(TRUE), form(PREDICTED), groups=form(GROUPS))
    assert found.to_dict() == {"x": 2 / 3, "y": 1.0, "z": 0.5}
    assert found.name == "accuracy" and found.index.name == "group"
    assert worst_group(form(TRUE), form(PREDICTED), groups=form(GROUPS)) == 0.5


def test_averages():
    assert average_accuracy(TRUE, PREDICTED, groups=GROUPS) == pytest.approx(5 / 7)
    assert average_accuracy(TRUE, PREDICTED, groups=GROUPS, weighting="groups") == pytest.approx(
        (2 / 3 + 1 + 1 / 2) / 3
    )
    shares = {"x": 3, "y": 0, "z": 1}
    assert average_accuracy(TRUE, PREDICTED, groups=GROUPS, weighting=shares) == pytest.approx(0.75 * 2 / 3 + 0.25 / 2)


def test_group_names():
    names = group_names(pd.Series(["landbird", "waterbird"]), np.array(["water", "land"]))
    assert names.tolist() == ["landbird/water", "waterbird/land"]


def test_evaluation_by_hand():
    found = evaluate(TRUE, PREDICTED, groups=GROUPS, method="zero-shot")
    assert (found.method, found.worst_group, found.sizes) == ("zero-shot", 0.5, {"x": 3, "y": 2, "z": 2})
    assert found.average == pytest.approx(5 / 7) and found.gap == pytest.approx(5 / 7 - 0.5)
    assert found.groups == {"x": pytest.approx(2 / 3), "y": 1.0, "z": 0.5}
    assert set(found.interval) == {"average", "worst_group", "gap", "groups.x", "groups.y", "groups.z"}
    assert found.small == ("x", "y", "z") and found.interval["groups.y"] == pytest.approx((0.025**0.5, 1.0))
    assert found.table()["measure"].tolist() == ["average", "worst_group", "gap", "x", "y", "z"]
    assert "zero-shot" in found._repr_html_() and "worst group" in found._repr_html_()


def test_small_groups_are_marked():
    groups = ["big"] * 30 + ["small"] * 29
    assert evaluate([0] * 59, [0] * 59, groups=groups).small == ("small",)


def test_evaluation_as_json():
    found = scored(random_columns(0))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["groups"] == found.groups and plain["interval"]["gap"] == list(found.interval["gap"])


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_evaluation_agrees_with_the_single_measures(seed):
    columns = random_columns(seed)
    found = scored(columns)
    predicted, labels, groups = columns
    accuracy = group_accuracy(labels, predicted, groups=groups)
    assert found.groups == {str(g): a for g, a in accuracy.items()}
    assert found.worst_group == worst_group(labels, predicted, groups=groups) == accuracy.min()
    assert found.average == pytest.approx(np.mean(predicted == labels))
    assert found.gap == found.average - found.worst_group
    order = np.random.default_rng(seed).permutation(211)
    moved = scored([c[order] for c in columns])
    assert moved.interval == found.interval


@pytest.mark.parametrize("weighting", ["images", "groups", {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}])
def test_intervals_of_averages_are_about_those_of_drawing_images(weighting):
    columns = random_columns(3, images=997)
    found = scored(columns, weighting=weighting)
    generator = np.random.default_rng(1)
    samples = []
    for _ in range(300):
        rows = generator.integers(997, size=997)
        correct = pd.Series(columns[0][rows] == columns[1][rows]).groupby(columns[2][rows]).mean()
        weights = (
            np.ones(5)
            if weighting == "groups"
            else [weighting[g] for g in correct.index]
            if isinstance(weighting, dict)
            else None
        )
        average = (
            (columns[0][rows] == columns[1][rows]).mean() if weights is None else np.average(correct, weights=weights)
        )
        samples.append((average, correct[2]))
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    for i, name in enumerate(("average", "groups.2")):
        np.testing.assert_allclose(found.interval[name], (low[i], high[i]), atol=0.02, err_msg=name)


def test_intervals_shrink_with_images_and_with_the_level():
    few, many = (scored(random_columns(0, images=n)) for n in (97, 1999))
    width = {one: one_high - one_low for one, (one_low, one_high) in (("few", few.interval["average"]),)}
    low, high = many.interval["average"]
    assert high - low < width["few"] / 3
    half = scored(random_columns(0, images=97), level=0.5)
    assert half.interval["average"][1] - half.interval["average"][0] < width["few"]


def test_one_image_says_little():
    found = evaluate([0] * 40 + [1], [0] * 41, groups=["a"] * 40 + ["b"])
    assert found.interval["groups.b"] == pytest.approx((0.0, 0.975))
    low, high = found.interval["worst_group"]
    assert low == 0 and high > 0.9
    assert all(np.isfinite(ends).all() for ends in found.interval.values())


def test_paired_difference_by_hand_and_pairing():
    first, labels, groups = random_columns(5, images=401)
    second = first.copy()
    second[:40] = labels[:40]
    found = paired_difference(labels, second, baseline=first, groups=groups)
    assert found.difference["average"] == pytest.approx((second == labels).mean() - (first == labels).mean())
    assert found.difference["groups.3"] == pytest.approx(
        np.subtract(*(group_accuracy(labels, p, groups=groups)[3] for p in (second, first)))
    )
    # The second is never worse on any image.
    low, high = found.interval["average"]
    assert 0 < low < found.difference["average"] < high
    one, two = (scored((p, labels, groups)) for p in (first, second))
    unpaired = (two.interval["average"][1] - two.interval["average"][0]) + (
        one.interval["average"][1] - one.interval["average"][0]
    )
    assert high - low < unpaired / 2
    assert found.table()["measure"].tolist()[:3] == ["average", "worst_group", "gap"]
    assert "average" in found._repr_html_()


def test_no_difference_is_none_and_as_sure_as_the_images_allow():
    first, labels, groups = random_columns(5)
    found = paired_difference(labels, first, baseline=first, groups=groups, weighting=dict.fromkeys(range(5), 1))
    assert set(found.difference.values()) == {0.0}
    assert all(low < 0 < high for low, high in found.interval.values())
    assert found.interval["average"][1] < 0.1 and found.interval["worst_group"][0] > -0.1


def test_against_random_by_hand():
    found = against_random(0.8, [0.2, 0.4, 0.6])
    assert (found.mean, found.best, found.n) == (pytest.approx(0.4), 0.6, 3)
    assert found.z == pytest.approx(2.0) and found.p == 0.25
    assert against_random(0.6, [0.2, 0.4, 0.6]).p == 0.5  # a tie counts against the observed value
    assert np.isnan(against_random(0.5, [0.4]).z)
    for controls in ([], [float("nan")]):
        with pytest.raises(MetricError, match=r"no control|not finite"):
            against_random(0.5, controls)


def test_fairness_differences_by_hand():
    predicted, attribute = [1, 1, 0, 0, 1, 0, 0, 0], list("ffffmmmm")
    assert demographic_parity_difference(predicted, predicted, attribute=attribute, positive=1) == pytest.approx(0.25)
    labels = [1, 0, 1, 0, 1, 1, 0, 0]
    # True positive rates 1/2 and 1/2, false positive rates 1/2 and 0.
    assert equalized_odds_difference(labels, predicted, attribute=attribute, positive=1) == pytest.approx(0.5)
    with pytest.raises(MetricError, match="Value 'm' does not have both"):
        equalized_odds_difference([1, 0, 1, 0, 1, 1, 1, 1], predicted, attribute=attribute, positive=1)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (([0, 1], [0, 1, 1], ["a", "b", "a"]), "differ in length"),
        (([], [], []), "or are empty"),
        ((["a", None], ["a", "b"], ["x", "y"]), "`y_pred` lacks 1 values"),
        ((["a", float("nan")], ["a", "b"], ["x", "y"]), "`y_pred` lacks 1 values"),
        (([[0], [1]], [0, 1], ["x", "y"]), "one value an image"),
        (([0.0, float("nan")], [0, 1], ["x", "y"]), "`y_pred` lacks 1 values"),
        (([0, 1], ["a", "b"], ["x", "y"]), "names in one and numbers"),
        ((np.zeros((2, 1)), [0, 1], ["x", "y"]), "one value an image"),
    ],
)
def test_unusable_columns(columns, match):
    predicted, labels, groups = columns
    for measure in (group_accuracy, worst_group, evaluate):
        with pytest.raises(MetricError, match=match):
            measure(labels, predicted, groups=groups)
    with pytest.raises(MetricError, match=match.replace("y_pred", "y_pred")):
        paired_difference(labels, labels, baseline=predicted, groups=groups)


@pytest.mark.parametrize(
    ("weighting", "match"),
    [
        ({"x": 1}, "'y' has no share"),
        ({"x": -1, "y": 1, "z": 1}, "below zero"),
        (dict.fromkeys("xyz", 0), "zero"),
    ],
)
def test_unusable_shares(weighting, match):
    with pytest.raises(MetricError, match=match):
        average_accuracy(TRUE, PREDICTED, groups=GROUPS, weighting=weighting)


@pytest.mark.parametrize(("options", "match"), [({"n_bootstrap": 1}, "no interval"), ({"level": 0.0}, "not between")])
def test_unusable_bootstrap(options, match):
    with pytest.raises(MetricError, match=match):
        Bootstrap(**options)


def test_unusable_levels():
    with pytest.raises(MetricError, match="not between"):
        evaluate(TRUE, PREDICTED, groups=GROUPS, level=1.0)
    with pytest.raises(MetricError, match="not between"):
        paired_difference(TRUE, PREDICTED, baseline=TRUE, groups=GROUPS, level=0.0)


def test_two_predictions_an_image():
    with pytest.raises(MetricError, match="differ in length"):
        paired_difference(TRUE, PREDICTED[:-1], baseline=PREDICTED, groups=GROUPS)
