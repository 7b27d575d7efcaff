"""What correcting costs elsewhere: the numbers are those of the corrected embedding, and they survive a folder."""

from dataclasses import replace

import fairness_example
import numpy as np
import pandas as pd
import pytest
import torch

import headlens as hl
from headlens import plots
from headlens.correct import MeanAblation
from headlens.document.collateral import elsewhere_section, elsewhere_verdict
from headlens.errors import HeadlensError, TaskError
from headlens.metrics import group_accuracy
from headlens.steps import Step
from headlens.steps.collateral import CANDIDATES, _in_words

SHAPE = hl.Attribute("shape", {"round": ("a round one", "a circle"), "square": "a square one", "flat": "a flat one"})


def with_columns(audit: hl.Audit) -> hl.Audit:
    """The audit over a manifest with further columns; nothing of its results refers to them."""
    rows = np.arange(len(audit.store))
    told = audit.store.manifest
    told["shape"] = np.array(["round", "square", "flat"], dtype=object)[rows % 3]
    told["spoilt"] = [None if row % 4 else "round" for row in rows]
    told["number"] = rows % 2
    told["answer"] = np.where(rows % 2, "yes", "no")
    told["name"] = [f"image {row}" for row in rows]
    for part in ("reference", "test"):  # made from the manifest as it was
        vars(audit.data).pop(part, None)
    return audit


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    asked = with_columns(fairness_example.audit(tmp_path_factory.mktemp("collateral") / "images"))
    asked.evaluate(["ablation"], n_random_sets=2, n_bootstrap=19)
    return asked


def test_every_task_is_scored_from_the_corrected_embedding(audit: hl.Audit) -> None:
    found = audit.collateral([SHAPE], n_bootstrap=29)
    assert list(found.methods) == ["ablation", CANDIDATES]
    assert [task.name for task in found.tasks] == [
        "shape", "class cook", "class nurse", "class farmer", "presentation",
    ]  # fmt: skip
    prototypes = SHAPE.prototypes(audit.data.texts)
    truth = audit.data.test.manifest["shape"].map(SHAPE.value_names.index).to_numpy()
    for one in found.methods.values():
        corrected = MeanAblation(audit.location.spurious).fit(audit.data.reference).apply(audit.data.test).embedding
        for told, embedding in ((one.before, audit.data.test.embedding), (one.after, corrected)):
            assert told["shape"] == pytest.approx(((embedding @ prototypes.T).argmax(-1).numpy() == truth).mean())
        low, high = one.interval["shape"]
        assert low <= one.difference["shape"] <= high
    labels = audit.data.labels[audit.splits.test]
    names = np.asarray(audit.task.classes, dtype=object)[labels]
    by_class = group_accuracy(labels, audit.results.predictions["ablation"], groups=names)
    for name, accuracy in by_class.items():
        assert found.methods["ablation"].after[f"class {name}"] == pytest.approx(accuracy)
    shape = found.tasks[0]
    assert (shape.images, shape.guess) == (len(labels), pytest.approx(np.bincount(truth).max() / len(labels)))
    assert shape.prompts["round"] == ("a round one", "a circle")
    assert found.table(wide=True).shape == (10, 10)


def test_a_task_stands_under_its_column_and_images_of_other_values_are_left_out(audit: hl.Audit) -> None:
    found = audit.collateral(tasks={"shape": hl.ZeroShotTask(["round", "flat"], "one that is {}")}, n_bootstrap=19)
    truth = audit.data.test.manifest["shape"]
    assert found.tasks[0].images == int(truth.isin(["round", "flat"]).sum()) < len(truth)
    assert found.tasks[0].prompts == {"round": ("one that is round",), "flat": ("one that is flat",)}
    again = audit.collateral([hl.Attribute("shape", {"round": "one that is round", "flat": "one that is flat"})])
    assert again.methods["ablation"].after == found.methods["ablation"].after


def test_neighbours_are_counted_by_hand(audit: hl.Audit) -> None:
    found = audit.collateral([SHAPE], k=3, n_bootstrap=19)
    (share,) = found.neighbours["ablation"].values.values()
    before = torch.nn.functional.normalize(audit.data.test.embedding, dim=1)
    after = torch.nn.functional.normalize(audit.corrections["ablation"].apply(audit.data.test).embedding, dim=1)
    kept = []
    for i in range(len(before)):
        # Of one product, as in the measure: in this world two images are as near as the rounding of float32.
        near, later = (
            [j for j in (e @ e.T)[:, i].argsort(descending=True, stable=True).tolist() if j != i][:3]
            for e in (before, after)
        )
        kept.append(len(set(near) & set(later)) / 3)
    assert share == pytest.approx(np.mean(kept))
    assert (found.k, found.compared) == (3, len(before))


def test_columns_of_a_few_words_are_asked_by_themselves(audit: hl.Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    found = audit.collateral(n_bootstrap=19)
    told = " ".join(found.notes)
    # Prompts of a random text tower mean nothing, so that the column is named among those with nothing to lose.
    assert ("shape" in [task.name for task in found.tasks]) != ("On shape, the model is correct on" in told)
    for column in ("number", "answer", "name", "split"):
        assert column not in told
    answers = dict(zip(["flat", "round", "square"], torch.eye(fairness_example.EMBED), strict=False))

    def classifier(self: hl.Attribute, texts: object, unit: bool = True) -> torch.Tensor:
        return torch.stack([answers.get(name, -torch.ones(fairness_example.EMBED)) for name in self.value_names])

    monkeypatch.setattr(hl.Attribute, "prototypes", classifier)
    truth = audit.data.test.manifest["shape"].to_list()
    leaning = torch.stack([answers[name] for name in truth])
    monkeypatch.setattr(audit.data.test, "embedding", leaning, raising=False)
    asked = audit.collateral(n_bootstrap=19)
    (task,) = (task for task in asked.tasks if task.kind == "other")
    assert (task.name, task.given, task.prompts["flat"]) == ("shape", False, ("flat",))


@pytest.mark.parametrize(
    ("value", "is_words"),
    [("police officer", True), ("old-fashioned", True), ("3", False), ("a_1", False), ("Yes", False), ("", False),
     ("word " * 9, False)],
)  # fmt: skip
def test_only_words_make_a_prompt(value: str, is_words: bool) -> None:
    assert _in_words(value) is is_words


def test_a_task_without_a_column_or_without_images_is_refused(audit: hl.Audit) -> None:
    with pytest.raises(TaskError, match="no column 'mood'"):
        audit.collateral([hl.Attribute("mood", {"good": "a good one", "bad": "a bad one"})])
    with pytest.raises(TaskError, match="No scored image has shape oval or long"):
        audit.collateral([hl.Attribute("shape", {"oval": "an oval one", "long": "a long one"})])


def test_a_method_that_changes_the_classifier_alone_has_its_classes_alone(audit: hl.Audit) -> None:
    audit.evaluate(["ablation", "roboshot", "ortho-cali"], n_random_sets=2, n_bootstrap=19)
    found = audit.collateral([SHAPE], n_bootstrap=19)
    for name, correction in audit.corrections.items():
        assert ("shape" in found.methods[name].before) is not correction.changes_classifier
        assert (name in found.neighbours) is not correction.changes_classifier


def test_the_results_survive_a_folder(audit: hl.Audit, tmp_path) -> None:
    found = audit.collateral([SHAPE], n_bootstrap=19)
    folder = audit.save(tmp_path / "kept")
    again = hl.Audit.load(folder).collateral_results
    assert again is not None
    pd.testing.assert_frame_equal(again.table(), found.table())
    assert (again.tasks, again.notes, again.neighbours) == (found.tasks, found.notes, found.neighbours)


def test_without_a_correction_there_is_nothing_to_measure_and_the_report_says_so(audit: hl.Audit) -> None:
    empty = audit.with_attribute(audit.attribute)
    empty.fairness(
        "concept", rule=hl.locate.ConceptRule(0, 99, 0.5, 0), n_random_sets=2, n_bootstrap=5, n_permutations=5
    )
    assert "was not measured" in elsewhere_section(empty).text
    found = empty.collateral([SHAPE], methods=[], n_bootstrap=19)
    assert not found.methods
    assert elsewhere_section(empty).text == "No correction was made, so that nothing elsewhere can have changed."
    assert elsewhere_verdict(empty) == "Whether the correction costs other tasks was not measured."
    with pytest.raises(HeadlensError, match="Correct something first"):
        plots.collateral(found)


def with_collateral(audit: hl.Audit, found: hl.steps.CollateralResults) -> hl.Audit:
    kept = tuple(step for step in audit.record if step.call.slot != ("collateral",))
    (step,) = (step for step in audit.record if step.call.slot == ("collateral",))
    return hl.Audit.of(audit.data, (*kept, Step(step.call, found)))


def moved(audit: hl.Audit, before: float, after: float, ends: tuple[float, float]) -> hl.steps.CollateralResults:
    """Results with a made-up change of the task shape under every method."""
    found = audit.collateral_results or audit.collateral([SHAPE], n_bootstrap=19)
    methods = {
        name: replace(
            one,
            before=one.before | {"shape": before},
            after=one.after | {"shape": after},
            difference=one.difference | {"shape": after - before},
            interval=dict.fromkeys(one.interval, (-0.9, 0.9)) | {"shape": ends},
        )
        for name, one in found.methods.items()
    }
    return replace(found, methods=methods)


def test_losses_are_told_in_words_and_chance_is_not(audit: hl.Audit) -> None:
    audit.collateral([SHAPE], n_bootstrap=19)
    lost = with_collateral(audit, moved(audit, 0.5, 0.25, (-0.3, -0.2)))
    assert elsewhere_verdict(lost) == "It has a cost: shape falls by 25.0 points (50.0 % to 25.0 %)."
    section = elsewhere_section(lost)
    assert "shape falls by 25.0 points" in section.text
    assert "class cook, class nurse, class farmer change by no more than chance" in section.text
    row = section.table.text().set_index(["task", "method"]).loc[("shape", "ablation")]
    assert (row["before, %"], row["after, %"]) == ("50.0", "25.0")
    assert row["change, points"] == "-25.0 [-30.0, -20.0]"
    kept = with_collateral(audit, moved(audit, 0.5, 0.25, (-0.5, 0.1)))
    assert elsewhere_verdict(kept).startswith("No cost in accuracy was found elsewhere: neither a class nor shape")


def test_the_figure_shows_every_change_with_its_interval_in_points(audit: hl.Audit) -> None:
    found = moved(audit, 0.5, 0.25, (-0.3, -0.2))
    figure = plots.collateral(found, title="Elsewhere")
    first = figure.data[0]
    assert [trace.name for trace in figure.data] == list(found.methods)
    assert first.x[0] == pytest.approx(-25)
    assert (first.error_x.arrayminus[0], first.error_x.array[0]) == pytest.approx((5, 5))
    assert list(figure.layout.yaxis.ticktext)[-1] == "presentation (audited)"
    assert "ablation: shape -25.0 (-30.0 to -20.0)" in plots.describe(figure)
    assert plots.describe(with_collateral(audit, found).plot.collateral()) == plots.describe(figure)
    few = plots.collateral(found, most=2)
    assert len(few.layout.yaxis.ticktext) == 2
    assert "3 further classes, which change less, are not drawn." in [note.text for note in few.layout.annotations]


def test_a_column_that_the_model_can_tell_is_asked_and_one_that_it_cannot_is_a_note(tmp_path) -> None:
    clip, card = hl.load("testbed"), hl.testbed.card("testbed")
    manifest = hl.testbed.images(tmp_path / "images", n=280)
    audit = hl.Audit(
        clip,
        hl.extract(clip, manifest, tmp_path / "store.zarr"),
        hl.ZeroShotTask(card["classes"], card["templates"]),
        hl.Attribute(card["attribute"]["name"], card["attribute"]["values"]),
    )
    audit.correct("ablation")
    found = audit.collateral(n_bootstrap=9)
    assert audit.collateral(n_bootstrap=9) is found  # a call that was made is not made again
    # Species is predicted well above guessing, place is not: one is a task, the other a note.
    assert [task.name for task in found.tasks if task.kind == "other"] == ["species"]
    assert any(note.startswith("On place, the model is correct") for note in found.notes), found.notes
