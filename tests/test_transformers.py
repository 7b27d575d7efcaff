"""CLIP, SigLIP and SigLIP 2 of transformers as whole models: objects, folders and names."""

import threading
import warnings

import families
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import headlens as hl
from headlens.errors import ModelError
from headlens.models import hub as hub_module

WORDS = ["[PAD]", "[UNK]", "a", "photo", "of", "cat", "dog", "bird", "on", "land", "water"]
END = 98


def tokenizer():
    """One word a token, and an end token that has the highest number, as CLIP's has."""
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)} | {"[END]": END}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing("$A [END]", None, [("[END]", END)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", eos_token="[END]", unk_token="[UNK]", model_max_length=9
    )


def pictures(kind):
    size = {"height": families.SIDE, "width": families.SIDE}
    mean = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    if kind == "CLIP":
        return transformers.CLIPImageProcessor(size={"shortest_edge": families.SIDE}, crop_size=size, **mean)
    if kind == "Siglip":
        return transformers.SiglipImageProcessor(size=size, **mean)
    return transformers.Siglip2ImageProcessor(patch_size=families.PATCH, max_num_patches=16, **mean)


def model_of(kind, **settings):
    model = families.hugging(kind, with_text=True)
    model = families.filled(model)
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
    return model


def processor_of(kind):
    return getattr(transformers, f"{kind}Processor")(pictures(kind), tokenizer())


@pytest.fixture(params=["CLIP", "Siglip", "Siglip2"])
def kind(request):
    return request.param


@torch.no_grad()
def test_an_object_embeds_as_transformers_does(kind):
    model, processor = model_of(kind), processor_of(kind)
    clip = hl.HookedCLIP.from_transformers(model, processor)
    texts = ["a photo of cat", "a bird on water", "dog"]
    context = model.config.text_config.max_position_embeddings
    tokens = processor.tokenizer(texts, padding="max_length", max_length=context, return_tensors="pt")
    theirs = model.get_text_features(input_ids=tokens["input_ids"])
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    torch.testing.assert_close(clip.encode_text(texts), theirs)

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    pixels = clip.preprocess(image)
    assert pixels.shape == (3, families.SIDE, families.SIDE)
    if kind != "Siglip2":
        whole = model(**processor(images=image, return_tensors="pt"), input_ids=tokens["input_ids"])
        torch.testing.assert_close(clip.encode_image(pixels[None], normalize=True), whole.image_embeds)
        chances = clip.probabilities(clip.encode_image(pixels[None]), clip.encode_text(texts))
        logits = whole.logits_per_image
        torch.testing.assert_close(chances, logits.softmax(-1) if kind == "CLIP" else logits.sigmoid())
    else:
        assert "squashed" in " ".join(clip.description.notes)
    assert clip.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    assert (clip.logit_bias is None) == (kind == "CLIP")
    assert clip.description.preprocessing.mean == (0.5, 0.4, 0.3)
    assert hl.models.parity(clip, original=model).passed
    other = hl.HookedCLIP.from_transformers(model, processor)
    first = clip.fingerprint
    assert first == other.fingerprint
    processor.image_processor.image_mean = [0.1, 0.1, 0.1]  # which both share
    assert first != clip.fingerprint == other.fingerprint


def test_a_folder_is_loaded_by_transformers(kind, tmp_path):
    model, processor = model_of(kind), processor_of(kind)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    clip = hl.load(str(tmp_path / "model"))
    first = hl.HookedCLIP.from_transformers(model, processor)
    images = torch.randn(2, 3, families.SIDE, families.SIDE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(clip.encode_image(images), first.encode_image(images))
    if kind != "Siglip2":  # whose tokenizer transformers builds anew, with rules that this one does not have
        torch.testing.assert_close(clip.encode_text(["a cat"]), first.encode_text(["a cat"]))
    again = hl.load(str(clip.save(tmp_path / "again")))
    torch.testing.assert_close(again.encode_image(images), clip.encode_image(images))
    saved, first_weights = (m.state_dict() for m in (transformers.AutoModel.from_pretrained(tmp_path / "again"), model))
    assert all(torch.equal(saved[name], tensor) for name, tensor in first_weights.items())
    assert clip.description.source == "folder" and clip.description.call == f'hl.load("{tmp_path / "model"}")'


def test_the_words_for_a_processor_are_what_it_does():
    pictured = pictures("Siglip")
    model = families.filled(families.hugging("Siglip"))
    for resample, spelled in ((0, "nearest"), (1, "lanczos"), (2, "bilinear"), (3, "bicubic")):
        pictured.resample = resample
        said = hl.HookedCLIP.from_transformers(model, pictured).description.preprocessing
        assert said.interpolation == spelled and said.resize_mode == "squash"


def test_a_vision_model_alone_says_what_it_lacks(tmp_path):
    model = families.filled(families.hugging("CLIP"))
    clip = hl.HookedCLIP.from_transformers(model, pictures("CLIP"))
    assert clip.encode_image(torch.zeros(1, 3, families.SIDE, families.SIDE)).shape == (1, 11)
    with pytest.raises(ModelError, match="vision tower alone: it has no text embeddings"):
        clip.encode_text(["a cat"])
    model.save_pretrained(tmp_path / "vision")
    pictures("CLIP").save_pretrained(tmp_path / "vision")
    assert hl.load(str(tmp_path / "vision")).text is None


def test_a_tower_of_timm_alone_has_no_text_side():
    tower = families.tower("DINOv2, registers").trunk
    clip = hl.HookedCLIP.from_open_clip(tower, lambda image: image, None)
    assert clip.text is None and clip.vision.cfg.n_registers == 4
    with pytest.raises(ModelError, match="vision tower alone"):
        clip.encode_text(["a cat"])


def test_what_cannot_be_loaded_names_the_local_way(tmp_path):
    with pytest.raises(ModelError, match="not at hand") as caught:
        hl.load("openai/clip-vit-base-patch32")
    assert 'hl.load("/path/to/clip-vit-base-patch32")' in caught.value.remedy
    transformers.ViTConfig().save_pretrained(tmp_path / "other")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="folder cannot be loaded by transformers"):
        hl.load(str(tmp_path / "clip"))
    with pytest.raises(ModelError, match="does not prepare pictures"):
        hl.HookedCLIP.from_transformers(families.filled(families.hugging("CLIP")), tokenizer())


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [("someone/some-clip", None), ("hf-hub:someone/some-clip", None), ("roberta-ViT-B-32", "random")],
)
def test_a_hub_that_cannot_be_reached_is_asked_once(name, pretrained, monkeypatch):
    """Its client would wait and try each file six times: half a minute and more."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    def wait(seconds):
        raise AssertionError(f"waited for {seconds} s")

    monkeypatch.setattr("time.sleep", wait)
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9 cannot be reached: .*") as caught:
        hl.load(name, pretrained)
    assert ("Without a network" if pretrained is None else "roberta-base of the hub") in caught.value.remedy
    assert constants.HF_HUB_OFFLINE is False


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    """Neither the look-up of its name nor one address after the other has a limit in its client."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "_PATIENCE", 0.05)
    answered = threading.Event()
    monkeypatch.setattr(hub_module, "get_session", answered.wait)
    with pytest.raises(ModelError, match=r"no answer within 0\.05 seconds"):
        hl.load("hf-hub:someone/some-clip")
    answered.set()


def test_towers_that_were_altered_are_refused():
    model = families.filled(families.hugging("Siglip"))
    model.encoder.layers[0].self_attn.scale *= 2
    with pytest.raises(ModelError, match="computes something else"):
        hl.HookedVisionTransformer.from_transformers(model)
    tower = families.tower("SigLIP")
    tower.trunk.blocks[0].attn.scale *= 2
    with pytest.raises(ModelError, match="another attention scale"):
        hl.HookedVisionTransformer.from_open_clip(tower)


def test_an_audit_of_an_attention_pooled_model_runs_to_its_report(tmp_path):
    clip = hl.HookedCLIP.from_transformers(model_of("Siglip"), processor_of("Siglip"))
    manifest = hl.testbed.images(tmp_path / "birds", n=120)
    manifest["label"] = manifest["label"].map({"landbird": "cat", "waterbird": "dog"})
    store = hl.extract(clip, manifest, tmp_path / "states.zarr")
    background = hl.Attribute("background", {"land": ["a photo of land"], "water": ["a photo of water"]})
    audit = hl.Audit(clip, store, task=hl.ZeroShotTask(["cat", "dog"], ["a photo of {}"]), attribute=background)
    audit.locate("contrastive")
    audit.correct(hl.correct.MeanAblation([(0, 0)]))
    for step in (audit.evaluate, audit.fairness, audit.explain, audit.collateral):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of words that the little tokenizer does not know
            step()
    page = tmp_path / "report.html"
    audit.report(str(page))
    assert page.stat().st_size > 10_000
