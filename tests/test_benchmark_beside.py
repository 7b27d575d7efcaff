"""The measures beside accuracy by group, on the testbed: averages, disparities, and what methods cost elsewhere."""

import json
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark_trees import small_testbed

import headlens as hl
from headlens import benchmark
from headlens.benchmark.collateral import Question, elsewhere
from headlens.metrics import Measures

SOME = ["ltc", "ablation", "roboshot", "leace", "erm probe", "ablation (self)"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tmp_path_factory.mktemp("birds")


@pytest.fixture(scope="module")
def asked(world):
    return small_testbed(world)


@pytest.fixture(scope="module")
def done(world, asked):
    return benchmark.run(
        asked, hl.load("testbed"), world / "images", world / "acts.zarr", methods=SOME, n_random_sets=2, n_bootstrap=50
    )


def extra_of(table, title):
    return next(one for one in table.extras if one.title == title)


def test_disparities_are_fairlearns_and_the_attributes_own_task_is_scored(done):
    table, audit = done
    disparities, left = (extra_of(table, title) for title in ("Disparities", "What is left of the attribute"))
    rows = audit.splits.test
    labels, values = audit.data.labels[rows], audit.data.values[rows]
    for one in disparities.rows:
        predicted = audit.results.predictions[one.method]
        expected = hl.metrics.demographic_parity_difference(labels, predicted, attribute=values, positive=1)
        assert one.values["parity"] == pytest.approx(expected)
        assert one.values["odds"] == pytest.approx(
            hl.metrics.equalized_odds_difference(labels, predicted, attribute=values, positive=1)
        )
    by_method = {one.method: one for one in left.rows}
    assert "erm probe" not in by_method
    prototypes = audit.attribute.prototypes(audit.data.texts)
    told = (audit.data.test.embedding @ prototypes.T).argmax(dim=-1).numpy()
    assert by_method["zero-shot"].values["accuracy"] == pytest.approx((told == values).mean())
    assert by_method["leace"].values["accuracy"] < by_method["zero-shot"].values["accuracy"]


def test_other_averages_count_groups_once_or_as_in_the_reference_split(done):
    table, audit = done
    found = {one.method: one.values for one in extra_of(table, "Other averages").rows}
    reference = pd.Series([audit.data.groups[row] for row in audit.splits.reference]).value_counts(normalize=True)
    for name, evaluation in audit.results.evaluations.items():
        groups = pd.Series(evaluation.groups)
        assert found[name]["groups"] == pytest.approx(groups.mean())
        assert found[name]["training"] == pytest.approx((groups * reference).sum())


def test_other_questions_are_asked_of_the_corrected_embedding(done):
    table, audit = done
    extra = extra_of(table, "Other classes and attributes")
    found = {one.method: one for one in extra.rows}
    assert set(found) == {"zero-shot", "ltc", "ablation", "roboshot", "leace", "ablation (self)"}
    species = sorted(set(audit.data.test.manifest["species"]))
    texts = torch.nn.functional.normalize(audit.data.texts([f"a photo of a {one}" for one in species]), dim=1)
    truth = audit.data.test.manifest["species"].to_numpy()
    right = {}
    for name in ("zero-shot", "ltc"):
        scores = (
            audit.data.test.embedding @ texts.T
            if name == "zero-shot"
            else audit.corrections[name].logits(audit.data.test, texts)
        )
        right[name] = np.asarray(species)[scores.argmax(dim=-1)] == truth
        assert found[name].values["species"] == pytest.approx(right[name].mean())
        assert found[name].values["mean"] == pytest.approx((right[name].mean() + found[name].values["place"]) / 2)
    ltc = found["ltc"]
    assert ltc.difference["species"] == pytest.approx(right["ltc"].mean() - right["zero-shot"].mean())
    for measure in ("species", "place", "mean"):
        low, high = ltc.difference_interval[measure]
        assert low <= ltc.difference[measure] <= high
    assert ltc.sizes["species"] == len(truth)


def test_the_mean_over_questions_draws_images_once_for_all_of_them(done):
    """Two copies of one question: their mean is the question, and so is its interval up to the draw."""
    _, audit = done
    asked = [Question("species"), Question("kind")]
    manifest = audit.data.test.manifest.assign(kind=audit.data.test.manifest["species"])
    data = copy(audit.data)
    vars(data)["test"] = audit.data.test.with_manifest(manifest)
    again = hl.Audit.of(data, audit.record)
    one = benchmark.Scored(again, "leace", audit.corrections["leace"], audit.results.predictions["leace"], 2000)
    found = elsewhere(asked).measure(one)
    assert found.values["mean"] == found.values["species"] == found.values["kind"]
    for name in ("interval", "difference_interval"):
        assert getattr(found, name)["mean"] == pytest.approx(getattr(found, name)["species"], abs=0.015)
    assert elsewhere([Question("unheard of")]).measure(one) is None


def test_images_and_captions_find_each_other(done):
    table, audit = done
    found = {one.method: one for one in extra_of(table, "Retrieval").rows}
    assert "erm probe" not in found
    captions = audit.data.test.manifest["caption"].tolist()
    texts = list(dict.fromkeys(captions))
    queries = torch.nn.functional.normalize(audit.data.texts(texts), dim=1)
    for name in ("zero-shot", "roboshot"):
        embedding = (
            audit.data.test.embedding
            if name == "zero-shot"
            else audit.corrections[name].apply(audit.data.test).embedding
        )
        scores = torch.nn.functional.normalize(embedding, dim=1) @ queries.T
        to_image = [any(captions[i] == text for i in scores[:, j].topk(10).indices) for j, text in enumerate(texts)]
        to_text = [texts.index(caption) in scores[i].topk(10).indices for i, caption in enumerate(captions)]
        assert found[name].values["image"] == pytest.approx(np.mean(to_image))
        assert found[name].values["text"] == pytest.approx(np.mean(to_text))
    assert found["ltc"].values["image"] > 10 / len(captions)  # what guessing reaches
    assert found["ltc"].sizes == {"texts": len(texts), "images": len(captions)}


def test_every_form_of_the_table_holds_the_further_measures(done):
    table, _ = done
    titles = [
        "Other averages",
        "Disparities",
        "Other classes and attributes",
        "What is left of the attribute",
        "Retrieval",
    ]
    assert [extra.title for extra in table.extras] == titles
    assert [extra["title"] for extra in json.loads(table.json())["extras"]] == titles
    markdown, latex = table.markdown(), table.latex()
    assert [line[2:] for line in latex.splitlines() if line.startswith("% ")] == titles
    unknown = Measures("m", {"gap": float("nan")}, {"gap": (float("nan"), 1.0)})
    lost = replace(table, extras=(benchmark.ExtraTable("t", "n", {"gap": "gap"}, True, (unknown,)),))
    assert json.loads(lost.json())["extras"][0]["rows"][0]["interval"] == {"gap": [None, 1.0]}
    for extra in table.extras:
        assert f"**{extra.title}**" in markdown
        cell = extra.shown().text().iloc[1, 1]
        assert cell in markdown
        assert cell in latex
        frame = extra.frame()
        assert set(extra.columns) <= set(frame["measure"])
        assert {"low", "high", "difference", "difference_low"} <= set(frame.columns)


def test_an_extra_table_shows_numbers_as_shares_or_as_they_are():
    one = Measures("m", {"gap": 0.1234}, {"gap": (0.1, 0.15)}, {"gap": -0.01}, {"gap": (-0.02, 0.0)})
    shares = benchmark.ExtraTable("t", "n", {"gap": "gap"}, True, (one,))
    assert shares.shown().text().to_dict("records") == [
        {"method": "m", "gap, %": "12.3 [10.0, 15.0]", "gap, change, points": "-1.0 [-2.0, 0.0]"}
    ]
    assert replace(shares, percent=False).shown().text()["gap"].tolist() == ["0.123 [0.100, 0.150]"]
    assert shares.shown(intervals=False).rows() == [["m", "12.3", "-1.0"]]
