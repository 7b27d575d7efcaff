"""The benchmark on the testbed's own images: the table in all its forms, what each row is given, and resuming."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest
import torch
from benchmark_trees import small_testbed

import headlens as hl
from headlens import benchmark
from headlens.benchmark.head_sets import attribute_location, caption_figure, examples, head_sets
from headlens.benchmark.report import write_report
from headlens.benchmark.run import PROPOSED, method_of_proposed_pairs
from headlens.benchmark.table import FAMILIES
from headlens.correct import MeanAblation, load_correction
from headlens.errors import CorrectionError, UnknownNameError
from headlens.metrics import cramers_v
from headlens.steps import METHODS
from headlens.steps.evaluate import ingredients

SOME = ["ltc", "ablation", "roboshot", "leace", "erm probe", "ablation (self)", "mine <b>|&%", "impossible"]


@pytest.fixture(scope="module", autouse=True)
def registered():
    """What a user would write in two notebook cells."""

    @hl.steps.method("mine <b>|&%", roles=("salient",))
    def mine(known: hl.steps.Ingredients) -> hl.correct.Correction:
        return MeanAblation(known.salient)

    @hl.steps.method("impossible", roles=())
    def impossible(known: hl.steps.Ingredients) -> hl.correct.Correction:
        raise CorrectionError("a unicorn", "none", "Look elsewhere.")

    yield
    METHODS.remove("mine <b>|&%")
    METHODS.remove("impossible")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tmp_path_factory.mktemp("birds")


@pytest.fixture(scope="module")
def asked(world):
    return small_testbed(world)


@pytest.fixture(scope="module")
def done(world, asked):
    clip = hl.load("testbed")
    return benchmark.run(
        asked, clip, world / "images", world / "acts.zarr", methods=SOME, n_random_sets=5, n_bootstrap=50
    )


def row(table, method):
    return next(one for one in table.rows if one.method == method)


def test_a_method_of_a_users_own_is_a_row(done):
    table, audit = done
    mine = row(table, "mine <b>|&%")
    assert mine.family == "located heads"
    assert mine.given == ("heads",)
    predicted = audit.results.predictions["mine <b>|&%"]
    expected = (predicted == audit.data.labels[audit.splits.test]).mean()
    assert mine.average == pytest.approx(expected)
    assert "mine <b>\\|&%" in table.markdown()
    assert "mine <b>|\\&\\%" in table.latex()
    assert "mine &lt;b&gt;" in table._repr_html_()


def test_v_is_corrected_and_the_verdict_says_that_its_null_was_not_run(done):
    table, audit = done
    one, values = row(table, "ltc"), audit.data.test_values
    predicted = audit.results.predictions["ltc"]
    assert one.corrected_v == cramers_v(values, predicted, corrected=True) < one.cramers_v
    cell = table.shown().text().set_index("method").loc["ltc", "V"]
    assert cell == f"{one.corrected_v:.3f}" and {"corrected_v", "cramers_v"} <= set(table.frame())
    assert audit.results.verdict.method == "ltc"
    (note,) = [note for note in table.footnotes() if audit.results.verdict.sentence in note]
    assert "null was not run: ask for it with --null 50" in note


def test_the_null_of_the_verdict_can_be_asked(asked, world):
    folders = world / "images", world / "acts.zarr"
    table, audit = benchmark.run(
        asked, hl.load("testbed"), *folders, methods=["ltc"], n_random_sets=5, n_bootstrap=50, n_null=2
    )
    assert audit.results.verdict.null.n == 2
    assert not any("null was not run" in note for note in table.footnotes())


def test_all_registered_methods_are_asked_by_default(asked, world):
    assert {"mine <b>|&%", "ltc", "leace", "jtt probe"} <= set(METHODS)
    with pytest.raises(UnknownNameError, match="unheard of"):
        benchmark.run(asked, hl.load("testbed"), world / "images", world / "acts.zarr", methods=["unheard of"])


def test_what_cannot_be_fitted_says_why_and_costs_the_others_nothing(done):
    table, _ = done
    lost = row(table, "impossible")
    assert lost.average is None
    assert "Expected a unicorn" in lost.failure
    assert "impossible" not in table.shown().text()["method"].tolist()
    assert any("Could not be fitted here: impossible" in note and "unicorn" in note for note in table.footnotes())
    assert table.frame().set_index("method").loc["impossible", "failure"] == lost.failure


@pytest.mark.parametrize(
    ("method", "family", "read"),
    [
        ("zero-shot", "zero-shot", ()),
        ("roboshot", "texts alone", ()),
        ("ltc", "located heads", ("heads",)),
        ("leace", "fitted on reference labels", ("attribute",)),
        ("erm probe", "trained on labels", ("labels",)),
    ],
)
def test_a_row_says_what_it_was_given(done, method, family, read):
    one = row(done[0], method)
    assert (one.family, one.given) == (family, read)


def test_every_registered_method_declares_what_it_reads(done):
    """A builder that reads what it has not declared raises, so that these are the labels that a method is given."""
    _, audit = done
    known = ingredients(audit.data, audit.fitted["ltc"].located)
    for name, method in METHODS.items():
        if name != "impossible":
            method.build(known)
    assert METHODS["prototype ablation"].given == ("labels", "attribute")
    assert METHODS["leace heads"].given == ("attribute",)
    for name in ("ltc", "zero ablation", "roboshot", "ortho-cali"):
        assert METHODS[name].given == ()


def test_rows_are_ordered_by_family_and_random_heads_have_rows_of_their_own(done):
    table, audit = done
    places = [FAMILIES.index(one.family) for one in table.rows]
    assert places == sorted(places)
    control = audit.results.controls["ltc"]
    drawn = row(table, "random heads (ltc)")
    assert drawn.worst_group == pytest.approx(control.drawn.worst_group.mean())
    assert row(table, "ltc").random_p == pytest.approx(control.comparison().p)
    assert row(table, "ltc").random_sets == len(control.sets)
    assert sum(len(rows) for rows in table.families().values()) == len(table.shown().text())


def test_every_row_is_compared_with_ltc_on_the_same_images(done):
    table, _ = done
    assert row(table, "ltc").lead is None
    other, ltc = row(table, "roboshot"), row(table, "ltc")
    assert other.lead == pytest.approx(other.worst_group - ltc.worst_group)
    low, high = other.interval["lead"]
    assert low <= other.lead <= high < 0
    assert "less that of ltc, points" in table.shown().text().columns
    alone = replace(table, rows=tuple(replace(one, lead=None) for one in table.rows))
    assert "less that of ltc, points" not in alone.shown().text().columns


def test_the_forms_hold_the_same_numbers(done):
    table, _ = done
    plain = json.loads(table.json())
    frame = table.frame()
    assert [one["method"] for one in plain["rows"]] == frame["method"].tolist()
    for one, (_, own) in zip(plain["rows"], frame.iterrows(), strict=True):
        if one["average"] is not None:
            assert one["worst_group"] == own["worst_group"]
            assert one["interval"]["worst_group"] == [own["worst_group_low"], own["worst_group_high"]]
    ltc = row(table, "ltc")
    shown = f"{100 * ltc.worst_group:.1f} [{100 * ltc.interval['worst_group'][0]:.1f}"
    assert shown in table.markdown()
    assert shown in table.latex()
    assert table.csv().splitlines()[0].startswith("method,family,given,average")
    columns = table.markdown().splitlines()[0].count("|")
    assert all(line.count("|") - line.count("\\|") == columns for line in table.markdown().splitlines()[:12])
    assert ET.fromstring(table.shown().html()).tag == "table"
    assert "†" in table.markdown()
    assert any("one image's result depends" in note for note in table.footnotes())


def test_the_sizes_of_groups_are_told(done):
    table, _ = done
    told = next(note for note in table.footnotes() if note.startswith("Images a group"))
    for name, size in table.sizes.items():
        assert f"{name} {size}" in told
    many = replace(table, sizes={f"class {i}/land": 10 + i for i in range(13)})
    assert any("Images a group: 13 groups of 10 to 22" in note for note in many.footnotes())


def test_published_numbers_stand_beside_and_those_out_of_reach_are_named(done):
    table, _ = done
    told = benchmark.published_numbers("waterbirds", "ViT-H-14", "laion2b_s32b_b79k")
    assert {one.method for one in told} >= {"zero-shot", "roboshot", "ltc", "ablation textspan"}
    low = row(table, "ltc").worst_group
    above = benchmark.Published("m", "w", "ltc", "A. Author 2025", worst_group=99.9, average=99.95)
    below = benchmark.Published("m", "w", "zero-shot", "B. Author 2024", worst_group=0.1)
    beside = replace(table, published=(above, below))
    assert beside.missed() == f"ltc ({100 * low:.1f} against 99.9)"
    assert any("not reached" in note and "ltc" in note for note in beside.footnotes())
    assert "99.9 / 99.95" in beside.markdown()
    assert "A. Author 2025" in beside.markdown()
    frame = beside.frame().set_index("method")
    assert frame.loc["ltc", "published_worst_group"] == pytest.approx(0.999)
    assert frame.loc["zero-shot", "published_average"] != frame.loc["zero-shot", "published_average"]


def test_an_interrupted_run_goes_on_from_its_store(done, asked, world, monkeypatch):
    """A second run finds every image's states and passes none through the model again."""
    table, _ = done
    clip = hl.load("testbed")
    monkeypatch.setattr(type(clip.vision), "residual_parts", lambda *a, **k: pytest.fail("extracted again"))
    again, _ = benchmark.run(
        asked, clip, world / "images", world / "acts.zarr", methods=["ltc"], n_random_sets=5, n_bootstrap=50
    )
    assert row(again, "ltc") == row(table, "ltc")


def test_the_report_holds_table_figures_and_footnotes(done, tmp_path, monkeypatch):
    table, audit = done
    monkeypatch.setattr("headlens.benchmark.report.caption_figure", lambda *a: None)  # has a test of its own
    text = write_report(table, audit, tmp_path / "report.html", images=2).read_text(encoding="utf-8")
    for said in ("All methods", "By how much: margins", "Where the sets of heads read", "Could not be fitted here"):
        assert said in text
    assert "mine <b>" not in text
    assert "mine &lt;b&gt;|&amp;%" in text


def test_sets_of_heads_their_maps_and_the_words_they_go_with(done):
    _, audit = done
    attribute = attribute_location(audit)
    sets = head_sets(audit, attribute)
    assert tuple(sets["Z_SY: spurious"]) == audit.location.spurious
    assert tuple(sets["Z_Y: salient"]) == audit.location.salient
    assert not set(sets["Z_S: the attribute"]) & set(audit.location.salient)
    assert len(sets["all heads"]) == audit.store.n_layers * audit.store.n_heads
    rows = examples(audit, 3)
    worst = sorted(audit.results.evaluations["zero-shot"].groups.items(), key=lambda item: item[1])[:3]
    assert [audit.data.groups[row] for row in rows] == [name for name, _ in worst]
    assert set(rows) <= set(audit.splits.test)
    kinds = benchmark.suite("testbed").caption_kinds
    figure, shares = caption_figure(audit, sets, kinds, count=2)
    assert len(shares.captions) == 2
    assert all(shares.exact)
    assert [trace.name for trace in figure.data] == [*kinds, "other"]
    for own in shares.shares().values():
        assert sum(own.values()) == pytest.approx(1)
    assert caption_figure(audit, sets, {"class": ["unheard"], "attribute": ["of"]}) is None


def test_a_correction_by_candidates_is_saved_and_loaded(tmp_path):
    generator = torch.Generator().manual_seed(0)

    class View:
        def __init__(self, rows):
            self.rows = rows
            self.n_layers, self.n_heads, self.fingerprint = 2, 3, "model-a"
            self.embedding = states[rows].sum((1, 2))
            self.manifest = pd.DataFrame({"candidates": [cells[i % 2] for i in rows]})

        def heads(self, layer, head):
            return states[self.rows][:, layer, head]

        def subset(self, rows):
            return View(self.rows[rows])

    states = torch.randn(11, 2, 3, 5, generator=generator)
    cells = ['["baker", "nurse"]', '["pilot", "baker"]']
    twos, parts = ((0, 1), (0, 2)), (MeanAblation([(0, 1)]), MeanAblation([(1, 2)], reference="self"))
    view = View(torch.arange(11).numpy())
    fitted = benchmark.ByCandidates(parts, twos, ("baker", "nurse", "pilot")).fit(view)
    classifier = torch.randn(3, 5, generator=generator)
    found = fitted.logits(view, classifier)
    direct = parts[0].fit(view).logits(view, classifier)
    torch.testing.assert_close(found[::2], direct[::2])
    own = parts[1].fit(view).logits(view, classifier)  # the means of all eleven images, not of the five
    torch.testing.assert_close(found[1::2], own[1::2])
    assert fitted.transductive
    torch.testing.assert_close(load_correction(fitted.save(tmp_path / "c")).logits(view, classifier), found)
    edited = fitted.apply(view)
    torch.testing.assert_close(edited.embedding @ classifier.T, found)
    torch.testing.assert_close(edited.heads(1, 2)[::2], view.heads(1, 2)[::2])  # the other two's correction edits it
    with pytest.raises(CorrectionError, match="a store"):
        fitted.logits(view.embedding, classifier)
    with pytest.raises(CorrectionError, match="built for"):
        benchmark.ByCandidates(parts[:1], twos[:1], ("baker", "nurse", "pilot")).fit(view).logits(view, classifier)


def test_pairs_that_nobody_wrote_make_a_method_of_this_run_alone(done):
    _, audit = done
    method, said = method_of_proposed_pairs(audit.data)
    built = method.build(ingredients(audit.data, audit.fitted["ltc"].located))
    assert [len(one.heads) for one in built.corrections] == [
        len(audit.location.spurious), len(audit.location.salient)
    ]  # fmt: skip
    assert said[0].startswith("Pairs proposed from the text bank")
    assert PROPOSED not in METHODS


def test_an_unknown_suite_is_named():
    with pytest.raises(UnknownNameError, match="waterbirds"):
        benchmark.suite("waterbird")
