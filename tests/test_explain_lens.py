"""The lens reads the stream as the tower's end does, and direct effects sum to the answer."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from tower_factory import random_images, random_tower

import headlens as hl
from headlens import plots
from headlens.errors import ExplainError, HeadlensError

TEXTS = ["a duck", "<b>a crow</b>", "a gull"]


class Clip:
    """A vision tower with texts that are directions."""

    def __init__(self, seed=3, **settings):
        self.vision = hl.HookedVisionTransformer.from_open_clip(random_tower(seed, **settings)).double()

    def encode_text(self, texts, normalize=True):
        rows = torch.randn(len(texts), 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return torch.nn.functional.normalize(rows, dim=1)


@pytest.fixture(autouse=True)
def plain(without_shape_checks):
    """A stand-in for a model is no HookedCLIP."""


def read(pool="tok"):
    clip, images = Clip(pool_type=pool), random_images(random_tower(3), 2).double()
    return clip, images, hl.explain.logit_lens(clip, images, TEXTS)


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_the_last_depth_and_the_sum_of_effects_are_the_answer(pool):
    clip, images, lens = read(pool)
    answer = normalize(clip.vision(images), dim=1) @ clip.encode_text(TEXTS).mT
    torch.testing.assert_close(lens.lens[:, -1], answer, rtol=0, atol=1e-12)
    torch.testing.assert_close(lens.effects.sum(1), answer, rtol=0, atol=1e-12)
    assert lens.depths == ("stem", "L0", "L1", "L2")
    assert lens.components[:2] == ("stem", "L0H0") and lens.components[-1] == "constant"


def test_a_middle_depth_is_read_by_the_towers_end():
    clip, images, lens = read()
    early = clip.vision.embedding_of(clip.vision(images, stop_at_layer=1))
    expected = normalize(early, dim=1) @ clip.encode_text(TEXTS).mT
    torch.testing.assert_close(lens.lens[:, 1], expected, rtol=0, atol=1e-12)


def test_components_are_ranked_by_size_of_effect():
    clip, images, lens = read()
    table = lens.table(0, 2)
    assert table["effect"].abs().is_monotonic_decreasing
    assert table["share"].sum() == pytest.approx(1)
    row = table.set_index("component").loc["L2H4"]
    parts = hl.decompose(clip.vision, images, normalize=True)
    unit = clip.encode_text(TEXTS)
    assert row["effect"] == pytest.approx(float((parts.heads[:, 2, 4] @ (unit[0] - unit[2])).mean()))
    assert set(table["kind"]) == {"head", "MLP", "stem", "constant"}


def test_the_figures_show_texts_as_text_and_what_is_left_out():
    _, _, lens = read()
    figure = plots.logit_lens(lens)
    assert figure.data[1].name == "&lt;b&gt;a crow&lt;/b&gt;"
    np.testing.assert_allclose(figure.data[0].y, lens.lens[..., 0].mean(0))
    np.testing.assert_allclose(plots.logit_lens(lens, image=1).data[2].y, lens.lens[1, :, 2])
    bars = plots.direct_effects(lens, 1, count=4)
    assert sum(len(trace.x) for trace in bars.data) == 4
    rest = lens.table(1).iloc[4:]
    assert f"{len(rest)} further components add up to {rest['effect'].sum():+.3f}." in plots.describe(bars)
    with pytest.raises(HeadlensError, match="no image 2"):
        plots.logit_lens(lens, image=2)
    with pytest.raises(HeadlensError, match="no text 3"):
        plots.direct_effects(lens, 3)


def test_what_cannot_be_read_is_refused():
    clip, images, _ = read()
    with pytest.raises(ExplainError, match="at least one image and one text"):
        hl.explain.logit_lens(clip, images, [])
    clip.vision.cfg = type("Cfg", (), {"residual": False})
    with pytest.raises(ExplainError, match="no residual stream"):
        hl.explain.logit_lens(clip, images, TEXTS)
