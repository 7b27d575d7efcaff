"""The report of a fairness audit: verdict first, every number in place, 'inferred' said, and safe whatever is typed."""

import json
import platform
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from fairness_example import audit as made
from report_page import HOSTILE, Page
from tiny_clip import tiny_clip

import headlens as hl
from headlens.document import Document, render
from headlens.document.audit import audit_document as content
from headlens.document.intersections import intersection_sections
from headlens.metrics.harm import transitions_by_fate
from headlens.steps import AuditData, Step


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return made(tmp_path_factory.mktemp("fair") / "images")


@pytest.fixture(scope="module")
def page(audit):
    return content(audit)


def titles(page):
    return [section.title for section in page.sections]


def section(page, start):
    return next(one for one in page.sections if one.title.startswith(start))


def test_the_verdict_comes_first_with_its_cost(audit, page):
    verdict = audit.fairness_results.verdict
    assert page.verdict[0] == f"{verdict.headline}."
    assert [one.table.frame["numbers"].tolist() for one in page.conditions] == [verdict.table()["numbers"].tolist()]
    assert page.verdict[1].startswith("In plain words: ")
    assert page.verdict[1].endswith(verdict.cost)
    assert page.verdict[2:] == list(verdict.remarks)
    assert page.tone == ("neutral" if verdict.word == "not shown" else "caution")
    first, second, *_ = audit.location.spurious
    assert titles(page)[:7] == [
        "Does presentation go together with the predictions?",
        "Which heads",
        "What heads encode",
        f"What head {first} encodes",
        f"Texts of head {first}",
        f"Images of head {first}",
        f"What head {second} encodes",
    ]
    assert titles(page)[-9:] == [
        "Effect of each head",
        "Class by class",
        "Who is harmed",
        "Demographic parity and equalised odds",
        "Confusion by presentation",
        "Where the changed predictions went",
        "What it cost elsewhere",
        "Random-head control",
        "The data",
    ]
    tiles = {tile.name: tile.value for tile in page.tiles}
    assert tiles["Verdict"] == verdict.word
    assert tiles["p, random heads"] == f"{audit.fairness_results.control.comparison('cramers_v').p:.3f}"


def test_a_head_has_one_name_in_sentences_tables_and_headings(audit, monkeypatch):
    named = {head: f"presentation, as {head} writes it" for head in audit.explanations}
    monkeypatch.setattr(hl.Audit, "titles", named)
    page = content(audit)
    frame = section(page, "Effect of each head").table.frame.set_index("head")
    every = section(page, "What heads encode").table.frame
    assert dict(zip(map(str, every["head"]), every["label"], strict=True)) == {str(h): t for h, t in named.items()}
    for head, title in named.items():
        if head not in audit.fairness_results.candidates:
            continue
        assert frame.loc[[head], "encodes"].tolist() == [title]
        assert f"{head} ({title})" in " ".join(section(page, "Which heads").brief)
        assert section(page, f"What head {head} encodes").part == f"Head {head}: {title}"


def test_the_table_of_the_association_holds_the_results(audit, page):
    found = audit.fairness_results
    table = section(page, "Does").table.text().set_index("measure")
    before = found.change.before
    low, high = before.interval["cramers_v"]
    assert table.loc["Cramér's V", "before"] == f"{before.cramers_v:.3f} [{low:.3f}, {high:.3f}]"
    low, high = (100 * end for end in found.change.interval["accuracy"])
    difference = 100 * found.change.difference["accuracy"]
    assert table.loc["accuracy, %", "difference"] == f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"
    text = section(page, "Does").text
    assert f"V would be {found.within.expected:.3f} on average" in text
    assert f"V = {found.labels_v:.3f}" in text


def test_who_is_harmed_has_every_class_and_value_before_and_after(audit, page):
    found, data = audit.fairness_results, audit.data
    table = section(page, "Who is harmed").table.frame
    assert len(table) == len(audit.task.classes) * len(audit.attribute.value_names)
    assert table["images"].sum() == len(audit.splits.test)
    for _, row in table.iterrows():
        value = row["value"].removesuffix(" (under 30 images)")
        mine = (data.test_labels == audit.task.classes.index(row["class"])) & (
            data.test_values == audit.attribute.value_names.index(value)
        )
        assert (row["value"] != value) == (mine.sum() < 30)
        for when in ("before", "after"):
            right = found.predictions[when][mine] == data.test_labels[mine]
            assert row[f"accuracy_{when}"] == right.mean()
    text = "".join(Page(render(page)).text)
    assert "Save as CSV" in text
    assert "Headline numbers" in render(page)


def test_a_second_attribute_is_crossed_with_the_first_and_small_cells_are_marked(audit):
    found, manifest = audit.fairness_results, audit.store.manifest
    hostile, number = HOSTILE[1], np.arange(len(manifest))
    edited = manifest.assign(
        **{hostile: np.where(number % 7 < 3, "young", "old")},
        nested=manifest["label"] + " house",  # settled by the class, so that it crosses nothing
        name=number.astype(str),
    )
    edited.loc[:9, hostile] = ""
    other = hl.Audit.of(AuditData(audit.question, audit.store.with_manifest(edited), None, audit.data.texts))
    (crossed,) = intersection_sections(other, found.predictions["before"], found.predictions["after"], "ablation")
    assert crossed.title == f"Two attributes: presentation and {hostile}"
    assert intersection_sections(audit, found.predictions["before"], found.predictions["after"], "ablation") == []
    table, data = crossed.table.text(), other.data
    scored = data.test.manifest
    assert table["images"].astype(int).sum() == scored[hostile].notna().sum() < len(scored)
    for _, row in table.iterrows():
        age = row[hostile].removesuffix(" (under 30 images)")
        mine = (
            (scored["label"] == row["class"])
            & (scored["presentation"] == row["presentation"])
            & (scored[hostile] == age)
        ).to_numpy()
        assert mine.sum() == int(row["images"])
        assert (row[hostile] != age) == (mine.sum() < 30)
        right = found.predictions["after"][mine] == data.test_labels[mine]
        assert row["accuracy with ablation, %"].startswith(f"{100 * right.mean():.1f} [")
    many = edited.assign(**{f"more {i}": np.random.default_rng(i).choice(["x", "y"], len(number)) for i in range(5)})
    wide = hl.Audit.of(AuditData(audit.question, audit.store.with_manifest(many), None, audit.data.texts))
    *_, last = intersection_sections(wide, found.predictions["before"], found.predictions["after"], "ablation")
    assert last.text.endswith("Only the first 4 columns are crossed, and not more 3, more 4.")
    page = Page(render(Document(title="a", verdict="b", sections=[crossed])))
    assert not page.open
    assert len(page.all("img")) == 0


def test_the_data_has_every_group_s_images_in_both_parts(audit, page):
    table = section(page, "The data").table.frame.set_index("group")
    groups = audit.data.groups
    assert set(table.index) == set(groups)
    for name, rows in (("reference", audit.splits.reference), ("scored", audit.splits.test)):
        assert table[f"{name} images"].sum() == len(rows)
        assert all(table.loc[group, f"{name} images"] == (groups[rows] == group).sum() for group in table.index)


def test_random_heads_and_shares_are_told(audit, page):
    found = audit.fairness_results
    compared = found.control.comparison("cramers_v")
    text = section(page, "Random-head").text
    assert f"{100 * (1 - compared.share_at_least):.1f} % of them lower V by less" in text
    assert f"p = {compared.p:.3f}" in text
    table = section(page, "Effect of each head").table
    assert table.text()["head"].tolist() == [str(head) for head in found.candidates]
    assert "was not measured" in section(page, "Effect of each head").text


def test_classes_and_flow_hold_every_image(audit, page):
    found = audit.fairness_results
    table = section(page, "Class by class").table.frame
    assert table["images"].sum() == len(audit.splits.test)
    flow = section(page, "Where the changed").figure
    assert sum(sum(bar.x) for bar in flow.data) == found.transitions.sum() > 0


def test_fates_part_the_transitions():
    generator = np.random.default_rng(0)
    labels, before, after = generator.integers(0, 5, (3, 211))
    parts = transitions_by_fate(labels, before, after, 5)
    moved = before != after
    assert sum(parts.values()).sum() == moved.sum()
    assert all(np.diagonal(part).sum() == 0 for part in parts.values())
    assert parts["corrected"].sum() == (moved & (after == labels)).sum()
    assert parts["newly wrong"][2, 3] == ((before == 2) & (after == 3) & (labels == 2)).sum()


def test_each_candidate_has_its_texts_and_its_images(audit, page):
    for head in audit.location.spurious:
        texts, images = section(page, f"Texts of head {head}"), section(page, f"Images of head {head}")
        assert texts.table.frame["text"].tolist() == list(audit.explanations[head].texts)
        first = section(page, f"What head {head}").text
        assert first.startswith(audit.encoding(head).sentences[0])
        assert f"Label: {audit.explanations[head].label}." in first
        assert len(images.table.frame) == 16
        assert len(images.figure.layout.images) == 16
        assert images.table.frame["end"].tolist() == ["towards masculine"] * 8 + ["towards feminine"] * 8
    assert not [one for one in content(audit, images=0).sections if one.title.startswith("Images of")]


def test_top_images_are_those_of_the_head_along_the_concept_vector(audit, page):
    head = audit.location.spurious[0]
    own = audit.data.test.heads(*head) @ audit.location.concept.directions[0].float()
    table = section(page, f"Images of head {head}").table.frame
    best = int((own - own.mean()).argmax())
    assert table["file"][0] == audit.data.test.manifest["path"][best]
    assert float(table["score"][0]) == pytest.approx(float(own[best] - own.mean()), abs=6e-5)


def test_the_settings_repeat_the_audit(audit, page):
    exec_lines = page.commands["Python"].splitlines()
    assert 'audit.locate("concept", rule=hl.locate.ConceptRule(' in page.commands["Python"]
    (line,) = (line for line in exec_lines if line.startswith('audit.fairness("concept", rule=hl.locate.ConceptRule('))
    assert "n_random_sets=7, n_bootstrap=23, n_permutations=19" in line
    assert "audit.explain(k=2, n_bootstrap=2)" in page.commands["Python"]
    assert page.settings["made with"].startswith(f"Python {platform.python_version()}, torch {version('torch')}, ")
    assert page.settings["random sets of heads"].startswith("7, drawn with seed 0")
    compile(page.commands["Python"], "command", "exec")


def test_small_groups_are_named(page):
    notes = " ".join(page.notes)
    assert "Groups under 30 images" in notes
    assert "Classes under 30 images" in notes
    assert "cook (16)" in notes


def test_both_kinds_of_results_share_one_report(audit):
    both = made_again(audit)
    both.locate("concept+textspan")
    both.evaluate(n_random_sets=2, n_bootstrap=5)
    both.fairness(n_random_sets=3, n_bootstrap=5, n_permutations=5)
    page = content(both, images=0)
    assert page.verdict[0] == f"{both.fairness_results.verdict.headline}."
    assert f"{both.results.verdict.headline}." in page.verdict
    assert len(page.conditions) == 2
    assert titles(page).count("Which heads") == 1
    assert {"What correcting does", "Class by class"} <= set(titles(page))
    assert "audit.evaluate(" in page.commands["Python"]
    assert "audit.fairness(" in page.commands["Python"]
    render(page)


def made_again(audit, attribute=None):
    """A fresh audit of the same store and texts, with nothing located."""
    question = replace(audit.question, attribute=attribute or audit.attribute)
    return hl.Audit.of(AuditData(question, audit.store, None, audit.data.texts))


def with_results(audit, **changes):
    """An audit with some fields of its fairness results changed, and nothing else measured."""
    steps = {type(step.call).__name__: step for step in audit.record}
    fairness = Step(steps["Fairness"].call, replace(steps["Fairness"].result, **changes))
    return hl.Audit.of(audit.data, (steps["Locate"], steps["Explain"], fairness))


def test_a_report_takes_no_step(audit, tmp_path):
    again = made_again(audit)
    again.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    record = again.record
    page = again.report(tmp_path / "report.html").read_text("utf-8")
    assert "What it cost elsewhere" in page
    assert "Class by class" not in page
    assert again.record is record


def test_inferred_values_are_said_to_be_inferred_everywhere(audit):
    other = made_again(audit, hl.Attribute("warmth", {"warm": "warm one", "cold": "cold one"}))
    found = other.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    other.fairness(found.spurious[:2], n_random_sets=3, n_bootstrap=5, n_permutations=5)
    page = content(other)
    assert page.title.endswith("by warmth (inferred)")
    assert any("inferred" in sentence for sentence in page.verdict)
    assert any("inferred" in note for note in page.notes)
    for one in page.sections:
        for text in (one.title, one.caption, "" if one.table is None else one.table.caption):
            assert "warmth" not in text.replace("warmth (inferred)", "")
        if one.figure is not None and one.title.startswith("Random-head"):
            assert "inferred" in one.figure.layout.xaxis.title.text
    assert "inferred" in page.settings["attribute values"]


def test_no_candidate_is_an_answer(audit):
    empty = made_again(audit)
    rule = hl.locate.ConceptRule(0, 99, 0.5, 0)
    empty.locate("concept", rule=rule)
    assert empty.location.spurious == ()
    empty.fairness(
        "concept", rule=hl.locate.ConceptRule(0, 99, 0.5, 0), n_random_sets=3, n_bootstrap=5, n_permutations=5
    )
    page = content(empty)
    assert "No candidate was located" in section(page, "Does").text
    assert not {"Random-head control", "Effect of each head"} & set(titles(page))
    render(page)


def test_heads_from_anywhere_are_reported(audit):
    own = made_again(audit)
    own.locate(spurious=["L2H4"], source="by hand")
    own.fairness(["L2H4"], n_random_sets=3, n_bootstrap=5, n_permutations=5)
    page = content(own)
    assert section(page, "Which heads").text == "Heads by the locator by hand: L2H4."
    assert section(page, "Images of head L2H4").table.frame["end"].unique().tolist() == ["most", "least"]


def test_no_random_set_is_said_so(audit):
    text = section(content(with_results(audit, control=None), images=0), "Random-head").text
    assert "No random sets were drawn" in text


def test_image_files_that_are_gone_leave_blanks(tmp_path):
    here = made(tmp_path / "images")
    head = here.location.spurious[0]
    for path in (tmp_path / "images").glob("*.png"):
        path.unlink()
    page = content(here)
    one = section(page, f"Images of head {head}")
    assert not one.figure.layout.images
    assert "16 of them could not be read again" in one.text
    render(page)


@pytest.fixture(scope="module")
def plain(page):
    return Page(render(page))


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[1] + HOSTILE[4] + HOSTILE[-1]])
def test_hostile_words_change_nothing_of_the_page(audit, plain, text, tmp_path):
    names = tuple(f"{text}{i}" for i in range(3))
    stem = text.translate({ord("/"): "-", ord("\\"): "-", 0x2028: None})
    hostile = made(tmp_path / "images", names, text, (f"a{text}", f"b{text}"), text, stem)
    own = content(hostile)
    page = Page(render(own))
    assert not page.open
    own_scripts = [script for attributes, script in page.scripts if attributes.get("type") is None]
    assert own_scripts == [script for attributes, script in plain.scripts if attributes.get("type") is None]
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    known = {(tag, name) for tag, attributes in plain.elements for name in attributes}
    assert {(tag, name) for tag, attributes in page.elements for name in attributes} <= known
    assert "".join(page.text).count(text) > 30
    for attributes, script in page.scripts:
        if attributes.get("type") == "application/json":
            drawn = json.loads(script)
            drawn["layout"]["meta"] = None
            assert not set(text) & set("<%") or all(
                sign not in str(drawn) for sign in ("<script", "<img", "<a ", "%{x}")
            )


def test_maps_show_both_ends_where_the_model_is_at_hand(audit, without_shape_checks):
    own = with_results(audit)
    own.data = replace(own.data, clip=tiny_clip())  # not a HookedCLIP, which the shape checks would ask for
    figure = section(content(own, images=3), "Where the candidates").figure
    assert len(figure.layout.images) == 3 * (1 + len(own.location.spurious))
    told = " ".join(note.text for note in figure.layout.annotations)
    assert "masculine" in told
    assert "feminine" in told


def test_a_correction_tells_heads_first_then_what_it_does_what_it_costs_and_the_control(audit):
    own = made_again(audit)
    own.locate(spurious=["L2H4"], source="by hand")
    own.evaluate(["ablation"], n_random_sets=2, n_bootstrap=5)
    own.collateral(n_bootstrap=5)
    page = content(own, images=3)
    found = titles(page)
    assert [one.title for one in page.conditions] == ["Conditions of the verdict (ablation)"]
    assert found[0] == "Which heads"
    order = [next(i for i, one in enumerate(found) if one.startswith(start)) for start in (
        "Images of head", "What correcting does", "Group by group", "What it cost elsewhere",
    )]  # fmt: skip
    assert order == sorted(order)
    assert page.verdict[0] == f"{own.results.verdict.headline}."
    assert page.verdict[2:] == list(own.results.verdict.remarks)
    before = own.results.evaluations["zero-shot"]
    worst = min(before.groups, key=before.groups.get)
    assert f"the model does worst on {worst}, where {100 * before.worst_group:.1f} %" in page.verdict[1]
    assert {"zero-shot", "ablation", "worst group"} <= set(page.words)
    assert "ltc" not in page.words


def test_what_was_given_to_collateral_is_in_the_settings(audit):
    own = with_results(audit)
    own.store.manifest["shape"] = [("round", "flat")[i % 2] for i in range(len(own.store))]
    vars(own.data).pop("test", None)
    own.collateral([hl.Attribute("shape", {"round": "a round one", "flat": "a flat one"})], n_bootstrap=5)
    line = content(own, images=0).commands["Python"].splitlines()[-1]
    assert line.startswith(
        'audit.collateral([hl.Attribute("shape", {"round": ["a round one"], "flat": ["a flat one"]})]'
    )
    assert "n_bootstrap=5" in line
    del own.store.manifest["shape"]
