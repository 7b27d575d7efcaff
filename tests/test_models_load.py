"""Loading: from files and folders, and the error for each way in which it can fail."""

import importlib
import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file
from tower_factory import randomize

import headlens as hl
from headlens.errors import ModelError
from headlens.models.open_clip_import import open_clip

CONFIG = {
    "embed_dim": 7,
    "vision_cfg": {"image_size": 12, "layers": 2, "width": 10, "head_width": 5, "patch_size": 4},
    "text_cfg": {"context_length": 11, "vocab_size": 49408, "width": 6, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An architecture of our own in open_clip's list, and a model of it with random weights."""
    factory = open_clip().factory
    path = tmp_path_factory.mktemp("configs") / "headlens-test.json"
    path.write_text(json.dumps(CONFIG))
    open_clip().add_model_config(path)
    yield randomize(open_clip().create_model("headlens-test", load_weights=False), seed=1)
    factory._MODEL_CONFIG_PATHS.remove(path)
    del factory._MODEL_CONFIGS["headlens-test"]


@pytest.fixture
def weights(tiny):
    return {name: tensor.clone() for name, tensor in tiny.state_dict().items()}


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def _safetensors(weights, folder):
    save_file(weights, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def _plain(weights, folder):
    torch.save(weights, folder / "weights.pt")
    return folder / "weights.pt"


def _training(weights, folder):
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in weights.items()}, "name": "run"},
        folder / "epoch_3.pt",
    )
    return folder / "epoch_3.pt"


@pytest.mark.parametrize("save", [_safetensors, _plain, _training])
def test_a_checkpoint_file_is_loaded_and_computes_what_the_original_does(tiny, weights, pixels, tmp_path, save):
    path = save(weights, tmp_path)
    clip = hl.load("headlens-test", pretrained=path)
    torch.testing.assert_close(clip.encode_image(pixels), tiny.encode_image(pixels).detach(), rtol=1e-5, atol=1e-6)
    texts = ["a heron", "a wren by the water"]
    expected = tiny.encode_text(open_clip().get_tokenizer("headlens-test")(texts))
    torch.testing.assert_close(clip.encode_text(texts), expected.detach(), rtol=1e-5, atol=1e-6)
    assert clip.name == f"headlens-test ({path})"
    assert clip.device == torch.device("cpu") and clip.dtype == torch.float32


def test_the_architecture_of_a_bare_checkpoint_is_found_where_only_one_fits(weights, pixels, tmp_path):
    path = _safetensors(weights, tmp_path)
    named = hl.load("headlens-test", pretrained=str(path))
    assert torch.equal(hl.load(str(path)).encode_image(pixels), named.encode_image(pixels))


def _hollow_checkpoint(path, embed, layers=12):
    """The telling shapes of a base-size tower with patches of 32 pixels, and no values behind them."""
    shapes = {
        "visual.conv1.weight": (768, 3, 32, 32),
        "visual.positional_embedding": (50, 768),
        "visual.proj": (768, embed),
        "token_embedding.weight": (49408, 512),
        "positional_embedding": (77, 512),
    }
    for layer in range(layers):
        shapes |= {f"{tower}transformer.resblocks.{layer}.ln_1.bias": (1,) for tower in ("visual.", "")}
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    return str(path)


@pytest.mark.parametrize(
    ("embed", "layers", "what"), [(512, 12, "fits ViT-B-32, "), (512, 11, "none"), (13, 12, "none")]
)
def test_a_bare_checkpoint_that_fits_several_architectures_or_none_is_an_error(tmp_path, embed, layers, what):
    with pytest.raises(ModelError, match=what) as caught:
        hl.load(_hollow_checkpoint(tmp_path / "hollow.pt", embed, layers))
    assert 'load("ViT-B-16", pretrained=' in caught.value.remedy
    assert ("ViT-B-32-quickgelu" in caught.value.received) == (what != "none")


def test_a_folder_is_loaded_with_and_without_its_scheme(tiny, weights, pixels, tmp_path):
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
    clip = hl.load(str(tmp_path))
    torch.testing.assert_close(clip.encode_image(pixels), tiny.encode_image(pixels).detach(), rtol=1e-5, atol=1e-6)
    assert "0.5, 0.4, 0.3" in repr(clip.preprocess)
    assert clip.fingerprint == hl.load(f"local-dir:{tmp_path}").fingerprint
    with pytest.raises(ModelError, match="no `pretrained` beside"):
        hl.load(str(tmp_path), pretrained="openai")

    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"open_clip_config\.json and the weights"):
        hl.load(str(tmp_path))
    (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(ModelError, match="config file missing"):
        hl.load(str(tmp_path))


class _Payload:
    def __reduce__(self):
        return pytest.fail, ("a checkpoint was executed",)


def _pickled_model(weights, folder):
    torch.save({"state_dict": weights, "extra": _Payload()}, folder / "model.pt")
    return folder / "model.pt"


def _raw_pickle(weights, folder):
    (folder / "model.bin").write_bytes(pickle.dumps(_Payload()))
    return folder / "model.bin"


def _torchscript(weights, folder):
    with pytest.warns(DeprecationWarning):
        torch.jit.script(torch.nn.Linear(2, 3)).save(str(folder / "jit.pt"))
    return folder / "jit.pt"


def _truncated(weights, folder):
    path = _safetensors(weights, folder)
    path.write_bytes(path.read_bytes()[:100])
    return path


def _no_tensors(weights, folder):
    torch.save({"epoch": 3}, folder / "empty.pt")
    return folder / "empty.pt"


@pytest.mark.parametrize("save", [_pickled_model, _raw_pickle, _torchscript, _truncated, _no_tensors])
def test_a_file_that_is_not_data_alone_is_refused_and_never_executed(tiny, weights, tmp_path, save):
    path = save(weights, tmp_path)
    with pytest.raises(ModelError, match="read as data alone") as caught:
        hl.load("headlens-test", pretrained=path)
    assert str(path) in caught.value.received and "safetensors" in caught.value.remedy
    with pytest.raises(ModelError, match="read as data alone"):
        hl.load(str(path))


def test_weights_of_another_architecture_are_refused(tiny, weights, tmp_path):
    weights["visual.proj"] = torch.zeros(10, 5)
    with pytest.raises(ModelError, match=r"visual\.proj") as caught:
        hl.load("headlens-test", pretrained=_safetensors(weights, tmp_path))
    assert "architecture" in caught.value.remedy


@pytest.mark.parametrize("name", ["visual.transformer.resblocks.1.attn.out_proj.weight", "token_embedding.weight"])
def test_weights_that_are_not_numbers_are_named(tiny, weights, tmp_path, name):
    weights[name][2, 3] = float("nan")
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        hl.load("headlens-test", pretrained=_safetensors(weights, tmp_path))


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ModelError, match="ViT-B16") as caught:
        hl.load("ViT-B16", pretrained="openai")
    assert "ViT-B-16" in caught.value.remedy
    with pytest.raises(ModelError, match="folder or a checkpoint file"):
        hl.load("no/such/file.safetensors")


@pytest.mark.parametrize("device", ["cuda:97", "gpu"])
def test_a_device_that_is_not_here_is_told_before_anything_is_read(device):
    with pytest.raises(ModelError, match="a device that is here: cpu") as caught:
        hl.load("no/such/file.safetensors", device=device)
    assert repr(device) in caught.value.received


def test_an_unknown_tag_and_no_tag_list_the_known_ones():
    with pytest.raises(ModelError, match="'laion2b'") as caught:
        hl.load("ViT-B/16", pretrained="laion2b")
    assert "laion2b_s34b_b88k" in caught.value.remedy
    with pytest.raises(ModelError, match="pretrained=None") as caught:
        hl.load("ViT-B-16")
    assert "laion2b_s34b_b88k" in caught.value.remedy


def _unreachable(*args, **kwargs):
    raise FileNotFoundError("Failed to download file. Last error: no connection")


def test_without_a_network_the_error_names_the_local_way(monkeypatch):
    factory = open_clip().factory
    monkeypatch.setattr(factory, "download_pretrained", _unreachable)
    monkeypatch.setattr(factory, "download_pretrained_from_hf", _unreachable)
    for name, tag in (("ViT-B-16", "laion2b_s34b_b88k"), ("hf-hub:some/model", None)):
        with pytest.raises(ModelError, match="no connection") as caught:
            hl.load(name, pretrained=tag)
        assert 'pretrained="/path/to/' in caught.value.remedy and "local-dir:" in caught.value.remedy


@pytest.mark.parametrize(("name", "what"), [("RN50", "ResNet"), ("ViT-B-16-SigLIP", "timm"), ("coca_ViT-B-32", "pool")])
def test_a_tower_that_cannot_be_converted_is_refused_before_its_weights_are_fetched(monkeypatch, name, what):
    monkeypatch.setattr(open_clip(), "create_model_and_transforms", lambda *a, **k: pytest.fail("it was created"))
    with pytest.raises(ModelError, match=what):
        hl.load(name, pretrained="random")


def test_random_weights_have_to_be_asked_for(tiny):
    assert hl.load("headlens-test", pretrained="random").name == "headlens-test"


def test_half_precision_is_open_clips(tiny, weights, pixels, tmp_path):
    clip = hl.load("headlens-test", pretrained=_safetensors(weights, tmp_path), precision="bf16")
    assert clip.dtype == torch.bfloat16 and clip.vision.cfg.norm_in_float32
    exact = tiny.encode_image(pixels).detach()
    assert (clip.encode_image(pixels).float() - exact).norm() < 0.05 * exact.norm()
    assert clip.encode_text(["a heron"]).dtype == torch.bfloat16


def test_embedded_models_are_built_by_their_own_room(monkeypatch, tiny):
    loader = importlib.import_module("headlens.models.load")
    module = type(loader)("headlens_test_room")
    asked = []
    module.build = lambda name: asked.append(name) or (tiny, str, str)
    monkeypatch.setitem(sys.modules, "headlens_test_room", module)
    monkeypatch.setitem(loader.EMBEDDED, "mock", ("headlens_test_room", "build"))
    assert hl.load("mock-birds-2").name == "mock-birds-2"
    assert asked == ["mock-birds-2"]
