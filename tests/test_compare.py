"""Two audits side by side: what differs, differences with their intervals, and the same page as every result."""

import json
from pathlib import Path

import fairness_example
import numpy as np
import pytest
from click.testing import CliRunner
from report_page import HOSTILE, Page

import headlens as hl
from headlens.cli import app
from headlens.errors import StoreWarning
from headlens.metrics import evaluate, paired_difference
from headlens.metrics.intervals import independent_difference, pair, proportion
from headlens.steps import compare
from headlens.steps.data import AuditData


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    folder = tmp_path_factory.mktemp("birds")
    clip, card = hl.load("testbed"), hl.testbed.card("testbed", "birds")
    store = hl.extract(clip, hl.testbed.images(folder, n=200), folder / "acts.zarr")
    audit = hl.Audit(
        clip,
        store,
        hl.ZeroShotTask(card["classes"], card["templates"]),
        hl.Attribute(card["attribute"]["name"], card["attribute"]["values"]),
    )
    audit.evaluate(["ablation"], n_random_sets=3, n_bootstrap=20, n_null=0, total=0)
    audit.collateral(n_bootstrap=20)
    audit.save(folder / "plain")
    return audit


@pytest.fixture(scope="module")
def second(first: hl.Audit) -> hl.Audit:
    """The same question in other words, of a table in another order."""
    shuffled = first.store.with_manifest(first.store.manifest.sample(frac=1, random_state=3))
    audit = hl.Audit(first.clip, shuffled, hl.ZeroShotTask(first.task.classes, "an amber {}"), first.attribute)
    audit.locate(spurious=["L3H0", "L1H1"], salient=first.location.salient)
    audit.evaluate(["ablation"], n_random_sets=3, n_bootstrap=20, n_null=0, total=0)
    audit.save(first.folder.parent / "amber")
    return audit


def rows_of(found, method: str) -> dict[str, dict]:
    frame = found.accuracy.frame
    frame = frame[frame["method"] == method]
    return {row["measure"]: row for row in frame.to_dict("records")}


def by_image(audit: hl.Audit, method: str) -> np.ndarray:
    """Whether each scored image is right, in the order of the files' names."""
    correct = (audit.results.predictions[method] == audit.data.test_labels).astype(int)
    return correct[np.argsort(audit.data.test.manifest["path"].to_numpy())]


def test_differences_on_the_same_images_are_paired_in_whatever_order_they_come(first, second) -> None:
    found = compare(first, second)
    assert found.paired
    assert found.same_groups
    assert found.same_model
    groups = first.data.test_groups[np.argsort(first.data.test.manifest["path"].to_numpy())]
    before, after = by_image(first, "ablation"), by_image(second, "ablation")
    assert not np.array_equal(before, after)
    wanted = paired_difference(np.ones_like(before), after, baseline=before, groups=groups)
    rows = rows_of(found, "ablation")
    for measure, key in {"average": "average", "worst group": "worst_group", "landbird/water": None}.items():
        key = key or f"groups.{measure}"
        assert rows[measure]["difference"] == pytest.approx(wanted.difference[key])
        assert rows[measure]["difference_low"] == pytest.approx(wanted.interval[key][0])
        assert rows[measure]["difference_high"] == pytest.approx(wanted.interval[key][1])
    assert rows["average"]["first"] == first.results.evaluations["ablation"].average
    assert rows["average"]["second"] == second.results.evaluations["ablation"].average


def test_other_images_of_the_same_groups_are_two_samples(first) -> None:
    with pytest.warns(StoreWarning, match="10 of the store"):
        fewer = first.store.with_manifest(first.store.manifest.iloc[:-10])
    other = hl.Audit(first.clip, fewer, first.task, first.attribute)
    found = compare(first, other)
    assert not found.paired
    assert found.same_groups
    assert set(found.accuracy.frame["method"]) == {"zero-shot"}
    row, mine = rows_of(found, "zero-shot")["average"], first.results.evaluations["zero-shot"]
    theirs = evaluate(other.data.test_labels, other.data.zero_shot, groups=other.data.test_groups)
    low, high = (theirs.average - theirs.interval["average"][0], theirs.interval["average"][1] - theirs.average)
    assert row["difference"] == pytest.approx(theirs.average - mine.average)
    assert row["difference"] - row["difference_low"] == pytest.approx(
        np.hypot(low, mine.interval["average"][1] - mine.average)
    )
    assert row["difference_high"] - row["difference"] == pytest.approx(
        np.hypot(high, mine.average - mine.interval["average"][0])
    )


def test_no_difference_is_taken_where_the_groups_are_others(first) -> None:
    other = first.with_attribute(hl.Attribute("size", {"small": "a small bird", "large": "a large bird"}))
    found = compare(first, other)
    assert not found.same_groups
    assert found.accuracy.frame["difference"].isna().all()
    assert set(found.accuracy.frame["measure"]) == {"average", "worst group", "gap"}
    document = hl.compare(first, other)
    assert any("no difference is taken" in note for note in document.notes)
    (accuracy,) = (one for one in document.sections if one.title == "Accuracy")
    assert accuracy.table.headings == ["method", "measure", "first, %", "second, %"]


def test_what_differs_is_named_and_what_does_not_is_not(first, second) -> None:
    found = compare(first.folder, second.folder)
    assert found.names == ("plain", "amber")
    differ = found.settings.frame.set_index("setting")
    assert list(differ.loc["templates"]) == ["; ".join(first.task.templates), "an amber {}"]
    assert "collateral" in differ.index
    assert differ.loc["collateral", "second"] == "not done"
    assert {"model", "classes", "attribute", "seed"} <= set(found.shared)
    heads = {str(row["head"]): row for row in found.heads.frame.to_dict("records")}
    assert heads["L3H0"]["located_in"] == "both"
    assert heads["L1H1"]["located_in"] == "amber"
    assert (heads["L1H1"]["role_first"], heads["L1H1"]["role_second"]) == ("–", "spurious")

    same = hl.compare(first, first, names=("a", "b"))
    assert same.sentences[0] == "Nothing that was asked differs."
    same = compare(first, first).accuracy
    assert same.frame["difference"].eq(0).all()
    assert "both audits have the same prediction for every image: nothing differs" in same.caption
    assert "nothing differs" not in compare(first, second).accuracy.caption


def test_of_long_lists_the_entries_that_one_has_are_shown(first) -> None:
    templates = [f"{word} {{}}" for word in first.clip.tokenizer.words[:40]]
    one, other = (first.asking(task=hl.ZeroShotTask(first.task.classes, some)) for some in (templates[:38], templates))
    differ = compare(one, other).settings.frame.set_index("setting")
    assert differ.loc["templates", "first"] == "nothing more (and 38 that both have)"
    assert differ.loc["templates", "second"] == f"{templates[38]}; {templates[39]} (and 38 that both have)"


def test_newcombe_s_example_of_two_proportions() -> None:
    # From Wilson ends it is (0.0524, 0.3339); Clopper–Pearson ends are wider.
    p, q = 56 / 70, 48 / 80
    one, other = (pair(proportion(np.array(k), np.array(n), 0.025)) for k, n in ((56.0, 70.0), (48.0, 80.0)))
    difference, low, high = independent_difference((q, other), (p, one))
    assert difference == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=0.02)
    assert low < 0.0524
    assert high > 0.3339
    backwards = independent_difference((p, one), (q, other))
    assert backwards == pytest.approx((-difference, -high, -low))


def test_the_shell_writes_a_page_markdown_or_json(first, second, tmp_path: Path) -> None:
    def told(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    both = (first.folder, second.folder)
    assert "Worst-group accuracy (ablation)" in told(*both, "--out", tmp_path / "page.html", "--names", "one,two")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    text = " ".join(page.text)
    assert "one compared with two" in text
    assert "two − one, points" in text
    assert len(page.all("figure")) == 1
    told(*both, "--out", tmp_path / "new" / "card.md")
    assert "| zero-shot | average |" in (tmp_path / "new" / "card.md").read_text("utf-8")
    record = json.loads(told(*both, "--json"))
    assert record["paired"]
    assert record["verdicts"][1]["audit"] == "amber"
    assert {row["head"] for row in record["heads"]} >= {"L3H0", "L1H1"}


def test_the_shell_says_what_is_missing(first, tmp_path: Path) -> None:
    nothing = CliRunner().invoke(app, ["compare", str(first.folder), str(tmp_path)])
    assert "There is no saved audit in" in str(nothing.exception)
    three = CliRunner().invoke(app, ["compare", str(first.folder), str(first.folder), "--names", "a,b,c"])
    assert "is not two names" in str(three.exception)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    return fairness_example.audit(tmp_path_factory.mktemp("people") / "a")


def test_hostile_names_and_labels_are_text(people, tmp_path: Path) -> None:
    text = "".join(HOSTILE)
    audit = fairness_example.audit(
        tmp_path / "a", tuple(f"{text}{i}" for i in range(3)), text, (f"a{text}", f"b{text}"), text, "image"
    )
    found = hl.compare(audit, audit, names=(text, f"other {text}"))
    plain = hl.compare(people, people, names=("one", "other"))
    hostile, page = (Page(hl.document.render(one)) for one in (found, plain))
    assert not hostile.open
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in page.elements]
    assert "".join(hostile.text).count(HOSTILE[1]) > 10
    assert "<img src" not in hl.document.markdown(found)


def test_a_fairness_audit_is_compared_by_its_candidates(people) -> None:
    other = hl.Audit.of(AuditData(people.question, people.store, None, people.data.texts))
    other.fairness(["L0H0"], n_random_sets=3, n_bootstrap=20, n_permutations=10, n_null=0, total=0)
    found = compare(people, other, ("before", "after"))
    assert set(found.accuracy.frame["method"]) == {"zero-shot", "candidates ablated"}
    assert list(found.fairness.frame["audit"]) == ["before"] * 4 + ["after"] * 4
    assert found.main is not None
    assert found.accuracy.frame.iloc[found.main]["method"] == "candidates ablated"
    assert found.accuracy.frame.iloc[found.main]["measure"] == "worst group"
