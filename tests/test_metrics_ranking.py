"""Skew, MaxSkew, NDKL and Cramér's V: golden values, hand-worked ones, and every refusal."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import MetricError
from headlens.metrics import cramers_v, max_skew, ndkl, skew

SCORES = [9.0, 8, 7, 6, 5, 4, 3, 2]
VALUES = list("ffmfmmmm")


def test_golden_skew(golden):
    raw = golden("methods")
    embedding = torch.from_numpy(raw["attns"]).sum((1, 2)) + torch.from_numpy(raw["mlps"]).sum(1)
    scores, k = embedding @ torch.from_numpy(raw["concepts"]), int(raw["maxskew_k"])
    assert max_skew(scores, raw["attribute"], k) == pytest.approx(float(raw["maxskew"]), abs=2e-6)
    assert max_skew(scores.double(), torch.from_numpy(raw["attribute"]), k, "uniform") == pytest.approx(
        float(raw["maxskew"]), abs=2e-6
    )
    found = skew(scores[:, 0], raw["attribute"], 10, target="data")
    np.testing.assert_allclose(found.to_numpy(), raw["retrieval_skew"], atol=2e-6)
    assert list(found.index) == [0, 1]


def test_skew_by_hand():
    found = skew(SCORES, VALUES, 4)
    assert found["f"] == pytest.approx(math.log(0.75 / 0.375)) and found["m"] == pytest.approx(math.log(0.25 / 0.625))
    found = skew(SCORES, VALUES, 4, target="uniform")
    assert found["f"] == pytest.approx(math.log(1.5)) and found["m"] == pytest.approx(math.log(0.5))
    found = skew(SCORES, VALUES, 4, target={"m": 1, "f": 3})
    assert found["f"] == pytest.approx(0.0) and found["m"] == pytest.approx(0.0)
    assert max_skew(SCORES, VALUES, 4) == pytest.approx(math.log(1.5))


def test_a_share_of_zero():
    assert skew(SCORES, VALUES, 2)["m"] == pytest.approx(math.log(0.5 / 0.625))
    assert skew(SCORES, VALUES, 2, zero="infinite")["m"] == -math.inf
    # A value that never occurs can be asked for by its desired share.
    found = skew(SCORES, VALUES, 4, target={"f": 1, "m": 1, "x": 2})
    assert found["x"] == pytest.approx(math.log(0.25 / 0.5)) and found["f"] == pytest.approx(math.log(3))


def test_max_skew_is_averaged_over_concepts():
    both = np.stack([SCORES, SCORES[::-1]], axis=1)
    each = [max_skew(column, VALUES, 3, target="data") for column in both.T]
    assert max_skew(both, VALUES, 3, target="data") == pytest.approx(np.mean(each))
    assert each[0] != each[1]


def test_equal_scores_keep_the_order_of_the_images():
    assert skew([1.0] * 8, VALUES, 2)["f"] == skew(SCORES, VALUES, 2)["f"]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), k=st.integers(1, 53), target=st.sampled_from(["uniform", "data"]))
def test_max_skew_is_never_below_zero(seed, k, target):
    generator = np.random.default_rng(seed)
    scores, values = generator.normal(size=(53, 3)), np.arange(53) % 5
    assert max_skew(scores, values, k, target) >= -1e-12
    assert max_skew(scores, values, 53, "data") == pytest.approx(0.0, abs=1e-12)
    order = generator.permutation(53)
    assert max_skew(scores[order], values[order], k, target) == pytest.approx(max_skew(scores, values, k, target))


def test_ndkl_step_by_step():
    values, total, weights = np.array(list("ababbb")), 0.0, 0.0
    desired = {"a": 1 / 3, "b": 2 / 3}
    for i in range(1, 7):
        share = {g: (values[:i] == g).mean() for g in "ab"}
        divergence = sum(s * math.log(s / desired[g]) for g, s in share.items() if s > 0)
        total, weights = total + divergence / math.log2(i + 1), weights + 1 / math.log2(i + 1)
    assert ndkl([6, 5, 4, 3, 2, 1], values) == pytest.approx(total / weights)
    assert ndkl([6, 5, 4, 3, 2, 1], values, k=1) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("scores", "values", "options", "match"),
    [
        (SCORES, VALUES[:-1], {"k": 2}, r"not \[image concept\]"),
        (np.zeros((8, 2, 2)), VALUES, {"k": 2}, r"not \[image concept\]"),
        ([math.nan] * 8, VALUES, {"k": 2}, "not finite"),
        (SCORES, VALUES, {"k": 0}, "there are 8 images"),
        (SCORES, VALUES, {"k": 9}, "there are 8 images"),
        (SCORES, ["f"] * 8, {"k": 2}, "has only"),
        (SCORES, [*VALUES[:-1], None], {"k": 2}, "lacks 1 values"),
        (SCORES, VALUES, {"k": 2, "target": {"f": 1.0}}, "no desired share"),
        (SCORES, VALUES, {"k": 2, "target": {"f": 1.0, "m": 0.0}}, "not positive"),
    ],
)
def test_refused_rankings(scores, values, options, match):
    for measure in (skew, max_skew, ndkl):
        with pytest.raises(MetricError, match=match):
            measure(scores, values, **options)


# ---- Cramér's V -----------------------------------------------------------------------------------------------------


def columns(table):
    rows, cols = [], []
    for (i, j), count in np.ndenumerate(np.asarray(table)):
        rows += [f"value {i}"] * int(count)
        cols += [j] * int(count)
    return rows, cols


def test_cramers_v_by_hand():
    # χ² = 40 (20·20 − ... )² form for a 2 × 2 table: n (ad − bc)² / (row and column sums) = 40·(15·15 − 5·5)²/20⁴ = 10.
    assert cramers_v(*columns([[15, 5], [5, 15]])) == pytest.approx(0.5)
    corrected = (10 / 40 - 1 / 39) / (2 - 1 / 39 - 1)
    assert cramers_v(*columns([[15, 5], [5, 15]]), corrected=True) == pytest.approx(math.sqrt(corrected))


def test_cramers_v_extremes():
    assert cramers_v(*columns([[7, 0, 0], [0, 11, 0], [0, 0, 13]])) == pytest.approx(1.0)
    assert cramers_v(*columns([[6, 4], [9, 6]])) == pytest.approx(0.0, abs=1e-12)
    assert cramers_v(*columns([[6, 4], [9, 6]]), corrected=True) == 0.0
    assert cramers_v(*columns([[7], [11]])) == 0.0  # one predicted class for all: 0 by convention
    assert cramers_v(["a", "b"], [0, 1], corrected=True) == 0.0  # nothing left after the correction


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), rows=st.integers(2, 5), cols=st.integers(2, 7))
def test_cramers_v_properties(seed, rows, cols):
    generator = np.random.default_rng(seed)
    attribute, predicted = generator.integers(rows, size=83), generator.integers(cols, size=83)
    attribute[:2], predicted[:2] = (0, 1), (0, 1)
    plain = cramers_v(attribute, predicted)
    assert 0 <= plain <= 1 + 1e-12
    assert cramers_v(predicted, attribute) == pytest.approx(plain)
    assert cramers_v(torch.from_numpy(attribute), pd.Series(predicted).astype(str)) == pytest.approx(plain)
    assert cramers_v(attribute, predicted, corrected=True) <= plain + 1e-12


def test_the_correction_takes_out_chance():
    generator = np.random.default_rng(0)
    pairs = [(generator.integers(5, size=67), generator.integers(7, size=67)) for _ in range(30)]
    plain, corrected = (np.mean([cramers_v(a, p, corrected=c) for a, p in pairs]) for c in (False, True))
    assert plain > 0.25 and corrected < 0.1


def test_refused_associations():
    with pytest.raises(MetricError, match="All images have the attribute value"):
        cramers_v(["f"] * 5, [0, 1, 0, 1, 1])
    with pytest.raises(MetricError, match="differ in length"):
        cramers_v(["f", "m"], [0])
    with pytest.raises(MetricError, match="or are empty"):
        cramers_v([], [])
    with pytest.raises(MetricError, match="`attribute` lacks 1 values"):
        cramers_v(["f", None], [0, 1])
