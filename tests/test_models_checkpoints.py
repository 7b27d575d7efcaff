"""Files of weights: every form that people have loads alike, and everything else is named for what it is."""

import argparse
import gzip
import json
import pickle
import re
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_configs import CONFIG, architectures, changed
from safetensors.torch import save_file
from tower_factory import randomize

import headlens as hl
from headlens.errors import ModelError, ModelWarning
from headlens.models.checkpoints import read_checkpoint
from headlens.models.open_clip_import import open_clip
from headlens.models.torchscript import read_torchscript

NAME = "headlens-file"


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory):
    with architectures(
        tmp_path_factory.mktemp("configs"),
        headlens_file=CONFIG,
        headlens_file_custom=changed(custom_text=True),
        headlens_file_biased=changed(init_logit_bias=-10),
    ):
        yield randomize(open_clip().create_model(NAME, load_weights=False), seed=1)


@pytest.fixture
def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(clip, model, text=True):
    """Whether a loaded model computes what the original does."""
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    tokens = open_clip().SimpleTokenizer(context_length=11)(["a heron", "a wren by the water"])
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(images), model.encode_image(images), rtol=1e-5, atol=1e-6)
        if text:
            found = clip.encode_text(["a heron", "a wren by the water"])
            torch.testing.assert_close(found, model.encode_text(tokens), rtol=1e-5, atol=1e-6)
    return True


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


def inside(weights, wrapper):
    """The names of a model whose tower and first block were wrapped alone."""
    out = {}
    for name, tensor in weights.items():
        name = name.replace("visual.transformer.resblocks.0.", f"visual.transformer.resblocks.0.{wrapper}.")
        out[name.replace("visual.", f"visual.{wrapper}.", 1)] = tensor
    return out


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model.", "base_model.model.", "model.clip.", "net.module."]
NESTED = {
    "state_dict": lambda w: {"epoch": 3, "state_dict": w, "name": "run"},
    "model": lambda w: {
        "model": w,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1}]},
    },
    "model_state_dict": lambda w: {"epoch": 1, "model_state_dict": w, "loss": 0.5},
    "deeply": lambda w: {"checkpoint": {"model": {"weights": w}}},
    "in a list": lambda w: [w, 3],
    "as NumPy arrays": lambda w: {"params": {name: tensor.numpy() for name, tensor in w.items()}},
    "beside NumPy numbers": lambda w: {"loss": np.float64(3.2), "steps": np.int64(3), "seen": np.arange(5), "model": w},
    "in an ordered table": lambda w: {"state_dict": w, "best": np.float32(0.5), "name": np.str_("run")},
    "with a prefix": lambda w: {"state_dict": prefixed(w, "module.")},
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off(model, weights, tmp_path, prefix):
    torch.save(prefixed(weights, prefix), tmp_path / "w.pt")
    assert same(hl.load(NAME, tmp_path / "w.pt"), model)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_inside_the_model_are_taken_off(model, weights, tmp_path, wrapper):
    torch.save(inside(weights, wrapper), tmp_path / "w.pt")
    assert same(hl.load(NAME, tmp_path / "w.pt"), model)


@pytest.mark.parametrize("nest", NESTED.values(), ids=NESTED.keys())
def test_the_weights_are_found_among_what_a_run_saved(model, weights, tmp_path, nest):
    torch.save(nest(weights), tmp_path / "w.pt")
    assert same(hl.load(NAME, tmp_path / "w.pt"), model)


def _parts(weights, path):
    names = sorted(weights)
    for number, some in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in some}, path.parent / f"part-{number}.safetensors")
    index = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))


FORMATS = {
    "safetensors": lambda w, path: save_file(w, path),
    "torch": lambda w, path: torch.save(w, path),
    "torch before its zip format": lambda w, path: torch.save(w, path, _use_new_zipfile_serialization=False),
    "half precision": lambda w, path: torch.save({n: t.half() for n, t in w.items()}, path),
    "parts with an index": _parts,
    "what OpenAI keeps beside": lambda w, path: save_file(
        w
        | {"input_resolution": torch.tensor(12), "context_length": torch.tensor(11), "vocab_size": torch.tensor(49408)},
        path,
    ),
    "old buffers": lambda w, path: torch.save(w | {"attn_mask": torch.zeros(11, 11)}, path),
    "averaged by torch": lambda w, path: torch.save(prefixed(w, "module.") | {"n_averaged": torch.tensor(3)}, path),
    "sparse": lambda w, path: torch.save(w | {n: t.to_sparse() for n, t in w.items() if n == "visual.proj"}, path),
    "a scale in a list": lambda w, path: torch.save(w | {"logit_scale": w["logit_scale"][None]}, path),
    "pruned": lambda w, path: torch.save(
        {n: t for n, t in w.items() if n != "visual.transformer.resblocks.0.mlp.c_fc.weight"}
        | {
            "visual.transformer.resblocks.0.mlp.c_fc.weight_orig": w["visual.transformer.resblocks.0.mlp.c_fc.weight"],
            "visual.transformer.resblocks.0.mlp.c_fc.weight_mask": torch.ones(40, 10),
        },
        path,
    ),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ""])
@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS.keys())
def test_formats_are_told_by_content_not_by_suffix(model, weights, tmp_path, save, suffix):
    path = tmp_path / f"w{suffix}"
    save(weights, path)
    clip = hl.load(NAME, path)
    if save is FORMATS["half precision"]:
        assert clip.dtype == torch.float32
        return
    assert same(clip, model)


def _in_transformers(weights):
    """The same model under the names of transformers."""
    top = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.": "vision_model.pre_layrnorm.",
        "visual.ln_post.": "vision_model.post_layernorm.",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.": "text_model.final_layer_norm.",
    }
    steps = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "c_fc": "fc1", "c_proj": "fc2", "attn": "self_attn"}
    out = {}
    for name, tensor in weights.items():
        if name in ("visual.proj", "text_projection"):
            out["visual_projection.weight" if name == "visual.proj" else "text_projection.weight"] = (
                tensor.T.contiguous()
            )
        elif "resblocks" in name:
            side = "vision" if name.startswith("visual") else "text"
            name = f"{side}_model.encoder.layers.{name.split('resblocks.')[1]}"
            for ours, theirs in steps.items():
                name = name.replace(f".{ours}.", f".{theirs}.")
            if "in_proj_" in name:
                for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                    out[name.replace("in_proj_", f"{letter}_proj.")] = part.contiguous()
            else:
                out[name] = tensor
        else:
            first = next((one for one in top if name.startswith(one)), None)
            out[name if first is None else name.replace(first, top[first])] = tensor
    return out


def test_transformers_clip_is_loaded_whole_and_without_its_text_tower(model, weights, tmp_path):
    theirs = _in_transformers(weights) | {"text_model.embeddings.position_ids": torch.arange(11)[None]}
    torch.save(prefixed(theirs, "clip."), tmp_path / "w.bin")
    assert same(hl.load(NAME, tmp_path / "w.bin"), model)
    vision = {name: tensor for name, tensor in theirs.items() if name.startswith("vis")}
    alone = {name.removeprefix("vision_model."): tensor for name, tensor in vision.items()}
    for some in (vision, alone):
        save_file(some, tmp_path / "v.safetensors")
        with pytest.warns(ModelWarning, match="vision tower alone"):
            assert same(hl.load(NAME, tmp_path / "v.safetensors"), model, text=False)


def test_the_names_of_transformers_are_those_of_the_installed_one(weights):
    transformers = pytest.importorskip("transformers")
    vision = {"hidden_size": 10, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"hidden_size": 6, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config=vision | {"image_size": 12, "patch_size": 4},
        text_config=text | {"vocab_size": 49408, "max_position_embeddings": 11},
        projection_dim=7,
    )
    theirs = transformers.CLIPModel(config).state_dict()
    assert {n: tuple(t.shape) for n, t in _in_transformers(weights).items()} == {
        n: tuple(t.shape) for n, t in theirs.items() if not n.endswith("position_ids")
    }


def test_what_is_beside_a_file_of_transformers_is_believed(weights, tmp_path):
    save_file(_in_transformers(weights), tmp_path / "model.safetensors")
    vision = {"hidden_size": 10, "patch_size": 4, "hidden_act": "quick_gelu"}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": vision}))
    processor = {"image_mean": [0.5] * 3, "image_std": [0.2] * 3, "resample": 2, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.warns(ModelWarning, match=r"trained with QuickGELU \(from config\.json beside the file\)"):
        told = hl.load(NAME, tmp_path / "model.safetensors").description
    assert told.nonlinearity == "quick_gelu" and not told.assumptions
    assert told.preprocessing.mean == (0.5,) * 3 and told.preprocessing.resize_mode == "squash"
    assert told.preprocessing.interpolation == "bilinear" and "beside the file" in told.preprocessing_from


def test_an_incomplete_file_of_transformers_is_named_with_what_is_missing(weights, tmp_path):
    some = {n: t for n, t in _in_transformers(weights).items() if "embedding" in n}
    save_file(some, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"format of transformers.*lacks \d+ of \d+ tensors: .*visual\.proj"):
        hl.load(NAME, tmp_path / "w.safetensors")


@pytest.mark.parametrize("bare", [True, False])
def test_a_vision_tower_alone_is_loaded_without_text(model, weights, tmp_path, bare):
    vision = {n: t for n, t in weights.items() if n.startswith("visual.")}
    vision = {n.removeprefix("visual."): t for n, t in vision.items()} if bare else vision
    save_file(prefixed(vision, "encoder."), tmp_path / "v.safetensors")
    with pytest.warns(ModelWarning, match="vision tower alone"):
        clip = hl.load(NAME, tmp_path / "v.safetensors")
    assert same(clip, model, text=False)
    with pytest.raises(ModelError, match="vision tower alone"):
        clip.encode_text(["a heron"])
    some = dict(list(vision.items())[:-1])
    save_file(some, tmp_path / "some.safetensors")
    with pytest.raises(ModelError, match="lacks 1 of"):
        hl.load(NAME, tmp_path / "some.safetensors")


def test_a_text_module_of_its_own_and_none_are_loaded_into_each_other(model, weights, tmp_path):
    own = {n if n.startswith(("visual.", "logit")) else f"text.{n}": t for n, t in weights.items()}
    for name, table in (("headlens-file-custom", weights), (NAME, own), ("headlens-file-custom", own)):
        save_file(table, tmp_path / "w.safetensors")
        assert same(hl.load(name, tmp_path / "w.safetensors"), model)


def test_a_trained_logit_bias_is_kept_and_a_missing_one_is_said(model, weights, tmp_path):
    save_file(weights | {"logit_bias": torch.tensor(-3.5)}, tmp_path / "w.safetensors")
    clip = hl.load(NAME, tmp_path / "w.safetensors")
    assert same(clip, model) and clip.logit_bias == -3.5
    assert "trained logit_bias" in clip.description.facts()["note"]
    assert hl.load("headlens-file-biased", tmp_path / "w.safetensors").logit_bias == -3.5
    save_file(weights, tmp_path / "w.safetensors")
    assert hl.load(NAME, tmp_path / "w.safetensors").logit_bias is None
    with pytest.warns(ModelWarning, match="no logit_bias, which headlens-file-biased has: zero"):
        assert hl.load("headlens-file-biased", tmp_path / "w.safetensors").logit_bias == 0


def test_what_stands_beside_the_model_is_left_out_and_named(model, weights, tmp_path):
    torch.save(prefixed(weights, "model.") | {"head.weight": torch.zeros(3, 7)}, tmp_path / "w.pt")
    with pytest.warns(ModelWarning, match=r"head\.weight of .* stand outside 'model\.'"):
        clip = hl.load(NAME, tmp_path / "w.pt")
    assert same(clip, model) and "head.weight" in clip.description.facts()["note"]


# --- TorchScript -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["traced", "scripted"])
def archive(request, tmp_path_factory):
    """A TorchScript archive, and the model in it."""
    model = randomize(open_clip().CLIP(**CONFIG, quick_gelu=request.param == "traced"), seed=4)
    path = tmp_path_factory.mktemp("script") / "ViT.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if request.param == "traced":
            inputs = {"forward": (torch.ones(2, 3, 12, 12), torch.zeros(2, 11, dtype=torch.int))}
            torch.jit.trace_module(model, inputs, check_trace=False).save(str(path))
        else:
            torch.jit.script(model).save(str(path))
    return path, model


def test_torchscript_is_read_without_being_run(monkeypatch, archive):
    path, model = archive
    for name in ("load", "jit.load"):
        monkeypatch.setattr(f"torch.{name}", lambda *a, **k: pytest.fail("it was run"))
    tensors, classes = read_torchscript(path)
    expected = model.state_dict() | {"attn_mask": model.attn_mask}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())
    quick = any(name.endswith("QuickGELU") for name in classes)
    assert quick == (type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU")


def test_torchscript_loads_and_says_its_nonlinearity_itself(archive):
    path, model = archive
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        clip = hl.load(NAME, path)
    assert same(clip, model)
    assert clip.description.nonlinearity_from == "the program in ViT.pt"


def test_a_program_with_other_instructions_is_refused_with_a_remedy_that_works(archive, tmp_path):
    path, model = archive
    strange = tmp_path / "strange.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(strange, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:2] + b"0" + content[2:] if name.endswith("/data.pkl") else content)
    with pytest.raises(ModelError, match="cannot be read as data alone") as caught:
        hl.load(NAME, strange)
    code = caught.value.remedy.split(": ", 1)[1].replace(str(strange), str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code.replace("'weights.pt'", repr(str(tmp_path / "weights.pt"))), {})
    act = "quick_gelu" if type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU" else "gelu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        assert same(hl.load(NAME, tmp_path / "weights.pt", options=hl.LoadOptions(nonlinearity=act)), model)


# --- what cannot be loaded -------------------------------------------------------------------------------------------


class _Payload:
    def __reduce__(self):
        return pytest.fail, ("a checkpoint was executed",)


def _cut(save, kept):
    def write(weights, path):
        save(weights, path)
        path.write_bytes(path.read_bytes()[:kept])

    return write


def _flipped(weights, path):
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _content(content):
    return lambda weights, path: path.write_bytes(content)


def _tar(weights, path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.pt")


def _array(weights, path):
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def _zip(weights, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.pt", b"1234")


def _exported(weights, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive_format", "models/model.json", "data/weights/weight_0"):
            archive.writestr(f"w/{name}", b"1234")


def _broken_compression(weights, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(range(256)) * 40)
        first = archive.getinfo("m/data.pkl")
    content = bytearray(path.read_bytes())
    start = 30 + len(first.filename)
    content[start : start + first.compress_size] = b"\xff" * first.compress_size
    path.write_bytes(content)


DAMAGED = {
    "a broken compression": (_broken_compression, "is damaged: Error -3"),
    "a cut safetensors file": (_cut(save_file, 30_000), r"incomplete or damaged safetensors file \(30,000 bytes of"),
    "a cut header": (_cut(save_file, 300), "incomplete or damaged safetensors file"),
    "a cut torch file": (_cut(torch.save, 100_000), r"incomplete.*\(100,000 bytes\)"),
    "a cut old torch file": (
        _cut(lambda w, p: torch.save(w, p, _use_new_zipfile_serialization=False), 100_000),
        "damaged or incomplete",
    ),
    "a changed byte": (_flipped, "damaged: Bad CRC-32"),
    "an empty file": (_content(b""), r"empty \(0 bytes\)"),
    "zeros": (_content(bytes(3000)), "zeros, as a download does that broke off"),
    "a Git-LFS pointer": (
        _content(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 598\n"),
        "Git-LFS pointer.*git lfs pull",
    ),
    "a web page": (_content(b"\n<!DOCTYPE html><html><body>404</body>"), "a web page.*/resolve/"),
    "XML": (_content(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "XML document"),
    "a sentence": (_content(b"Entry not found"), "text that begins with 'entry not found'"),
    "JSON": (_content(b'{"error": "Repository not found"}'), "text that begins with"),
    "gzip": (_content(gzip.compress(b"weights")), "compressed with gzip.*Unpack"),
    "tar": (_tar, "tar archive.*tar xf"),
    "zip": (_zip, r"zip archive of other files \(model\.pt\).*Unpack"),
    "HDF5": (_content(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
    "GGUF": (_content(b"GGUF\x03\x00\x00\x00" + bytes(99)), "GGUF"),
    "a NumPy array": (_array, "NumPy array"),
    "noise": (_content(bytes(range(200, 256)) * 9), "damaged, or of a format that is not known"),
    "a raw pickle": (_content(pickle.dumps({"a": _Payload()})), "a pickled Python object"),
    "no tensors": (
        lambda w, p: torch.save({"epoch": 3, "args": {"lr": 1}}, p),
        "no weights.*its entries are epoch, args",
    ),
    "another model": (lambda w, p: save_file({"bert.x": torch.zeros(2)}, p), "none of its 1 tensors.*bert.x"),
    "tensors without numbers": (
        lambda w, p: torch.save({n: t.to("meta") for n, t in w.items()}, p),
        "tensors without numbers.*meta.*positional_embedding",
    ),
    "an empty table": (lambda w, p: torch.save({}, p), "no weights.*it is empty"),
    "an exported program": (_exported, "a program that torch.export wrote.*torch.export.load"),
    "unmerged LoRA": (
        lambda w, p: torch.save(
            prefixed(w, "base_model.model.") | {"base_model.model.visual.x.lora_A.w": torch.ones(1)}, p
        ),
        "LoRA adapters that were not merged.*merge_and_unload",
    ),
    "parametrised": (
        lambda w, p: torch.save(w | {"visual.x.parametrizations.weight.original": torch.ones(1)}, p),
        "parametrised weights",
    ),
    "quantised": (
        lambda w, p: torch.save(w | {"visual.proj": w["visual.proj"].to(torch.int8)}, p),
        r"int8 numbers for visual\.proj",
    ),
    "in eight bits": (
        lambda w, p: torch.save(w | {"visual.proj": w["visual.proj"].to(torch.float8_e4m3fn)}, p),
        r"float8_e4m3fn numbers for visual\.proj.*quantised",
    ),
    "another library's towers": (
        lambda w, p: save_file({"visual.cls_token": torch.zeros(1), "text.token_embedding.weight": torch.zeros(2)}, p),
        r"has 1 that headlens-file does not have: visual\.cls_token",
    ),
    "a text tower alone": (
        lambda w, p: save_file({n: t for n, t in w.items() if not n.startswith("visual.")}, p),
        r"lacks \d+ of \d+ tensors: visual\.",
    ),
    "an index without its parts": (
        lambda w, p: p.write_text('{"weight_map": {"a": "part-7.safetensors"}}'),
        r"not beside it: part-7\.safetensors",
    ),
}


@pytest.mark.parametrize(("save", "what"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_cannot_be_loaded_is_named_for_what_it_is(weights, tmp_path, save, what):
    path = tmp_path / "w.pt"
    save(weights, path)
    with pytest.raises(ModelError) as caught:
        hl.load(NAME, path)
    told = f"{caught.value.problem} {caught.value.remedy}"
    assert re.search(what, told), told
    assert caught.value.remedy and "TorchScript" not in told and chr(27) not in told
    with pytest.raises(ModelError):
        hl.load(str(path))  # as a bare file too


def test_an_archive_of_numpy_arrays_is_named(weights, tmp_path):
    """`.npz` is what Google publishes SigLIP as; open_clip reads it into towers of timm alone."""
    np.savez(tmp_path / "w.npz", **{name: tensor.numpy() for name, tensor in weights.items()})
    with pytest.raises(ModelError, match="zip archive of NumPy arrays"):
        hl.load(NAME, tmp_path / "w.npz")


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"neither .* nor config\.json.*w\.safetensors"):
        hl.load(NAME, tmp_path)
    with pytest.raises(ModelError, match="no tag and no file"):
        hl.load(NAME, tmp_path / "none.pt")
    with pytest.raises(ModelError, match="There is no file"):
        read_checkpoint(tmp_path / "none.pt")


FOREIGN = {
    "beside the weights": lambda model, path: torch.save(
        {"args": argparse.Namespace(lr=1), "model": model.state_dict()}, path
    ),
    "the whole module": lambda model, path: torch.save(model, path),
    "a path": lambda model, path: torch.save({"state_dict": model.state_dict(), "out": Path("x")}, path),
}


@pytest.mark.parametrize("save", FOREIGN.values(), ids=FOREIGN.keys())
def test_more_than_data_is_refused_by_name_and_the_remedy_works_to_the_letter(model, tmp_path, save):
    save(model, tmp_path / "run.pt")
    with pytest.raises(ModelError, match=r"holds more than data, [a-z_A-Z.0-9, ]+, and reading") as caught:
        hl.load(NAME, tmp_path / "run.pt")
    named = {
        "beside the weights": "argparse.Namespace",
        "the whole module": "open_clip.model.CLIP",
        "a path": "pathlib",
    }
    assert next(n for key, n in named.items() if FOREIGN[key] is save) in caught.value.problem
    _followed(caught.value.remedy, tmp_path)
    assert same(hl.load(NAME, tmp_path / "weights.pt"), model)


def _followed(remedy, folder):
    """Do what a remedy says, to the letter, in a Python of its own."""
    code = remedy.split(": ", 1)[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


SEVERAL = {
    "tables": lambda w, o, p: torch.save({"model": w, "ema": o, "loss": np.float64(1)}, p),
    "prefixes": lambda w, o, p: save_file(prefixed(w, "student.") | prefixed(o, "teacher."), p),
    "prefixes in a table": lambda w, o, p: torch.save({"state_dict": prefixed(w, "net.") | prefixed(o, "net_ema.")}, p),
}


@pytest.mark.parametrize("save", SEVERAL.values(), ids=SEVERAL.keys())
def test_of_several_models_the_one_that_is_named_is_written_by_the_remedy(model, weights, tmp_path, save):
    other = {name: tensor + 1 for name, tensor in weights.items()}
    save(weights, other, tmp_path / "both.pt")
    with pytest.raises(ModelError, match=r"several models: '.*', '") as caught:
        hl.load(NAME, tmp_path / "both.pt")
    _followed(caught.value.remedy, tmp_path)
    assert same(hl.load(NAME, tmp_path / "weights.pt"), model)


def test_nothing_in_a_file_is_ever_executed(weights, tmp_path):
    torch.save({"state_dict": weights, "extra": _Payload()}, tmp_path / "w.pt")
    torch.save({"state_dict": weights, "extra": _Payload()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("w.pt", "old.pt"):
        with pytest.raises(ModelError, match=r"holds more than data, _pytest\.outcomes"):
            hl.load(NAME, tmp_path / name)
