"""Choosing the conflicting groups: by name, by majority, by accuracy."""

import numpy as np
import pandas as pd
import pytest
import torch

from headlens.errors import LocateError, NothingLocatedError
from headlens.locate import conflicting_groups
from headlens.metrics import permute_attribute

LABELS = ["landbird"] * 10 + ["waterbird"] * 7
PLACES = ["land"] * 8 + ["water"] * 2 + ["land"] * 2 + ["water"] * 5


def test_majority_of_the_split_itself():
    found = conflicting_groups(LABELS, PLACES)
    assert found.groups == (("landbird", "water"), ("waterbird", "land"))
    assert found.sizes == (2, 2) and found.rule == "majority"
    assert found.mask.tolist() == [False] * 8 + [True] * 4 + [False] * 5
    assert found.table()["images"].tolist() == [2, 2] and "landbird" in found._repr_html_()


def test_majority_of_a_reference_split():
    labels, places = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    found = conflicting_groups(labels, places, reference=(["a", "a", "a", "b", "b", "b"], list("xxyyyx")))
    assert found.groups == (("a", "y"), ("b", "x")) and found.mask.tolist() == [False, True, True, False]


def test_a_value_that_the_reference_never_shows_is_in_conflict():
    found = conflicting_groups(list("aabb"), list("xyxy"), reference=(list("aab"), list("xxy")))
    assert found.groups == (("a", "y"), ("b", "x"))


def test_more_than_two_classes_and_values():
    labels = np.repeat([0, 1, 2], 5)
    values = torch.tensor([0, 0, 0, 1, 2, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0])
    found = conflicting_groups(labels, values)
    assert found.groups == (("0", "1"), ("0", "2"), ("1", "2"), ("2", "0"))
    assert found.sizes == (1, 1, 1, 2)


def test_several_of_three_values_may_go_with_a_class():
    # A landbird is in a field or among trees: neither is in conflict, though one of them is rarer.
    labels = ["landbird"] * 60 + ["waterbird"] * 60
    places = ["field"] * 25 + ["trees"] * 20 + ["water"] * 15 + ["field"] * 7 + ["trees"] * 5 + ["water"] * 48
    found = conflicting_groups(labels, places, rule="rarer")
    assert found.groups == (("landbird", "water"), ("waterbird", "field"), ("waterbird", "trees"))
    assert found.rule == "rarer" and found.sizes == (15, 7, 5)
    even = ["field", "trees", "water"] * 20
    with pytest.raises(NothingLocatedError, match="clearly commoner in it than over all classes"):
        conflicting_groups(labels, even * 2, rule="rarer")
    # By accuracy likewise: the class's accuracy is 30 of 60.
    right = [True] * 13 + [False] * 12 + [True] * 11 + [False] * 9 + [True] * 6 + [False] * 9
    guesses = ["landbird" if one else "waterbird" for one in right] + ["waterbird"] * 60
    by_accuracy = conflicting_groups(labels, places, rule="accuracy", predictions=guesses)
    assert by_accuracy.groups == (("landbird", "water"),) and by_accuracy.tied == ("waterbird",)


@pytest.mark.parametrize("rule", ["majority", "rarer"])
def test_groups_by_shares_are_the_same_under_the_null_of_a_locator(rule):
    """They are chosen from counts alone, which a permutation of the attribute within the classes leaves as they are."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    values = np.where(generator.random(300) < 0.6, labels, generator.integers(0, 4, 300))
    for _ in range(5):
        permuted = permute_attribute(labels, values, None, generator)
        assert (permuted != values).any()
        assert conflicting_groups(labels, permuted, rule=rule).groups == (
            conflicting_groups(labels, values, rule=rule).groups
        )


@pytest.mark.parametrize("groups", [[("landbird", "water")], ["landbird/water"]])
def test_named_groups(groups):
    found = conflicting_groups(pd.Series(LABELS), pd.Categorical(PLACES), groups=groups)
    assert found.groups == (("landbird", "water"),) and found.rule == "named"
    assert found.mask.nonzero().flatten().tolist() == [8, 9]


def test_a_balanced_split_has_no_majority():
    # Waterbirds' validation split: balanced but for an image.
    labels = ["landbird"] * 5 + ["waterbird"] * 4
    places = ["land"] * 3 + ["water"] * 2 + ["land"] * 2 + ["water"] * 2
    with pytest.raises(LocateError, match=r"'waterbird'.*not balanced.*'accuracy'"):
        conflicting_groups(labels, places)
    labels, places = ["a"] * 101 + ["b"] * 100, ["x"] * 51 + ["y"] * 50 + ["x"] * 10 + ["y"] * 90
    with pytest.raises(LocateError, match=r"clearly the commonest: 5\d\.\d% .* a lead of 5 points"):
        conflicting_groups(labels, places)
    assert conflicting_groups(labels, places, margin=0.0).groups == (("a", "y"), ("b", "x"))


def test_accuracy_rule_for_a_balanced_split():
    labels, places = ["a"] * 4 + ["b"] * 4, ["x", "x", "y", "y"] * 2
    predictions = ["a", "a", "a", "b", "a", "b", "b", "b"]
    found = conflicting_groups(labels, places, rule="accuracy", predictions=predictions)
    assert found.groups == (("a", "y"), ("b", "x")) and found.rule == "accuracy"
    with pytest.raises(LocateError, match=r"In no class is one value .* classified better .*\d% of the images with"):
        conflicting_groups(labels, places, rule="accuracy", predictions=labels)
    with pytest.raises(LocateError, match="needs a prediction for each"):
        conflicting_groups(labels, places, rule="accuracy")
    # A class that is predicted equally well on both has no conflicting group; the others keep theirs.
    tied = conflicting_groups(labels, places, rule="accuracy", predictions=["a", "a", "a", "b", *"bbbb"], margin=0.0)
    assert tied.groups == (("a", "y"),)
    assert tied.tied == ("b",)


@pytest.mark.parametrize(
    ("labels", "values", "options", "match"),
    [
        (["a"] * 3, list("xyx"), {}, "fewer than two classes"),
        (list("aba"), ["x"] * 3, {}, "fewer than two attribute values"),
        (list("ab"), list("xyx"), {}, "3 attribute values for 2 labels"),
        (["a", None, "b"], list("xyx"), {}, "lacks 1 values"),
        (list("aabb"), list("xxyy"), {"groups": [("a", "z")]}, "'a/z'"),
        (list("aabb"), list("xxyy"), {"groups": [("a", "y")]}, "'a/y'"),
        (list("aabb"), list("xxyy"), {"groups": []}, "No conflicting group"),
        (list("aabb"), list("xxyy"), {}, "No image is in a conflicting group"),
        (list("aabc"), list("xyyx"), {"reference": (list("aaabbb"), list("xxyyyx"))}, "no image of class"),
    ],
)
def test_refusals(labels, values, options, match):
    with pytest.raises(LocateError, match=match):
        conflicting_groups(labels, values, **options)
