"""Moments: streamed and merged, they equal the direct computation."""

from math import prod

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import EMBED, HEADS, LAYERS, tiny_clip, write_images

import headlens.extraction.store as store_module
from headlens.errors import StoreError
from headlens.extraction import HeadStore, extract
from headlens.states import Moments, contribution_variance, group_moments, head_moments, merge_all

COUNT = 17


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HeadStore:
    folder = tmp_path_factory.mktemp("moments")
    return extract(tiny_clip(), write_images(folder, COUNT), folder / "acts.zarr")


def direct(z: torch.Tensor) -> Moments:
    mean = z.double().mean(0)
    deviations = z.double() - mean
    return Moments(len(z), mean, torch.einsum("ilhc,ilhd->lhcd", deviations, deviations))


def assert_same(one: Moments, other: Moments, tolerance: float = 1e-9) -> None:
    assert one.count == other.count
    torch.testing.assert_close(one.mean, other.mean, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(one.scatter, other.scatter, atol=tolerance, rtol=tolerance)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 13), min_size=1, max_size=7),
    offset=st.sampled_from([0.0, 1e3]),
    order=st.randoms(use_true_random=False),
)
def test_merging_in_any_order_equals_the_direct_computation(sizes: list[int], offset: float, order: object) -> None:
    z = torch.randn(sum(sizes), 2, 3, 5, generator=torch.Generator().manual_seed(sum(sizes))).double() + offset
    parts = [Moments.of(block) for block in z.split(sizes)]
    order.shuffle(parts)
    assert_same(merge_all(parts), direct(z))


def test_a_variance_that_a_sum_of_squares_would_lose() -> None:
    z = torch.tensor([0.0, 1.0, 2.0]).double().view(3, 1, 1, 1) + 1e8
    merged = Moments.of(z[:1]).merge(Moments.of(z[1:]))
    assert merged.covariance(0, 0).item() == pytest.approx(2 / 3, rel=1e-9)


def test_a_store_is_streamed_in_blocks(store: HeadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.stack([torch.stack([store.z(layer, head) for head in range(HEADS)], 1) for layer in range(LAYERS)], 1)
    for block in (1, 5, COUNT, 100):
        monkeypatch.setattr(store_module, "_NUMBERS", block * prod(store.basis.shape[:3]))
        assert_same(head_moments(store), direct(z))
        groups = group_moments(store, store.manifest["label"])
        assert list(groups) == ["cat", "dog"]
        for name, part in groups.items():
            assert_same(part, direct(z[(store.manifest["label"] == name).to_numpy(copy=True)]))
        assert_same(merge_all(groups.values()), direct(z))
    with pytest.raises(StoreError, match="17 images"):
        group_moments(store, ["cat"])


def test_what_they_say_of_contributions_is_what_the_contributions_say(store: HeadStore) -> None:
    moments = head_moments(store)
    means = moments.contribution_means(store.basis)
    texts = torch.randn(11, EMBED, generator=torch.Generator().manual_seed(3))
    deviations = moments.deviations(store.basis, texts)
    projected = store.project(texts).double()
    torch.testing.assert_close(deviations, projected.std(0, correction=0), atol=1e-6, rtol=1e-5)
    for layer, head in ((0, 0), (2, 4), (1, 3)):
        rows = store.heads(layer, head).double()
        torch.testing.assert_close(means[layer, head], rows.mean(0), atol=1e-6, rtol=1e-5)
        weights = store.basis.of(layer, head).double()
        own = weights.T @ moments.covariance(layer, head) @ weights
        torch.testing.assert_close(own, torch.cov(rows.T, correction=0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_variance_alone_is_that_of_the_moments(tmp_path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tiny_clip(torch.float64 if dtype == "float64" else torch.float32)
    store = extract(clip, write_images(tmp_path, COUNT), tmp_path / "acts.zarr", dtype=dtype)
    moments = head_moments(store)
    expected = store.basis.variance(moments.scatter) / COUNT
    for block in (1, 5, 100):
        monkeypatch.setattr(store_module, "_NUMBERS", block * prod(store.basis.shape[:3]))
        found = contribution_variance(store, store.basis)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, atol=0, rtol=1e-12 if dtype == "float64" else 2e-6)


def test_the_variance_of_contributions_themselves() -> None:
    z = 1e3 + torch.randn(COUNT, 2, 3, 7, generator=torch.Generator().manual_seed(5))  # a mean that would cancel
    rest = torch.zeros(COUNT, 7)
    manifest = pd.DataFrame({"path": [f"{row}.png" for row in range(COUNT)]})
    store = HeadStore.from_arrays(z, rest, manifest, convention="separate", normalized=False)
    units = z.double() / z.double().sum((1, 2)).norm(dim=-1)[:, None, None, None]
    expected = units.var(dim=0, correction=0).sum(-1)
    torch.testing.assert_close(contribution_variance(store, store.basis), expected, atol=0, rtol=1e-3)


def test_no_image_has_no_moments() -> None:
    with pytest.raises(StoreError, match="none"):
        Moments.of(torch.zeros(0, 2, 3, 5))
    with pytest.raises(StoreError, match="none"):
        merge_all([])
