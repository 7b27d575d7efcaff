"""A saved model is a folder that unmodified open_clip loads, and computes what it did."""

import json

import pytest
import torch
from clip_configs import CONFIG, changed
from PIL import Image
from tower_factory import randomize

import headlens as hl
from headlens.errors import ModelError, OutputError
from headlens.models.open_clip_import import open_clip

PICTURE = Image.effect_noise((31, 23), 80).convert("RGB")
TEXTS = ["a heron", "a wren by the water"]

CONFIGS = {
    "plain": CONFIG,
    "QuickGELU": changed(quick_gelu=True),
    "a text module of its own": changed(custom_text=True),
    "a sigmoid head": changed(init_logit_bias=-10.0),
    "average pooling, LayerScale, no pre-norm": changed(
        vision_cfg={"pool_type": "avg", "ls_init_value": 0.1, "no_ln_pre": True, "final_ln_after_pool": True}
    ),
    "another eps and a tanh": changed(
        vision_cfg={"norm_kwargs": {"eps": 1e-3}, "act_kwargs": {"approximate": "tanh"}, "mlp_ratio": 3.3},
        text_cfg={"norm_kwargs": {"eps": 1e-4}, "act_kwargs": {"approximate": "tanh"}, "ls_init_value": 0.2},
    ),
    "a text tower without a mask": changed(text_cfg={"no_causal_mask": True, "pool_type": "first"}),
}


def clip_of(config, mode="shortest"):
    arguments = {name: value for name, value in config.items() if name != "custom_text"}
    kinds = open_clip().model
    model = randomize((kinds.CustomTextCLIP if config.get("custom_text") else kinds.CLIP)(**arguments), seed=3)
    values = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "resize_mode": mode, "interpolation": "bilinear"}
    transform = open_clip().image_transform(12, is_train=False, **values)
    return hl.HookedCLIP.from_open_clip(model, transform, open_clip().SimpleTokenizer(context_length=11), name="mine")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_open_clip_loads_the_folder_and_computes_the_same(config, tmp_path):
    clip = clip_of(config)
    folder = clip.save(tmp_path / "saved", card="## What was done\n\nNothing.")
    model, _, preprocess = open_clip().create_model_and_transforms(f"local-dir:{folder}", weights_only=True)
    tokenizer = open_clip().get_tokenizer(f"local-dir:{folder}")
    pixels = preprocess(PICTURE)[None]
    assert torch.equal(pixels[0], clip.preprocess(PICTURE))
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(pixels), model.eval().encode_image(pixels), rtol=1e-5, atol=1e-6)
        theirs = model.encode_text(tokenizer(TEXTS))
        torch.testing.assert_close(clip.encode_text(TEXTS), theirs, rtol=1e-5, atol=1e-6)
        assert (model.logit_bias is None) == (clip.logit_bias is None)
    text = (folder / "README.md").read_text()
    assert "# mine" in text and "## What was done" in text and "library_name: open_clip" in text

    again = hl.load(str(folder))
    assert again.fingerprint == clip.fingerprint and not again.description.assumptions
    assert again.description.preprocessing == clip.description.preprocessing
    assert again.logit_scale == pytest.approx(clip.logit_scale)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_every_resize_mode_is_kept(mode, tmp_path):
    clip = clip_of(CONFIG, mode)
    assert clip.description.preprocessing.resize_mode == mode
    again = hl.load(str(clip.save(tmp_path / mode)))
    assert torch.equal(again.preprocess(PICTURE), clip.preprocess(PICTURE))


def test_changed_weights_are_what_is_saved_and_half_precision_stays(tmp_path):
    clip = clip_of(CONFIG)
    with torch.no_grad():
        clip.vision.layers[1].attn.W_V[1] = 0
    again = hl.load(str(clip.save(tmp_path / "edited")))
    modes = {path.stat().st_mode for path in (tmp_path / "edited").iterdir()}
    assert len(modes) == 1  # the weights are as readable as the rest
    assert torch.equal(again.vision.layers[1].attn.W_V, clip.vision.layers[1].attn.W_V)
    again = hl.load(str(clip.bfloat16().save(tmp_path / "half")))
    assert torch.equal(again.vision.W_P, clip.vision.W_P.float())


@pytest.mark.parametrize("name", ["testbed", "testbed-figures"])
def test_the_testbed_is_saved_with_its_own_tokenizer(name, tmp_path):
    clip = hl.load(name)
    again = hl.load(str(clip.save(tmp_path / "saved")))
    words = clip.tokenizer.words
    texts = [f"A photo of a {words[5]}.", f"{words[0]}, {words[-1]} {words[7]}"]
    assert torch.equal(again.tokenizer(texts), clip.tokenizer(texts))
    torch.testing.assert_close(again.encode_text(texts), clip.encode_text(texts), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again.preprocess(PICTURE), clip.preprocess(PICTURE), rtol=1e-5, atol=1e-5)


def test_what_open_clip_could_not_rebuild_is_refused_by_name(tmp_path):
    clip = clip_of(CONFIG)
    clip.text.transformer.resblocks[0].mlp.gelu = open_clip().transformer.QuickGELU()
    with pytest.raises(ModelError, match=r"cannot describe mine.*QuickGELU"):
        clip.save(tmp_path / "mixed")
    clip = clip_of(CONFIG)
    clip.tokenizer = lambda texts: torch.ones(len(texts), 11, dtype=torch.long)
    with pytest.raises(ModelError, match="tokenizer of mine"):
        clip.save(tmp_path / "tokenizer")
    model = randomize(open_clip().CLIP(**CONFIG), seed=3)
    clip = hl.HookedCLIP.from_open_clip(model, lambda image: image, open_clip().SimpleTokenizer(context_length=11))
    with pytest.raises(ModelError, match="preprocessing of open_clip model") as caught:
        clip.save(tmp_path / "preprocess")
    before, call = clip.fingerprint, caught.value.remedy.split(": ", 1)[1].rstrip(".")
    for old, new in (("size,", "12,"), ("mean=…", "mean=(0.5, 0.4, 0.3)"), ("std=…", "std=(0.2, 0.2, 0.2)")):
        call = call.replace(old, new)
    exec(call, {"clip": clip, "open_clip": open_clip()})
    assert clip.fingerprint != before and clip.description.preprocessing.mean == (0.5, 0.4, 0.3)
    again = hl.load(str(clip.save(tmp_path / "preprocess")))
    assert torch.equal(again.preprocess(PICTURE), clip.preprocess(PICTURE))


def test_a_folder_with_other_files_is_left_alone_and_an_own_one_is_written_again(tmp_path):
    clip = clip_of(CONFIG)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        clip.save(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        clip.save(tmp_path / "notes.txt")
    folder = clip.save(tmp_path / "saved")
    with torch.no_grad():
        clip.vision.W_P *= 2
    clip.save(folder)
    assert hl.load(str(folder)).fingerprint == clip.fingerprint
    assert json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"] == 7
    (folder / "README.md").write_text("a model of someone else's")
    with pytest.raises(OutputError, match="holds other files"):
        clip.save(folder)
