"""A store answers as the dense decomposition does, from the compact form alone."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clip import D_HEAD, EMBED, HEADS, LAYERS, TinyClip, pixels, tiny_clip, write_images

import headlens as hl
import headlens.extraction.store as store_module
from headlens.errors import ManifestError, StoreError
from headlens.extraction import HeadStore, extract
from headlens.extraction.plan import block_sizes
from headlens.manifest import check_files, resolve_paths
from headlens.models import HookedCLIP
from headlens.models.open_clip_import import open_clip
from headlens.states import Decomposition, decompose

COUNT, DIRECTIONS = 23, 11


@pytest.fixture(scope="module", params=["tok", "avg"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp("store")
    clip = tiny_clip(pool=request.param)
    frame = write_images(folder / "images", COUNT)
    store = extract(clip, frame, folder / "acts.zarr", batch_size=3, block=8)
    return clip, frame, store, decompose(clip.vision, pixels(clip, frame), normalize=True)


@pytest.fixture
def store(made: tuple) -> HeadStore:
    return HeadStore.open(made[2].path)


def directions(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(DIRECTIONS, EMBED, dtype=dtype, generator=torch.Generator().manual_seed(5))


def test_every_part_equals_the_dense_one(made: tuple) -> None:
    clip, frame, store, dense = made
    embedding = clip.vision(pixels(clip, frame))
    torch.testing.assert_close(store.norm, embedding.norm(dim=-1))
    torch.testing.assert_close(store.embedding, embedding / embedding.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(store.mlps, dense.mlps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(store.stem, dense.stem, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(store.constant, dense.constant, atol=1e-5, rtol=1e-5)
    for layer in range(LAYERS):
        for head in range(HEADS):
            torch.testing.assert_close(store.heads(layer, head), dense.heads[:, layer, head], atol=1e-5, rtol=1e-5)
            assert store.z(layer, head).shape == (COUNT, D_HEAD)


def test_parts_add_up_to_the_unit_embedding(store: HeadStore) -> None:
    heads = torch.stack([store.heads(layer, head) for layer in range(LAYERS) for head in range(HEADS)])
    total = heads.sum(0) + store.mlps.sum(1) + store.stem + store.constant
    torch.testing.assert_close(total, store.embedding, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total.norm(dim=-1), torch.ones(COUNT), atol=1e-5, rtol=1e-5)


def dense_projection(dense: Decomposition, texts: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ilhe,te->ilht", dense.heads, texts)


@pytest.mark.parametrize("count", [None, 2])  # a few directions are projected on one after the other
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("constants", ["separate", "spread"])
def test_project_equals_the_dense_einsum(
    made: tuple, in_memory: bool, constants: str, count: int | None, monkeypatch
) -> None:
    clip, frame, store, _ = made
    monkeypatch.setattr(store_module, "_NUMBERS", 5 * prod(store.basis.shape[:3]))
    dense = decompose(clip.vision, pixels(clip, frame), normalize=True, constants=constants)
    opened = HeadStore.open(store.path, in_memory=in_memory)
    texts = directions()[:count]
    torch.testing.assert_close(
        opened.project(texts, constants=constants), dense_projection(dense, texts), atol=1e-5, rtol=1e-5
    )
    rows = [17, 2, 3, 2]
    torch.testing.assert_close(
        opened.subset(rows).project(texts, constants=constants),
        dense_projection(dense, texts)[rows],
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("count", [None, 2])
@pytest.mark.parametrize("constants", ["separate", "spread"])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_project_is_exact_in_float64(tmp_path: Path, constants: str, pool: str, count: int | None) -> None:
    clip = tiny_clip(torch.float64, pool=pool)
    frame = write_images(tmp_path, 5)
    store = extract(clip, frame, tmp_path / "acts.zarr", dtype="float64")
    images = pixels(clip, frame).double()
    dense = decompose(clip.vision, images, normalize=True, constants=constants)
    texts = directions(torch.float64)[:count]
    projected = store.project(texts, constants=constants)
    assert projected.dtype == torch.float64
    torch.testing.assert_close(projected, dense_projection(dense, texts), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(store.embedding, dense.total(), atol=1e-12, rtol=1e-12)


def test_half_precision_keeps_three_digits_in_half_the_space(made: tuple, tmp_path: Path) -> None:
    clip, frame, full, _ = made
    half = extract(clip, frame, tmp_path / "half.zarr", dtype="float16")
    assert half.project(directions()).dtype == torch.float32
    torch.testing.assert_close(half.project(directions()), full.project(directions()), atol=3e-3, rtol=3e-3)
    torch.testing.assert_close(half.embedding, full.embedding)
    assert half._arrays["z"].dtype == np.float16


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_subset_is_the_same_rows(made: tuple, in_memory: bool) -> None:
    store = HeadStore.open(made[2].path, in_memory=in_memory)
    mask = (store.manifest["label"] == "dog").to_numpy(copy=True)
    rows = np.flatnonzero(mask)
    for chosen in (mask, store.manifest["label"] == "dog", torch.from_numpy(mask), list(rows), rows - COUNT):
        view = store.subset(chosen)
        assert len(view) == len(rows)
        torch.testing.assert_close(view.embedding, store.embedding[rows], rtol=0, atol=0)
        torch.testing.assert_close(view.heads(2, 4), store.heads(2, 4)[rows])
        torch.testing.assert_close(view.z(1, 3), store.z(1, 3)[rows], rtol=0, atol=0)
        assert list(view.manifest["path"]) == list(store.manifest["path"][rows])
        assert list(view.manifest.index) == list(range(len(rows)))
    apart = store.subset([22, 0])
    torch.testing.assert_close(apart.z(1, 3), store.z(1, 3)[[22, 0]], rtol=0, atol=0)
    torch.testing.assert_close(apart.mlps, store.mlps[[22, 0]], rtol=0, atol=0)
    nested = store.subset(split="val").subset([3, 1])
    expected = store.manifest[store.manifest["split"] == "val"]["path"].tolist()
    assert list(nested.manifest["path"]) == [expected[3], expected[1]]


@settings(deadline=None, max_examples=20)
@given(rows=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=30), block=st.integers(1, 30))
def test_any_choice_of_rows_in_any_order(made: tuple, rows: list[int], block: int) -> None:
    opened = made[2]
    expected = opened.project(directions())[rows]
    before, store_module._NUMBERS = store_module._NUMBERS, block * prod(opened.basis.shape[:3])
    try:
        torch.testing.assert_close(opened.subset(rows).project(directions()), expected, atol=1e-6, rtol=1e-6)
    finally:
        store_module._NUMBERS = before


def test_choices_that_make_no_subset(store: HeadStore) -> None:
    none = np.zeros(COUNT, dtype=bool)
    for rows in (none, [], [COUNT], [-COUNT - 1], none[1:], [0.5], [[1]], "val"):
        with pytest.raises(StoreError):
            store.subset(rows)
    with pytest.raises(StoreError, match="neither"):
        store.subset()
    with pytest.raises(StoreError, match="both"):
        store.subset([0], split="val")
    with pytest.raises(ManifestError, match=r"'train' \(8\)"):
        store.subset(split="vla")


def test_the_memory_is_shared_by_views_and_read_once(store: HeadStore) -> None:
    reads: list[str] = []
    arrays = store._arrays
    store._arrays = type("Noted", (), {"__getitem__": lambda _, name: reads.append(name) or arrays[name]})()
    view = store.subset(split="val")
    for _ in range(3):
        view.project(directions())
        store.project(directions())
        store.heads(0, 1)
    assert sorted(reads) == ["embedding", "scale", "shift", "z"]


def test_directions_of_another_width_and_unknown_constants(store: HeadStore) -> None:
    with pytest.raises(StoreError, match=r"\[direction, 7\].*\[3, 8\]"):
        store.project(torch.randn(3, EMBED + 1))
    with pytest.raises(StoreError, match="'shared'"):
        store.project(directions(), constants="shared")


def test_a_head_outside_the_tower(store: HeadStore) -> None:
    for layer, head in ((LAYERS, 0), (0, HEADS), (-1, 0), (0, -1)):
        with pytest.raises(StoreError, match=f"head L{layer}H{head}"):
            store.heads(layer, head)


def test_length_repr_and_identity(store: HeadStore, made: tuple) -> None:
    assert len(store) == COUNT
    assert (store.n_layers, store.n_heads) == (LAYERS, HEADS)
    assert "23 images, 3 layers × 5 heads of 2, float32, tiny seed-0" in repr(store)
    assert store.model_name == "tiny"
    assert store.fingerprint == made[0].fingerprint
    assert store.skipped.empty
    assert list(store.skipped.columns) == ["row", "path", "reason"]


def test_the_manifest_comes_back_as_it_was(store: HeadStore, made: tuple) -> None:
    pd.testing.assert_frame_equal(store.manifest, made[1], check_dtype=False)
    assert store.manifest.attrs["root"] == made[1].attrs["root"]


def test_a_manifest_of_mixed_columns_is_kept(tmp_path: Path) -> None:
    frame = write_images(tmp_path, 3).assign(
        mixed=[1, "b", None],
        box=["[0, 0, 3, 5]", (1, 1, 2, 2), None],
        candidates=[["cat", "dog"], "cat|dog", None],
        number=[1, 2, 3],
    )
    back = extract(tiny_clip(), frame, tmp_path / "acts.zarr").manifest
    assert back["mixed"].fillna("-").tolist() == ["1", "b", "-"]
    assert back["box"].fillna("-").tolist() == ["[0.0, 0.0, 3.0, 5.0]", "[1.0, 1.0, 2.0, 2.0]", "-"]
    assert back["candidates"].fillna("-").tolist() == ['["cat", "dog"]', "cat|dog", "-"]
    assert back["number"].tolist() == ["1", "2", "3"]


def test_new_columns_need_no_new_extraction(store: HeadStore) -> None:
    view = store.with_manifest(store.manifest.assign(mood=["merry"] * COUNT))
    assert view.manifest["mood"].tolist() == ["merry"] * COUNT
    assert view.manifest_digest != store.manifest_digest
    assert view.subset([0]).manifest_digest == view.manifest_digest
    assert store.with_manifest(pd.DataFrame({"path": store.manifest["path"].tolist()})).manifest.attrs["root"]
    torch.testing.assert_close(view.embedding, store.embedding, rtol=0, atol=0)


def test_another_table_is_matched_by_image(store: HeadStore, tmp_path: Path) -> None:
    chosen = [7, 2, 19, 2]
    with pytest.warns(UserWarning, match="20 of the store's 23 images are not in the table"):
        view = store.with_manifest(store.manifest.iloc[chosen].assign(label=["a", "b", "c", "d"]))
    torch.testing.assert_close(view.embedding, store.embedding[chosen], rtol=0, atol=0)
    torch.testing.assert_close(view.heads(1, 3), store.heads(1, 3)[chosen], rtol=0, atol=0)
    assert view.manifest["label"].tolist() == ["a", "b", "c", "d"]
    assert store.with_manifest(store.manifest[::-1]).manifest["path"].tolist() == store.manifest["path"].tolist()[::-1]

    table = store.manifest.assign(
        path=[str(Path(store.manifest.attrs["root"]) / path) for path in store.manifest["path"]]
    )
    table.to_csv(tmp_path / "absolute.csv", index=False)
    torch.testing.assert_close(store.with_manifest(tmp_path / "absolute.csv").embedding, store.embedding)
    more = pd.concat([store.manifest[3:5], pd.DataFrame({"path": ["new.png", "newer.png"]})])
    more.attrs = store.manifest.attrs
    with pytest.warns(UserWarning, match=r"21 of the store's.*2 of the table's 4 rows have no states.*: new\.png"):
        view = store.with_manifest(more)
    torch.testing.assert_close(view.embedding, store.embedding[3:5], rtol=0, atol=0)

    store.manifest[4:9].to_csv(tmp_path / "moved.csv", index=False)  # its relative paths lead nowhere from here
    with pytest.warns(UserWarning, match="18 of the store's 23"):
        view = store.with_manifest(tmp_path / "moved.csv")
    torch.testing.assert_close(view.embedding, store.embedding[4:9], rtol=0, atol=0)
    others = write_images(tmp_path / "others", COUNT - 1, seed=1)  # other images of the same names
    with pytest.raises(StoreError, match="none of the 23 images"):
        store.with_manifest(others)


def test_a_view_is_saved_as_a_store_of_its_own(store: HeadStore, tmp_path: Path) -> None:
    view = store.subset([17, 2, 3, 2, 11])
    saved = view.save(tmp_path / "view.zarr")
    for name in ("embedding", "mlps", "stem", "constant"):
        torch.testing.assert_close(getattr(saved, name), getattr(view, name), rtol=0, atol=0)
    torch.testing.assert_close(saved.project(directions()), view.project(directions()), rtol=0, atol=0)
    assert saved.manifest["path"].tolist() == view.manifest["path"].tolist()
    assert saved.manifest.attrs["root"] == store.manifest.attrs["root"]
    assert saved.fingerprint == store.fingerprint
    with pytest.raises(StoreError, match="empty or absent folder"):
        store.save(tmp_path / "view.zarr")


@pytest.mark.parametrize("constants", ["separate", "spread"])
@pytest.mark.parametrize("normalized", [True, False])
def test_arrays_of_another_tool_become_a_store(made: tuple, tmp_path: Path, constants: str, normalized: bool) -> None:
    clip, frame, store, _ = made
    dense = decompose(clip.vision, pixels(clip, frame), constants=constants, normalize=normalized)
    rest = dense.mlps.sum(1) + dense.stem + dense.constant
    options = {"convention": constants, "normalized": normalized}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported = HeadStore.from_arrays(dense.heads, rest, frame, fingerprint=clip.fingerprint, **options)
        exported.check_model(clip)
    texts = directions()
    for one in (exported, exported.save(tmp_path / "exported.zarr")):
        torch.testing.assert_close(one.embedding, store.embedding, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.project(texts), store.project(texts, constants), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.project(texts, constants), one.project(texts), rtol=0, atol=0)
        torch.testing.assert_close(
            one.subset(split="val").project(texts), one.project(texts)[1::3], atol=1e-6, rtol=1e-6
        )
        heads = sum(one.heads(layer, head) for layer in range(LAYERS) for head in range(HEADS))
        torch.testing.assert_close(one.rest + heads, one.embedding, atol=1e-5, rtol=1e-5)
        assert one.manifest["label"].tolist() == frame["label"].tolist()
        with pytest.raises(StoreError, match="no other convention"):
            one.project(texts, "spread" if constants == "separate" else "separate")
        for name in ("mlps", "stem", "constant"):
            with pytest.raises(StoreError, match=r"store\.rest"):
                getattr(one, name)
    assert "in memory: 23 images, 3 layers × 5 heads of 7" in repr(exported)


def test_arrays_of_another_tool_that_do_not_fit(made: tuple, without_shape_checks: None) -> None:
    clip, frame, _, dense = made
    rest = dense.mlps.sum(1) + dense.stem + dense.constant
    options = {"convention": "separate", "normalized": True}
    unknown = HeadStore.from_arrays(dense.heads.numpy(), rest.numpy(), frame, **options)
    with pytest.warns(UserWarning, match="does not record which model"):
        unknown.check_model(clip)
    with pytest.raises(StoreError, match=r"seed-0.*seed-1|other.*seed-1"):
        HeadStore.from_arrays(dense.heads, rest, frame, fingerprint="other", **options).check_model(tiny_clip(seed=1))
    for heads, others, table, changes, said in (
        (dense.heads[1:], rest, frame, {}, r"shapes \[22, 3, 5, 7\] and \[23, 7\] and 23 rows"),
        (dense.heads, rest, frame[1:], {}, "and 22 rows"),
        (dense.heads, rest * float("nan"), frame, {}, "NaN"),
        (dense.heads, rest * 2, frame, {}, "do not add up to unit embeddings"),
        (dense.heads, rest, frame, {"convention": "both"}, "'both'"),
    ):
        with pytest.raises(StoreError, match=said):
            HeadStore.from_arrays(heads, others, table, **options | changes)


def test_another_model_is_refused_by_both_fingerprints(made: tuple) -> None:
    clip, _, store, _ = made
    HeadStore.open(store.path, clip)
    with pytest.raises(StoreError, match=r"seed-0.*seed-1"):
        HeadStore.open(store.path, TinyClip(clip.vision, fingerprint="seed-1"))


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not there"):
        HeadStore.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(StoreError, match="something else"):
            HeadStore.open(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: plan | {"format": 4}, r"format 4; headlens \S+ reads 1 and 2 and 3\. Update headlens"),
        (lambda plan: plan | {"format": 4, "surprise": 1}, "format 4.*Update headlens"),
        (lambda plan: plan | {"format": 0}, "format 0.*with the version that wrote it"),
        (lambda plan: {key: value for key, value in plan.items() if key != "format"}, "format None"),
        (lambda plan: plan | {"surprise": 1}, r"damaged: zarr\.json cannot be read.*surprise"),
        (lambda plan: {key: value for key, value in plan.items() if key != "rows"}, r"damaged: zarr\.json.*rows"),
        (lambda plan: plan | {"rows": COUNT + 1}, rf"damaged: manifest\.parquet.*{COUNT} rows for {COUNT + 1}"),
    ],
)
def test_a_store_of_another_version(made: tuple, tmp_path: Path, change: Callable[[dict], dict], said: str) -> None:
    """Nothing in it is touched. It has no digests, as those of another version would fit its own files."""
    path = tmp_path / "other.zarr"
    shutil.copytree(made[2].path, path)
    group, complete = (json.loads((path / name).read_text()) for name in ("zarr.json", "complete.json"))
    group["attributes"]["headlens"] = change(group["attributes"]["headlens"])
    (path / "zarr.json").write_text(json.dumps(group))
    (path / "complete.json").write_text(json.dumps({"blocks": complete["blocks"], "skipped": []}))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for use in (HeadStore.open, lambda there: extract(made[0], made[1], there)):
        with pytest.raises(StoreError, match=said):
            use(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("zarr.json", lambda whole: whole[: len(whole) // 2], r"damaged: zarr\.json cannot be read"),
        ("zarr.json", lambda whole: b"[]", r"damaged: zarr\.json cannot be read"),
        ("zarr.json", None, r"lacks zarr\.json"),
        ("complete.json", None, "not complete"),
        ("complete.json", lambda whole: whole[:40], r"damaged: complete\.json"),
        (
            "complete.json",
            lambda whole: b'{"blocks": 3, "skipped": [{"row": 99, "path": "", "reason": ""}]}',
            "image 99",
        ),
    ],
)
def test_a_store_that_is_half_there(
    made: tuple, tmp_path: Path, name: str, content: Callable[[bytes], bytes] | None, said: str
) -> None:
    path = tmp_path / "half.zarr"
    shutil.copytree(made[2].path, path)
    whole = (path / name).read_bytes()
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content(whole))
    with pytest.raises(StoreError, match=said):
        HeadStore.open(path)


def test_an_array_that_is_not_ours_is_left_alone(made: tuple, tmp_path: Path) -> None:
    path = tmp_path / "more.zarr"
    shutil.copytree(made[2].path, path)
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    group.create_array("surprise", data=np.arange(COUNT))
    opened = extract(made[0], made[1], path)
    torch.testing.assert_close(opened.project(directions()), made[2].project(directions()), rtol=0, atol=0)
    np.testing.assert_array_equal(zarr.open_group(path, use_consolidated=False)["surprise"], np.arange(COUNT))


def test_a_part_that_is_gone_is_missed_by_every_view(made: tuple, tmp_path: Path) -> None:
    """Views share their memory: the first to read an array may not need the rows that are gone."""
    path = tmp_path / "gone.zarr"
    shutil.copytree(made[2].path, path)
    shutil.rmtree(path / "z" / "c" / "1")  # images 8 to 15
    store = HeadStore.open(path)
    for rows in ([0, 1, 2], [9, 10]):
        with pytest.raises(StoreError, match="no values in the array z"):
            store.subset(rows).project(directions())


def test_xarray_opens_it_with_labelled_dimensions(store: HeadStore) -> None:
    xarray = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(store.path)
    assert data["z"].dims == ("image", "layer", "head", "d_head")
    assert data["mlps"].dims == ("image", "layer", "embed")
    assert data["scale"].dims == ("image",)
    one_head = data["z"].isel(layer=1, head=3).values / store.norm.numpy()[:, None]
    np.testing.assert_allclose(one_head, store.z(1, 3).numpy(), rtol=1e-6)


@settings(deadline=None, max_examples=200)
@given(rows=st.integers(1, 20_000), block=st.none() | st.integers(1, 2_000))
def test_blocks_fit(rows: int, block: int | None) -> None:
    per_block, per_chunk = block_sizes(rows, block)
    assert per_block % per_chunk == 0
    blocks = -(-rows // per_block)
    if block is None:
        assert per_block <= 1024
        assert blocks * per_block - rows <= 4 * blocks + 3
    else:
        assert per_block == min(block, rows)


def test_a_store_of_relative_paths_without_a_root_remembers_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = write_images(tmp_path, 3)
    frame.attrs = {}
    monkeypatch.chdir(tmp_path)
    extract(tiny_clip(), frame, "acts.zarr")
    monkeypatch.chdir(tmp_path.parent)
    opened = HeadStore.open(tmp_path / "acts.zarr")
    check_files(opened.manifest)
    assert opened.manifest.attrs["root"] == str(tmp_path)


def test_the_whole_way_with_an_open_clip_model(tmp_path: Path) -> None:
    oc = open_clip()
    torch.manual_seed(0)
    model = oc.CLIP(
        embed_dim=EMBED,
        vision_cfg={
            "layers": LAYERS,
            "width": 20,
            "head_width": 4,
            "patch_size": 5,
            "image_size": 15,
            "mlp_ratio": 2.0,
        },
        text_cfg={"context_length": 11, "vocab_size": 13, "width": 6, "heads": 2, "layers": 1},
    ).eval()
    clip = HookedCLIP.from_open_clip(model, oc.image_transform(15, is_train=False), tokenizer=lambda texts: texts)
    frame = write_images(tmp_path, 5)
    store = extract(clip, frame, tmp_path / "acts.zarr", batch_size=2)
    images = torch.stack([clip.preprocess(Image.open(path)) for path in resolve_paths(frame)])
    torch.testing.assert_close(store.embedding, clip.encode_image(images, normalize=True), atol=1e-5, rtol=1e-5)
    assert HeadStore.open(store.path, clip).fingerprint == clip.fingerprint
    other = HookedCLIP.from_open_clip(model, oc.image_transform(20, is_train=False), tokenizer=lambda texts: texts)
    with pytest.raises(StoreError, match=other.fingerprint):
        store.check_model(other)


def test_a_store_keeps_how_its_model_described_itself(tmp_path: Path) -> None:
    clip, frame = hl.load("testbed"), hl.testbed.images(tmp_path / "images", n=32)
    store = hl.extract(clip, frame, tmp_path / "acts.zarr")
    moments = hl.extract_moments(clip, frame, tmp_path / "moments")
    for one in (store, HeadStore.open(store.path), moments):
        assert one.model_description == clip.description
    old = dataclasses.replace(store.plan, description=None)
    assert old.model_description is None
