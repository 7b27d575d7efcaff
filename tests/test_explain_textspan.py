"""TextSpan: the published arrays, a head worked out by hand, and moments in place of rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import EMBED, HEADS, LAYERS, tiny_clip, write_images

import headlens.locate.textspan as core
from headlens.errors import LocateError
from headlens.explain import ExplainError, textspan, textspan_heads
from headlens.extraction import HeadStore, extract
from headlens.locate.textspan import head_spans
from headlens.states import HeadBasis, Moments, head_moments


def by_rows(x: np.ndarray, texts: np.ndarray, count: int, rank: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The method as it is published, row by row: texts, variances, reconstruction."""
    axes = np.linalg.svd(x, full_matrices=False)[2][:rank]
    texts, mean = texts @ axes.T @ axes, x.mean(0)
    left, said = x - mean, np.tile(mean, (len(x), 1))
    chosen, variances = [], []
    for _ in range(count):
        chosen.append(int((left @ texts.T).std(0).argmax()))
        u = texts[chosen[-1]] / np.linalg.norm(texts[chosen[-1]])
        part = np.outer(left @ u, u)
        variances.append((left @ u).var())
        said, left, texts = said + part, left - part, texts - np.outer(texts @ u, u)
    return chosen, np.array(variances), said


def random_heads(seed: int, images: int = 31, heads: int = 3, d_head: int = 5, embed: int = 11, texts: int = 37):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(images, 1, heads, d_head, generator=g).double() * torch.rand(heads, d_head, generator=g)
    z = z + torch.randn(heads, d_head, generator=g)
    weights = torch.randn(1, heads, d_head, embed, generator=g).double()
    basis = HeadBasis.of_weights(weights)
    return z, basis, torch.randn(texts, embed, generator=g).double() + 0.3


def test_the_published_texts_and_reconstruction(golden) -> None:
    arrays = golden("methods")
    layer, head = arrays["textspan_head"]
    x, texts = torch.from_numpy(arrays["attns"][:, layer, head]), torch.from_numpy(arrays["text_bank"])
    span = textspan(x, texts, len(arrays["textspan_texts"]), rank=int(arrays["textspan_rank"]))
    assert span.texts.tolist() == arrays["textspan_texts"].tolist()
    np.testing.assert_allclose(span.reconstruct(x), arrays["textspan_reconstruction"], atol=2e-6, rtol=0)
    explained = torch.from_numpy(arrays["textspan_reconstruction"]).double().var(0, correction=0).sum()
    assert span.explained * span.total == pytest.approx(float(explained), rel=1e-5)


def test_a_head_worked_out_by_hand() -> None:
    # Deviations ±2 along the first axis, ±1 along the second, none along the third: variances 4, 1 and 0.
    x = torch.tensor([[2.0, 1, 0], [2, -1, 0], [-2, 1, 0], [-2, -1, 0]]) + torch.tensor([0.0, 0, 7])
    texts = torch.tensor([[0.0, 0, 9], [1, 1, 0], [2, 0, 1], [0, 2, 5]])
    span = textspan(x, texts, 4)
    # Deviations along the texts: 0, √5, 4, 2. Text 2 points at u = (2, 0, 1)/√5, which holds 16/5 of the variance.
    # Then t1 − (t1·u)u = (1, 5, −2)/5, t3 − (t3·u)u = (−2, 2, 4), t0 − … = (−18, 0, 36)/5, and the contributions vary
    # by ±2(1, 0, −2)/5 and by ±(0, 1, 0): the deviations are √(4/25 + 1), 2√5, 36/5.
    assert span.texts.tolist() == [2, 0, 3]
    # u₂ = (−1, 0, 2)/√5 holds 4/5, and what is left is the second axis: all is explained after three of four texts.
    torch.testing.assert_close(span.variance, torch.tensor([3.2, 0.8, 1.0]).double())
    assert span.total == pytest.approx(5.0)
    assert span.explained == pytest.approx(1.0)
    torch.testing.assert_close(span.share, torch.tensor([0.64, 0.16, 0.2]).double())
    torch.testing.assert_close(span.reconstruct(x), x)
    one = textspan(x, texts, 1)
    torch.testing.assert_close(one.reconstruct(x)[0], torch.tensor([1.6, 0, 7.8]))
    # Along one axis alone (the mean is the largest direction, rank 1) no text can distinguish the images.
    assert len(textspan(x, texts, 1, rank=1)) == 0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), rank=st.integers(2, 5), batch=st.sampled_from([1, 400, 10**6]))
def test_moments_equal_the_rows(seed: int, rank: int, batch: int) -> None:
    z, basis, texts = random_heads(seed)
    moments = Moments.of(z[:13]).merge(Moments.of(z[13:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "_NUMBERS", batch)
        spans = textspan_heads(moments, texts, rank, None if rank == 5 else rank, basis=basis)
    for head, span in spans.items():
        x = z[:, 0, head.head] @ basis.B[0, head.head]
        chosen, variances, said = by_rows(x.numpy(), texts.numpy(), rank, rank)
        assert span.texts.tolist() == chosen
        np.testing.assert_allclose(span.variance, variances, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(span.reconstruct(x), said, atol=1e-9)
        np.testing.assert_allclose(span.total, x.var(0, correction=0).sum(), rtol=1e-9)
        rows = textspan(x, texts, rank, None if rank == 5 else rank)
        assert rows.texts.tolist() == chosen
        np.testing.assert_allclose(rows.variance, variances, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 37), scale=st.sampled_from([1e-20, 1.0, 1e4]))
def test_what_holds_for_every_span(seed: int, count: int, scale: float) -> None:
    z, basis, texts = random_heads(seed)
    for span in textspan_heads(Moments.of(z * scale), texts, count, basis=basis).values():
        assert len(span) == min(count, 5)  # a head of width 5 has no sixth direction
        assert len(set(span.texts.tolist())) == len(span)
        torch.testing.assert_close(span.directions @ span.directions.T, torch.eye(len(span)).double())
        assert bool((span.variance >= 0).all())
        assert span.explained <= 1 + 1e-9
        if count >= 5:
            assert span.explained == pytest.approx(1, abs=1e-9)


def test_a_longer_text_is_chosen_sooner_and_an_equal_one_later() -> None:
    z, basis, texts = random_heads(3)
    x = z[:, 0, 1] @ basis.B[0, 1]
    first = int(textspan(x, texts, 1).texts)
    longer = torch.cat([texts, 2 * texts[first][None], texts[first][None]])
    assert textspan(x, longer, 1).texts.tolist() == [len(texts)]
    equal = torch.cat([texts[first][None], texts])
    assert textspan(x, equal, 1).texts.tolist() == [0]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), apart=st.sampled_from([0.0, 1e-13, 1e-9, 1e-5]), count=st.integers(1, 5))
def test_texts_closer_than_float32_resolves_are_chosen_as_in_float64(seed: int, apart: float, count: int) -> None:
    z, basis, texts = random_heads(seed)
    noise = torch.randn(len(texts), 11, generator=torch.Generator().manual_seed(seed)).double()
    bank = torch.cat([texts, texts * (1 + apart * noise)])
    moments = Moments.of(z)
    covariance = moments.scatter[0] / moments.count
    axes, spread, _ = core.row_space(basis.B[0], moments.mean[0], covariance)
    placed = axes @ bank.mT
    exact, explained, _ = core.choose(placed, spread, (placed * (spread @ placed)).sum(1), count)
    assert bool((explained > 0).all())
    spans = head_spans(basis.B[0], moments.mean[0], covariance, bank, count)
    assert [span.texts.tolist() for span in spans] == exact.tolist()


def test_no_gradient_is_kept() -> None:
    # A text tower's output carries its graph, which would hold every intermediate array.
    z, basis, texts = random_heads(3)
    span = textspan_heads(Moments.of(z), texts.requires_grad_(), 2, basis=basis)[0, 1]
    rows = textspan(z[:, 0, 1] @ basis.B[0, 1].requires_grad_(), texts, 2)
    assert not any(part.requires_grad for one in (span, rows) for part in (one.directions, one.variance, one.mean))


def test_heads_that_do_not_vary_have_no_texts() -> None:
    z, basis, texts = random_heads(4)
    z[:, :, 0] = 0.1
    z[:, :, 1] = 0
    spans = textspan_heads(Moments.of(z), texts, 3, basis=basis)
    assert [len(span) for span in spans.values()] == [0, 0, 3]
    still = spans[0, 0]
    assert (still.total, still.explained, still.share.tolist()) == (0.0, 0.0, [])
    rows = z[:, 0, 0] @ basis.B[0, 0]
    torch.testing.assert_close(still.reconstruct(rows), rows)


def test_fewer_images_than_the_head_is_wide() -> None:
    # Two images span two directions, whatever the width of the head.
    z, basis, texts = random_heads(5, images=2)
    for span in textspan_heads(Moments.of(z), texts, 5, basis=basis).values():
        assert len(span) == 2
        assert span.explained == pytest.approx(1)


def test_a_store_is_explained_as_its_rows_are(tmp_path: Path) -> None:
    store: HeadStore = extract(tiny_clip(), write_images(tmp_path, 17), tmp_path / "acts.zarr")
    texts = torch.randn(23, EMBED, generator=torch.Generator().manual_seed(1))
    spans = textspan_heads(store, texts, 2)
    assert list(spans) == [(i, j) for i in range(LAYERS) for j in range(HEADS)]
    few = textspan_heads(head_moments(store), texts, 2, heads=[(2, 4), (0, 3)], basis=store.basis)
    assert list(few) == [(2, 4), (0, 3)]
    for head, span in few.items():
        x = store.z(*head).double() @ store.basis.B[head].double()
        chosen, variances, said = by_rows(x.numpy(), texts.double().numpy(), 2, 2)
        assert span.texts.tolist() == chosen == spans[head].texts.tolist()
        np.testing.assert_allclose(span.variance, variances, rtol=1e-6)
        np.testing.assert_allclose(span.reconstruct(store.heads(*head)), said, atol=1e-6)
    with pytest.raises(LocateError, match="head L3H0"):
        textspan_heads(store, texts, 2, heads=[(3, 0)])


def bad(texts: torch.Tensor) -> torch.Tensor:
    texts = texts.clone()
    texts[1, 2] = torch.nan
    return texts


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": 38}, "38 texts cannot be chosen from a bank of 37"),
        ({"count": 0}, "0 texts cannot be chosen"),
        ({"x": torch.ones(1, 11)}, "two images or more"),
        ({"rank": 0}, "Rank 0 is not from 1 to 11"),
        ({"rank": 12}, "Rank 12 is not from 1 to 11"),
        ({"x": bad(torch.ones(31, 11))}, "1 of the contributions are NaN"),
        ({"texts": bad(torch.ones(37, 11))}, "1 of the texts are NaN"),
        ({"texts": torch.ones(37, 13)}, r"\[37, 13\] are not rows of the joint space's width, 11"),
    ],
)
def test_rows_that_cannot_be_explained(change: dict, said: str) -> None:
    given = {"x": torch.randn(31, 11), "texts": torch.randn(37, 11), "count": 3, "rank": None} | change
    with pytest.raises(ExplainError, match=said):
        textspan(given["x"], given["texts"], given["count"], given["rank"])


@pytest.mark.usefixtures("without_shape_checks")
def test_moments_that_cannot_be_explained() -> None:
    z, basis, texts = random_heads(6)
    moments = Moments.of(z)
    with pytest.raises(ExplainError, match="but got none"):
        textspan_heads(moments, texts, 2)
    with pytest.raises(ExplainError, match=r"\[1, 2, 5\].* but got one of \[1, 3, 5\]"):
        textspan_heads(Moments.of(z[:, :, :2]), texts, 2, basis=basis)
    with pytest.raises(ExplainError, match="two images or more, but got 1"):
        textspan_heads(Moments.of(z[:1]), texts, 2, basis=basis)
    with pytest.raises(ExplainError, match="Rank 6 is not from 1 to 5"):
        textspan_heads(moments, texts, 2, rank=6, basis=basis)
    with pytest.raises(ExplainError, match="joint space's width, 11"):
        textspan_heads(moments, texts[:, :7], 2, basis=basis)
    z[0, 0, 0, 0] = torch.inf
    with pytest.raises(ExplainError, match="1 of the means are NaN"):
        textspan_heads(Moments.of(z), texts, 2, basis=basis)
    span = head_spans(basis.B[0], moments.mean[0], moments.covariance(0, 0)[None].expand(3, 5, 5), texts, 2)[0]
    with pytest.raises(ExplainError, match=r"Shape \[31, 7\] has no rows of the embedding's width, 11"):
        span.reconstruct(torch.ones(31, 7))
