"""The explorer without a browser: its state, what it writes down, and the figures and scores that it calls."""

import json
import threading
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import headlens as hl
from headlens.document.correction import ablation_section
from headlens.explore import ExplorerState
from headlens.explore.state import NAME
from headlens.locate import OBJECTIVES, Objective
from headlens.plots import describe
from headlens.steps import SCORES

SCENERY = "scenery:dry=a photo of dry land|a photo of the land,wet=a photo of open water"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[hl.HookedCLIP, hl.HeadStore]:
    folder = tmp_path_factory.mktemp("explore")
    clip = hl.load("testbed")
    return clip, hl.extract(clip, hl.testbed.images(folder / "birds", n=160), folder / "store.zarr")


def new_audit(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> hl.Audit:
    clip, store = world
    card = hl.testbed.card("testbed", "birds")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    attribute = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    return hl.Audit(clip, store, task, attribute, pairs=[tuple(pair) for pair in card["pairs"]])


@pytest.fixture
def state(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> ExplorerState:
    return ExplorerState(new_audit(world), n_random_sets=11, n_bootstrap=53)


# ---- what the explorer calls ----------------------------------------------------------------------------------------


def test_attribution_of_a_pair_is_the_mean_of_the_heads_parts(state: ExplorerState) -> None:
    audit = state.audit
    scores = audit.scores("attribution", between=("waterbird", "landbird"))
    parts = audit.data.reference.project(audit.data.classifier)
    expected = (parts[..., 1] - parts[..., 0]).mean(0)
    torch.testing.assert_close(scores.values.float(), expected, atol=1e-6, rtol=1e-4)
    # A name that is no class is a prompt of its own; a class's prompt is the class.
    prompts = audit.scores("attribution", between=("a photo of a waterbird", "landbird"))
    torch.testing.assert_close(prompts.values, scores.values, atol=1e-7, rtol=1e-5)


def test_the_effect_of_a_head_is_what_ablating_it_alone_gains(state: ExplorerState) -> None:
    audit, rows = state.audit, state.audit.splits.reference
    scores = audit.scores("effect", objective="average")
    head = hl.HeadId(3, 0)
    view = hl.correct.MeanAblation([head]).fit(audit.data.reference).apply(audit.data.reference)
    right = [
        (audit.data.logits(of.embedding).argmax(-1).numpy() == audit.data.labels[rows]).mean()
        for of in (audit.data.reference, view)
    ]
    assert scores[head] == pytest.approx(right[1] - right[0])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_has_an_effect(state: ExplorerState, objective: str) -> None:
    scores = state.show("effect", objective=objective)
    audit = state.audit
    effects, rows = audit.evidence.effects, audit.splits.reference
    head, improvement = max(scores, key=lambda one: one[1])
    measure = Objective(objective, torch.as_tensor(audit.data.labels[rows]), torch.as_tensor(audit.data.values[rows]))
    before, after = (float(measure.score(effects.predictions(heads)[:, None])[0]) for heads in ((), [head]))
    # Above zero is what the name says: a measure that is better where it is lower decreases.
    lower = objective.endswith("_v")
    assert scores.name.startswith(f"ablated alone: {'decrease in' if lower else 'gain in'} ")
    assert improvement == pytest.approx(before - after if lower else after - before, abs=1e-6)
    assert state.options == {"objective": objective}


@pytest.mark.parametrize("head", ["L3H0", "3.0", (3, 0)])
def test_a_figure_of_a_head_takes_it_in_every_form(state: ExplorerState, head: hl.heads.HeadLike) -> None:
    state.audit.explain(["L3H0"], n_bootstrap=0)
    plot = state.audit.plot
    assert plot.textspans(head).layout.title.text.startswith("L3H0: ")
    assert describe(plot.images(head)) == describe(plot.images(hl.HeadId(3, 0)))
    assert "Selected heads: L3H0." in describe(plot.heatmap("attribution", [head]))
    assert "the maps of L3H0 over" in describe(plot.tokens(0, [head]))


@pytest.mark.parametrize("name", ["contrastive", "concept"])
def test_a_locators_score_is_the_locators_own(state: ExplorerState, name: str) -> None:
    found = state.audit.with_attribute(state.audit.attribute).locate(name)
    own = found.concept.scores("part") if name == "concept" else found.scores()
    shown = state.audit.scores(name)
    assert torch.equal(shown.values, own.values)
    assert shown.selection == tuple(found.spurious)


def test_a_score_of_ones_own_is_one_function(state: ExplorerState) -> None:
    @SCORES.register("layer")
    def layer(evidence):
        return hl.HeadScores("layer", torch.arange(4.0)[:, None].expand(4, 8))

    try:
        assert state.show("layer")[3, 1] == 3
        assert describe(state.heatmap()).startswith("layer")
    finally:
        SCORES.remove("layer")


def test_ablating_heads_is_mean_ablation_judged_as_ever(state: ExplorerState) -> None:
    audit = state.audit
    heads = [(3, 0), (2, 1)]
    found = audit.ablate(heads, n_random_sets=11, n_bootstrap=53)
    rows = audit.splits.test
    groups = [audit.data.groups[row] for row in rows]
    view = hl.correct.MeanAblation(heads).fit(audit.data.reference).apply(audit.data.test)
    after = audit.data.logits(view.embedding).argmax(-1).numpy()
    expected = hl.metrics.group_accuracy(audit.data.labels[rows], after, groups=groups)
    assert found.after.groups == pytest.approx(expected.to_dict())
    assert found.association.after.cramers_v == pytest.approx(hl.metrics.cramers_v(audit.data.values[rows], after))
    control = found.control
    assert control is not None
    assert len(control.sets) == 11
    assert all(sorted(h.layer for h in one) == [2, 3] and set(one) != set(heads) for one in control.sets)
    table = found.table().set_index("measure")
    assert {"average", "worst group", "gap", "landbird/land", "Cramér's V"} <= set(table.index)
    np.testing.assert_allclose(table["difference"], table["after"] - table["before"])
    assert (table["low"] <= table["difference"] + 1e-9).all()
    assert table.loc["worst group", "p"] == control.comparison().p
    # V is no share of images, whether it is corrected or not.
    for shown in (found.shown(), ablation_section(found).table):
        of_v = shown.text().set_index("measure")["before"]
        assert of_v["Cramér's V, bias-corrected"] == f"{found.association.before.corrected:.3f}"
        assert of_v["Cramér's V"] == f"{found.association.before.cramers_v:.3f}"


def test_half_a_layer_has_a_control_no_set_has_none_and_no_head_is_an_error(state: ExplorerState) -> None:
    half = [(3, head) for head in range(5)]
    found = state.audit.ablate(half, n_random_sets=3, n_bootstrap=11)
    assert found.control is not None and len(found.control.sets) == 3
    assert state.audit.ablate(half, n_random_sets=0, n_bootstrap=11).table()["random"].isna().all()
    with pytest.raises(hl.errors.LocateError, match="No head is chosen"):
        state.audit.ablate([])


def test_every_figure_stands_alone(state: ExplorerState) -> None:
    state.audit.explain(n_bootstrap=0)
    state.audit.correct("ablation")
    plot = state.audit.plot
    figures = [
        plot.heatmap(),
        plot.heatmap("concept", selected=[(0, 1)]),
        plot.textspans((3, 0)),
        plot.images((3, 0), count=2),
        plot.images((3, 0), count=2, between=("a photo of the water", "a photo of the land")),
        plot.tokens(7),
        plot.tokens(7, [(3, 0)], between=("waterbird", "landbird")),
        plot.margins(),
    ]
    with pytest.raises(hl.HeadlensError, match=r"Call audit.evaluate\(\) first"):
        plot.groups()
    state.audit.evaluate(["ablation"], n_random_sets=3, n_bootstrap=11)
    plot = state.audit.plot
    figures += [plot.groups(), plot.controls()]
    assert all(isinstance(figure, go.Figure) and describe(figure) for figure in figures)
    with pytest.raises(hl.HeadlensError, match="random heads"):
        plot.controls("zero-shot")
    with pytest.raises(hl.HeadlensError, match="no image 160"):
        plot.tokens(160)


def test_margins_are_above_zero_where_the_image_is_right(state: ExplorerState) -> None:
    figure = hl.plots.margins({"zero-shot": np.array([0.3, -0.1, 0.2])}, ["a/x", "a/y", "a/x"])
    assert list(figure.data[0].median) == [0.25, -0.1]
    with pytest.raises(hl.HeadlensError, match="3 margins"):
        hl.plots.margins({"zero-shot": np.zeros(3)}, ["a/x", "a/y"])


# ---- the state ------------------------------------------------------------------------------------------------------


def test_it_opens_on_what_was_located(state: ExplorerState) -> None:
    assert state.audit.location is not None
    assert state.selection == state.located == tuple(state.audit.location.spurious)
    assert state.head == state.selection[0]
    row = np.flatnonzero(state.audit.splits.test == state.image)
    assert len(row) == 1
    assert "classified as" in describe(state.tokens())


def test_an_explored_audit_keeps_its_own_results(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> None:
    audit = new_audit(world)
    results = audit.evaluate(["ablation"], n_random_sets=3, n_bootstrap=11)
    location = audit.location
    state = ExplorerState(audit)
    state.ask(SCENERY)
    state.ask(locator="concept")
    assert audit.results is results
    assert audit.location is location
    state.ask(hl.Attribute(audit.attribute.name, audit.attribute.values), locator="contrastive")
    assert state.audit is audit  # back at the first question, everything found is there again


def test_a_new_attribute_changes_heads_heatmap_and_groups(state: ExplorerState) -> None:
    state.show("concept")
    before, groups = state.heatmap().data[0].z.copy(), set(state.zero_shot.groups)
    state.ablate()
    state.ask(SCENERY)
    assert state.audit.attribute.values["dry"] == ("a photo of dry land", "a photo of the land")
    assert state.audit.data.inferred
    assert set(state.zero_shot.groups) == {"landbird/dry", "landbird/wet", "waterbird/dry", "waterbird/wet"} != groups
    assert not np.allclose(before, state.heatmap().data[0].z)
    assert state.selection == state.located
    assert state.ablated is None
    assert state.attribute_text == SCENERY
    again = state.audit
    state.ask(state.attribute_text)
    assert state.audit is again  # nothing new was asked
    # A column alone takes the manifest's own labels.
    state.ask("background")
    assert not state.audit.data.inferred
    assert state.audit.attribute.values["land"] == ("a photo of land",)


def test_a_new_question_goes_over_the_head_states_only_where_it_must(
    state: ExplorerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    for score in ("concept", "attribution", "effect"):  # what the reference images alone determine is made once
        state.show(score)
    state.ablate()
    passes: list[int] = []
    blocks = hl.HeadStore.blocks

    def counted(store: hl.HeadStore, *arguments: object, **options: object) -> object:
        passes.append(len(store))
        return blocks(store, *arguments, **options)

    monkeypatch.setattr(hl.HeadStore, "blocks", counted)
    monkeypatch.setattr("headlens.steps.data.head_moments", lambda _: pytest.fail("moments were made again"))
    shown = {}
    for score in ("attribution", "contrastive", "effect"):
        state.show(score)
        state.ask(SCENERY if score != "effect" else SCENERY.replace("dry land", "green land"))
        shown[score] = state.show(score).values
        state.click((3, 0))
        state.ablate()
    assert passes == []  # the classes are the same
    state.show("concept")
    assert passes == [len(state.audit.data.reference)]  # the attribute's own direction
    state.ask(classes="landbird, waterbird, duck")
    state.heatmap()
    assert len(passes) == 3  # the new classes, and the concept's direction again

    # What was handed on is what a question asked from the beginning finds.
    monkeypatch.undo()
    alone = ExplorerState(new_audit((state.audit.clip, state.audit.store)), n_random_sets=11, n_bootstrap=53)
    alone.ask(SCENERY)
    for score in ("attribution", "contrastive"):
        torch.testing.assert_close(alone.show(score).values, shown[score])


def test_scores_of_other_classes_are_not_taken_over(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> None:
    audit = new_audit(world)
    scores = audit.data.scores
    other = audit.asking(task=hl.ZeroShotTask(["landbird", "waterbird", "duck"])).data
    assert other.images.moments is audit.data.images.moments  # also what is made only now
    assert other.scores.logits.shape[-1] == 3
    assert audit.with_attribute(audit.attribute).data.scores.margins is scores.margins


def test_new_classes_and_templates(state: ExplorerState) -> None:
    first = state.audit
    state.ask(classes="landbird, waterbird, duck", templates="a photo of a {} | a picture of a {}")
    assert state.audit.task.classes == ("landbird", "waterbird", "duck")
    assert state.audit.task.templates == ("a photo of a {}", "a picture of a {}")
    assert state.between == ("landbird", "waterbird")
    assert (state.classes_text, state.templates_text) == (
        "landbird, waterbird, duck",
        "a photo of a {} | a picture of a {}",
    )
    state.show("attribution", between=("duck", "landbird"))
    state.ask(classes="landbird, waterbird", templates=" | ".join(first.task.templates))
    assert state.audit is first
    assert state.between == ("landbird", "waterbird")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"attribute": "scenery:dry"}, "name:value=prompt"),
        ({"attribute": ""}, "is empty"),
        ({"attribute": "nowhere"}, "nowhere"),
        ({"attribute": "odd:a=a zebra,b=a photo of the land"}, "zebra"),
        ({"attribute": "same:a=a photo of the land,b=a photo of the land"}, "does not distinguish"),
        ({"classes": "landbird"}, "two classes or more"),
        ({"classes": "landbird, duck"}, "waterbird"),
        ({"templates": "no place"}, "one {}"),
        ({"locator": "guess"}, "no locator 'guess'"),
    ],
)
def test_a_slip_leaves_everything_as_it_was(state: ExplorerState, asked: dict[str, str], said: str) -> None:
    state.show("concept")
    state.ablate()
    audit, shown, ablated, selection = state.audit, state.scores, state.ablated, state.selection
    with pytest.raises(hl.HeadlensError, match=said) as problem:
        state.ask(**asked)
    assert problem.value.remedy
    assert (state.audit, state.scores, state.ablated, state.selection) == (audit, shown, ablated, selection)
    assert state.locator == "contrastive"


@pytest.mark.usefixtures("without_shape_checks")
def test_a_score_that_cannot_be_had_leaves_the_one_before(state: ExplorerState) -> None:
    shown = state.show("contrastive")
    for bad in ({"score": "magic"}, {"score": "attribution", "between": ("duck", "duck")}, {"between": ("duck",)}):
        with pytest.raises(hl.HeadlensError):
            state.show(**bad)
    with pytest.raises(hl.HeadlensError, match="no objective"):
        state.show("effect", objective="luck")
    assert (state.score, state.scores) == ("contrastive", shown)
    assert state.options == {}


def test_where_nothing_can_be_located_the_rest_still_works(state: ExplorerState, monkeypatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise hl.errors.LocateError("wrong images", "none", "Take others.")

    monkeypatch.setattr(hl.Audit, "locate", nothing)
    state.ask(SCENERY)
    assert state.selection == state.located == ()
    assert state.note == "Nothing is located. Expected wrong images, but got none. Take others."
    assert isinstance(state.heatmap(), go.Figure)
    with pytest.raises(hl.errors.LocateError, match="No head is chosen"):
        state.ablate()
    assert "audit.locate(" not in state.code()


def test_clicking_selects_and_adding_collects(state: ExplorerState) -> None:
    state.click((2, 3))
    assert state.selection == ((2, 3),)
    state.click((3, 1), add=True)
    assert state.selection == ((2, 3), (3, 1))
    state.ablate()
    state.click((2, 3), add=True)
    assert (state.selection, state.head, state.ablated) == (((3, 1),), (3, 1), None)
    state.click((3, 1), add=True)
    assert (state.selection, state.head) == ((), None)  # no details of a head without a selection
    state.select("0.7, L3H0")
    assert state.selection == ((0, 7), (3, 0))
    for wrong in ("4.0", "1.1, 1.1", "three"):
        with pytest.raises(hl.errors.LocateError):
            state.select(wrong)
    with pytest.raises(hl.errors.LocateError):
        state.click((0, 8))
    assert state.selection == ((0, 7), (3, 0))
    state.select("")
    assert state.selection == ()
    assert "L0H7" not in describe(state.heatmap())


def test_pictures_name_their_rows_and_an_image_can_be_chosen(state: ExplorerState) -> None:
    rows = state.rows_of_images()
    shown = describe(state.images())
    assert len(rows) == 12
    assert all(f"#{row}" in shown for row in rows)
    state.choose_image(rows[3])
    assert describe(state.tokens()).startswith("1 images") and f"{rows[3]}: " in describe(state.tokens())
    with pytest.raises(hl.errors.StoreError):
        state.choose_image(160)
    assert state.image == rows[3]


def test_texts_are_told_by_the_pointer_once_heads_are_explained(state: ExplorerState) -> None:
    assert "<br>" not in str(state.heatmap().data[0].text[0][1])
    state.textspans()
    text = state.audit.explanations[hl.HeadId(0, 1)].texts[0]
    assert text.split()[0] in str(state.heatmap().data[0].text[0][1])
    explained = state.audit.explanations
    state.ask(SCENERY)
    assert state.audit.explanations == explained  # the same heads and images: nothing is explained twice


def test_every_step_can_be_undone_and_shown_again(state: ExplorerState) -> None:
    first, opened = state.audit, state.selection
    state.ask(SCENERY)
    state.show("attribution", between=("waterbird", "landbird"))
    state.click((2, 3))
    state.ablate()
    found, values = state.ablated, state.scores.values
    assert [said.split()[0] for said in state.steps] == ["opened", "asked", "shown:", "selected", "ablated"]
    state.undo()
    assert (state.ablated, state.selection) == (None, ((2, 3),))
    state.go_to(0)
    assert (state.audit, state.selection, state.score) == (first, opened, "contrastive")
    assert set(state.zero_shot.groups) == {"landbird/land", "landbird/water", "waterbird/land", "waterbird/water"}
    state.undo()
    assert state.step == 0
    for _ in range(9):
        state.redo()
    assert state.ablated is found
    assert torch.equal(state.scores.values, values)
    # Doing something else after going back drops what came after; what changes nothing is no step.
    state.go_to(1)
    state.click((3, 0))
    state.click((3, 0))
    assert [said.split()[0] for said in state.steps] == ["opened", "asked", "selected"]
    with pytest.raises(hl.HeadlensError, match="no step 7"):
        state.go_to(7)


def test_it_opens_on_the_score_that_the_locator_went_by(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> None:
    for locator, score in (("contrastive", "contrastive"), ("concept", "concept")):
        audit = new_audit(world)
        audit.locate(locator)
        assert ExplorerState(audit).score == score


def test_images_are_ordered_along_the_question(state: ExplorerState) -> None:
    state.click((3, 0))
    rows, values = state.rows_of_images(), state.audit.data.values
    # The head that carries the background: one value at one end, the other at the other.
    assert len({values[row] for row in rows[:6]}) == len({values[row] for row in rows[6:]}) == 1
    assert values[rows[0]] != values[rows[-1]]
    state.order_images("norm")
    assert state.rows_of_images() != rows
    with pytest.raises(hl.HeadlensError, match="ordered along"):
        state.order_images("luck")


def test_a_column_of_the_manifest_can_be_chosen(state: ExplorerState) -> None:
    assert "background" in state.columns
    assert not {"path", "label", "split"} & set(state.columns)


# ---- taking it away -------------------------------------------------------------------------------------------------


def test_the_python_reproduces_the_state(state: ExplorerState) -> None:
    state.ask(SCENERY, templates="a picture of a {}")
    state.show("effect", objective="worst_group")
    state.click((3, 0))
    state.click((2, 1), add=True)
    state.textspans()
    found = state.ablate()
    made: dict = {}
    exec(state.code(), made)
    assert made["audit"].identity == state.audit.identity
    assert made["table"].equals(found.table())
    shown = [state.heatmap(), state.textspans(), state.images(), state.tokens()]
    assert [describe(figure) for figure in made["figures"]] == [describe(figure) for figure in shown]


def test_it_goes_on_after_a_restart(
    state: ExplorerState, world: tuple[hl.HookedCLIP, hl.HeadStore], tmp_path: Path
) -> None:
    state.ask(SCENERY)
    state.show("effect", objective="average")
    state.click((2, 3))
    state.click((3, 0), add=True)
    state.choose_image(31)
    state.order_images("classes")
    found = state.ablate()
    state.save(tmp_path / "kept")
    audit = hl.Audit.load(tmp_path / "kept", clip=world[0])
    assert audit.folder == tmp_path / "kept"
    again = ExplorerState(audit)
    assert again.restore(tmp_path / "kept")
    same = (
        "score",
        "objective",
        "between",
        "selection",
        "head",
        "image",
        "locator",
        "along",
        "n_random_sets",
        "n_bootstrap",
    )
    assert [getattr(again, name) for name in same] == [getattr(state, name) for name in same]
    assert again.attribute_text == SCENERY
    assert again.ablated is not None
    assert again.ablated.table().equals(found.table())
    assert not ExplorerState(audit).restore(tmp_path)


def test_a_record_of_another_audit_is_refused(state: ExplorerState, tmp_path: Path) -> None:
    state.save(tmp_path / "one")
    selection = state.selection
    kept = json.loads((tmp_path / "one" / NAME).read_text())
    for damage in ({"identity": "other"}, {"format": 9}, {"selection": ["9.9"]}, {"score": "magic"}):
        (tmp_path / "one" / NAME).write_text(json.dumps(kept | damage))
        with pytest.raises(hl.errors.OutputError, match=NAME):
            state.restore(tmp_path / "one")
    assert state.selection == selection
    other = ExplorerState(state.audit.with_attribute(state.audit.attribute))
    other.ask(SCENERY)
    with pytest.raises(hl.errors.OutputError, match="another audit"):
        other.save(tmp_path / "one")


# ---- the widgets ----------------------------------------------------------------------------------------------------


def test_the_widgets_only_pass_on(world: tuple[hl.HookedCLIP, hl.HeadStore], tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets", reason="the extra headlens[notebook] is not installed")
    pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
    audit = new_audit(world)
    shown = audit.explore()
    state = shown.state
    state.n_random_sets, state.n_bootstrap = 7, 23
    assert "landbird, waterbird by background" in shown.question.value
    drawn = shown.heatmap.figure
    shown.attribute.value = SCENERY
    assert state.audit.attribute.name == "scenery"
    assert "landbird/wet" in shown.groups.value
    shown.score.value = "concept"
    assert shown.heatmap.figure != drawn
    shown.attribute.value = "scenery:<script>=1"
    assert "role='alert'" in shown.message.value
    assert "<script>" not in shown.message.value
    assert shown.attribute.value == "scenery:<script>=1"
    assert state.attribute_text == SCENERY
    # The click of the front end, as the pane sends it.
    shown.heatmap._handle_custom_msg({"x": 3, "y": 2, "number": -1, "add": False}, [])
    shown.heatmap._handle_custom_msg({"x": 0, "y": 3, "number": -1, "add": True}, [])
    assert shown.selection.value == "L2H3, L3H0"
    shown.ablate.click()
    assert "headlens-ablated" in shown.effect.value
    assert shown.accuracies.figure and shown.random.figure and shown.random_v.figure
    shown.pictures._handle_custom_msg({"x": 0, "y": 0, "number": 4, "add": False}, [])
    assert state.image == shown.image.value == state.rows_of_images()[4]
    assert shown.copy.text == shown.code.value == state.code()
    shown.folder.value = str(tmp_path / "kept")
    shown.save.click()
    assert "Saved to" in shown.message.value
    again = hl.Audit.load(tmp_path / "kept", clip=world[0]).explore()
    assert again.selection.value == "L2H3, L3H0"
    assert again.score.value == "concept"
    assert "headlens-ablated" in again.effect.value
    (tmp_path / "kept" / NAME).write_text("{}")
    assert NAME in hl.Audit.load(tmp_path / "kept", clip=world[0]).explore().message.value


def test_a_click_during_a_step_waits_for_its_turn(world: tuple[hl.HookedCLIP, hl.HeadStore]) -> None:
    pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
    shown = new_audit(world).explore()
    state, nothing_yet = shown.state, shown.effect.value
    state.n_random_sets, state.n_bootstrap = 7, 23
    begun, go = threading.Event(), threading.Event()
    ablate_at_once = state.ablate

    def ablate_later() -> object:
        begun.set()
        assert go.wait(30)
        return ablate_at_once()

    state.ablate = ablate_later  # type: ignore[method-assign]
    click = {"x": 3, "y": 2, "number": -1, "add": False}
    steps = [
        threading.Thread(target=shown.ablate.click),
        threading.Thread(target=shown.heatmap._handle_custom_msg, args=(click, [])),
    ]
    steps[0].start()
    assert begun.wait(30)
    steps[1].start()
    go.set()
    for step in steps:
        step.join(60)
    assert shown.selection.value == "L2H3"
    assert shown.effect.value == nothing_yet  # not the effect of the selection before


def test_without_the_images_and_the_model_all_else_goes_on(
    state: ExplorerState, world: tuple[hl.HookedCLIP, hl.HeadStore], tmp_path: Path
) -> None:
    pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
    state.explain()
    state.save(tmp_path / "kept")
    shown = hl.Audit.load(tmp_path / "kept").explore()
    assert "Token maps pass an image through the model again" in shown.message.value
    assert shown.tokens.figure == ""
    assert shown.heatmap.figure and shown.texts.figure
    shown.attribute.value = "size:small=one small bird|a tiny bird here,large=one large bird there"
    assert "Give the model as well" in shown.message.value


def test_a_missing_extra_is_told(state: ExplorerState, monkeypatch: pytest.MonkeyPatch) -> None:
    from headlens.explore import opening

    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(hl.HeadlensError, match=r"headlens\[notebook\]"):
        state.audit.explore()
