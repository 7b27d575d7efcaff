"""Who is harmed: rates by class and value, as fairlearn has them, and what the numbers mean by hand."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import demographic_parity_ratio
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import MetricError
from headlens.metrics import (
    Bootstrap,
    confusion,
    demographic_parity_difference,
    equalized_odds_difference,
    evaluate,
    harm,
    intersections,
    paired_difference,
    parity,
    transitions,
    transitions_by_fate,
)

CLASSES, VALUES = ("cook", "nurse", "farmer"), ("feminine", "masculine")
FEW = Bootstrap(n_bootstrap=101)


def columns(seed: int, n: int = 211) -> tuple[np.ndarray, ...]:
    """True classes, predictions before and after, and values, in which every combination occurs."""
    generator = np.random.default_rng(seed)
    true, value = generator.integers(0, 3, n), generator.integers(0, 2, n)
    before, after = (np.where(generator.random(n) < rate, true, generator.integers(0, 3, n)) for rate in (0.4, 0.7))
    return true, before, after, value


@given(st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_parity_is_fairlearns(seed):
    true, before, after, value = columns(seed)
    counts = [confusion(true, predicted, value, (2, 3)) for predicted in (before, after)]
    frame = parity(*counts, CLASSES)
    for c in range(3):
        for when, predicted in (("before", before), ("after", after)):
            chosen = (predicted == c).astype(int)
            assert frame[f"dp_difference_{when}"][c] == pytest.approx(
                demographic_parity_difference(true, predicted, attribute=value, positive=c)
            )
            assert frame[f"dp_ratio_{when}"][c] == pytest.approx(
                demographic_parity_ratio(chosen, chosen, sensitive_features=value)
            )
            assert frame[f"eo_difference_{when}"][c] == pytest.approx(
                equalized_odds_difference(true, predicted, attribute=value, positive=c)
            )


def test_a_class_and_value_has_its_own_rates_by_hand():
    true = np.array([0] * 10 + [1] * 7)
    value = np.array([0] * 4 + [1] * 6 + [0] * 2 + [1] * 5)
    before = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0])
    frame = harm(true, true, baseline=before, attribute=value, classes=CLASSES[:2], values=VALUES, bootstrap=FEW)
    row = frame.set_index(["class", "value"]).loc[("cook", "feminine")]
    assert row["images"] == 4
    assert row["small"]
    assert row["accuracy_before"] == 3 / 4
    assert row["selection_before"] == 3 / 6
    assert row["difference_before"] == pytest.approx(3 / 4 - 1 / 6)
    assert row["ratio_before"] == pytest.approx((3 / 4) / (1 / 6))
    assert row["difference_before_low"] < row["difference_before"] < row["difference_before_high"]
    assert (frame["accuracy_after"] == 1).all()
    assert (frame["difference_after"] == 0).all()
    assert (frame["difference_after_high"] == 0).all()


@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_of_two_values_one_is_served_as_much_better_as_the_other_is_worse(seed):
    true, before, after, value = columns(seed)
    frame = harm(true, after, baseline=before, attribute=value, classes=CLASSES, values=VALUES, bootstrap=FEW)
    one, other = (frame[frame["value"] == name].reset_index() for name in VALUES)
    np.testing.assert_allclose(one["difference_after"], -other["difference_after"], atol=1e-12)
    np.testing.assert_allclose(one["difference_before_low"], -other["difference_before_high"], atol=1e-12)
    for v, name in enumerate(VALUES):  # whatever is predicted is predicted as one of the classes
        assert frame[frame["value"] == name]["selection_after"].sum() == pytest.approx(1)
        assert frame[frame["value"] == name]["images"].sum() == (value == v).sum()


def test_intervals_hold_the_true_difference_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(101):
        true, value = np.zeros(151, dtype=int), generator.integers(0, 2, 151)
        predicted = np.where(generator.random(151) < np.where(value == 0, 0.7, 0.4), 0, 1)
        once = Bootstrap(n_bootstrap=199, seed=seed)
        frame = harm(true, true, baseline=predicted, attribute=value, classes=("a", "b"), values=VALUES, bootstrap=once)
        held += frame["difference_before_low"][0] <= 0.3 <= frame["difference_before_high"][0]
    assert 86 <= held <= 101


def test_a_group_without_images_is_left_out_and_one_without_others_has_no_difference():
    true, value = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1])
    frame = harm(true, true, baseline=true, attribute=value, classes=CLASSES, values=VALUES, bootstrap=FEW)
    assert list(zip(frame["class"], frame["value"], strict=True)) == [
        ("cook", "feminine"), ("nurse", "feminine"), ("nurse", "masculine"),
    ]  # fmt: skip
    assert np.isnan(frame["difference_before"][0])
    assert np.isnan(frame["difference_before_low"][0])


def test_columns_of_different_lengths_are_refused(without_shape_checks):
    true = np.array([0, 1, 0, 1])
    with pytest.raises(MetricError, match="different lengths"):
        harm(true, true[1:], baseline=true, attribute=true, classes=CLASSES, values=VALUES)


def test_unlabelled_images_are_left_out():
    true, before, after, value = columns(3)
    without = value >= 0
    value[:23], without[:23] = -1, False
    counts = confusion(true, before, value, (2, 3))
    assert counts.sum() == 211 - 23
    np.testing.assert_array_equal(counts, confusion(true[without], before[without], value[without], (2, 3)))
    frames = [
        harm(t, a, baseline=b, attribute=v, classes=CLASSES, values=VALUES, bootstrap=FEW)
        for t, a, b, v in ((true, after, before, value), (*(x[without] for x in (true, after, before, value)),))
    ]
    pd.testing.assert_frame_equal(*frames)


def test_fates_part_the_transitions():
    labels, before, after = np.random.default_rng(0).integers(0, 5, (3, 211))
    parts = transitions_by_fate(labels, before, after, 5)
    moved = before != after
    np.testing.assert_array_equal(sum(parts.values()), transitions(before, after, 5))
    assert sum(parts.values()).sum() == moved.sum()
    assert all(np.diagonal(part).sum() == 0 for part in parts.values())
    assert parts["corrected"].sum() == (moved & (after == labels)).sum()
    assert parts["newly wrong"][2, 3] == ((before == 2) & (after == 3) & (labels == 2)).sum()


def test_more_than_ten_intersections_keep_their_own_numbers():
    rng = np.random.default_rng(3)
    first, second = (np.array(list("abcdefg"))[rng.integers(0, n, 997)] for n in (5, 7))
    true, before = rng.integers(0, 2, (2, 997))
    right = rng.random(997) < np.unique(np.char.add(first, second), return_inverse=True)[1] / 35
    after = np.where(right, true, 1 - true)
    found = intersections(true, after, baseline=before, attributes={"first": first, "second": second})
    assert len(found) == 35
    for row in found.itertuples():
        mine = (first == row.first) & (second == row.second)
        assert row.images == mine.sum()
        assert row.accuracy_before == pytest.approx((before == true)[mine].mean())
        assert row.accuracy_after == pytest.approx(right[mine].mean())
        assert row.change == pytest.approx(row.accuracy_after - row.accuracy_before)
        assert row.accuracy_after_low <= row.accuracy_after <= row.accuracy_after_high


def test_intersections_count_every_labelled_image_once_and_mark_small_cells():
    true, before, after, value = columns(5)
    presentation = [VALUES[v] for v in value]
    age = ["young" if i % 17 == 0 else "old" if i % 19 else "" for i in range(len(true))]
    frame = intersections(true, after, baseline=before, attributes={"presentation": presentation, "age": age})
    assert frame["images"].sum() == sum(one != "" for one in age)
    assert frame["small"].tolist() == (frame["images"] < 30).tolist()
    assert {True, False} == set(frame["small"])
    row = frame[(frame["presentation"] == "feminine") & (frame["age"] == "old")].iloc[0]
    mask = np.array([p == "feminine" and a == "old" for p, a in zip(presentation, age, strict=True)])
    assert row["accuracy_before"] == pytest.approx((before == true)[mask].mean())
    assert row["change"] == pytest.approx((after == true)[mask].mean() - (before == true)[mask].mean())
    whole = paired_difference(
        true, after, baseline=before, groups=[f"{p} {a}" for p, a in zip(presentation, age, strict=True)]
    )
    assert (row["change_low"], row["change_high"]) == pytest.approx(whole.interval["groups.feminine old"])
    alone = evaluate(true, before, groups=[f"{p} {a}" for p, a in zip(presentation, age, strict=True)])
    ends = (row["accuracy_before_low"], row["accuracy_before_high"])
    assert ends == pytest.approx(alone.interval["groups.feminine old"])
