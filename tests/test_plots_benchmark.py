"""Occupations and shares of caption words: where the ink is, and the Shapley values behind it."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from headlens import plots
from headlens.errors import ExplainError, HeadlensError
from headlens.explain.caption_shares import CaptionShares, caption_shares

HOSTILE = "<script>alert(1)</script> %{x} $\\frac{1}{2}$"


def occupation(name, percent, first, second, counterpart="Baker"):
    return plots.Occupation(name, counterpart, percent, (first, second), (31, 37))


OCCUPATIONS = [
    occupation("Pilot", 5.0, 0.2, 0.9, "Nurse"),
    occupation("Nurse", 92.0, 0.8, 0.7, "Pilot"),
    occupation(HOSTILE, 40.0, 0.5, 0.9, "Clerk"),
]


def test_occupations_are_ranked_by_gap_and_joined_to_what_they_are_compared_with():
    figure = plots.occupations(OCCUPATIONS, ("female", "male"), most=2)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [trace.name for trace in bars] == ["female", "male"]
    assert bars[0].x == (0.2, 0.5)
    assert bars[1].x == (0.9, 0.9)
    lines = next(trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines")
    np.testing.assert_allclose([v for v in lines.x if v is not None], [5.0, 92.0])
    np.testing.assert_allclose([v for v in lines.y if v is not None], [0.7, 0.1])
    points = {trace.name: trace for trace in figure.data if trace.type == "scatter" and trace.name}
    assert points["compared with them"].x == (92.0,)
    assert "Pilot (5 % women): female 20.0%, male 90.0%; compared with Nurse (92 % women, gap 10.0%)" in plots.describe(
        figure
    )


@pytest.mark.parametrize(
    "figure",
    [plots.occupations(OCCUPATIONS), plots.shapley({HOSTILE: {HOSTILE: 0.25, "class": 0.75}}, 7, HOSTILE)],
    ids=["occupations", "shapley"],
)
def test_hostile_labels_are_letters_and_the_dark_theme_changes_colours_alone(figure):
    # The text alternative is escaped where a page shows it; everything else plotly reads as markup.
    parts = figure.to_plotly_json()
    alternative = parts["layout"].pop("meta")["alt"]
    assert HOSTILE.split()[0] in alternative
    assert "<script" not in str(parts)
    assert "alert(1)" in str(parts)
    dark = plots.themed(figure, "dark")
    assert dark.layout.template.layout.paper_bgcolor != figure.layout.template.layout.paper_bgcolor
    assert plots.describe(dark) == plots.describe(figure)


def test_no_occupation_is_refused():
    with pytest.raises(HeadlensError, match="no occupation"):
        plots.occupations([])


def test_shares_are_stacked_to_the_whole():
    figure = plots.shapley({"Z_S": {"class": 0.2, "other": 0.8}, "Z_Y": {"class": 0.7, "other": 0.3}}, 11)
    assert [trace.name for trace in figure.data] == ["class", "other"]
    np.testing.assert_allclose(np.sum([trace.x for trace in figure.data], axis=0), 1)
    assert figure.data[0].y == (0, 1)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first set of heads is on top
    assert "Z_Y: class 70%, other 30%" in plots.describe(figure)


@pytest.mark.parametrize("wrong", [{}, {"a": {"x": 1.2}}, {"a": {"x": 1.0}, "b": {"y": 1.0}}, {"a": {"x": math.nan}}])
def test_what_is_no_share_is_refused(wrong):
    with pytest.raises(HeadlensError, match="numbers from 0 to 1"):
        plots.shapley(wrong, 3)


def words_of(vectors):
    """A text encoder whose embedding depends on the words and their order."""

    def encode(texts):
        rows = []
        for text in texts:
            row = torch.full((5,), 0.3)
            for place, word in enumerate(text.split()):
                row = row + (1 + 0.2 * place) * vectors[word]
            rows.append(row)
        return torch.stack(rows)

    return encode


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_shapley_values_are_those_of_their_definition(seed, n):
    generator = torch.Generator().manual_seed(seed)
    words = [f"w{i}" for i in range(n)]
    encode = words_of({word: torch.randn(5, generator=generator) for word in words})
    outputs = {name: torch.randn(1, 5, generator=generator) for name in ("one", "two")}
    found = caption_shares(encode, outputs, [" ".join(words)], {"class": [words[0]]})
    for name, output in outputs.items():
        direction = normalize(output[0], dim=-1)

        def worth(kept, direction=direction):
            text = " ".join(words[i] for i in sorted(kept))
            return float(normalize(encode([text]), dim=-1)[0] @ direction) if kept else 0.0

        for i in range(n):
            others = [j for j in range(n) if j != i]
            expected = sum(
                math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                * (worth({*chosen, i}) - worth(set(chosen)))
                for size in range(n)
                for chosen in itertools.combinations(others, size)
            )  # fmt: skip
            assert found.values[name][0][i] == pytest.approx(expected, abs=1e-5)
        assert found.values[name][0].sum() == pytest.approx(worth(set(range(n))), abs=1e-5)
    assert found.exact == (True,)


def test_words_get_the_kind_of_the_phrase_that_they_stand_in():
    encode = words_of({word: torch.ones(5) for word in ("A", "duck,", "on", "the", "water")})
    found = caption_shares(
        encode, {"a": torch.ones(1, 5)}, ["A duck, on the water"], {"class": ["duck"], "attribute": ["the Water"]}
    )
    assert found.kinds == (("other", "class", "other", "attribute", "attribute"),)
    assert found.order == ("class", "attribute", "other")
    assert sum(found.shares()["a"].values()) == pytest.approx(1)
    assert found.table()["kind"].tolist() == list(found.kinds[0])


def test_shares_count_sizes_and_are_means_over_captions():
    kinds = (("class", "other"), ("class", "other"))
    one = CaptionShares(
        (("a", "b"), ("c", "d")), kinds, {"s": (np.array([-0.3, 0.1]), np.array([0.1, 0.1]))}, (True, True), kinds[0]
    )
    assert one.shares() == {"s": {"class": pytest.approx(0.625), "other": pytest.approx(0.375)}}


@pytest.mark.parametrize(
    ("outputs", "captions", "said"),
    [
        ({}, ["a b"], "at least"),
        ({"s": torch.ones(2, 5)}, ["a b"], "at least"),
        ({"s": torch.zeros(1, 5)}, ["a b"], "with a direction"),
        ({"s": torch.ones(1, 5)}, ["a"], "two words"),
    ],
)
def test_what_has_no_shapley_values_is_refused(outputs, captions, said):
    with pytest.raises(ExplainError, match=said):
        caption_shares(words_of({"a": torch.ones(5), "b": torch.ones(5)}), outputs, captions, {})
