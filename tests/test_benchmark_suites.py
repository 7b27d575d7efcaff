"""Every suite from its published layout to its table, on miniature trees of noise and a tiny random model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark_trees import (
    CASES,
    QUICK,
    genderbias_vl,
    occupations_in_two,
    run_case,
    small_clip,
)

import headlens as hl
from headlens import benchmark
from headlens.benchmark.collateral import celeba_questions
from headlens.benchmark.report import figures
from headlens.benchmark.suite_measures import occupation_skew
from headlens.errors import ManifestError
from headlens.steps import METHODS


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def run_once(clip, tmp_path_factory):
    found = {}

    def run(name):
        if name not in found:
            found[name] = run_case(name, clip, tmp_path_factory.mktemp(name))
        return found[name]

    return run


@pytest.mark.parametrize("name", list(CASES))
def test_every_suite_goes_from_its_folder_to_its_table(run_once, name) -> None:
    table, audit = run_once(name)
    shown = {row.method for row in table.rows if not row.failure}
    failed = {row.method for row in table.rows if row.failure}
    assert "zero-shot" in shown
    assert shown | failed >= {"ablation", "ltc", "erm probe"}
    assert table.images == len(audit.splits.test)
    assert sum(table.sizes.values()) == table.images
    text = table.markdown()
    for extra in table.extras:
        assert extra.title in text
        assert extra.rows[0].method == "zero-shot"
    plain = json.loads(table.json())
    assert [row["method"] for row in plain["rows"]] == [row.method for row in table.rows]
    assert len(table.frame()) == len(table.rows)
    assert table.latex().count("\\begin{tabular}") == 1 + len(table.extras)


def test_every_suite_has_a_case() -> None:
    assert {*CASES, "testbed"} == set(benchmark.SUITES)


def test_the_common_counter_gap_is_the_difference_of_two_accuracies(run_once) -> None:
    table, audit = run_once("counteranimal")
    extra = table.extras[0]
    rows = audit.splits.test
    right = audit.results.predictions["zero-shot"] == audit.data.labels[rows]
    common = audit.data.values[rows] == audit.attribute.value_names.index("common")
    first = extra.rows[0]
    assert first.values["gap"] == pytest.approx(right[common].mean() - right[~common].mean())
    assert first.interval["gap"][0] <= first.values["gap"] <= first.interval["gap"][1]


def test_an_occupation_is_weighed_against_its_counterpart_with_the_pairs_of_these_two(run_once) -> None:
    table, audit = run_once("genderbias-vl")
    rows = audit.splits.test
    for name, predicted in audit.results.predictions.items():
        for row, guess in zip(rows, predicted, strict=True):
            own = json.loads(audit.store.manifest["candidates"].iloc[row])
            assert audit.task.classes[guess] in own, name
    assert isinstance(audit.corrections["ltc"], benchmark.ByCandidates)
    texts = {text for pair in audit.data.pairs for text in pair}
    assert "the tools that a civil engineer works with" in texts
    assert not any("{" in text for text in texts)
    # The registry is as it was: what was built for two classes at a time ends with the run.
    assert METHODS["ltc"].builder.__module__ == "headlens.steps.methods"
    assert {one.method for one in table.extras[0].rows} >= {"zero-shot"}
    assert any("disadvantaged" in note for note in table.footnotes())


def test_the_figures_of_occupations_stand_before_and_after(run_once) -> None:
    _, audit = run_once("genderbias-vl")
    shown = {section.title: section.figure for section in figures(audit, images=0)}
    assert {"Occupations (zero-shot)", "Occupations (ltc)"} <= set(shown)
    bars = next(trace for trace in shown["Occupations (zero-shot)"].data if trace.type == "bar")
    told = hl.plots.describe(shown["Occupations (zero-shot)"])
    rows = audit.splits.test
    assert len(bars.x) == len(set(audit.data.labels[rows]))
    assert "Civil engineer (17 % women)" in told or "Sales manager (33 % women)" in told


def test_neutral_prompts_rank_the_corrected_embeddings(run_once) -> None:
    table, audit = run_once("fairface")
    extra = table.extras[0]
    by_method = {one.method: one for one in extra.rows}
    assert "erm probe" in {row.method for row in table.rows if not row.failure}
    assert "erm probe" not in by_method  # a probe has no place for other texts
    zero, shot = by_method["zero-shot"], by_method["roboshot"]
    assert set(zero.values) == {"maxskew", "skew", "ndkl"}
    assert not zero.difference
    assert any(difference != 0 for difference in shot.difference.values())
    prompts = [f"A photo of a {word} person" for word in benchmark.suites.NEUTRAL]
    texts = torch.nn.functional.normalize(audit.clip.encode_text(prompts), dim=-1)
    scores = audit.data.test.embedding @ texts.T
    k = len(scores) // 2
    names = np.asarray(audit.attribute.value_names)[audit.data.values[audit.splits.test]]
    assert zero.values["maxskew"] == pytest.approx(hl.metrics.max_skew(scores.detach(), names, k))


BESIDE = ["Other classes and attributes", "What is left of the attribute", "Retrieval"]
MEASURES = {
    "waterbirds": ["Other averages", "Disparities", *BESIDE],
    "celeba": ["Other averages", "Disparities", *BESIDE],
    "counteranimal": ["Common − counter gap", BESIDE[0], BESIDE[2]],
    "counteranimal-imagenet": ["Common − counter gap", BESIDE[0], BESIDE[2]],
    "genderbias-vl": ["Occupation gap", "Retrieval skew within occupations, top 10", *BESIDE],
    "fairface": ["Ranking by neutral prompts", *BESIDE],
}


@pytest.mark.parametrize("name", list(CASES))
def test_every_suite_measures_what_a_correction_costs_elsewhere(run_once, name) -> None:
    table, _ = run_once(name)
    assert [extra.title for extra in table.extras] == MEASURES[name]
    kept = next(extra for extra in table.extras if extra.title == "Retrieval").rows
    assert kept[0].values == {"image": 1.0, "text": 1.0}  # zero-shot finds what zero-shot finds
    assert all(0 <= value <= 1 for one in kept for value in one.values.values())
    assert any(one.values["image"] < 1 for one in kept[1:])


def test_small_groups_behind_a_measure_are_named(run_once) -> None:
    table, _ = run_once("waterbirds")
    extra = next(one for one in table.extras if one.title == "Other classes and attributes")
    assert extra.rows[0].sizes["species"] == table.images < 30
    assert extra.note.endswith("Fewer than 30 each, which says little: species, place, mean.")


def test_celebas_other_attributes_are_all_asked_and_their_mean_is_shown(run_once) -> None:
    table, audit = run_once("celeba")
    extra = next(one for one in table.extras if one.title == "Other classes and attributes")
    assert list(extra.columns) == ["mean"]
    first = extra.rows[0]
    assert set(first.values) == {"smiling", "wearing_hat", "mean"}
    assert set(extra.frame()["measure"]) == {"smiling", "wearing_hat", "mean"}
    prompts = ["a photo of a person with a serious face", "a photo of a smiling person"]
    texts = torch.nn.functional.normalize(audit.data.texts(prompts), dim=1)
    told = (audit.data.test.embedding @ texts.T).argmax(dim=1).numpy()
    assert first.values["smiling"] == pytest.approx((told == (audit.data.test.manifest["smiling"] == "yes")).mean())
    assert first.values["mean"] == pytest.approx((first.values["smiling"] + first.values["wearing_hat"]) / 2)
    names = {"Blond_Hair", "Male"} | {question.column for question in celeba_questions()}
    assert len(names) == 40


def test_skew_within_occupations_is_the_mean_of_their_own_rankings(clip, tmp_path) -> None:
    genderbias_vl(tmp_path / "data")
    asked = replace(benchmark.suite("genderbias-vl"), read=occupations_in_two, extras=(occupation_skew(4),))
    table, audit = benchmark.run(
        asked, clip, tmp_path / "data", tmp_path / "acts.zarr", methods=["roboshot", "erm probe"], **QUICK
    )
    found = {one.method: one for one in table.extras[0].rows}
    assert "erm probe" not in found
    labels, values = (of[audit.splits.test] for of in (audit.data.labels, audit.data.values))
    scores = audit.data.test.embedding @ audit.data.classifier.T
    skews = []
    for label in np.unique(labels):
        own = labels == label
        front = values[own][np.argsort(-scores[own, label].detach().numpy(), kind="stable")[:4]]
        skews.append(max(np.log(max((front == v).mean(), 0.25) / (values[own] == v).mean()) for v in (0, 1)))
    assert found["zero-shot"].values["skew"] == pytest.approx(np.mean(skews))
    assert found["roboshot"].difference["skew"] == pytest.approx(
        found["roboshot"].values["skew"] - found["zero-shot"].values["skew"]
    )


@pytest.mark.parametrize("name", [n for n in benchmark.SUITES if n != "testbed"])
def test_a_folder_of_another_layout_is_an_error_that_names_the_layout(clip, tmp_path, name) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ManifestError, match="published layout") as error:
        benchmark.run(benchmark.suite(name), clip, tmp_path / "elsewhere", tmp_path / "acts.zarr")
    assert str(tmp_path / "elsewhere") in str(error.value)
    assert not (tmp_path / "acts.zarr").exists()
