"""A verdict's null: what is permuted, what stays, and that the steps taken in order of cost are the whole verdict."""

import numpy as np
import pytest

import headlens as hl
from headlens.steps import null
from headlens.steps.verdicts import Null

FEW = {"n_random_sets": 20, "n_bootstrap": 60}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    folder = tmp_path_factory.mktemp("birds")
    clip, card = hl.load("testbed"), hl.testbed.card("testbed")
    store = hl.extract(clip, hl.testbed.images(folder, n=420), folder / "store.zarr")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    return hl.Audit(clip, store, task, hl.Attribute(card["attribute"]["name"], card["attribute"]["values"]))


def test_values_move_within_the_classes_of_a_part_and_nothing_else_moves(audit: hl.Audit) -> None:
    data = audit.data
    drawn = list(null.permuted(data, 3))
    for one in drawn:
        assert one.splits is data.splits and one.labels is data.labels and (one.values != data.values).any()
        for rows in (data.splits.reference, data.splits.test):
            names, counts = np.unique(data.groups[rows], return_counts=True)
            same, again = np.unique(one.groups[rows], return_counts=True)
            assert names.tolist() == same.tolist() and counts.tolist() == again.tolist()
    assert (drawn[0].values != drawn[1].values).any()
    for one, same in zip(drawn, null.permuted(data, 3), strict=True):
        np.testing.assert_array_equal(one.values, same.values)


def test_a_verdict_stands_beside_its_null(audit: hl.Audit) -> None:
    own = hl.Audit.of(audit.data)
    verdict = own.evaluate(["ablation"], n_null=7, **FEW).verdict
    assert verdict.null.n == 7 and 0 <= verdict.null.claims <= verdict.null.found <= 7
    assert verdict.sentence.endswith("%).") and "Of 7 repetitions with the attribute permuted" in verdict.sentence
    assert own.evaluate(["ablation"], n_null=0, **FEW).verdict.null is None
    found = own.fairness([(3, 0)], n_null=5, n_permutations=100, total=0, **FEW).verdict
    assert found.null.n == 5 and "a bias was shown in" in found.sentence
    assert found.to_dict()["null"]["n"] == 5


def test_the_null_takes_the_steps_of_the_verdict(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is permuted, the null is the verdict itself, every time."""
    monkeypatch.setattr(null, "permute_attribute", lambda labels, values, clusters, generator: values)
    own = hl.Audit.of(audit.data)
    for methods in (["ablation"], ["ltc"], ["roboshot"]):
        verdict = own.evaluate(methods, n_null=2, **FEW).verdict
        heads = methods != ["roboshot"]
        assert verdict.null == Null(2, 2 if heads else None, 2 if verdict.supported else 0)
    found = own.fairness("concept", n_null=2, n_permutations=100, total=0, **FEW).verdict
    assert found.word == "focal" and found.null == Null(2, 2, 2)


def test_a_null_is_not_counted_again_where_the_verdict_stands(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hl.Audit.of(audit.data)
    first = own.evaluate(["ablation"], n_null=3, **FEW).verdict
    monkeypatch.setattr("headlens.steps.evaluate.permuted", lambda *_: pytest.fail("drawn again"))
    own.correct("roboshot")
    assert own.evaluate(["ablation"], n_null=3, **FEW).verdict.null == first.null


def test_the_share_of_claims_has_its_interval() -> None:
    assert Null(100, 98, 0).sentence("a head was named", "supported") == (
        "Of 100 repetitions with the attribute permuted within the true classes, a head was named in 98, and the "
        "verdict was 'supported' in none (95 % interval up to 4 %)."
    )
    assert "classes, the verdict was 'supported' in 3" in Null(50, None, 3).sentence("x", "supported")
