"""Half precision: what is kept, in how much space, and read back by us and by others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_clip import EMBED, pixels, tiny_clip, write_images

from headlens.errors import ModelError
from headlens.extraction import HeadStore, extract
from headlens.extraction.plan import Plan, from_disk, to_disk
from headlens.states import decompose

COUNT = 13


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_each_number_is_the_nearest_one_of_its_type(tmp_path: Path, dtype: str, digits: float) -> None:
    clip = tiny_clip()
    frame = write_images(tmp_path / "images", COUNT)
    full = extract(clip, frame, tmp_path / "full.zarr")
    half = extract(clip, frame, tmp_path / "half.zarr", dtype=dtype)
    for in_memory in (True, False):
        opened = HeadStore.open(half.path, in_memory=in_memory)
        torch.testing.assert_close(opened.embedding, full.embedding, rtol=0, atol=0)
        for layer, head in ((0, 0), (2, 4)):
            torch.testing.assert_close(opened.z(layer, head), full.z(layer, head), rtol=digits, atol=1e-7)
        torch.testing.assert_close(opened.mlps, full.mlps, rtol=digits, atol=1e-7)
        torch.testing.assert_close(opened.stem, full.stem, rtol=1e-6, atol=1e-7)  # from float32 scales and weights
        texts = torch.randn(5, EMBED, generator=torch.Generator().manual_seed(2))
        expected = full.project(texts)
        error = (opened.project(texts) - expected).abs().max() / expected.abs().max()
        assert 0 < error < 2 * digits
    assert half.z(0, 0).dtype == torch.float32


def test_others_read_bfloat16_by_its_bits(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    store = extract(tiny_clip(), write_images(tmp_path / "images", COUNT), tmp_path / "acts.zarr", dtype="bfloat16")
    data = xarray.open_zarr(store.path)
    assert data["z"].attrs["dtype"] == "bfloat16"
    assert data["z"].dtype == np.uint16
    assert data["embedding"].attrs["dtype"] == "float32"
    bits = data["z"].isel(layer=1, head=3).values
    values = (bits.astype("uint32") << 16).view("float32")
    np.testing.assert_allclose(values / store.norm.numpy()[:, None], store.z(1, 3).numpy(), rtol=1e-6)


def test_numbers_beyond_float16_fit_in_bfloat16(tmp_path: Path) -> None:
    clip = tiny_clip()
    with torch.no_grad():
        clip.vision.W_P *= 1e6
    frame = write_images(tmp_path / "images", COUNT)
    with pytest.raises(ModelError, match="float16"):
        extract(clip, frame, tmp_path / "half.zarr", dtype="float16")
    assert len(extract(clip, frame, tmp_path / "brain.zarr", dtype="bfloat16")) == COUNT


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_to_disk_and_back(dtype: str) -> None:
    values = torch.tensor([[1.5, -2.0], [float("nan"), 0.0], [float("inf"), 3.0]], dtype=torch.float64)
    plan = Plan.of_states(tiny_clip(), nowhere(3), None, dtype)
    array, finite = to_disk(values, dtype)
    assert finite.tolist() == [True, False, False]
    torch.testing.assert_close(from_disk(array, dtype).double(), values, equal_nan=True)
    assert torch.isnan(from_disk(plan.empty("z", 1), dtype)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_image_that_could_not_be_read_is_nothing(tmp_path: Path, dtype: str) -> None:
    frame = write_images(tmp_path / "images", 5)
    (tmp_path / "images" / "2.png").write_bytes(b"")
    store = extract(tiny_clip(), frame, tmp_path / "acts.zarr", dtype=dtype, on_error="skip")
    raw = from_disk(np.asarray(store._arrays["z"][...]), dtype)
    assert torch.isnan(raw[2]).all()
    assert bool(torch.isfinite(raw[[0, 1, 3, 4]]).all())


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_the_class_token_starts_alike_in_every_image_and_is_kept_once(tmp_path: Path, pool: str) -> None:
    clip = tiny_clip(pool=pool)
    frame = write_images(tmp_path / "images", COUNT)
    store = extract(clip, frame, tmp_path / "acts.zarr")
    dense = decompose(clip.vision, pixels(clip, frame), normalize=True)
    torch.testing.assert_close(store.stem, dense.stem, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(store.subset([7, 2]).stem, dense.stem[[7, 2]], atol=1e-6, rtol=1e-5)
    assert ("stem" in store.plan.names) == (pool == "avg")
    assert (Path(store.path) / "stem").exists() == (pool == "avg")


def test_a_half_store_of_a_large_tower_is_a_fourteenth_of_the_dense_decomposition() -> None:
    clip = tiny_clip()
    frame = nowhere(100)
    layers, heads, d_head, embed = 24, 16, 64, 768  # ViT-L-14
    for dtype, least in (("float32", 7), ("float16", 14), ("bfloat16", 14)):
        plan = Plan.of_states(clip, frame, None, dtype)
        plan = type(plan)(**vars(plan) | {"sizes": {"layer": layers, "head": heads, "d_head": d_head, "embed": embed}})
        kept = sum(int(np.prod(plan.shape_of(name, 1))) * plan.stored_as(name).itemsize for name in plan.names)
        dense = 4 * embed * (layers * heads + layers + 3)  # heads, MLPs, stem, constant, embedding
        assert dense / kept >= least


def nowhere(count: int) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{i}.png" for i in range(count)]})
