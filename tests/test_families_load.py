"""Models of other families by their names: loaded, checked, saved and loaded again."""

import pytest
import torch
from clip_configs import architectures, changed

import headlens as hl
from headlens.errors import CorrectionError, ModelError, ModelWarning
from headlens.models.open_clip_import import open_clip

# The smallest towers that timm has, of which one is read through an attention pool and has a register.
TIMM = {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "linear", "image_size": 160}
CONFIGS = {
    "headlens_timm": {**changed(), "vision_cfg": TIMM, "custom_text": True, "init_logit_bias": -3.0},
    "headlens_rn": changed(
        vision_cfg={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "head_width": 64}
    ),
    "headlens_coca": {
        **changed(
            vision_cfg={"attentional_pool": True, "attn_pooler_heads": 1, "output_tokens": True},
            text_cfg={"embed_cls": True, "output_tokens": True},
        ),
        "multimodal_cfg": {"context_length": 11, "vocab_size": 49408, "width": 6, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}


@pytest.fixture(params=CONFIGS)
def name(request, tmp_path):
    (tmp_path / "configs").mkdir()
    with architectures(tmp_path / "configs", **{request.param: CONFIGS[request.param]}):
        yield request.param.replace("_", "-")


def test_a_model_is_loaded_checked_saved_and_loaded_again(name, tmp_path):
    clip = hl.load(name, "random")
    assert "seed 0" in " ".join(clip.description.notes)
    assert hl.models.parity(clip).passed
    images = torch.randn(2, 3, *clip.vision.cfg.image_size, generator=torch.Generator().manual_seed(0))
    torch.random.manual_seed(5)
    assert torch.equal(hl.load(name, "random").encode_image(images), clip.encode_image(images))
    first = clip.encode_image(images)
    if name == "headlens-timm":
        assert clip.logit_bias == -3.0
        chances = clip.probabilities(first, clip.encode_text(["a cat", "a dog"]))
        assert not torch.allclose(chances.sum(1), torch.ones(2))  # a sigmoid of each text, no distribution over them
    half = hl.load(name, "random", precision="bf16")
    difference = (half.encode_image(images).float() - first).norm() / first.norm()
    assert half.dtype == torch.bfloat16 and difference < 0.03
    clip.save(tmp_path / "folder")
    torch.testing.assert_close(hl.load(str(tmp_path / "folder")).encode_image(images), first)
    theirs = open_clip().create_model(f"local-dir:{tmp_path / 'folder'}").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode_image(images, normalize=False), first)


@torch.no_grad()
def test_positions_are_stretched_to_a_size_that_was_chosen(name, tmp_path):
    clip = hl.load(name, "random")
    folder = clip.save(tmp_path / "folder")
    with pytest.warns(ModelWarning, match="position embeddings of .* were stretched"):
        other = hl.load(str(folder), options=hl.LoadOptions(image_size=96))
    with pytest.warns(ModelWarning):
        from_file = hl.load(name, folder / "open_clip_model.safetensors", options=hl.LoadOptions(image_size=96))
    assert other.vision.cfg.image_size == (96, 96)
    assert torch.equal(other.vision.W_pos, from_file.vision.W_pos)
    prefix, grid, before = other.vision.cfg.n_prefix, other.vision.cfg.grid, clip.vision.cfg.grid
    assert torch.equal(other.vision.W_pos[:prefix], clip.vision.W_pos[:prefix])
    image = clip.vision.W_pos[prefix:].T.unflatten(1, before)[None]
    image = torch.nn.functional.interpolate(image, grid, mode="bicubic", antialias=True)
    torch.testing.assert_close(other.vision.W_pos[prefix:], image[0].flatten(1).T)


def test_an_object_of_another_family_is_not_described_by_open_clips_configuration(tmp_path):
    (tmp_path / "configs").mkdir()
    with architectures(tmp_path / "configs", headlens_timm=CONFIGS["headlens_timm"]):
        model, _, preprocess = open_clip().create_model_and_transforms("headlens-timm", load_weights=False)
        clip = hl.HookedCLIP.from_open_clip(model, preprocess, open_clip().get_tokenizer("headlens-timm"))
    with pytest.raises(ModelError, match="of the family timm_vit"):
        clip.save(tmp_path / "folder")
    with pytest.raises(ModelError, match="do not say how to build it"):
        hl.models.parity(clip)
    assert hl.models.parity(clip, original=model.visual).passed
    with pytest.raises(CorrectionError, match="no class token"):
        hl.correct.mean_z(clip.vision, [torch.zeros(1, 3, 160, 160)], [(0, 0)], "class")
