"""The fairness audit: its numbers are those of interventions, its verdict follows its rule, it survives a folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import headlens as hl
from headlens.errors import HeadlensError, LocateError, ManifestError, TaskError, UnknownNameError
from headlens.metrics import Association, AssociationChange, Dependence, DependenceChange, cramers_v
from headlens.steps import FairnessRule, RandomHeads
from headlens.steps.controls import Statistics
from headlens.steps.total import total_predictions
from headlens.steps.verdicts import Bias, judge_fairness


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    """An audit of background on a few hundred of the testbed's birds, with a column that means nothing."""
    folder = tmp_path_factory.mktemp("birds")
    clip, card = hl.load("testbed"), hl.testbed.card("testbed")
    manifest = hl.testbed.images(folder, n=420)
    generator = np.random.default_rng(3)
    manifest["facing"] = generator.choice(["left", "right"], len(manifest))
    store = hl.extract(clip, manifest, folder / "store.zarr")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    attribute = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    return hl.Audit(clip, store, task, attribute)


@pytest.fixture(scope="module")
def judged(audit: hl.Audit) -> hl.steps.FairnessResults:
    audit.locate("concept")
    audit.explain([(3, 0), (3, 5)], k=5, n_bootstrap=2)
    return audit.fairness("concept", n_random_sets=20, n_bootstrap=100, n_permutations=200, total=40)


def test_the_concept_vectors_find_planted_heads_and_nothing_else(judged: hl.steps.FairnessResults) -> None:
    planted = {tuple(head) for head in hl.testbed.card("testbed")["planted_heads"]}
    assert judged.candidates
    assert set(judged.candidates) <= planted


def test_the_effect_is_that_of_the_mean_ablation_itself(audit: hl.Audit, judged: hl.steps.FairnessResults) -> None:
    view = hl.correct.MeanAblation(judged.candidates).fit(audit.data.reference).apply(audit.data.test)
    after = audit.data.logits(view.embedding).argmax(-1).numpy()
    np.testing.assert_array_equal(judged.predictions["after"], after)
    values, labels = audit.data.values[audit.splits.test], audit.data.labels[audit.splits.test]
    assert judged.change.after.cramers_v == pytest.approx(cramers_v(values, after))
    assert judged.change.after.accuracy == pytest.approx((after == labels).mean())
    assert judged.change.difference["cramers_v"] < -0.2
    for one in judged.shares:
        alone = hl.correct.MeanAblation([one.head]).fit(audit.data.reference).apply(audit.data.test)
        assert one.cramers_v == pytest.approx(cramers_v(values, audit.data.logits(alone.embedding).argmax(-1).numpy()))


def test_a_tower_without_a_class_token_has_its_heads_replaced_at_all_tokens(
    audit: hl.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, heads = audit.clip.vision, [hl.HeadId(3, 0)]
    asked = total_predictions(audit.data, heads, 5, "all")
    monkeypatch.setattr(vision, "cfg", replace(vision.cfg, class_token="none"))
    found = total_predictions(audit.data, heads, 5, "class")
    assert found.tokens == asked.tokens == "all"
    np.testing.assert_array_equal(found.after, asked.after)


def test_the_random_sets_are_of_the_same_layers_and_never_the_candidates(judged: hl.steps.FairnessResults) -> None:
    assert judged.control is not None
    layers = sorted(head.layer for head in judged.candidates)
    for heads, v in zip(judged.control.sets, judged.control.drawn.cramers_v, strict=True):
        assert sorted(head.layer for head in heads) == layers
        assert set(heads) != set(judged.candidates)
        assert 0 <= v <= 1
    for measure in ("cramers_v", "dependence"):
        assert judged.control.comparison(measure).share_at_least <= 0.05
    assert judged.verdict.word == "focal"


def test_changed_predictions_are_all_accounted_for(judged: hl.steps.FairnessResults) -> None:
    moved = judged.predictions["before"] != judged.predictions["after"]
    assert judged.transitions.sum() == moved.sum() == sum(judged.fate.values())
    assert (np.diag(judged.transitions) == 0).all()
    assert sum(one.changed for one in judged.by_class) == moved.sum()
    assert sum(one.corrected for one in judged.by_class) == judged.fate["corrected"]
    assert sum(one.newly_wrong for one in judged.by_class) == judged.fate["newly wrong"]
    assert sum(one.images for one in judged.by_class) == len(moved)


def test_inside_the_forward_pass_the_effect_is_of_the_same_kind(judged: hl.steps.FairnessResults) -> None:
    assert judged.total is not None
    assert judged.total.images == 40
    assert judged.total.direct.before.cramers_v == judged.total.total.before.cramers_v
    assert judged.total.total.difference["cramers_v"] < 0


def test_heads_of_the_last_layer_have_nothing_behind_them_but_its_mlp(audit: hl.Audit) -> None:
    """With that layer's MLP silenced, the total effect is the direct one, up to the final LayerNorm's scale."""
    from headlens.correct import mean_z, total_ablation_hooks

    assert audit.clip is not None
    vision, last = audit.clip.vision, audit.store.n_layers - 1
    pixels = torch.randn(7, 3, *vision.cfg.image_size, generator=torch.Generator().manual_seed(0))
    silence = [(f"blocks.{last}.hook_mlp_out", lambda out, hook: torch.zeros_like(out))]
    means = mean_z(vision, [pixels], [(last, 0)], "class")
    with torch.no_grad():
        before = vision.run_with_hooks(pixels, fwd_hooks=silence)
        after = vision.run_with_hooks(pixels, fwd_hooks=[*silence, *total_ablation_hooks(means, "class")])
    states = hl.decompose(vision, pixels)
    direct = states.heads[:, last, 0] - states.heads[:, last, 0].mean(0)
    # Directions agree closely; lengths differ by the scale that the LayerNorm takes anew.
    cosine = torch.nn.functional.cosine_similarity(before - after, direct, dim=-1)
    assert float(cosine.min()) > 0.9


def test_a_fairness_audit_survives_its_folder(
    audit: hl.Audit, judged: hl.steps.FairnessResults, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.save(tmp_path / "saved")
    again = hl.Audit.load(tmp_path / "saved")
    assert again.fairness_results is not None
    assert again.location is not None
    assert audit.location is not None
    assert again.fairness_results.to_dict() == judged.to_dict()
    assert again.location.table().equals(audit.location.table())
    assert {head: one.to_dict() for head, one in again.explanations.items()} == {
        head: one.to_dict() for head, one in audit.explanations.items()
    }
    # Without the model the pixels stay where they are, and everything else can be asked again.
    assert again.fairness("concept", n_random_sets=20, n_bootstrap=100, n_permutations=200, total=40).total is not None
    repeated = again.fairness("concept", n_random_sets=20, n_bootstrap=100, n_permutations=201, total=40)
    assert repeated.total is None
    assert "without its model" in repeated.total_note
    assert repeated.change == judged.change


def test_a_new_attribute_costs_no_forward_pass(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.clip is not None

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an image went through the model")

    monkeypatch.setattr(audit.clip.vision, "forward", never)
    monkeypatch.setattr(audit.clip.vision, "head_states", never)
    other = audit.with_attribute(
        hl.Attribute("light", {"sun": "a photo on a sunny day", "cloud": "a photo on a cloudy day", "dark": "at night"})
    )
    assert other.data.inferred
    found = other.fairness("concept", n_random_sets=5, n_bootstrap=50, n_permutations=50, total=0)
    assert found.inferred
    assert found.values == ("sun", "cloud", "dark")
    assert found.to_dict()["attribute_inferred"] is True
    # What the model takes for light is largely the background, and the verdict says so instead of claiming a bias.
    assert found.verdict.word == "inconclusive"
    assert "with the column 'background'" in found.verdict.sentence


def test_where_the_two_tests_agree_on_no_head_each_says_what_it_flags(audit: hl.Audit) -> None:
    other = audit.asking(attribute=hl.Attribute("background", {"land": "a red bird", "water": "a blue bird"}))
    found = other.fairness(n_random_sets=0, n_bootstrap=20, n_permutations=50, n_null=0, total=0)
    assert not found.candidates
    assert "The two tests agree on no head: the concept vectors flag" in found.verdict.sentence


def test_a_column_without_meaning_is_not_called_a_bias(audit: hl.Audit) -> None:
    """At alpha = .05 one shuffle in twenty may reach its threshold; with the minimal excess beside it, hardly one."""
    claims = 0
    for seed in range(20):
        manifest = audit.store.manifest.copy()
        manifest["facing"] = np.random.default_rng(seed).permutation(manifest["facing"].to_numpy())
        other = hl.Audit(
            audit.clip,
            audit.store.with_manifest(manifest),
            audit.task,
            hl.Attribute("facing", {"left": "a bird facing left", "right": "a bird facing right"}),
            seed=seed,
        )
        claims += (
            other.fairness(["L3H1"], n_random_sets=0, n_bootstrap=20, n_permutations=200, total=0).verdict.word
            != "not shown"
        )
    assert claims <= 1


def random(beaten: float | None, n_sets: int) -> RandomHeads | None:
    """Random sets of which this share lowers D by less than the candidates, to .1, do."""
    if beaten is None:
        return None
    d = np.where(np.arange(n_sets) < round(beaten * n_sets), 0.3, 0.05)
    drawn, one = (Statistics(np.ones((*x.shape, 1)), np.ones_like(x), x, x) for x in (d, np.asarray(0.1)))
    sets = tuple((hl.HeadId(3, i),) for i in range(n_sets))
    return RandomHeads("the candidates", sets, ("a/x",), drawn, one, one, False, 0)


def bias(p: float = 0.001, d: float = 0.3, after: float = 0.1, low: float = 0.1, **changes) -> Bias:
    ends = {"cramers_v": (-0.4, -0.2), "corrected": (-0.4, -0.2), "accuracy": (-0.01, 0.02)}
    intervals = {"accuracy": (0.78, 0.82)} if changes.get("chance", 0.5) == 0.5 else {"accuracy": (0.2, 0.3)}
    one, two = (Association(v, v, 0.8, dict.fromkeys(ends, (v, v)) | intervals) for v in (0.5, 0.2))
    moved = {"cramers_v": -0.3, "corrected": -0.3, "accuracy": changes.pop("accuracy", 0.005)}
    change = AssociationChange(one, two, moved, ends, 100, 0.95, 0)
    removed = DependenceChange(d, after, d - after, (low, 0.3), 1 - after / d, (0.1, 0.9), 100, 0.95, 0)
    depends = Dependence(50.0, 3.0, p, d, 0.4, {}, 999, 0, changes.pop("detectable", 0.01))
    return Bias("age", change, depends, removed, changes.pop("chance", 0.5), **changes)


@pytest.mark.parametrize(
    ("candidates", "shown", "beaten", "word", "said"),
    [
        (2, bias(), 0.99, "focal", "1 of 100"),
        (2, bias(), 0.90, "diffuse", "10 of 100"),
        (2, bias(low=0.0), 1.00, "diffuse", "not reliably"),
        (2, bias(after=0.27, low=0.01), 1.0, "diffuse", "less than 20 %"),
        (2, bias(accuracy=-0.06), 1.0, "diffuse", "falls by 6.0 points, more than 5"),
        (2, bias(chance=0.21), 1.0, "diffuse", "not reliably above chance agreement, 21.0 %"),
        (13, bias(), 1.0, "diffuse", "13 of 100 heads"),
        (0, bias(), None, "diffuse", "no head"),
        (2, bias(), None, "inconclusive", "no random heads to compare with"),
        (2, bias(inferred=True), 1.0, "inconclusive", "inferred the attribute's values"),
        (0, bias(inferred=True), None, "inconclusive", "Whether there is a bias by age is inconclusive"),
        (2, bias(inferred=True, p=0.2), 1.0, "not shown", "too often"),
        (2, bias(p=0.2), 1.0, "not shown", "too often"),
        (2, bias(p=0.2, detectable=0.16), 1.0, "inconclusive", "show only an effect √D above 0.40"),
        (2, bias(low=-0.9), 1.0, "inconclusive", "would not show even its full removal"),
        (2, bias(after=0.27, low=0.01, accuracy=-0.06), 0.9, "diffuse", "20 %; average accuracy falls by 6.0 points"),
        (2, bias(d=0.009), 1.0, "not shown", "less than 0.1"),
    ],
)
def test_the_verdict_follows_its_rule(candidates, shown, beaten, word, said) -> None:
    heads = tuple(hl.HeadId(3, i) for i in range(candidates))
    verdict = judge_fairness(shown, heads, 100, random(beaten, 100), FairnessRule())
    assert verdict.word == word
    assert said in verdict.sentence
    assert "accuracy changes by" in verdict.cost.lower()
    few = shown.dependence.detectable > 0.1
    assert verdict.conditions[0].outcome == ("not met" if word == "not shown" else "open" if few else "met")


def test_few_sets_decide_nothing() -> None:
    verdict = judge_fairness(bias(), (hl.HeadId(3, 0), hl.HeadId(3, 1)), 100, random(1.0, 7), FairnessRule())
    assert verdict.word == "inconclusive"
    assert "so few sets cannot give p below 0.125" in verdict.sentence


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        (lambda a: hl.Attribute("age", {"young": "", "old": "an old bird"}), TaskError, "Write a prompt"),
        (lambda a: hl.Attribute("age", {"young": "a young bird"}), TaskError, "two values"),
        (
            lambda a: a.with_attribute(hl.Attribute("x", {"one": "a bird", "two": "a bird"})).locate("concept"),
            TaskError,
            "Reword",
        ),
        (lambda a: a.locate("saliency"), UnknownNameError, "concept"),
        (lambda a: a.locate("concept", last=3), LocateError, "no option 'last'.*rule"),
        (lambda a: a.locate("textspan", enter="twice"), LocateError, "vectors"),
        (lambda a: a.explain([(9, 0)]), LocateError, "L9H0"),
    ],
    ids=["empty prompt", "one value", "values coincide", "locator", "option", "enter", "head"],
)
def test_bad_input_is_answered_with_what_to_do(audit: hl.Audit, what, error: type[HeadlensError], said: str) -> None:
    with pytest.raises(error, match=said):
        what(audit)


def test_a_part_without_both_groups_is_refused(audit: hl.Audit) -> None:
    manifest = audit.store.manifest.copy()
    manifest.loc[manifest["split"] == "test", "facing"] = "left"
    store = audit.store.with_manifest(manifest)
    attribute = hl.Attribute("facing", {"left": "a bird facing left", "right": "a bird facing right"})
    with pytest.raises(ManifestError, match="test part"):
        hl.Audit(audit.clip, store, audit.task, attribute)


def test_images_without_a_value_are_left_out_where_that_is_asked(audit: hl.Audit) -> None:
    manifest = audit.store.manifest.copy()
    manifest.loc[manifest.index[::7], "facing"] = "na"
    store = audit.store.with_manifest(manifest)
    attribute = hl.Attribute("facing", {"left": "a bird facing left", "right": "a bird facing right"})
    with pytest.raises(ManifestError, match="'na'"):
        hl.Audit(audit.clip, store, audit.task, attribute)
    manifest.loc[manifest.index[1::28], "facing"] = None
    store = audit.store.with_manifest(manifest)
    without = hl.Audit(audit.clip, store, audit.task, attribute, skip_unlabelled=True)
    other, empty = len(manifest.index[::7]), len(manifest.index[1::28])
    assert len(without.splits.reference) + len(without.splits.test) == len(manifest) - other - empty
    said = f"{empty} images without a value and {other} with 'na', which the attribute does not name, are left out."
    assert without.splits.note.endswith(f" {said}")
    manifest.loc[manifest["facing"] == "right", "facing"] = "up"
    with pytest.raises(ManifestError, match=r"1 value of.* None of its images has 'right'\. .*\d+ with 'up'"):
        hl.Audit(audit.clip, audit.store.with_manifest(manifest), audit.task, attribute, skip_unlabelled=True)
    with pytest.raises(ManifestError, match="skip_unlabelled=True"):
        manifest["facing"] = manifest["facing"].replace({"up": "right", "na": "left"})
        hl.Audit(audit.clip, audit.store.with_manifest(manifest), audit.task, attribute)


def test_only_the_candidates_of_an_image_are_compared(audit: hl.Audit) -> None:
    manifest = audit.store.manifest.copy()
    classes = ["landbird", "waterbird", "sparrow"]
    # Of three classes each image has two: its own, and the sparrow.
    manifest["candidates"] = [f"{label}|sparrow" for label in manifest["label"]]
    asked = hl.Audit(audit.clip, audit.store.with_manifest(manifest), hl.ZeroShotTask(classes), audit.attribute)
    results = asked.evaluate(["ablation"], n_random_sets=3, n_bootstrap=20)
    rows = asked.splits.test
    scores = asked.data.logits(asked.data.test.embedding).numpy()
    own = asked.data.labels[rows]
    expected = np.where(scores[np.arange(len(rows)), own] >= scores[:, 2], own, 2)
    np.testing.assert_array_equal(results.predictions["zero-shot"], expected)
    for predicted in results.predictions.values():
        assert np.isin(predicted, [0, 1, 2]).all()
        assert ((predicted == own) | (predicted == 2)).all()


def test_effects_head_by_head_are_the_effects_of_all_heads_at_once(audit: hl.Audit) -> None:
    logits = audit.data.logits(audit.data.test.embedding)
    all_heads = (audit.data.test.project(audit.data.classifier), audit.data.reference.project(audit.data.classifier))
    at_once = hl.locate.HeadEffects.of(logits, *all_heads)
    one_by_one = hl.locate.HeadEffects.of_view(logits, audit.data.test, audit.data.reference, audit.data.classifier)
    heads = [(3, 0), (0, 2), (2, 5)]
    torch.testing.assert_close(one_by_one.without(heads), at_once.without(heads), atol=2e-6, rtol=0)
    assert torch.equal(one_by_one.without([]), logits)
    with pytest.raises(LocateError, match="L9H0"):
        one_by_one.predictions([(9, 0)])
