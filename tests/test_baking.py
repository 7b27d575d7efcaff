"""Baked weights compute the total mean ablation; embeddings of images are written, and an interrupted run resumed."""

import copy

import families
import numpy as np
import pandas as pd
import pytest
import torch
from clip_configs import CONFIG, changed
from test_models_save import TEXTS, clip_of
from tiny_clip import write_images
from torch.testing import assert_close

import headlens as hl
from headlens import embedding
from headlens.baking import write_means
from headlens.correct.total import mean_z, total_ablation_hooks
from headlens.embedding import embed_images
from headlens.errors import ModelError, OutputError
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.models.families.conversion import original_output, to_original
from headlens.models.open_clip_import import open_clip

HEADS = [(0, 1), (1, 0)]
POOLS = {"class token": CONFIG, "average": changed(vision_cfg={"pool_type": "avg", "ls_init_value": 0.1})}


@pytest.fixture(scope="module", params=POOLS)
def made(request, tmp_path_factory):
    clip = clip_of(POOLS[request.param])
    folder = tmp_path_factory.mktemp("baking")
    frame = write_images(folder / "images", 11)
    return clip, hl.extract(clip, frame, folder / "acts.zarr", batch_size=4), folder


def pixels_of(clip, store):
    return torch.stack([clip.preprocess(read_image(*one)) for one in image_files(store.manifest)])


def test_baked_weights_are_the_total_ablation_and_open_clip_loads_them(made, tmp_path):
    clip, store, _ = made
    pixels = pixels_of(clip, store)
    before = clip.encode_image(pixels)
    baked = hl.bake(clip, HEADS, store)
    hooks = total_ablation_hooks(mean_z(clip.vision, [pixels], HEADS, "all"), "all")
    wanted = clip.vision.run_with_hooks(pixels, fwd_hooks=hooks)
    assert_close(baked.encode_image(pixels), wanted.detach(), rtol=1e-4, atol=1e-5)
    assert_close(clip.encode_image(pixels), before)
    assert baked.fingerprint != clip.fingerprint and "L0H1" in baked.description.notes[-1]
    found = hl.baking_distance(
        clip, baked, HEADS, store, clip.encode_text(TEXTS, normalize=True), ["cat", "dog"], "place"
    )
    assert found.images == 11 and found.error > 0 and len(found.worst_group) == 3
    folder = baked.save(tmp_path / "baked", found.card(HEADS))
    assert "## Ablated heads" in (folder / "README.md").read_text()
    model = open_clip().create_model(f"local-dir:{folder}", weights_only=True).eval()
    with torch.no_grad():
        assert_close(model.encode_image(pixels), baked.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_baking_no_head_and_embedding_no_image_are_refused(made, tmp_path):
    clip, store, _ = made
    with pytest.raises(ModelError, match="No head is named"):
        hl.bake(clip, [], store)
    correction = hl.correct.MeanAblation(HEADS).fit(store)
    with pytest.raises(OutputError, match="no images"):
        embed_images(clip, correction, store.manifest[:0], tmp_path / "e.npy")
    with pytest.raises(OutputError, match="batch_size=0"):
        embed_images(clip, correction, store.manifest, tmp_path / "e.npy", batch_size=0)


def test_in_the_last_layer_at_the_class_token_it_is_the_direct_edit_up_to_the_norm(made):
    clip, store, _ = made
    clip = copy.deepcopy(clip)
    if clip.vision.cfg.pool != "tok":
        return
    last = clip.vision.cfg.n_layers - 1
    with torch.no_grad():
        clip.vision.layers[last].mlp.W_out.zero_()
        clip.vision.layers[last].mlp.b_out.zero_()
    again = hl.extract(clip, store.manifest, made[2] / "last.zarr")
    found = hl.baking_distance(clip, hl.bake(clip, [(last, 0)], again), [(last, 0)], again)
    assert found.lowest_cosine > 0.95


WITHOUT_VALUE_BIAS = {"timm ViT", "DINOv3"}  # there the output bias takes the mean


@pytest.mark.parametrize("family", families.RELEASED)
@torch.no_grad()
def test_every_family_computes_the_total_ablation_in_its_own_library(family):
    """The baked weights, back in the original's layout and run by its own code, against hooks on the hooked tower."""
    original = families.tower(family).double()
    vision = hl.HookedVisionTransformer.from_open_clip(original)
    images = torch.randn(3, 3, *vision.cfg.image_size, generator=torch.Generator().manual_seed(7)).double()
    heads = {(0, 0), (0, 1), (vision.cfg.n_layers - 1, 1)}
    means = mean_z(vision, [images], heads, "all")
    wanted = vision.run_with_hooks(images, fwd_hooks=total_ablation_hooks(means, "all"))
    baked = copy.deepcopy(vision)
    write_means(baked, means)
    assert_close(baked(images), wanted, rtol=1e-9, atol=1e-10)
    assert bool(vision.layers[0].attn.b_V.any()) == (family not in WITHOUT_VALUE_BIAS)
    assert (wanted - vision(images)).norm() > 1e-4 * wanted.norm()
    if vision.cfg.family != "transformers":  # these go back as a folder: tests/test_transformers.py
        original.load_state_dict(to_original(baked, original.state_dict()), strict=False)
        assert_close(original_output(original, images), wanted, rtol=1e-9, atol=1e-10)


def test_a_norm_inside_attention_without_value_biases_is_refused():
    vision = hl.HookedVisionTransformer.from_open_clip(families.tower("EVA-02"))
    with torch.no_grad():
        vision.layers[1].attn.b_V.zero_()
    with pytest.raises(ModelError, match="Layer 1 has a norm between its values and its output"):
        write_means(vision, {hl.HeadId(1, 0): torch.zeros(vision.cfg.d_head)})


def test_a_store_without_its_image_files_is_refused(made, tmp_path):
    clip, store, _ = made
    gone = store.manifest.assign(path=[f"/nowhere/{i}.png" for i in range(len(store))])
    fake = hl.HeadStore.from_arrays(
        torch.zeros(len(store), store.n_layers, store.n_heads, clip.vision.cfg.d_embed),
        torch.ones(len(store), clip.vision.cfg.d_embed) / clip.vision.cfg.d_embed**0.5,
        gone,
        convention="separate",
        normalized=True,
        fingerprint=clip.fingerprint,
    )
    with pytest.raises(ModelError, match="image files"):
        hl.bake(clip, HEADS, fake)


def test_embeddings_are_written_and_a_run_goes_on(made, tmp_path, monkeypatch):
    clip, store, _ = made
    correction = hl.correct.MeanAblation(HEADS).fit(store)
    pixels = pixels_of(clip, store)
    table = store.manifest
    read, seen = embedding.read_input, []

    def stop(path, box, preprocess):
        seen.append(path)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return read(path, box, preprocess)

    monkeypatch.setattr("headlens.embedding.read_input", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_images(clip, correction, table, tmp_path / "e.parquet", batch_size=4)
    with pytest.raises(OutputError, match="another run"):
        embed_images(clip, correction, table, tmp_path / "e.parquet", batch_size=5)
    embed_images(clip, correction, table, tmp_path / "e.parquet", batch_size=4)
    assert len(seen) == 6 + 7 and not (tmp_path / "e.parquet.parts").exists()
    frame = pd.read_parquet(tmp_path / "e.parquet")
    assert_close(torch.tensor(np.stack(frame["plain"])), clip.encode_image(pixels), rtol=1e-4, atol=1e-5)
    wanted = clip.corrected(correction).encode_image(pixels)
    assert_close(torch.tensor(np.stack(frame["corrected"])), wanted, rtol=1e-4, atol=1e-5)
    embed_images(clip, correction, table, tmp_path / "e.npy")
    assert np.allclose(np.load(tmp_path / "e.npy"), wanted.numpy(), atol=1e-4)
    assert np.allclose(np.load(tmp_path / "e.plain.npy"), np.stack(frame["plain"]), atol=1e-4)
    with pytest.raises(OutputError, match="parquet"):
        embed_images(clip, correction, table, tmp_path / "e.txt")
