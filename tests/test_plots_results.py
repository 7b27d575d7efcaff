"""Group bars, the histogram of random heads, and per-token maps."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headlens import plots
from headlens.errors import HeadlensError
from headlens.metrics import Evaluation
from headlens.plots.pictures import data_uri
from headlens.plots.style import finish


def evaluation(method, accuracies, small=()):
    groups = dict(zip(("land", "<b>water</b>", "sky"), accuracies, strict=True))
    interval = {f"groups.{name}": (value - 0.05, value + 0.03) for name, value in groups.items()}
    worst = min(accuracies)
    return Evaluation(
        method, 0.7, worst, 0.7 - worst, groups, dict.fromkeys(groups, 53),
        interval | {"average": (0.65, 0.72), "worst_group": (worst - 0.05, worst + 0.03)}, small,
    )  # fmt: skip


BEFORE, AFTER = evaluation("zero-shot", (0.9, 0.3, 0.8), small=("sky",)), evaluation("ltc", (0.85, 0.75, 0.6))


def test_marks_and_intervals_are_where_the_numbers_say():
    figure = plots.groups([BEFORE, AFTER])
    before, after, _ = figure.data
    assert before.x == (0.7, 0.9, 0.3, 0.8)
    np.testing.assert_allclose(np.add(before.x, before.error_x.array), [0.72, 0.93, 0.33, 0.83])
    np.testing.assert_allclose(np.subtract(before.x, before.error_x.arrayminus), [0.65, 0.85, 0.25, 0.75])
    assert (np.subtract(after.y, before.y) > 0.2).all()  # neighbouring marks do not overlap
    assert (np.abs(np.concatenate([before.y, after.y]) - np.tile(range(4), 2)) < 0.5).all()
    assert figure.layout.yaxis.range[0] > 3  # the first row is on top


@pytest.mark.parametrize("average", [True, False])
def test_the_worst_group_of_each_method_is_marked(average):
    figure = plots.groups([BEFORE, AFTER], average=average)
    before, after, marks = figure.data
    assert marks.y == (before.y[1 + average], after.y[2 + average])
    assert (np.array(marks.x) > [0.33, 0.63]).all()


def test_groups_are_named_with_their_sizes():
    ticks = plots.groups([BEFORE, AFTER], chance=0.5).layout.yaxis.ticktext
    assert ticks == ("all images", "land  n = 53", "&lt;b&gt;water&lt;/b&gt;  n = 53", "sky  n = 53 (few)")


def test_a_long_group_name_is_broken():
    renamed = evaluation("m", (0.1, 0.2, 0.3))
    name = "waterbird standing in front of land"
    groups = {name: 0.5}
    one = Evaluation("m", 0.5, 0.5, 0.0, groups, {name: 31}, renamed.interval)
    tick = plots.groups([one], average=False).layout.yaxis.ticktext[0]
    assert tick.split("<br>") == ["waterbird standing in", "front of land  n = 31"]


def test_of_many_groups_the_worst_are_drawn_and_the_figure_says_so():
    rates = np.random.default_rng(0).uniform(size=(2, 211))
    methods = []
    for name, own in zip(("zero-shot", "ltc"), rates, strict=True):
        groups = {f"class {i}/land": float(value) for i, value in enumerate(own)}
        methods.append(Evaluation(name, 0.5, min(own), 0.5, groups, dict.fromkeys(groups, 53), {}))
    figure = plots.groups(methods)
    lowest = rates.min(axis=0)
    drawn = {int(tick.split()[1].partition("/")[0]) for tick in figure.layout.yaxis.ticktext[1:]}
    assert drawn == set(np.argsort(lowest)[:20].tolist())
    assert any("191 further groups" in note.text for note in figure.layout.annotations)
    assert "191 further groups" in plots.describe(figure)
    assert figure.layout.height < 900


def test_the_worst_group_of_each_method_is_drawn_among_many_that_tie():
    names = [f"group {i:02}" for i in range(41)]

    def one(method, worst):
        groups = dict.fromkeys(names, 0.0 if method == "zero-shot" else 0.5) | {worst: 0.0 if method != "ltc" else 0.4}
        return Evaluation(method, 0.5, min(groups.values()), 0.1, groups, dict.fromkeys(names, 53), {})

    figure = plots.groups([one("zero-shot", names[-1]), one("ltc", names[-3])], average=False)
    ticks = [text.split()[1] for text in figure.layout.yaxis.ticktext]
    assert len(ticks) == 20
    assert "38" in ticks
    assert ticks[round(figure.data[2].y[1])] == "38"


def test_a_long_note_stands_in_two_lines():
    note = "Random heads: 20 (seed 0) of 22 sets with as many heads of layers 1 to 3, spurious heads drawn and salient"
    figures = [finish(go.Figure(), "", "x", plot=(100, 480), note=text) for text in (note, note[:60])]
    (long,), (short,) = (figure.layout.annotations for figure in figures)
    assert long.text.replace("<br>", " ") == note
    assert long.text.count("<br>") == 1
    assert "<br>" not in short.text
    assert figures[0].layout.margin.b == figures[1].layout.margin.b + 16


def test_what_cannot_be_compared_is_refused():
    other = Evaluation("m", 0.5, 0.5, 0.0, {"land": 0.5}, {"land": 31}, {})
    with pytest.raises(HeadlensError, match="on other groups"):
        plots.groups([BEFORE, other])
    with pytest.raises(HeadlensError, match="no evaluation"):
        plots.groups([])


def test_group_accuracies_are_told_in_words():
    words = plots.describe(plots.groups([BEFORE]))
    assert "zero-shot: average 70.0%, worst group <b>water</b> at 30.0% (95% interval 25.0% to 33.0%)" in words


fractions = st.floats(0, 1)


@given(st.lists(fractions, min_size=1, max_size=23), fractions, fractions)
@settings(max_examples=40, deadline=None)
def test_every_random_set_is_in_a_bar_and_every_line_in_sight(draws, observed, baseline):
    figure = plots.controls(draws, observed, baseline)
    bars, first, second = figure.data
    assert sum(bars.y) == len(draws)
    assert (first.x, second.x) == ((baseline, baseline), (observed, observed))
    low, high = figure.layout.xaxis.range
    assert low <= min(*draws, observed, baseline) <= max(*draws, observed, baseline) < high


def test_controls_are_told_in_words_and_named_in_the_legend():
    figure = plots.controls(np.array([0.2, 0.3, 0.9]), 0.8, 0.25)
    assert [trace.name for trace in figure.data[1:]] == ["zero-shot 25.0%", "located heads 80.0%"]
    assert plots.describe(figure).endswith("1 of 3 random sets reach located heads.")


@pytest.mark.parametrize(("draws", "observed"), [([], 0.5), ([0.3, np.nan], 0.5), ([0.3], np.inf)])
def test_controls_that_are_no_numbers_are_refused(draws, observed):
    with pytest.raises(HeadlensError, match="random sets, and"):
        plots.controls(draws, observed, 0.2)


def pictures(count, height, width):
    return [np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8) for i in range(count)]


def test_each_map_lies_over_its_own_image():
    images = pictures(2, 21, 33)
    maps = {"1.2": torch.randn(2, 3, 11), "4.0": torch.randn(2, 3, 11) * torch.tensor([1.0, 0.01])[:, None, None]}
    figure = plots.tokens(images, maps, titles=["a", "<b>b</b>"])
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(figure.layout.images) == 6
    for col in range(2):
        for name in maps:
            # One scale a row: a map of small numbers is pale beside one of large numbers.
            end = max(float(np.quantile(one.abs().numpy(), 0.95)) for one in maps[name])
            (trace,) = (t for t in heat if np.allclose(t.z, maps[name][col] / end, atol=1e-5))
            assert f"{maps[name][col][2, 10]:+.4g}" in trace.text[2][10]
            under = next(i for i in figure.layout.images if (i.xref, i.yref) == (trace.xaxis, trace.yaxis))
            assert under.source == data_uri(images[col], 224, grey=True)
            assert (under.sizex, under.sizey) == (33, 21)
            np.testing.assert_allclose(trace.x, np.arange(1.5, 33, 3))
            np.testing.assert_allclose(trace.y, [3.5, 10.5, 17.5])
            assert f"±{end:.2g}" in {note.text for note in figure.layout.annotations if note.xref == trace.xaxis}
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    assert "&lt;b&gt;b&lt;/b&gt;" in {note.text for note in figure.layout.annotations}


def test_one_strong_patch_does_not_leave_a_map_blank():
    values = np.full((8, 8), 0.01)
    values[0, 0] = 5.0
    trace = plots.tokens(pictures(1, 16, 16), {"L3H0": values[None]}).data[1]
    assert np.asarray(trace.z)[4, 4] == pytest.approx(1)
    empty = plots.tokens(pictures(1, 16, 16), {"L3H0": np.zeros((1, 8, 8))}).data[1]
    assert np.isfinite(np.asarray(empty.z)).all()


def test_images_alone_can_be_shown():
    figure = plots.tokens(pictures(3, 13, 13), {})
    assert len(figure.layout.images) == 3
    assert plots.describe(figure) == "3 images."


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_small_picture_is_kept_and_a_large_one_made_small():
    flat = np.full((41, 43, 3), 7, dtype=np.uint8)
    assert np.array_equal(decoded(data_uri(flat, 224)), flat)
    (noise,) = pictures(1, 336, 300)
    assert decoded(data_uri(noise, 224)).size == (200, 224)
    assert len(data_uri(noise, 224)) < 80_000


def test_titles_stand_over_the_middle_of_their_images():
    images = [np.zeros((13, 13, 3), np.uint8)] * 5
    figure = plots.tokens(images, {}, [f"image {i}" for i in range(5)])
    titles = [one for one in figure.layout.annotations if one.text.startswith("image")]
    tall = plots.tokens(images, {}, ["172: waterbird/land, classified as landbird"] * 5)
    assert "…" not in tall.layout.annotations[0].text
    assert tall.layout.margin.t == figure.layout.margin.t + 36  # two more lines
    assert [one.xanchor for one in titles] == ["center"] * 5
    middles = [np.mean(figure.layout[f"xaxis{i or ''}"].domain) for i in ("", 2, 3, 4, 5)]
    np.testing.assert_allclose([one.x for one in titles], middles, atol=1e-6)


def test_maps_and_titles_have_to_be_as_many_as_the_images():
    with pytest.raises(HeadlensError, match=r"3 maps '1\.0' for 2 images"):
        plots.tokens(pictures(2, 13, 13), {"1.0": torch.zeros(3, 5, 5)})
    with pytest.raises(HeadlensError, match="1 titles for 2 images"):
        plots.tokens(pictures(2, 13, 13), {}, titles=["a"])
    with pytest.raises(HeadlensError, match="0 images"):
        plots.tokens([], {})
