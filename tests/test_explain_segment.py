"""Segmentation is the decomposition's patches along a text; its scores are what they say, and its folders are read."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from einops import einsum
from PIL import Image
from torch.nn.functional import normalize

import headlens as hl
from headlens.errors import ExplainError, LocateError, ManifestError, MetricError
from headlens.metrics import segmentation_scores

TEXTS = ["a photo of a duck", "a photo of a crow", "a photo of a gull"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The testbed, five pictures of it as pixels, and their masks."""
    folder = tmp_path_factory.mktemp("birds")
    manifest = hl.testbed.images(folder, split="test", n=8, masks=True).iloc[:5]
    clip = hl.load("testbed")
    pixels = torch.stack([clip.preprocess(Image.open(folder / path)) for path in manifest["path"]])
    return clip, pixels, [Image.open(folder / path) for path in manifest["mask"]], manifest


@pytest.mark.parametrize("heads", [None, [(3, 1), (2, 5)]])
def test_maps_are_the_decompositions_patches_less_their_mean(seen, heads):
    clip, pixels, _, _ = seen
    found = hl.explain.segment(clip, pixels, TEXTS, [0, 1, 2, 0, 1], heads)
    unit = clip.encode_text(TEXTS, normalize=True)
    along = (unit - unit.mean(0))[[0, 1, 2, 0, 1]]
    parts = hl.decompose(clip.vision, pixels, per_token=True, normalize=True).heads
    tokens = einsum(parts, along, "image layer h token embed, image embed -> image layer h token")[..., 1:]
    summed = tokens.sum((1, 2)) if heads is None else sum(tokens[:, i, j] for i, j in heads)
    centred = (summed - summed.mean(1, keepdim=True)).unflatten(1, clip.vision.cfg.grid)
    expected = torch.nn.functional.interpolate(centred[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(found.maps, expected, rtol=0, atol=1e-5)
    assert torch.equal(found.masks, found.maps > 0)


def test_the_plain_ways_are_attention_and_patch_similarity(seen):
    clip, pixels, _, _ = seen
    grid, unit = clip.vision.cfg.grid, clip.encode_text(TEXTS, normalize=True)

    def as_drawn(values):
        values = (values - values.mean(1, keepdim=True)).unflatten(1, grid)
        return normalize(torch.nn.functional.interpolate(values[:, None], size=(64, 64), mode="bilinear").flatten(1))

    _, cache = clip.vision.run_with_cache(pixels, names_filter="blocks.3.attn.hook_pattern")
    attention = cache["blocks.3.attn.hook_pattern"][:, :, 0, 1:].mean(1)
    found = hl.explain.segment(clip, pixels, TEXTS, [0] * 5, by="attention")
    # The weights that are kept have the final norm's σ in them, one factor an image.
    torch.testing.assert_close(normalize(found.maps.flatten(1)), as_drawn(attention), rtol=0, atol=1e-4)
    last = clip.vision(pixels, stop_at_layer=4)
    patches = torch.stack([clip.vision.project(one) for one in clip.vision.ln_final(last)])
    patches = normalize(patches[:, 1:], dim=-1)
    found = hl.explain.segment(clip, pixels, TEXTS, [0] * 5, by="patches")
    expected = as_drawn(patches @ (unit[0] - unit.mean(0)))
    torch.testing.assert_close(normalize(found.maps.flatten(1)), expected, rtol=0, atol=1e-4)


def test_an_image_is_segmented_by_the_text_that_the_model_finds_nearest(seen):
    clip, pixels, _, _ = seen
    nearest = (clip.encode_image(pixels) @ clip.encode_text(TEXTS, normalize=True).mT).argmax(1).tolist()
    assert hl.explain.segment(clip, pixels, TEXTS).of == tuple(nearest)


def test_the_decomposition_finds_the_birds(seen):
    clip, pixels, masks, manifest = seen
    names = sorted(set(manifest["species"]))
    found = hl.explain.segment(
        clip, pixels, [f"a photo of a {name}" for name in names], [names.index(name) for name in manifest["species"]]
    )
    true = hl.explain.masks_as_seen(clip, masks)
    np.testing.assert_array_equal(true, [np.array(mask) for mask in masks])  # these need no resizing
    scores = found.scores(true)
    assert scores.map > 2 * true.mean()  # chance is the share of foreground
    assert scores.table().columns.tolist() == ["images", "pixel accuracy", "mIoU", "mAP"]


def test_masks_follow_the_crop_of_the_preprocessing(seen):
    clip, *_ = seen
    wide = Image.new("1", (128, 64))
    wide.paste(1, (64, 0, 128, 64))
    (mask,) = hl.explain.masks_as_seen(clip, [wide])  # the testbed squashes
    assert mask[:, 33:].all() and not mask[:, :31].any()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"texts": []}, "no text"),
        ({"of": [0, 1]}, "5 places from 0 to 2"),
        ({"of": [0, 1, 2, 3, 0]}, "5 places from 0 to 2"),
        ({"by": "gradients"}, "heads, attention or patches"),
        ({"by": "attention", "heads": [(0, 0)]}, "sums no heads"),
        ({"heads": []}, "no head to sum"),
    ],
)
def test_what_cannot_be_segmented_is_refused(seen, options, match):
    clip, pixels, _, _ = seen
    with pytest.raises(ExplainError, match=match):
        hl.explain.segment(clip, pixels, **{"texts": TEXTS} | options)


def test_a_head_outside_the_tower_is_refused(seen):
    with pytest.raises(LocateError, match="L9H0"):
        hl.explain.segment(seen[0], seen[1], TEXTS, heads=[(9, 0)])


def test_scores_by_hand():
    masks = np.array([[[True, True, False]], [[False, True, False]]])
    maps = np.array([[[1.0, -1.0, -2.0]], [[3.0, 2.0, -1.0]]])
    scores = segmentation_scores(maps, masks)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert scores.miou == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert scores.map == pytest.approx((1 + 1 / 2) / 2)  # the second image ranks its foreground second
    with pytest.raises(MetricError, match="Mask 1 has one class"):
        segmentation_scores(maps, masks & np.array([True, False])[:, None, None])
    with pytest.raises(MetricError, match="not all finite"):
        segmentation_scores(maps * np.nan, masks)


def tree(root, names=("n02084071_3", "n01440764_1")):
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
        for name in names:
            Image.new("RGB" if part == "images" else "1", (7, 5)).save(root / part / f"{name}.png")
    return root


def test_a_folder_of_masks_is_read(tmp_path):
    manifest = hl.datasets.read_segmentation(tree(tmp_path))
    expected = {"path": "images/n01440764_1.png", "mask": "masks/n01440764_1.png", "id": "n01440764_1"}
    assert manifest.iloc[0].to_dict() == expected | {"label": "n01440764"}
    assert "label" not in hl.datasets.read_segmentation(tree(tmp_path / "own", ["one", "two"]))
    (tmp_path / "masks" / "n01440764_1.png").unlink()
    with pytest.raises(ManifestError, match="has no mask"):
        hl.datasets.read_segmentation(tmp_path)
    with pytest.raises(ManifestError, match="no image in"):
        hl.datasets.read_segmentation(tmp_path / "masks")


def test_the_published_file_is_unpacked(tmp_path):
    """A file in Matlab's v7.3 layout: cells of references, arrays column by column, names as codes."""
    h5py = pytest.importorskip("h5py")
    picture = np.arange(3 * 7 * 5, dtype=np.uint8).reshape(3, 7, 5)  # channel, column, row: Matlab's axes in HDF5
    mask = np.zeros((7, 5), dtype=np.uint8)
    mask[6, 0] = 1

    def write(path, name):
        with h5py.File(path, "w") as file:
            file["#refs#/i"], file["#refs#/m"] = picture, mask
            file["#refs#/n"] = np.array([[ord(letter)] for letter in name], dtype=np.uint16)
            for key, target in (("#refs#/c", "m"), ("value/img", "i"), ("value/gt", "c"), ("value/id", "n")):
                file.create_dataset(key, (1, 1), dtype=h5py.ref_dtype)[0, 0] = file[f"#refs#/{target}"].ref
        return path

    manifest = hl.datasets.unpack_imagenet_segmentation(write(tmp_path / "gtsegs.mat", "n02084071_3"), tmp_path)
    assert isinstance(manifest, pd.DataFrame) and manifest["label"].tolist() == ["n02084071"]
    read = np.array(Image.open(tmp_path / manifest["path"][0]))
    assert read.shape == (5, 7, 3) and read[4, 6].tolist() == [34, 69, 104]
    found = np.array(Image.open(tmp_path / manifest["mask"][0]))
    assert found.shape == (5, 7) and np.argwhere(found).tolist() == [[0, 6]]
    with pytest.raises(ManifestError, match="not laid out"):
        hl.datasets.unpack_imagenet_segmentation(write(tmp_path / "other.mat", "../x"), tmp_path)
    (tmp_path / "text.mat").write_text("no HDF5")
    with pytest.raises(ManifestError, match="not laid out"):
        hl.datasets.unpack_imagenet_segmentation(tmp_path / "text.mat", tmp_path)


def test_without_h5py_the_published_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ManifestError, match="h5py is not installed"):
        hl.datasets.unpack_imagenet_segmentation("gtsegs_ijcv.mat", tmp_path)
