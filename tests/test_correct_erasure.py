"""Concept erasure: what it erases, that nothing less would do, and every refusal."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.correct import EmbeddingErasure, HeadErasure, fit_eraser, load_correction
from headlens.errors import CorrectionError

EMBED, IMAGES, VALUES = 13, 101, 3


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(seed, n_values=VALUES):
    values = torch.arange(IMAGES) % n_values
    x = normal(seed, IMAGES, EMBED)
    return x + normal(seed + 1, n_values, EMBED)[values], values


def covariance(x, values):
    concept = torch.nn.functional.one_hot(values).double()
    return (x - x.mean(0)).T @ (concept - concept.mean(0)) / len(x)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**20), n_values=st.integers(2, 5))
def test_afterwards_nothing_linear_is_left_and_the_mean_stays(seed, n_values):
    x, values = data(seed, n_values)
    erased = fit_eraser(x, values)(x)
    assert covariance(x, values).abs().max() > 0.05
    assert covariance(erased, values).abs().max() < 1e-10
    torch.testing.assert_close(erased.mean(0), x.mean(0))
    # Only as many directions change as the concept has; erasing again changes nothing.
    assert torch.linalg.matrix_rank(erased - x, rtol=1e-9) <= n_values - 1
    torch.testing.assert_close(fit_eraser(x, values)(erased), erased, atol=1e-9, rtol=0)


def test_the_formula_without_the_package():
    x, values = data(0)
    values_hot = torch.nn.functional.one_hot(values).double()
    from concept_erasure import optimal_linear_shrinkage

    centred = x - x.mean(0)
    sigma = optimal_linear_shrinkage(centred.T @ centred / len(x), len(x)).numpy()
    sizes, axes = np.linalg.eigh(sigma)
    white, back = axes / np.sqrt(sizes) @ axes.T, axes * np.sqrt(sizes) @ axes.T
    cross = (centred.T @ (values_hot - values_hot.mean(0)) / (len(x) - 1)).numpy()
    basis = np.linalg.svd(white @ cross)[0][:, : VALUES - 1]
    expected = x.numpy() - centred.numpy() @ (back @ basis @ basis.T @ white).T
    np.testing.assert_allclose(fit_eraser(x, values)(x).numpy(), expected, atol=1e-9)


class View:
    n_layers, n_heads = 2, 3

    def __init__(self, seed=0):
        self.values = torch.arange(IMAGES) % VALUES
        self.contributions = normal(seed, IMAGES, 2, 3, EMBED)
        self.contributions[:, 1, 2] += normal(9, VALUES, EMBED)[self.values]
        self.embedding = self.contributions.sum((1, 2)) + 0.25

    def heads(self, layer, head):
        return self.contributions[:, layer, head]


def test_the_whole_embedding_changes_and_the_heads_stay():
    view = View()
    one = EmbeddingErasure(view.values).fit(view)
    found = one.apply(view)
    assert covariance(found.embedding, view.values).abs().max() < 1e-10
    assert torch.equal(found.embedding, one.apply(view.embedding))
    assert torch.equal(found.heads(1, 2), view.heads(1, 2))
    assert torch.equal(EmbeddingErasure(view.values).fit(view.embedding).apply(view.embedding), found.embedding)


def test_chosen_heads_change_each_by_itself_and_no_other():
    view = View()
    found = HeadErasure([(1, 2), (0, 0)], view.values).fit(view).apply(view)
    assert covariance(found.heads(1, 2), view.values).abs().max() < 1e-10
    assert torch.equal(found.heads(0, 0), fit_eraser(view.heads(0, 0), view.values)(view.heads(0, 0)))
    assert torch.equal(found.heads(1, 1), view.heads(1, 1))
    assert torch.equal(HeadErasure([], view.values).fit(view).apply(view).embedding, view.embedding)


def test_saved_without_heads_and_unfitted(tmp_path):
    values = View().values
    for number, one in enumerate(
        (HeadErasure([], values).fit(View()), HeadErasure([(0, 1)], values), EmbeddingErasure(values))
    ):
        again = load_correction(one.save(tmp_path / str(number)))
        assert again.fitted == one.fitted and torch.equal(again.values, values) and repr(again) == repr(one)


def test_half_precision_is_erased_in_single_and_given_back_in_half():
    x, values = data(0)
    found = fit_eraser(x, values)(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), fit_eraser(x, values)(x), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("x", "values", "match"),
    [
        (normal(0, 7, EMBED), torch.arange(5), "each of 7 images"),
        (normal(0, 7, EMBED), torch.zeros(7, dtype=torch.long), "two kinds at least"),
        (normal(0, 7, EMBED), torch.arange(7) - 1, "zero or more"),
        (normal(0, 7, EMBED) * torch.nan, torch.arange(7) % 2, "NaN or infinite"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_unusable_data(x, values, match):
    with pytest.raises(CorrectionError, match=match):
        fit_eraser(x, values)


def test_unusable_targets():
    view = View()
    with pytest.raises(CorrectionError, match=r"Call .fit\(reference\)"):
        EmbeddingErasure(view.values).apply(view)
    one = EmbeddingErasure(view.values).fit(view)
    with pytest.raises(CorrectionError, match="EmbeddingErasure is of whole embeddings"):
        one.apply(view.contributions)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_damaged_erasure(tmp_path):
    from safetensors.torch import load_file, save_file

    view = View()
    folder = EmbeddingErasure(view.values).fit(view).save(tmp_path / "kept")
    arrays = load_file(folder / "correction.safetensors")
    right = json.loads((folder / "correction.json").read_text())["correction"]["eraser"]["right"]
    save_file({**arrays, right: arrays[right][:, 1:].contiguous()}, folder / "correction.safetensors")
    with pytest.raises(CorrectionError, match="one width and rank"):
        load_correction(folder)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "concept_erasure", None)
    with pytest.raises(CorrectionError, match="pip install concept-erasure"):
        fit_eraser(*data(0))
