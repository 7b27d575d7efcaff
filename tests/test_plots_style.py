"""Labels, themes and colours that all figures share."""

import html
import json

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headlens import plots
from headlens.plots import palette, style

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    levels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(rgb: np.ndarray) -> np.ndarray:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(matrix @ rgb, 0) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@given(st.text(max_size=59))
@example("<b>100 %{x}</b> $y$ &lt;")
@settings(max_examples=60, deadline=None)
def test_a_label_is_its_text_letter_by_letter(text):
    label = style.label(text)
    assert not set(label) & set("<>$")
    assert "%{" not in label
    assert html.unescape(label) == style.plain(text)


@given(st.text(max_size=90), st.integers(3, 40))
@settings(max_examples=60, deadline=None)
def test_a_long_label_is_cut_in_its_middle(text, width):
    cut = style.shorten(text, width)
    assert len(cut) == min(len(text), width)
    if len(text) > width:
        before, _, after = cut.partition("…") if "…" not in text else (cut[: width // 2], "…", cut[width // 2 + 1 :])
        assert text.startswith(before)
        assert text.endswith(after)


def test_a_file_name_that_is_no_text_is_spelt_out():
    assert style.label(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == r"caf\udce9.png"


def test_every_colour_has_one_counterpart():
    light, dark = list(palette.TO_DARK), list(palette.TO_DARK.values())
    assert len(light) == len(set(dark)) == len(palette.TO_LIGHT) == 9 + 5 + 6 + 8
    assert not set(light) & set(dark)


def on(colour: str, theme: int) -> str:
    """A colour on light (0) or dark (1) paper."""
    return palette.TO_DARK[colour] if theme else colour


@pytest.mark.parametrize("theme", [0, 1])
def test_the_diverging_scale_weighs_both_sides_alike(theme):
    lightness = [lab(linear(on(one, theme)))[0] for one in palette.DIVERGING]
    assert np.abs(np.subtract(lightness, lightness[::-1])).max() < 6
    middle = len(lightness) // 2
    steps = np.diff(lightness[: middle + 1])
    assert (steps > 8).all() if theme == 0 else (steps < -8).all()


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("theme", [0, 1])
def test_the_sides_of_the_diverging_scale_stay_apart_for_everyone(deficiency, theme):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = [lab(np.clip(matrix @ linear(on(one, theme)), 0, 1)) for one in palette.DIVERGING]
    for negative, positive in zip(seen[:4], seen[:4:-1], strict=True):
        assert np.linalg.norm(negative - positive) > 10


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("role", ["INK", "INK_SOFT", "SPURIOUS", "SALIENT"])
def test_lines_and_letters_stand_out_from_the_paper(role, theme):
    levels = (luminance(on(colour, theme)) for colour in (getattr(palette, role), palette.PAPER))
    low, high = sorted(levels)
    assert (high + 0.05) / (low + 0.05) >= 4.5


def parts(figure: go.Figure) -> dict:
    return json.loads(figure.to_json())


def test_a_theme_changes_colours_alone_and_can_be_taken_back():
    hostile = palette.INK  # a label that reads like a colour stays a label
    figure = plots.heatmap(np.arange(35.0).reshape(5, 7) - 17, [(2, 3)], title=hostile, unit="points")
    dark = plots.themed(figure, "dark")
    assert dark.layout.template.layout.paper_bgcolor == palette.TO_DARK[palette.PAPER]
    assert dark.layout.coloraxis.colorscale[0][1] == palette.TO_DARK[palette.DIVERGING[0]]
    assert dark.layout.title.text == hostile
    assert figure.layout.template.layout.paper_bgcolor == palette.PAPER
    assert parts(plots.themed(dark, "light")) == parts(figure)
    assert parts(plots.themed(figure, "light")) == parts(figure)


def test_no_colour_of_light_paper_is_left_in_the_dark():
    dark = plots.themed(plots.heatmap(np.eye(5, 7), [(0, 0)]), "dark").to_json()
    assert not [light for light in palette.TO_DARK if light in dark]


def test_templates_are_left_as_they_were():
    assert pio.templates.default == "plotly"
    assert not [name for name in pio.templates if "headlens" in name]


def test_describe_knows_its_own_figures():
    assert plots.describe(go.Figure()) == ""
    assert plots.describe(plots.heatmap(np.eye(3, 5), title="score")).startswith("score: a heatmap of 3 layers by 5")
