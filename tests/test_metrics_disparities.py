"""Gaps between two values of an attribute, retrieval, and collateral: by hand, by slow bootstraps, and refusals."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import MetricError
from headlens.metrics import (
    Bootstrap,
    collateral,
    group_accuracy,
    max_skew,
    occupation_gap,
    retrieval_recall,
    retrieval_skew,
    skew,
    value_gap,
)

# Two nurses and two cooks of each presentation: nurses right for 2 and 1, cooks for 0 and 2.
LABELS = ["nurse"] * 4 + ["cook"] * 4
SHOWN = ["fem", "fem", "masc", "masc"] * 2
RIGHT = ["nurse", "nurse", "nurse", "cook", "nurse", "nurse", "cook", "cook"]


def random_columns(seed, images=211, classes=3):
    rng = np.random.default_rng(seed)
    labels, values = rng.integers(classes, size=images), rng.integers(2, size=images)
    first, second = (np.where(rng.random(images) < 0.7, labels, (labels + 1) % classes) for _ in range(2))
    return labels, values, first, second


# ---- occupation gap -------------------------------------------------------------------------------------------------


def test_the_occupation_gap_by_hand():
    found = occupation_gap(LABELS, RIGHT, attribute=SHOWN, n_worst=1, bootstrap=Bootstrap(50))
    assert found.values == {"overall": 0.75, "worst": 1.0, "class.cook": -1.0, "class.nurse": 0.5}
    assert found.sizes == {"cook/fem": 2, "cook/masc": 2, "nurse/fem": 2, "nurse/masc": 2}
    assert found.small == tuple(found.sizes) and not found.difference
    assert list(found.table().columns) == ["measure", "value", "low", "high"]
    assert json.loads(json.dumps(found.to_dict()))["values"]["worst"] == 1.0
    assert "overall" in found._repr_html_()


def test_the_worst_are_those_of_the_baseline():
    baseline = ["nurse", "nurse", "cook", "cook", "cook", "cook", "cook", "cook"]  # nurses differ most
    found = occupation_gap(LABELS, RIGHT, attribute=SHOWN, baseline=baseline, n_worst=1, bootstrap=Bootstrap(50))
    assert found.values["worst"] == 0.5 and found.values["class.nurse"] == 0.5
    assert found.difference == {"overall": 0.25, "worst": -0.5, "class.cook": -1.0, "class.nurse": -0.5}
    assert list(found.table().columns)[-3:] == ["difference", "difference_low", "difference_high"]
    assert occupation_gap(LABELS, RIGHT, attribute=SHOWN, n_worst=99, bootstrap=Bootstrap(9)).values["worst"] == 0.75


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_the_occupation_gap_is_the_mean_of_differences(seed):
    labels, values, first, second = random_columns(seed)
    found = occupation_gap(labels, second, attribute=values, baseline=first, n_worst=2, bootstrap=Bootstrap(20))
    gaps = {}
    for name, predictions in (("first", first), ("second", second)):
        accuracy = group_accuracy(labels, predictions, groups=[f"{a}/{b}" for a, b in zip(labels, values, strict=True)])
        gaps[name] = np.asarray([accuracy[f"{c}/0"] - accuracy[f"{c}/1"] for c in range(3)])
    worst = np.argsort(-np.abs(gaps["first"]), kind="stable")[:2]
    assert found.values["overall"] == pytest.approx(np.abs(gaps["second"]).mean())
    assert found.values["worst"] == pytest.approx(np.abs(gaps["second"])[worst].mean())
    change = np.abs(gaps["second"]).mean() - np.abs(gaps["first"]).mean()
    assert found.difference["overall"] == pytest.approx(change)
    same = occupation_gap(labels, first, attribute=values, baseline=first, bootstrap=Bootstrap(20))
    assert set(same.difference.values()) == {0.0} and set(same.difference_interval.values()) == {(0.0, 0.0)}


def test_intervals_are_those_of_a_bootstrap_over_images():
    labels, values, first, second = random_columns(3, images=307, classes=2)
    found = occupation_gap(labels, second, attribute=values, baseline=first, bootstrap=Bootstrap(3000))
    rng = np.random.default_rng(1)
    slow = []

    def gap(right, rows, c):
        return abs(np.subtract(*[right[rows][(labels[rows] == c) & (values[rows] == v)].mean() for v in (0, 1)]))

    for _ in range(800):
        rows = rng.integers(307, size=307)
        one, two = (np.mean([gap(p == labels, rows, c) for c in (0, 1)]) for p in (first, second))
        slow.append((two, two - one))
    for ends, column in ((found.interval["overall"], 0), (found.difference_interval["overall"], 1)):
        np.testing.assert_allclose(ends, np.percentile(np.asarray(slow)[:, column], [2.5, 97.5]), atol=0.02)


# ---- common − counter -----------------------------------------------------------------------------------------------


def test_the_common_counter_gap_by_hand():
    labels = ["bear"] * 4 + ["seal"] * 2
    where = ["common", "common", "common", "counter", "common", "counter"]
    said = ["bear", "bear", "seal", "seal", "seal", "seal"]
    found = value_gap(labels, said, attribute=where, bootstrap=Bootstrap(50))
    assert found.values == {"common": 0.75, "counter": 0.5, "gap": 0.25}
    assert found.sizes == {"common": 4, "counter": 2}
    by_class = value_gap(labels, said, attribute=where, over="classes", bootstrap=Bootstrap(50))
    assert by_class.values == pytest.approx({"common": (2 / 3 + 1) / 2, "counter": 0.5, "gap": (2 / 3 + 1) / 2 - 0.5})
    turned = value_gap(labels, said, attribute=where, values=("counter", "common"), bootstrap=Bootstrap(50))
    assert turned.values["gap"] == -0.25


def test_other_values_are_left_out_and_a_class_may_lack_one():
    labels, where = ["a", "a", "b", "c"], ["common", "counter", "common", "indoors"]
    found = value_gap(
        labels, ["a", "b", "b", "c"], attribute=where, over="classes", baseline=["a"] * 4, bootstrap=Bootstrap(50)
    )
    assert found.values == {"common": 1.0, "counter": 0.0, "gap": 1.0}
    assert found.difference == {"common": 0.5, "counter": -1.0, "gap": 1.5}
    assert sum(found.sizes.values()) == 3


# ---- retrieval ------------------------------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20), k=st.integers(1, 23), target=st.sampled_from(["data", "uniform"]))
def test_retrieval_skew_is_the_mean_of_skews(seed, k, target):
    rng = np.random.default_rng(seed)
    scores, attribute = rng.normal(size=(67, 5)), rng.integers(3, size=67)
    found = retrieval_skew(scores, attribute, k, target, baseline=scores, bootstrap=Bootstrap(20))
    each = [skew(scores[:, q], attribute, k, target) for q in range(5)]
    for value in range(3):
        assert found.values[f"skew.{value}"] == pytest.approx(np.mean([one[value] for one in each]))
    assert set(found.difference.values()) == {0.0} and set(found.difference_interval.values()) == {(0.0, 0.0)}
    if target == "uniform":
        assert found.values["max"] >= max_skew(scores, attribute, k) - 1e-12  # the rule for a share of zero


def test_golden_retrieval_skew(golden):
    raw = golden("methods")
    embedding = raw["attns"].sum((1, 2)) + raw["mlps"].sum(1)
    found = retrieval_skew(embedding @ raw["concepts"][:, :1], raw["attribute"], 10, bootstrap=Bootstrap(20))
    np.testing.assert_allclose([found.values["skew.0"], found.values["skew.1"]], raw["retrieval_skew"], atol=1e-6)


@pytest.mark.parametrize("k", [7, 40])
def test_skew_intervals_are_those_of_a_bootstrap_over_images(k):
    rng = np.random.default_rng(0)
    scores, attribute = rng.normal(size=(101, 2)), np.asarray(["fem", "masc"])[rng.integers(2, size=101)]
    scores[attribute == "fem"] += 0.8
    found = retrieval_skew(scores, attribute, k, "uniform", bootstrap=Bootstrap(1500))
    slow = []
    for _ in range(1500):
        rows = rng.integers(101, size=101)
        order = np.argsort(-scores[rows], axis=0, kind="stable")[:k]
        share = (attribute[rows][order] == "fem").mean(0)
        slow.append(np.log(np.where(share == 0, 1 / k, share) / 0.5).mean())
    low, high = np.percentile(slow, [2.5, 97.5])
    assert found.interval["skew.fem"] == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))
    assert found.sizes == {name: int((attribute == name).sum()) for name in ("fem", "masc")}


def test_a_value_that_resamples_lack_has_no_skew_in_them():
    found = retrieval_skew(np.arange(11.0), ["a"] * 10 + ["b"], 3, bootstrap=Bootstrap(50))
    assert found.values["skew.b"] == pytest.approx(math.log(1 / 3 / (1 / 11)))
    assert all(math.isfinite(end) for ends in found.interval.values() for end in ends)


def test_recall_by_hand():
    scores = np.asarray([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0]])
    relevant = np.asarray([[True, False], [False, False], [True, False], [False, True]])
    found = retrieval_recall(scores, relevant, 2, baseline=-scores, bootstrap=Bootstrap(50))
    assert found.values == {"recall@2": 0.75} and found.sizes == {"queries": 2} and found.small == ("queries",)
    assert found.difference == {"recall@2": 0.5}
    assert retrieval_recall(scores, relevant, 2, found="any", bootstrap=Bootstrap(50)).values == {"recall@2": 1.0}
    # A number for each image is the same as truth values, and all images hold everything.
    assert retrieval_recall(scores, [0, 1, 0, 1], 1, bootstrap=Bootstrap(9)).values == {"recall@1": 0.5}
    assert retrieval_recall(torch.from_numpy(scores), torch.tensor([0, 1, 0, 1]), 4, bootstrap=Bootstrap(9)).values == {
        "recall@4": 1.0
    }


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20), k=st.integers(1, 13))
def test_share_and_any_agree_where_a_query_has_one_image(seed, k):
    scores = np.random.default_rng(seed).normal(size=(13, 13))
    own = np.eye(13, dtype=bool)
    share, any_ = (retrieval_recall(scores, own, k, found=f, bootstrap=Bootstrap(30)) for f in ("share", "any"))
    assert share == any_


# ---- collateral -----------------------------------------------------------------------------------------------------


def test_collateral_by_hand():
    tasks = {
        "weather": ([0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1]),
        "size": (["s", "l"] * 20, ["s"] * 40, ["s"] * 40),
    }
    found = collateral("ltc", tasks, bootstrap=Bootstrap(50))
    assert found.before == {"weather": 0.75, "size": 0.5} and found.after == {"weather": 0.75, "size": 0.5}
    assert found.difference == {"weather": 0.0, "size": 0.0} and found.interval["size"] == (0.0, 0.0)
    low, high = found.interval["weather"]
    assert low < 0 < high  # one image was lost and one gained
    assert found.sizes == {"weather": 4, "size": 40} and found.small == ("weather",)
    assert found.table().loc[0, "task"] == "weather" and "weather" in found._repr_html_()
    assert json.loads(json.dumps(found.to_dict()))["interval"]["size"] == [0.0, 0.0]
    worse = collateral("x", {"a": ([1, 1], [1, 1], [1, 1]), "b": ([1, 1], [0, 1], [1, 1])}, bootstrap=Bootstrap(9))
    assert worse.worst == ("b", -0.5)


# ---- refusals -------------------------------------------------------------------------------------------------------

SCORES = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: occupation_gap(LABELS, RIGHT, attribute=["fem"] * 8), "values, not two|has 1 values"),
        (lambda: occupation_gap(LABELS, RIGHT, attribute=["a", "b", "c", "d"] * 2), "values, not two|has 1 values"),
        (lambda: occupation_gap(LABELS, RIGHT, attribute=["fem"] * 6 + ["masc"] * 2), "no image of nurse/masc"),
        (lambda: occupation_gap(LABELS, RIGHT[:-1], attribute=SHOWN), "differ in length"),
        (lambda: occupation_gap(LABELS, RIGHT, attribute=SHOWN, baseline=[0] * 8), "names in one and numbers"),
        (lambda: value_gap(LABELS, RIGHT, attribute=SHOWN), "no image of 'common'"),
        (
            lambda: value_gap(LABELS, RIGHT, attribute=SHOWN, values=("fem", "masc"), over="groups"),
            "'images' or 'classes'",
        ),
        (lambda: retrieval_skew(SCORES, SHOWN[:6], 7), "there are 6 images"),
        (lambda: retrieval_skew(SCORES, SHOWN[:6], 3, baseline=SCORES[:, :1]), "differ in shape"),
        (lambda: retrieval_recall(SCORES, [0, 1] * 3, 7), "there are 6 images"),
        (lambda: retrieval_recall(SCORES, [0] * 6, 3), "Query 1 asks for no image"),
        (lambda: retrieval_recall(SCORES, [0, 1], 3), "6 numbers of queries"),
        (lambda: retrieval_recall(SCORES * np.nan, [0, 1] * 3, 3), "not finite numbers"),
        (lambda: retrieval_recall(SCORES[:, 0], [0, 1] * 3, 3), "not finite numbers"),
        (lambda: retrieval_recall(SCORES, [0, 1] * 3, 3, baseline=SCORES[1:]), "differ in shape"),
        (lambda: retrieval_recall(SCORES, [0, 1] * 3, 3, found="most"), "'share' or 'any'"),
        (lambda: collateral("x", {}), "no task"),
        (lambda: collateral("x", {"a": ([1], [1, 2], [1])}), "differ in length"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_unmeasurable(call, match):
    with pytest.raises(MetricError, match=match) as caught:
        call()
    assert caught.value.remedy
