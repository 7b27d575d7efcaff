"""The figures of a fairness audit: classes, flow, shares, candidates, and random heads in V."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headlens import plots
from headlens.errors import HeadlensError, LocateError
from headlens.heads import HeadId
from headlens.locate import Candidates, ConceptRule, ConceptScores, ConceptSpans, Location
from headlens.metrics import Bootstrap, association_change
from headlens.steps import ClassEffect, HeadShare, TotalEffect

HOSTILE = '<script>alert("1")</script> %{x} $y$ ' + "very long " * 30


def effect(name="cook", images=53, v=(0.4, 0.1), accuracy=(0.5, 0.75), gap=(0.25, 0.125)):
    return ClassEffect(name, images, *accuracy, *v, *gap, 11, 7, 3)


EFFECTS = (
    effect("cook", v=(0.2, 0.3)),
    effect("nurse", 29, v=(0.6, 0.1)),
    effect("farmer", 0, v=(0.2, 0.2), accuracy=(np.nan, np.nan), gap=(np.nan, np.nan)),
)


def ends(figure, panel):
    """The marks of one panel: before and after."""
    axis = "x" if panel == 0 else f"x{panel + 1}"
    return [t for t in figure.data if t.type == "scatter" and t.mode == "markers" and t.xaxis == axis and t.text]


def test_classes_stand_in_the_order_of_their_change_with_both_ends_where_the_numbers_say():
    figure = plots.classes(EFFECTS)
    assert [tick.split("  ")[0] for tick in figure.layout.yaxis.ticktext] == ["nurse", "farmer", "cook"]
    before, after = ends(figure, 0)
    assert before.x == (0.6, 0.2, 0.2)
    assert after.x == (0.1, 0.2, 0.3)
    low, high = figure.layout.xaxis.range
    assert low < 0.1 < 0.6 < high
    assert figure.layout.yaxis.range[0] > 2 > 0 > figure.layout.yaxis.range[1]  # the largest fall on top


def test_the_line_between_the_ends_breaks_between_classes():
    lines = [t for t in plots.classes(EFFECTS).data if t.mode == "lines"]
    assert lines[0].x == (0.6, 0.1, None, 0.2, 0.2, None, 0.2, 0.3, None)
    assert lines[0].y == (0, 0, None, 1, 1, None, 2, 2, None)


def test_another_measure_sorts_and_a_class_without_images_comes_last():
    figure = plots.classes(EFFECTS, by="gap")
    assert [tick.split("  ")[0] for tick in figure.layout.yaxis.ticktext] == ["cook", "nurse", "farmer"]
    assert "not known" in ends(figure, 1)[0].text[2]


def test_small_classes_are_marked_by_word_and_by_shape():
    figure = plots.classes(EFFECTS)
    assert figure.layout.yaxis.ticktext == ("nurse  n = 29 (few)", "farmer  n = 0 (few)", "cook  n = 53")
    assert all(one.marker.symbol == ("square", "square", "circle") for panel in range(3) for one in ends(figure, panel))
    assert any("fewer than 30" in (trace.name or "") for trace in figure.data)
    assert not any("fewer than" in (trace.name or "") for trace in plots.classes([effect()]).data)


def test_many_classes_are_cut_to_those_that_change_most_and_the_figure_says_so():
    many = [effect(f"c{i}", v=(0.5, 0.5 + (-1) ** i * i / 200)) for i in range(53)]
    figure = plots.classes(many, most=7)
    assert {tick.split("  ")[0] for tick in figure.layout.yaxis.ticktext} == {f"c{i}" for i in range(46, 53)}
    assert any("46 further classes" in note.text for note in figure.layout.annotations)
    assert "7 of 53 classes" in plots.describe(figure)
    whole = plots.classes(many, most=60)
    assert len(whole.layout.yaxis.ticktext) == 53
    assert whole.layout.height < 1150


def test_class_effects_are_told_in_words():
    words = plots.describe(plots.classes(EFFECTS))
    assert "it falls for 1 and rises for 1. Largest fall: nurse, 0.600 to 0.100. Largest rise: cook, 0.200 to" in words
    assert words.endswith("Fewer than 30 images: nurse, farmer.")


def test_no_class_and_an_unknown_measure_are_refused():
    with pytest.raises(HeadlensError, match="0 classes"):
        plots.classes([])
    with pytest.raises(HeadlensError, match="0 rows"):
        plots.classes(EFFECTS, most=0)


CLASSES = ("cook", "nurse", "farmer")
CONFUSED = np.array([[11, 2, 0], [3, 7, 1], [0, 0, 0]])


def test_confusions_are_shown_in_per_cent_of_the_true_class():
    figure = plots.confusion({"feminine": CONFUSED, HOSTILE: CONFUSED.T}, CLASSES)
    first, second = figure.data
    np.testing.assert_allclose(first.z[1], [3 / 11, 7 / 11, 1 / 11])
    np.testing.assert_allclose(second.z[2], [0, 1, 0])
    assert "cook predicted as nurse: 2 of 13" in first.customdata[0][1]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first class is on top
    assert "feminine: cook 85%, nurse 64%;" in plots.describe(figure)


def test_of_many_classes_those_with_the_lowest_accuracy_have_their_confusions_drawn():
    counts = np.random.default_rng(0).integers(1, 9, (103, 103))
    names = [f"c{i}" for i in range(103)]
    figure = plots.confusion({"a": counts, "b": counts + np.eye(103, dtype=int)}, names)
    worst = np.argsort(np.diagonal(counts) / counts.sum(axis=1), kind="stable")[:20]
    assert set(figure.layout.yaxis.ticktext) == {f"c{i}" for i in worst}
    both = (2 * counts + np.eye(103, dtype=int))[worst].sum(axis=0)
    taken = np.argsort(-both, kind="stable")[:20]  # the columns: what images of these classes are taken for
    assert set(figure.layout.xaxis.ticktext) == {f"c{i}" for i in taken}
    assert figure.data[0].z.shape == (20, 20)
    assert any("83 further classes" in note.text for note in figure.layout.annotations)
    with pytest.raises(HeadlensError, match="103 × 103"):
        plots.confusion({"a": counts[1:]}, names)


CORRECTED = np.array([[0, 5, 1], [0, 0, 0], [2, 0, 0]])
NEWLY = np.array([[0, 1, 0], [3, 0, 0], [0, 0, 0]])
STILL = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
PARTS = {"corrected": CORRECTED, "newly wrong": NEWLY, "wrong before and after": STILL}
FATE = {name: int(part.sum()) for name, part in PARTS.items()}
ALL = CORRECTED + NEWLY + STILL


def test_flows_stand_in_order_and_are_parted_by_fate():
    figure = plots.flow(CLASSES, ALL, FATE, PARTS)
    assert figure.layout.yaxis.ticktext[:3] == ("cook → nurse", "nurse → cook", "farmer → cook")
    corrected, newly, still = figure.data
    assert corrected.x == (5, 0, 2, 1, 0)
    assert newly.x == (1, 3, 0, 0, 0)
    assert still.x == (0, 0, 0, 0, 1)
    assert [bar.name for bar in figure.data] == ["corrected: 8", "newly wrong: 4", "wrong before and after: 1"]
    assert len({bar.marker.pattern.shape for bar in figure.data}) == len({bar.marker.color for bar in figure.data}) == 3


def test_small_flows_are_summed_in_words_and_none_is_lost():
    figure = plots.flow(CLASSES, ALL, FATE, PARTS, most=2)
    drawn = sum(sum(bar.x) for bar in figure.data)
    assert drawn == 9
    (note,) = figure.layout.annotations
    assert note.text == "3 smaller flows together: 4 images: 3 corrected, 0 newly wrong, 1 wrong before and after."
    assert plots.describe(figure).endswith(note.text)


def test_flows_without_fates_keep_the_totals_in_the_legend():
    figure = plots.flow(CLASSES, ALL, FATE)
    names = [trace.name for trace in figure.data]
    assert names[0] == "all changed predictions: 13"
    assert "of them corrected: 8" in names
    assert figure.data[0].x == (6, 3, 2, 1, 1)


@pytest.mark.parametrize(
    ("transitions", "parts", "said"),
    [
        (ALL * 0, None, "at least one image"),
        (ALL + np.eye(3, dtype=int), None, "none from a class to itself"),
        (ALL[:2, :2], None, "between 3 classes"),
        (ALL, {"corrected": CORRECTED}, "add up"),
        (ALL, {"corrected": ALL + 1, "newly wrong": -np.ones((3, 3), dtype=int)}, "between 3 classes"),
    ],
)
def test_transitions_that_do_not_fit_are_refused(transitions, parts, said):
    with pytest.raises(HeadlensError, match=said):
        plots.flow(CLASSES, transitions, FATE, parts)


def many_flows(n):
    generator = np.random.default_rng(1)
    table = generator.integers(0, 5, (n, n))
    np.fill_diagonal(table, 0)
    return table


@pytest.mark.parametrize("n", [6, 52])
def test_flows_stay_readable_at_every_number_of_classes(n):
    table = many_flows(n)
    figure = plots.flow([f"class {i}" for i in range(n)], table, {"corrected": int(table.sum())}, {"corrected": table})
    assert len(figure.layout.yaxis.ticktext) == 20
    assert figure.layout.height < 720


def change(seed=0):
    generator = np.random.default_rng(seed)
    attribute, labels = generator.integers(0, 2, 97), generator.integers(0, 3, 97)
    return association_change(
        labels, labels, baseline=attribute, attribute=attribute, bootstrap=Bootstrap(23, seed=seed)
    )


SHARES = (
    HeadShare(HeadId(3, 1), 0.55, 0.7, -0.05, 0.1),
    HeadShare(HeadId(4, 2), 0.2, 0.75, -0.4, 0.8),
    HeadShare(HeadId(4, 0), 0.65, 0.7, 0.05, None),
)


def bars(figure):
    return {trace.name: trace for trace in figure.data if trace.type == "bar"}


def test_candidates_stand_in_the_order_of_their_change_over_all_together():
    both = change()
    figure = plots.shares(SHARES, both)
    assert figure.layout.yaxis.ticktext == ("L4H2", "L3H1", "L4H0", "all 3 heads")
    drawn = bars(figure)
    assert drawn["one head alone"].x == (-0.4, -0.05, 0.05)
    assert drawn["one head alone"].text == ("80%", "10%", "")
    together = drawn["direct effect"]
    assert together.x == (both.difference["cramers_v"],)
    low, high = both.interval["cramers_v"]
    np.testing.assert_allclose(together.x[0] + together.error_x.array[0], high)
    np.testing.assert_allclose(together.x[0] - together.error_x.arrayminus[0], low)


def test_the_total_effect_stands_beside_the_direct_one_on_its_own_images():
    whole, part, total = change(), change(1), change(2)
    figure = plots.shares(SHARES, whole, TotalEffect(61, "all", part, total))
    assert figure.layout.yaxis.ticktext[3:] == (
        "all 3 heads", "all 3 heads<br>on 61 images", "all 3 heads<br>on 61 images, all tokens",
    )  # fmt: skip
    drawn = bars(figure)
    assert drawn["total effect"].x == (total.difference["cramers_v"],)
    assert drawn["direct effect"].marker.pattern.shape != drawn["total effect"].marker.pattern.shape
    same = plots.shares(SHARES, whole, TotalEffect(97, "class", whole, total))
    assert len(bars(same)["direct effect"].x) == 1
    assert "On 97 images passed again" in plots.describe(same)


def test_one_candidate_has_one_bar():
    figure = plots.shares(SHARES[:1], change())
    assert figure.layout.yaxis.ticktext == ("L3H1",)
    assert list(bars(figure)) == ["direct effect"]


def test_many_candidates_are_cut_and_none_are_refused():
    figure = plots.shares(SHARES, change(), most=2)
    assert len(bars(figure)["one head alone"].x) == 2
    assert any("1 further candidates" in note.text for note in figure.layout.annotations)
    with pytest.raises(HeadlensError, match="0 candidates"):
        plots.shares((), change())


LAYERS, HEADS = 5, 7


def scores(flagged):
    values = torch.zeros(LAYERS, HEADS)
    for i, head in enumerate(flagged):
        values[head] = 0.6 - 0.2 * i
    return ConceptScores(
        values * 0.1, values * 3, values, values, torch.ones(LAYERS, HEADS).long(), torch.ones(1, 11), (53, 59),
        ConceptRule(), tuple(flagged),
    )  # fmt: skip


def spans(flagged):
    place = torch.zeros(LAYERS, HEADS).long()
    for head in flagged:
        place[head] = 2
    share = torch.rand(LAYERS, HEADS, generator=torch.Generator().manual_seed(0))
    return ConceptSpans(place, share, place - 1, 5, 0.0, 97, tuple(flagged))


def test_candidates_and_half_flagged_heads_are_told_apart():
    both, concept_alone, span_alone = HeadId(4, 2), HeadId(3, 0), HeadId(1, 6)
    found = Candidates(
        "concept+textspan", (both,), concept=scores([both, concept_alone]), spans=spans([both, span_alone])
    )
    figure = plots.candidates(found)
    np.testing.assert_allclose(figure.data[0].z, found.scores().values)
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.name]
    assert [(line.name, (min(line.x[:5]) + max(line.x[:5])) / 2, line.y[0] + 0.45) for line in lines] == [
        ("candidates: L4H2", 2, 4),
        ("by concept vectors alone: L3H0", 0, 3),
        ("by TextSpan alone: L1H6", 6, 1),
    ]
    assert len({line.line.dash for line in lines}) == 3
    assert "(candidate)" in figure.data[0].text[4][2]
    assert "comes at place 2" in figure.data[0].text[1][6]
    words = plots.describe(figure)
    assert "Candidates (concept+textspan): L4H2." in words
    assert "Flagged by TextSpan alone: L1H6." in words


@pytest.mark.parametrize("which", ["concept", "spans"])
def test_one_test_alone_is_drawn_too(which):
    named = [HeadId(2, 3)]
    found = Candidates(which, tuple(named), **{which: scores(named) if which == "concept" else spans(named)})
    assert "Candidates" in plots.describe(plots.candidates(found))


def test_candidates_without_scores_or_outside_the_tower_are_refused():
    with pytest.raises(HeadlensError, match="no scores of a test"):
        plots.candidates(Candidates("by hand", (HeadId(0, 0),)))
    with pytest.raises(LocateError, match="head L9H0"):
        plots.candidates(Candidates("concept", (HeadId(9, 0),), concept=scores([])))


def test_v_is_written_as_a_number_and_less_is_better():
    draws = np.array([0.41, 0.38, 0.1])
    figure = plots.controls(draws, 0.2, 0.4, names=("candidates", "none"), measure="cramers_v")
    assert [trace.name for trace in figure.data[1:]] == ["none 0.400", "candidates 0.200"]
    assert not any("%" in text for text in figure.data[0].text)
    assert "%" not in figure.layout.xaxis.tickformat
    assert plots.describe(figure).endswith("1 of 3 random sets are as low as candidates.")


def test_soft_credit_is_not_called_a_share_of_images():
    values = torch.randn(LAYERS, HEADS, generator=torch.Generator().manual_seed(0))
    soft = Location(
        "contrastive-soft",
        (HeadId(4, 2),),
        correct=values,
        wrong=values.flip(0),
        threshold=0.1,
        n_correct=11,
        n_wrong=13,
    )
    figure = plots.location(soft)
    texts = [note.text for note in figure.layout.annotations]
    assert "mean score" in texts
    assert not any("share" in text for text in texts)
    assert "share" not in plots.describe(figure)
    assert figure.layout.coloraxis.cmin == -figure.layout.coloraxis.cmax  # scores may be below zero
    hard = plots.location(replace(soft, method="contrastive", correct=values.abs(), wrong=values.flip(0).abs()))
    assert "share of images" in [note.text for note in hard.layout.annotations]


def test_a_locator_of_right_images_alone_has_one_panel():
    share = torch.zeros(LAYERS, HEADS)
    share[4, 2] = 0.75
    figure = plots.location(
        Location(
            "attribute",
            salient=(HeadId(4, 2),),
            correct=share,
            wrong=share * 0,
            threshold=0.5,
            n_correct=11,
            n_wrong=0,
        )
    )
    assert [trace.type for trace in figure.data].count("heatmap") == 1
    assert [trace.name for trace in figure.data if trace.name] == ["located: L4H2"]
    assert "incorrect" not in plots.describe(figure)
    assert "Located heads: L4H2. The first, L4H2, has 0.750 of the correct images." in plots.describe(figure)


@pytest.mark.parametrize(
    "figure",
    [
        plots.classes([effect(HOSTILE), effect(HOSTILE + "b", 3)], title=HOSTILE, after=HOSTILE),
        plots.flow((HOSTILE, "b", "c"), ALL, FATE | {HOSTILE: 0}, title=HOSTILE, most=2),
        plots.flow((HOSTILE, "b", "c"), ALL, FATE, PARTS, title=HOSTILE),
        plots.shares(SHARES, change(), title=HOSTILE),
        plots.confusion({HOSTILE: CONFUSED}, (HOSTILE, "b", "c"), title=HOSTILE),
        plots.candidates(Candidates(HOSTILE, (HeadId(4, 2),), concept=scores([HeadId(4, 2)])), title=HOSTILE),
        plots.controls([0.1, 0.2], 0.1, 0.3, HOSTILE, (HOSTILE, HOSTILE), HOSTILE, "cramers_v", HOSTILE),
    ],
    ids=["classes", "flow", "flow by fate", "shares", "confusion", "candidates", "controls"],
)
def test_hostile_text_is_shown_as_text(figure):
    drawn = figure.to_plotly_json()
    alt = drawn["layout"]["meta"].pop("alt")
    assert alt
    for text in texts_of(drawn):
        assert "<script" not in text
        assert "%{x}" not in text
        assert "$y$" not in text


def texts_of(node):
    """Every string in a figure."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from texts_of(value)
    elif isinstance(node, list | tuple | np.ndarray):
        for value in node:
            yield from texts_of(value)
