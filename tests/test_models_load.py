"""Loading: what a model computes, what is said about it, and the error for each way in which it can fail."""

import json
import os
import warnings

import pytest
import torch
from clip_configs import CONFIG, architectures, changed
from PIL import Image
from safetensors.torch import save_file
from tower_factory import randomize

import headlens as hl
from headlens.errors import ModelError, ModelWarning
from headlens.models.open_clip_import import open_clip

HALF = (0.5, 0.5, 0.5)
PICTURE = Image.effect_noise((31, 23), 80).convert("RGB")


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """Architectures in open_clip's list, and a model of the first with random weights."""
    with architectures(
        tmp_path_factory.mktemp("configs"),
        headlens_test=CONFIG,
        headlens_twin=CONFIG,
        headlens_twin_quickgelu=changed(quick_gelu=True),
        headlens_quick=changed(quick_gelu=True),
        headlens_big=changed(vision_cfg={"image_size": 20}),
        headlens_short=changed(text_cfg={"context_length": 7}),
        headlens_wide=changed(text_cfg={"width": 10}),
    ):
        yield randomize(open_clip().create_model("headlens-test", load_weights=False), seed=1)


@pytest.fixture
def weights(tiny):
    return {name: tensor.clone() for name, tensor in tiny.state_dict().items()}


@pytest.fixture
def file(weights, tmp_path):
    save_file(weights, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def record(monkeypatch, file):
    """Give an architecture a tag whose download is the file."""
    monkeypatch.setattr(open_clip().factory, "download_pretrained", lambda *args, **kwargs: str(file))

    def add(name, tag, **values):
        known = open_clip().pretrained._PRETRAINED
        monkeypatch.setitem(known, name, {**known.get(name, {}), tag: {"url": "nowhere", **values}})

    return add


@pytest.fixture
def quick(weights):
    """The same weights under QuickGELU."""
    model = open_clip().create_model("headlens-twin-quickgelu", load_weights=False)
    model.load_state_dict(weights)
    return model.eval()


def _close(one, other):
    torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-6)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_file_computes_what_the_original_does(tiny, file, pixels):
    clip = hl.load("headlens-test", pretrained=file)
    _close(clip.encode_image(pixels), tiny.encode_image(pixels))
    texts = ["a heron", "a wren by the water"]
    _close(clip.encode_text(texts), tiny.encode_text(open_clip().get_tokenizer("headlens-test")(texts)))
    assert clip.name == f"headlens-test ({file})"
    assert clip.device == torch.device("cpu") and clip.dtype == torch.float32
    assert clip.description.call == f'hl.load("headlens-test", pretrained="{file}")'


def test_what_a_file_does_not_say_is_an_assumption_and_a_warning_only_where_known_weights_differ(file, record):
    told = hl.load("headlens-test", pretrained=file).description
    assert [("does not say" in one, "GELU" in one, "mean" in one) for one in told.assumptions] == [
        (True, True, False),
        (True, False, True),
    ]
    assert "assumed" in told.facts()["nonlinearity"] and "assumed" in told.facts()["preprocessing"]
    json.dumps(told.as_dict())


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
    ("embed", "layers", "what"), [(512, 12, "several architectures: ViT-B-32, "), (512, 11, "none"), (13, 12, "none")]
)
def test_a_bare_checkpoint_that_fits_several_architectures_or_none_is_an_error(tmp_path, embed, layers, what):
    with pytest.raises(ModelError, match=what) as caught:
        hl.load(_hollow_checkpoint(tmp_path / "hollow.pt", embed, layers))
    assert 'load("ViT-B-16", pretrained=' in caught.value.remedy
    assert ("ViT-B-32-quickgelu" in caught.value.problem) == (what != "none")


def test_the_architecture_of_a_bare_checkpoint_is_found_where_only_one_fits(tmp_path, pixels):
    model = randomize(open_clip().create_model("headlens-big", load_weights=False), seed=2)
    save_file(model.state_dict(), tmp_path / "big.safetensors")
    images = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    _close(hl.load(str(tmp_path / "big.safetensors")).encode_image(images), model.encode_image(images))


@pytest.mark.parametrize("wrong", ["headlens-wide", "headlens-other-proj"])
def test_weights_of_another_architecture_are_refused_by_shape(weights, file, wrong):
    if wrong == "headlens-wide":
        with pytest.raises(
            ModelError, match=r"positional_embedding is \[11, 6\] where headlens-wide has \[11, 10\]"
        ) as caught:
            hl.load(wrong, pretrained=file)
        assert "headlens-test" in caught.value.remedy  # where its shapes fit
        return
    weights["visual.proj"] = torch.zeros(10, 5)
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"visual\.proj is \[10, 5\]") as caught:
        hl.load("headlens-test", pretrained=file)
    assert "architecture" in caught.value.remedy


@pytest.mark.parametrize("name", ["visual.transformer.resblocks.1.attn.out_proj.weight", "token_embedding.weight"])
def test_weights_that_are_not_numbers_are_named(weights, tmp_path, name):
    weights[name][2, 3] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        hl.load("headlens-test", pretrained=tmp_path / "nan.safetensors")


def test_half_precision_is_open_clips_and_an_unknown_one_is_refused(tiny, file, pixels):
    clip = hl.load("headlens-test", pretrained=file, precision="bf16")
    assert clip.dtype == torch.bfloat16 and clip.vision.cfg.norm_in_float32
    exact = tiny.encode_image(pixels).detach()
    assert (clip.encode_image(pixels).float() - exact).norm() < 0.05 * exact.norm()
    assert clip.encode_text(["a heron"]).dtype == torch.bfloat16
    with pytest.raises(ModelError, match="'fp61'"):
        hl.load("headlens-test", pretrained=file, precision="fp61")


# --- nonlinearity ----------------------------------------------------------------------------------------------------


def _pairs():
    """Every pair of open_clip whose record and configuration disagree about QuickGELU, on plain towers."""
    pretrained = open_clip().pretrained
    for name, tag in open_clip().list_pretrained():
        config = open_clip().get_model_config(name)
        if isinstance(config["vision_cfg"].get("layers"), int):
            recorded, configured = pretrained.get_pretrained_cfg(name, tag).get("quick_gelu"), config.get("quick_gelu")
            if bool(recorded) != bool(configured):
                yield name, tag, bool(recorded)


PAIRS = list(_pairs())


def test_the_pairs_that_disagree_are_the_ones_known():
    assert len(PAIRS) >= 20 and ("ViT-B-16", "openai", True) in PAIRS
    assert [(name, tag) for name, tag, recorded in PAIRS if not recorded] == [("roberta-ViT-B-32", "laion2b_s12b_b32k")]


@pytest.mark.parametrize(("name", "tag", "recorded"), PAIRS, ids=lambda value: str(value))
def test_every_pair_computes_what_its_weights_were_trained_with(monkeypatch, tmp_path, weights, name, tag, recorded):
    """Each with its own settings and a small size, so that nothing has to be fetched."""
    config = open_clip().get_model_config(name)
    monkeypatch.setitem(
        open_clip().factory._MODEL_CONFIGS, name, CONFIG | {"quick_gelu": config.get("quick_gelu", False)}
    )
    save_file(weights, tmp_path / "fetched.safetensors")
    monkeypatch.setattr(
        open_clip().factory, "download_pretrained", lambda *a, **k: str(tmp_path / "fetched.safetensors")
    )
    with pytest.warns(ModelWarning, match="QuickGELU") as caught:
        clip = hl.load(name, pretrained=tag)
    # The record of the one without it is silent; its configuration, with which it was trained and measured, has it.
    assert clip.vision.cfg.act == "quick_gelu" == clip.description.nonlinearity
    assert len(caught) == 1 and clip.text.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"
    assert clip.description.notes if recorded else clip.description.assumptions
    assert "QuickGELU" in clip.description.facts()["nonlinearity"]


def test_a_tag_whose_record_says_gelu_computes_gelu_under_every_name(record, tiny, pixels):
    record("headlens-quick", "plain", quick_gelu=False)
    with pytest.warns(ModelWarning, match="trained with GELU"):
        clip = hl.load("headlens-quick", pretrained="plain")
    _close(clip.encode_image(pixels), tiny.encode_image(pixels))


def test_quickgelu_weights_in_a_file_are_warned_of_and_can_be_stated(record, file, quick, pixels):
    with pytest.warns(ModelWarning, match=r"GELU is assumed.*needs QuickGELU: say so with pretrained_tag="):
        hl.load("headlens-twin", pretrained=file)
    record("headlens-twin-quickgelu", "tag", quick_gelu=True, mean=HALF)
    stated = {
        "tag": {"pretrained_tag": "tag"},
        "option": {"options": hl.LoadOptions("quick_gelu", HALF, HALF, "shortest", "bicubic")},
    }
    for how, given in stated.items():
        with pytest.warns(ModelWarning, match="QuickGELU is used"):
            clip = hl.load("headlens-twin", pretrained=file, **given)
        _close(clip.encode_image(pixels), quick.encode_image(pixels))
        assert not [one for one in clip.description.assumptions if "GELU" in one], how
        assert clip.description.preprocessing.mean == HALF
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # under the name that says it, with everything stated, there is nothing to say
        hl.load("headlens-twin-quickgelu", pretrained=file, options=stated["option"]["options"])
    with pytest.raises(ModelError, match="no tag 'tog' of headlens-twin"):
        hl.load("headlens-twin", pretrained=file, pretrained_tag="tog")
    with pytest.raises(ModelError, match="random is no file"):
        hl.load("headlens-twin", pretrained="random", pretrained_tag="tag")


def test_the_call_of_a_description_repeats_the_load(record, file, pixels):
    record("headlens-test", "tag", quick_gelu=True)
    options = hl.LoadOptions(mean=HALF, context_length=7)
    with pytest.warns(ModelWarning):
        clip = hl.load("headlens-test", file, precision="bf16", pretrained_tag="tag", options=options)
    with pytest.warns(ModelWarning):
        again = eval(clip.description.call, {"hl": hl})
    assert torch.equal(again.encode_image(pixels), clip.encode_image(pixels))
    assert again.description == clip.description and again.fingerprint == clip.fingerprint


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"nonlinearity": "relu"}, "no nonlinearity 'relu'"),
        ({"resize_mode": "crop"}, "no resize_mode 'crop'"),
        ({"interpolation": "nearest"}, "no interpolation 'nearest'"),
        ({"mean": (0.5, 0.5)}, r"mean=\(0\.5, 0\.5\)"),
        ({"std": 0.0}, "std=0.0"),
        ({"mean": "0.5"}, "mean='0.5'"),
        ({"std": float("nan")}, "std=nan"),
        ({"image_size": 0}, "image_size=0 is not a positive"),
        ({"image_size": "224"}, "image_size='224'"),
        ({"image_size": (224, 0)}, r"image_size=\(224, 0\)"),
        ({"context_length": 7.5}, "context_length=7.5"),
    ],
)
def test_options_that_mean_nothing_are_refused(without_shape_checks, given, what):
    with pytest.raises(ModelError, match=what):
        hl.LoadOptions(**given)


# --- preprocessing ---------------------------------------------------------------------------------------------------


def test_a_file_gets_the_preprocessing_that_all_known_weights_have_and_a_store_by_tag_is_its_own(record, file):
    values = {"mean": HALF, "std": HALF, "interpolation": "bilinear", "resize_mode": "squash"}
    record("headlens-test", "tag", **values)
    by_tag = hl.load("headlens-test", pretrained="tag")
    with pytest.warns(ModelWarning, match="all known weights of headlens-test are assumed"):
        by_file = hl.load("headlens-test", pretrained=file)
    stated = hl.load("headlens-test", pretrained=file, pretrained_tag="tag")
    assert not stated.description.assumptions
    for clip in (by_file, stated):
        assert torch.equal(clip.preprocess(PICTURE), by_tag.preprocess(PICTURE))
        assert clip.fingerprint == by_tag.fingerprint
    assert by_tag.description.preprocessing.resize_mode == "squash"
    assert "record of tag" in by_tag.description.preprocessing_from


@pytest.mark.parametrize(
    "other", [{"mean": HALF}, {"std": HALF}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}]
)
def test_where_known_weights_disagree_the_assumption_is_warned_of(record, file, other):
    record("headlens-test", "usual")
    record("headlens-test", "unusual", **other)
    with pytest.warns(ModelWarning, match=r"does not say its preprocessing.*stem from unusual need another"):
        clip = hl.load("headlens-test", pretrained=file)
    usual = hl.load("headlens-test", pretrained="usual")
    assert torch.equal(clip.preprocess(PICTURE), usual.preprocess(PICTURE))


def test_each_value_can_be_chosen_and_the_rest_stays(file):
    chosen = {"mean": 0.25, "std": (0.1, 0.2, 0.3), "resize_mode": "longest", "interpolation": "bilinear"}
    for name, value in chosen.items():
        told = hl.load("headlens-test", pretrained=file, options=hl.LoadOptions(**{name: value})).description
        assert getattr(told.preprocessing, name) == ((0.25,) * 3 if name == "mean" else value)
        assert "the options passed to load" in told.preprocessing_from and "assumed" in told.preprocessing_from
    told = hl.load("headlens-test", pretrained=file, options=hl.LoadOptions(**chosen)).description
    assert told.preprocessing_from == "the options passed to load"
    assert not [one for one in told.assumptions if "preprocessing" in one]


def test_a_configuration_beside_the_file_is_believed_where_it_describes_these_shapes(file, quick, pixels):
    config = {"model_cfg": changed(quick_gelu=True), "preprocess_cfg": {"mean": HALF, "std": HALF}}
    (file.parent / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.warns(ModelWarning, match=r"from open_clip_config\.json beside the file"):
        clip = hl.load("headlens-test", pretrained=file)
    _close(clip.encode_image(pixels), quick.encode_image(pixels))
    assert clip.description.preprocessing.mean == HALF
    config["model_cfg"] = changed(quick_gelu=True, embed_dim=5)
    (file.parent / "open_clip_config.json").write_text(json.dumps(config))
    assert hl.load("headlens-test", pretrained=file).description.nonlinearity == "gelu"


# --- position embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what"),
    [("headlens-big", "from 3 × 3 to 5 × 5 patches"), ("headlens-short", "text .* from 11 to 7 places")],
)
def test_positions_are_stretched_only_where_that_was_chosen_and_it_is_said(file, name, what):
    with pytest.raises(
        ModelError, match=f"position embeddings would be stretched {what.split('text .* ')[-1]}"
    ) as caught:
        hl.load(name, pretrained=file)
    assert "stretch_positions=True" in caught.value.remedy
    with pytest.warns(ModelWarning, match=f"position embeddings of .* were stretched {what.split('text .* ')[-1]}"):
        clip = hl.load(name, pretrained=file, options=hl.LoadOptions(stretch_positions=True))
    model = open_clip().create_model(name, pretrained=str(file))
    images = torch.randn(2, 3, *clip.vision.cfg.image_size, generator=torch.Generator().manual_seed(0))
    _close(clip.encode_image(images), model.encode_image(images))
    assert "stretched" in clip.description.positions + clip.description.context


def test_a_size_below_a_patch_and_options_of_another_kind_are_refused(without_shape_checks, file):
    with pytest.raises(ModelError, match="image_size=3 is less than a patch of 4 pixels"):
        hl.load("headlens-test", file, options=hl.LoadOptions(image_size=3))
    with pytest.raises(ModelError, match="not a LoadOptions"):
        hl.load("headlens-test", file, options={"mean": 0.5})


def test_another_size_can_be_chosen(file):
    with pytest.warns(ModelWarning, match="stretched"):
        clip = hl.load("headlens-test", file, options=hl.LoadOptions(image_size=20, context_length=7))
    assert clip.vision.cfg.image_size == (20, 20) and clip.preprocess(PICTURE).shape == (3, 20, 20)
    assert clip.tokenizer(["a heron"]).shape == (1, 7) and clip.encode_text(["a heron"]).shape == (1, 7)
    assert clip.description.positions == "stretched from 3 × 3 to 5 × 5 patches"
    assert clip.description.context == "stretched from 11 to 7 places"


# --- names -----------------------------------------------------------------------------------------------------------


def _folder(folder, weights, **preprocess):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
    return folder


def test_a_folder_is_loaded_with_and_without_its_scheme(tiny, weights, pixels, tmp_path):
    values = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic", "resize_mode": "squash"}
    folder = _folder(tmp_path / "own", weights, **values)
    clip = hl.load(str(folder))
    _close(clip.encode_image(pixels), tiny.encode_image(pixels))
    assert "0.5, 0.4, 0.3" in repr(clip.preprocess)
    assert clip.fingerprint == hl.load(f"local-dir:{folder}").fingerprint
    assert not clip.description.assumptions and "configuration" not in clip.description.nonlinearity_from
    with pytest.raises(ModelError, match="holds its own weights"):
        hl.load(str(folder), pretrained="openai")

    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no file of weights"):
        hl.load(str(folder))
    (folder / "open_clip_config.json").write_text("[]")
    with pytest.raises(ModelError, match="does not describe a model"):
        hl.load(str(folder))
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be loaded"):
        hl.load(str(folder))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(ModelError, match="own is an empty folder"):
        hl.load(str(folder))
    with pytest.raises(ModelError, match="There is no folder /nowhere"):
        hl.load("local-dir:/nowhere")


def _cache(folder, weights):
    inside = folder / "models--some--model" / "snapshots" / "0a1b"
    inside.mkdir(parents=True)
    _folder(inside, weights)


def _with(**files):
    return lambda folder, weights: [(folder / n.replace("_json", ".json")).write_text(t) for n, t in files.items()]


FOLDERS = {
    "a hub's cache of one model": (_cache, "models--some--model", r"further inside.*hl\.load\('.*/snapshots/0a1b'\)"),
    "a hub's whole cache": (_cache, "", r"further inside.*hl\.load\('.*/snapshots/0a1b'\)"),
    "a run": (lambda folder, weights: _folder(folder / "best", weights), "", r"hl\.load\('.*/best'\)"),
    "weights alone": (
        lambda folder, weights: save_file(weights, folder / "epoch_3.safetensors"),
        "",
        r"pretrained='.*epoch_3\.safetensors'\)",
    ),
    "an adapter": (_with(adapter_config_json="{}"), "", "adapter of peft alone.*merge_and_unload"),
    "an unpacked file": (_with(**{"data.pkl": "", "version": "3"}), "", "unpacked into a folder"),
    "another model of transformers": (_with(config_json='{"model_type": "vit"}'), "", "is a vit of transformers"),
    "a model of timm": (
        _with(config_json='{"architecture": "vit"}'),
        "",
        "neither open_clip nor transformers",
    ),
    "a broken configuration": (_with(config_json="{"), "", "cannot be loaded by transformers.*Fetch the whole"),
    "something else": (_with(notes_json="{}"), "", r"neither open_clip_config\.json nor config\.json"),
}


@pytest.mark.parametrize(("make", "inside", "what"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_folder_that_is_no_model_is_named_for_what_it_is(weights, tmp_path, make, inside, what):
    make(tmp_path, weights)
    with pytest.raises(ModelError, match=what):
        hl.load(str(tmp_path / inside))
    if make in (_cache, FOLDERS["a run"][0]):
        with pytest.raises(ModelError, match=what):
            hl.load("headlens-test", tmp_path / inside)


def test_addresses_and_links_to_nothing_are_named(tmp_path):
    (tmp_path / "link.pt").symlink_to(tmp_path / "blob")
    for name, pretrained, what in (
        ("https://some.where/model.pt", None, "is an address"),
        ("headlens-test", "https://some.where/model.pt", "is an address"),
        ("headlens-test", tmp_path / "link.pt", "link to .*blob, where nothing is"),
        ("hf-hub:", None, "not a name or a path"),
    ):
        with pytest.raises(ModelError, match=what):
            hl.load(name, pretrained)


def _parts(folder, weights):
    names = sorted(weights)
    for number in (0, 1):
        save_file({name: weights[name] for name in names[number::2]}, folder / f"model-{number}.safetensors")
    index = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


@pytest.mark.parametrize("write", [_parts, lambda folder, weights: torch.save(weights, folder / "epoch_9.pt")])
def test_a_folder_has_its_weights_in_parts_or_under_a_name_of_its_own(tiny, weights, pixels, tmp_path, write):
    folder = _folder(tmp_path / "own", weights, mean=HALF, std=HALF)
    (folder / "open_clip_model.safetensors").unlink()
    write(folder, weights)
    _close(hl.load(str(folder)).encode_image(pixels), tiny.encode_image(pixels))
    if write is not _parts:
        torch.save(weights, folder / "epoch_8.pt")
        with pytest.raises(ModelError, match=r"several files of weights \(epoch_8\.pt, epoch_9\.pt\)"):
            hl.load(str(folder))


def test_a_file_of_a_folder_that_says_what_it_is_leads_to_the_folder(weights, tmp_path):
    folder = _folder(tmp_path / "own", {name: torch.cat([one, one]) for name, one in weights.items() if one.ndim})
    with pytest.raises(ModelError, match=r"load that, hl\.load\('.*/own'\)"):
        hl.load(str(folder / "open_clip_model.safetensors"))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"model_cfg": {"embed_dim": 7}}, "does not describe a model"),
        ({"model_cfg": CONFIG, "preprocess_cfg": {"resize_mode": "fit"}}, "no resize_mode 'fit'"),
        ({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5]}}, r"mean=\(0\.5, 0\.5\)"),
    ],
)
def test_a_configuration_that_means_nothing_is_named(without_shape_checks, weights, tmp_path, config, what):
    folder = _folder(tmp_path / "own", weights)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=what):
        hl.load(str(folder))


def test_what_a_folder_leaves_open_is_said(weights, tmp_path):
    told = hl.load(str(_folder(tmp_path / "some", weights, mean=HALF, std=HALF))).description
    assert len(told.assumptions) == 1 and "interpolation" in told.assumptions[0]
    with pytest.warns(ModelWarning, match="does not say its preprocessing"):
        hl.load(str(_folder(tmp_path / "none", weights)))


def test_a_folder_named_like_a_model_does_not_stand_for_it(monkeypatch, weights, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("headlens-test", "testbed"):
        (tmp_path / name).mkdir()
    assert hl.load("headlens-test", pretrained="random").name == "headlens-test"
    with pytest.raises(ModelError, match="architecture without weights"):
        hl.load("headlens-test")
    assert hl.load("testbed").name == "testbed"
    with pytest.raises(ModelError, match="is an empty folder"):
        hl.load("./testbed")
    _folder(tmp_path / "headlens-test", weights, mean=HALF, std=HALF)
    assert hl.load("headlens-test").name == "local-dir:headlens-test"
    assert hl.load("headlens-test", pretrained="random").name == "headlens-test"


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(ModelError, match="ViT-B16") as caught:
        hl.load("ViT-B16", pretrained="openai")
    assert "ViT-B-16" in caught.value.remedy
    with pytest.raises(ModelError, match=r"folder or checkpoint file 'no/such/file\.safetensors'"):
        hl.load("no/such/file.safetensors")


@pytest.mark.parametrize("device", ["cuda:97", "gpu", "meta"])
def test_a_device_that_is_not_here_is_named_before_anything_is_read(device):
    with pytest.raises(ModelError, match=f"no device '{device}'") as caught:
        hl.load("no/such/file.safetensors", device=device)
    assert "cpu" in caught.value.remedy


def test_an_unknown_tag_and_no_tag_list_the_known_ones():
    with pytest.raises(ModelError, match="'laion2b'") as caught:
        hl.load("ViT-B/16", pretrained="laion2b")
    assert "laion2b_s34b_b88k" in caught.value.remedy
    with pytest.raises(ModelError, match="without weights") as caught:
        hl.load("ViT-B-16")
    assert "laion2b_s34b_b88k" in caught.value.remedy


def test_a_home_folder_is_found_and_what_is_no_name_is_named(monkeypatch, file, tiny, pixels):
    monkeypatch.setenv("HOME", str(file.parent))
    clip = hl.load("headlens-test", pretrained=f"~/{file.name}")
    torch.testing.assert_close(clip.encode_image(pixels), tiny.encode_image(pixels).detach(), rtol=1e-5, atol=1e-6)
    for name, pretrained in (("", None), (" ", None), ("headlens-test", "")):
        with pytest.raises(ModelError, match="not a name or a path"):
            hl.load(name, pretrained)


@pytest.mark.parametrize(
    "further", [{"pretrained": "openai"}, {"precision": "fp16"}, {"options": hl.LoadOptions(image_size=64)}]
)
def test_what_a_model_that_is_no_architecture_takes_is_not_ignored(further):
    with pytest.raises(ModelError, match="testbed is no architecture of open_clip"):
        hl.load("testbed", **further)


def _unreachable(*args, **kwargs):
    raise FileNotFoundError("Failed to download file. Last error: no connection")


def test_without_a_network_the_error_names_the_local_way(monkeypatch):
    factory = open_clip().factory
    monkeypatch.setattr(factory, "download_pretrained", _unreachable)
    monkeypatch.setattr(factory, "download_pretrained_from_hf", _unreachable)
    for name, tag in (("ViT-B-16", "laion2b_s34b_b88k"), ("hf-hub:some/model", None)):
        with pytest.raises(ModelError, match="no connection") as caught:
            hl.load(name, pretrained=tag)
        assert 'pretrained="/path/to/' in caught.value.remedy and "folder" in caught.value.remedy


def test_a_tokenizer_that_cannot_be_fetched_is_named_after_the_weights_were_read(monkeypatch, file):
    monkeypatch.setattr(open_clip(), "get_tokenizer", _unreachable)
    with pytest.raises(ModelError, match=r"tokenizer of headlens-test is not at hand.*no connection"):
        hl.load("headlens-test", pretrained=file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="incomplete or damaged"):
        hl.load("headlens-test", pretrained=file)


def test_a_damaged_download_is_to_be_deleted(record, file):
    record("headlens-test", "tag")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="incomplete or damaged") as caught:
        hl.load("headlens-test", pretrained="tag")
    assert "Delete it" in caught.value.remedy


@pytest.mark.parametrize(("name", "what"), [("convnext_base", "heads"), ("MobileCLIP2-S0", "convolutions")])
def test_a_tower_that_cannot_be_converted_is_refused_before_its_weights_are_fetched(monkeypatch, name, what):
    monkeypatch.setattr(open_clip(), "create_model_and_transforms", lambda *a, **k: pytest.fail("it was created"))
    with pytest.raises(ModelError, match=what):
        hl.load(name, pretrained="random")


def test_random_weights_have_to_be_asked_for_and_open_clips_log_stays_quiet(caplog):
    with caplog.at_level("DEBUG"):
        clip = hl.load("headlens-test", pretrained="random")
    assert clip.name == "headlens-test" and clip.description.source == "random"
    assert not [one for one in caplog.records if "open_clip" in one.pathname]


def test_the_testbed_describes_itself():
    told = hl.load("testbed").description
    assert told.source == "embedded" and told.nonlinearity == "gelu" and not told.assumptions
    assert told.preprocessing.resize_mode == "squash" and told.call == 'hl.load("testbed")'
    with pytest.raises(ModelError, match="birds-9"):
        hl.load("testbed-birds-9")


def test_environment_variables_cannot_make_a_checkpoint_run(monkeypatch, weights, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": weights, "extra": Payload()}, tmp_path / "bad.pt")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ModelError, match="holds more than data"):
        hl.load("headlens-test", pretrained=tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()
