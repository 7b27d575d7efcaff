"""A verdict's null: what is permuted, what stays, and that the steps taken in order of cost are the whole verdict."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

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
    verdict = own.evaluate(["ablation"], n_null=7, total=0, **FEW).verdict
    assert verdict.null.n == 7 and 0 <= verdict.null.claims <= verdict.null.found <= 7
    assert verdict.sentence.endswith("%).") and "Of 7 repetitions with the attribute permuted" in verdict.sentence
    assert own.evaluate(["ablation"], n_null=0, total=0, **FEW).verdict.null is None
    found = own.fairness([(3, 0)], n_null=5, n_permutations=100, total=0, **FEW).verdict
    assert found.null.n == 5 and "a bias was shown in" in found.sentence
    assert found.to_dict()["null"]["n"] == 5


def test_the_null_takes_the_steps_of_the_verdict(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is permuted, the null is the verdict itself, every time."""
    monkeypatch.setattr(null, "permute_attribute", lambda labels, values, clusters, generator: values)
    for methods in (["ablation"], ["ltc"], ["roboshot"]):
        verdict = hl.Audit.of(audit.data).evaluate(methods, n_null=2, total=0, **FEW).verdict
        heads = methods != ["roboshot"]
        assert verdict.null == Null(2, 2 if heads else None, 2 if verdict.supported else 0)
    found = hl.Audit.of(audit.data).fairness("concept", n_null=2, n_permutations=100, total=0, **FEW).verdict
    assert found.word == "focal" and found.null == Null(2, 2, 2)


def test_a_null_is_not_counted_again_where_the_verdict_stands(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hl.Audit.of(audit.data)
    first = own.evaluate(["ablation"], n_null=3, total=0, **FEW).verdict
    monkeypatch.setattr("headlens.steps.evaluate.permuted", lambda *_: pytest.fail("drawn again"))
    own.correct("roboshot")
    assert own.evaluate(["ablation"], n_null=3, total=0, **FEW).verdict.null == first.null


def test_the_share_of_claims_has_its_interval() -> None:
    assert Null(100, 98, 0).sentence("a head was named", "supported") == (
        "Of 100 repetitions with the attribute permuted within the true classes, a head was named in 98, and the "
        "verdict was 'supported' in none (95 % interval up to 4 %)."
    )
    assert "classes, the verdict was 'supported' in 3" in Null(50, None, 3).sentence("x", "supported")


def test_questions_of_the_same_test_images_share_the_level(audit: hl.Audit, tmp_path: Path) -> None:
    own = hl.Audit.of(audit.data)
    alone = own.evaluate(["ablation"], n_null=0, total=0, **FEW).verdict
    assert (alone.questions, alone.alpha) == (1, 0.05) and "questions" not in alone.sentence
    # Asked again it counts once, whatever else of the call differs.
    assert own.evaluate(["ablation"], n_null=0, total=0, n_random_sets=21, n_bootstrap=60).verdict.questions == 1
    facing = hl.Attribute("facing", {"left": "a bird facing left", "right": "a bird facing right"})
    other = own.with_attribute(facing)
    found = other.fairness([(3, 0)], n_null=0, n_permutations=100, total=0, **FEW).verdict
    assert found.questions == 2 and found.rule.alpha == 0.025
    again = own.evaluate(["zero ablation"], n_null=0, total=0, **FEW).verdict
    assert (again.questions, again.alpha) == (3, 0.05 / 3)
    assert "one of 3 questions asked of these test images (attributes background, facing; locators" in again.sentence
    assert "(98.33 % interval" in str(again.conditions)
    # 20 sets give p = .048 at the smallest.
    assert again.word == "inconclusive" and "so few sets cannot give p below 0.048" in again.sentence
    low, high = again.gain_interval
    assert high - low > np.subtract(*own.results.differences["zero ablation"].interval["worst_group"][::-1])
    assert hl.Audit.load(own.save(tmp_path / "kept")).asked == own.asked == other.asked


def test_the_total_effect_stands_in_the_verdict(audit: hl.Audit) -> None:
    found = hl.Audit.of(audit.data).evaluate(["ltc"], n_null=0, total=60, **FEW)
    assert found.total.images == 60 and found.total.tokens == "class"
    assert found.total.heads == (hl.HeadId(3, 0),)
    assert found.total.sentence in found.verdict.sentence and "as a direct edit by" in found.verdict.sentence
    # In the last layer, direct and total differ through that layer's MLP and the final norm alone.
    direct, total = (one.difference["worst_group"] for one in (found.total.direct, found.total.total))
    assert direct > 0.2 and abs(total - direct) < 0.3
    without = hl.Audit.of(audit.data).evaluate(["roboshot"], n_null=0, **FEW)
    assert without.total is None and "ablates no heads" in without.total_note
    assert "was not asked for" in hl.Audit.of(audit.data).evaluate(["ltc"], n_null=0, total=0, **FEW).total_note


def test_a_location_shows_its_stability_and_the_other_rule_beside_it(audit: hl.Audit) -> None:
    own = hl.Audit.of(audit.data)
    found = own.locate(n_bootstrap=20)
    shares = found.table().set_index("head")
    assert shares.loc["L3H0", "named spurious"] == float(found.stability[0][3, 0]) >= 0.9
    assert {"named spurious", "named salient"} <= set(shares)
    beside = hl.Audit.of(audit.data)
    calibrated = beside.locate("calibrated", n_bootstrap=10)
    listed = ", ".join(map(str, calibrated.spurious))
    assert f"The calibrated locator names {listed}." in own.location_note
    assert "The published rule (contrastive) names L3H0." in beside.location_note
    assert (
        "named spurious" in calibrated.table()
        and "named spurious" not in hl.Audit.of(audit.data).locate("concept").table()
    )


def test_images_of_one_cluster_stay_together(audit: hl.Audit) -> None:
    frame = audit.store.manifest.drop(columns="split")
    within = frame.groupby(["label", "background"]).cumcount() // 5  # five images of a scene
    frame["cluster"] = frame["label"] + frame["background"] + within.astype(str)
    frame.loc[frame.index[:7], "cluster"] = None  # each of these stands for itself
    store = audit.store.with_manifest(frame)
    clustered = hl.Audit(audit.clip, store, audit.task, audit.attribute)
    data = clustered.data
    named = frame["cluster"].to_numpy()
    parts = [set(named[rows]) - {None, np.nan} for rows in (data.splits.reference, data.splits.test)]
    assert not {one for one in parts[0] if isinstance(one, str)} & parts[1]
    assert "images of one cluster together" in data.splits.note
    # At most one scene of five images a group is left over.
    assert abs(len(data.splits.reference) - len(data.splits.test)) <= 4 * 5 + 8
    found = clustered.evaluate(["ablation"], n_null=2, total=0, **FEW)
    assert found.evaluations["zero-shot"].clusters == len(set(data.test_clusters))
    assert found.differences["ablation"].clusters == len(set(data.test_clusters))
    for one in null.permuted(data, 2):  # scenes have one value, and exchange it whole
        for rows in (data.splits.reference, data.splits.test):
            for code in np.unique(data.clusters[rows]):
                assert len(set(one.values[rows][data.clusters[rows] == code])) == 1


def test_a_cluster_in_both_parts_is_found(audit: hl.Audit) -> None:
    frame = audit.store.manifest.copy()
    frame["cluster"] = np.arange(len(frame)).astype(str)
    frame.loc[[frame.index[frame["split"] == part][0] for part in ("val", "test")], "cluster"] = "same"
    found = hl.Audit(audit.clip, audit.store.with_manifest(frame), audit.task, audit.attribute).findings
    assert [one.names for one in found if one.kind == "cluster in both parts"] == [("same",)]


def test_an_audit_of_doubled_images_is_that_of_the_images_where_clusters_say_so(audit: hl.Audit) -> None:
    frame = audit.store.manifest.drop(columns="id")
    named = frame.assign(cluster=[f"scene {i}" for i in range(len(frame))])
    twice = np.repeat(np.arange(len(frame)), 2)
    widths, ps = [], []
    for manifest, rows in ((frame, None), (named, twice), (frame, twice)):
        store = audit.store.with_manifest(manifest)
        own = hl.Audit(audit.clip, store if rows is None else store.subset(rows), audit.task, audit.attribute)
        ps.append(own.locate("calibrated", n_bootstrap=0).p[3, 0])
        verdict = own.evaluate(["ablation"], n_null=0, total=0, n_random_sets=20).verdict
        fairness = own.fairness("concept", n_null=0, total=0, n_random_sets=20)
        elsewhere = own.collateral().methods["ablation"].interval
        intervals = [verdict.gain_interval, fairness.change.interval["cramers_v"], fairness.removed.interval]
        widths.append(np.ptp([*intervals, *elsewhere.values()], axis=1))
    once, clustered, naive = widths
    np.testing.assert_allclose(clustered, once, rtol=0.15)
    assert (naive < 0.87 * once).all()
    z = norm.isf(np.asarray(ps))
    assert z[1] == pytest.approx(z[0], rel=0.02) and z[2] > 1.3 * z[0]


def test_classes_that_settle_the_attribute_leave_a_verdict_open_with_its_null(audit: hl.Audit) -> None:
    settled = hl.Audit.of(audit.data.with_values(audit.data.labels))
    verdict = settled.evaluate(["roboshot"], n_null=2, total=0, **FEW).verdict
    (condition,) = [one for one in verdict.conditions if one.name == "dependence"]
    assert condition.outcome == "open" and "no class has scored images of two values" in condition.text
    assert verdict.null == Null(2, None, 0)


def test_the_number_of_resamples_is_that_of_the_verdicts_interval(audit: hl.Audit) -> None:
    few, many = (
        hl.Audit.of(audit.data).evaluate(["ablation"], n_random_sets=2, n_bootstrap=n, n_null=0, total=0).verdict
        for n in (11, 301)
    )
    removed = [next(one.text for one in verdict.conditions if one.name == "removed") for verdict in (few, many)]
    assert removed[0] != removed[1]
