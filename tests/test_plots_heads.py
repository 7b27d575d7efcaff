"""The heatmap of all heads and the three panels of a location."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headlens import plots
from headlens.errors import HeadlensError, LocateError
from headlens.heads import HeadId, HeadScores
from headlens.locate import Location

LAYERS, HEADS = 5, 7
VALUES = np.random.default_rng(0).normal(size=(LAYERS, HEADS))


def box(trace):
    """The corners of the first rectangle of an outline: left, right, low, high."""
    x, y = trace.x[:5], trace.y[:5]
    return min(x), max(x), min(y), max(y)


def test_cells_hold_the_scores_with_the_last_layer_on_top():
    figure = plots.heatmap(torch.tensor(VALUES), unit="points", title="score")
    np.testing.assert_allclose(figure.data[0].z, VALUES)
    low, high = figure.layout.yaxis.range
    assert low < 0 < LAYERS - 1 < high
    assert figure.data[0].text[2][3] == f"<b>L2H3</b>: {VALUES[2, 3]:.4g} points"


def test_the_diverging_scale_is_centred_on_zero():
    axis = plots.heatmap(VALUES).layout.coloraxis
    assert axis.cmax == -axis.cmin == np.abs(VALUES).max()
    axis = plots.heatmap(VALUES, diverging=False).layout.coloraxis
    assert (axis.cmin, axis.cmax) == (VALUES.min(), VALUES.max())


@pytest.mark.parametrize("diverging", [True, False])
@pytest.mark.parametrize("value", [0.0, np.nan, 0.7])
def test_scores_all_alike_still_have_a_scale(diverging, value):
    axis = plots.heatmap(np.full((LAYERS, HEADS), value), diverging=diverging).layout.coloraxis
    assert axis.cmin < axis.cmax


def test_selected_heads_are_outlined_and_named():
    figure = plots.heatmap(VALUES, selected=[(4, 6), (0, 2)])
    halo, line, names = figure.data[1:]
    assert not line.showlegend
    assert box(line) == box(halo) == (5.55, 6.45, 3.55, 4.45)
    assert halo.line.width > line.line.width
    assert list(zip(names.x, names.y, names.text, strict=True)) == [(6, 4, "L4H6"), (2, 0, "L0H2")]
    assert "selected" in figure.data[0].text[4][6]
    assert plots.describe(figure).endswith("Selected heads: L4H6, L0H2.")


def test_head_scores_bring_their_name_and_selection():
    scores = HeadScores("effect", torch.tensor(VALUES), 0.1, (HeadId(3, 1),))
    figure = plots.heatmap(scores)
    assert figure.layout.title.text == "effect"
    assert figure.data[-1].text == ("L3H1",)
    assert len(plots.heatmap(scores, selected=()).data) == 1


def test_a_value_that_is_no_number_is_said_to_be_none():
    values = VALUES.copy()
    values[1, 4] = np.nan
    figure = plots.heatmap(values)
    assert figure.data[0].text[1][4] == "<b>L1H4</b>: not a number"
    assert np.isfinite(figure.layout.coloraxis.cmax)


def test_located_heads_are_outlined_beside_the_selected_ones_and_any_form_of_a_head_is_read():
    figure = plots.heatmap(VALUES, selected=["4.6", (0, 2)], located=["L4H6"])
    lines = [trace for trace in figure.data if trace.showlegend]
    assert [line.name for line in lines] == ["selected: L4H6, L0H2", "located: L4H6"]
    assert box(lines[0]) == box(lines[1])
    assert "<br>selected<br>located" in figure.data[0].text[4][6]
    assert plots.describe(figure).endswith("Located heads: L4H6.")


def test_text_in_a_heatmap_is_escaped():
    extra = [["<i>x</i>"] * HEADS] * LAYERS
    figure = plots.heatmap(VALUES, title="<b>t</b>", unit="<u>", hover_extra=extra)
    assert figure.layout.title.text == "&lt;b&gt;t&lt;/b&gt;"
    assert figure.layout.coloraxis.colorbar.title.text == "&lt;u&gt;"
    assert figure.data[0].text[0][0].endswith("&lt;u&gt;<br>&lt;i&gt;x&lt;/i&gt;")


def test_what_does_not_fit_the_grid_is_refused():
    with pytest.raises(LocateError, match="head L5H0"):
        plots.heatmap(VALUES, selected=[(5, 0)])
    with pytest.raises(HeadlensError, match="5 layers × 7 heads"):
        plots.heatmap(VALUES, hover_extra=[["x"] * LAYERS] * HEADS)


@pytest.mark.parametrize(("layers", "heads"), [(4, 8), (24, 16), (32, 16)])
def test_ticks_keep_apart_at_every_size(layers, heads):
    figure = plots.heatmap(np.zeros((layers, heads)))
    assert len(figure.layout.yaxis.tickvals) * 13 <= figure.layout.height - 60
    assert figure.layout.xaxis.tickvals == tuple(range(heads))


@pytest.fixture
def location():
    right, wrong = torch.zeros(LAYERS, HEADS), torch.zeros(LAYERS, HEADS)
    right[4, 2], right[3, 0], wrong[4, 5], wrong[3, 0] = 0.75, 0.25, 0.5, 0.5
    return Location(
        "contrastive",
        (HeadId(4, 5),),
        (HeadId(4, 2),),
        correct=right,
        wrong=wrong,
        threshold=1 / 3,
        n_correct=11,
        n_wrong=13,
    )


def test_three_panels_show_right_wrong_and_difference(location):
    figure = plots.location(location)
    right, wrong, difference = (trace for trace in figure.data if trace.type == "heatmap")
    np.testing.assert_allclose(right.z, location.correct)
    np.testing.assert_allclose(wrong.z, location.wrong)
    np.testing.assert_allclose(difference.z, location.wrong - location.correct)
    assert right.coloraxis == wrong.coloraxis == "coloraxis" != difference.coloraxis
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 0.75)
    assert (figure.layout.coloraxis2.cmin, figure.layout.coloraxis2.cmax) == (-0.75, 0.75)
    assert right.text[3][0].split("<br>")[1:] == [
        "V<sub>C</sub> 0.2500", "V<sub>W</sub> 0.5000", "V<sub>W</sub> − V<sub>C</sub> 0.2500"
    ]  # fmt: skip
    assert right.text[4][5].startswith("<b>L4H5</b> (spurious)")


def test_both_kinds_of_heads_are_outlined_in_every_panel_and_named_once(location):
    figure = plots.location(location)
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.name]
    assert [(line.xaxis, box(line)[:2]) for line in lines] == [
        (axis, edges) for axis in ("x", "x2", "x3") for edges in ((4.55, 5.45), (1.55, 2.45))
    ]
    assert [line.name for line in lines if line.showlegend] == ["spurious: L4H5", "salient: L4H2"]
    assert len({(line.line.color, line.line.dash) for line in lines}) == 2


def test_the_location_is_told_in_words(location):
    words = plots.describe(plots.location(location, title="T"))
    assert "11 correctly and the 13 incorrectly" in words
    assert (
        "Spurious heads: L4H5. The first, L4H5, has 0.000 of the correct images and 0.500 of the incorrect images."
        in words
    )


def test_a_location_of_nothing_is_drawn(location):
    nothing = replace(location, spurious=(), salient=(), correct=location.correct * 0, wrong=location.wrong * 0)
    figure = plots.location(nothing)
    assert figure.layout.coloraxis.cmax == 1
    assert "Spurious heads: none. Salient heads: none." in plots.describe(figure)
