"""A corrected model answers as an audit of its store does, behind open_clip's own interface."""

import pytest
import torch
from clip_configs import CONFIG, changed
from test_models_save import TEXTS, clip_of
from tiny_clip import write_images
from torch.testing import assert_close

import headlens as hl
from headlens.errors import CorrectionError, ModelWarning
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.models.corrected import _check

POOLS = {
    "class token": CONFIG,
    "average": changed(vision_cfg={"pool_type": "avg", "ls_init_value": 0.1, "final_ln_after_pool": True}),
}


@pytest.fixture(scope="module", params=POOLS)
def made(request, tmp_path_factory):
    clip = clip_of(POOLS[request.param])
    folder = tmp_path_factory.mktemp("corrected")
    frame = write_images(folder / "images", 11)
    store = hl.extract(clip, frame, folder / "acts.zarr", batch_size=4)
    pixels = torch.stack([clip.preprocess(read_image(*one)) for one in image_files(store.manifest)])
    return clip, store, pixels


def corrections(clip, store):
    heads = [(0, 1), (1, 0)]
    pairs = torch.randn(2, 2, store.embedding.shape[1], generator=torch.Generator().manual_seed(2))
    classifier = clip.encode_text(TEXTS, normalize=True)
    ablation = hl.correct.MeanAblation(heads)
    injection = hl.correct.KnowledgeInjection([(1, 1)], pairs)
    by_class = hl.correct.ByClass([ablation, injection], [0, 1], classifier, torch.tensor([0, 1]))
    return {
        "mean": ablation,
        "LTC": hl.correct.Compose([ablation, injection]),
        "RoboShot": hl.correct.RoboShot(pairs[:1], pairs[1:]),
        "by class": by_class,
    }


@pytest.mark.parametrize("name", ["mean", "LTC", "RoboShot", "by class"])
def test_scores_are_the_audits(made, name):
    clip, store, pixels = made
    correction = corrections(clip, store)[name].fit(store.subset(split="train"))
    model = clip.corrected(correction)
    wanted = correction.apply(store).embedding
    plain = clip.encode_image(pixels)
    found = model.encode_image(pixels)
    assert_close(found, wanted * plain.norm(dim=-1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3
    unit = model.encode_image(pixels, normalize=True)
    assert_close(unit, torch.nn.functional.normalize(wanted, dim=-1), rtol=1e-4, atol=1e-5)
    classes = clip.encode_text(TEXTS, normalize=True)
    assert torch.equal((unit @ classes.T).argmax(1), correction.logits(store, classes).argmax(1))
    assert torch.equal(unit[3:4].round(decimals=4), model.encode_image(pixels[3:4], True).round(decimals=4))


def test_the_interface_is_open_clips(made):
    clip, store, pixels = made
    model = clip.corrected(corrections(clip, store)["mean"].fit(store))
    tokens = clip.tokenizer(TEXTS)
    images, texts, scale = model(pixels, tokens)
    assert_close(texts, clip.encode_text(TEXTS, normalize=True), rtol=1e-5, atol=1e-6)
    assert scale.item() == pytest.approx(clip.logit_scale)
    assert_close(images.norm(dim=-1), torch.ones(len(images)))
    half = model.bfloat16().eval()
    assert half.encode_image(pixels.bfloat16()).dtype == torch.bfloat16
    assert clip.dtype == torch.float32


def test_what_no_forward_pass_can_do_is_refused(made):
    clip, store, _ = made
    with pytest.raises(CorrectionError, match="fit"):
        clip.corrected(hl.correct.MeanAblation([(0, 1)]))
    with pytest.raises(CorrectionError, match="other images"):
        clip.corrected(hl.correct.MeanAblation([(0, 1)], reference="self"))
    with pytest.raises(CorrectionError, match="hooks"):
        _check([("blocks.0.attn.hook_z", None)])
    other = clip_of(changed(vision_cfg={"mlp_ratio": 2.2}))
    with pytest.raises(CorrectionError, match="fitted on"):
        other.corrected(hl.correct.MeanAblation([(0, 1)]).fit(store))
    pairs = torch.randn(2, 2, store.embedding.shape[1])
    cali = hl.correct.OrthoCali(pairs[:, 0], pairs)
    with pytest.warns(ModelWarning, match="classifier"):
        model = clip.corrected(cali)
    rows = clip.encode_text(TEXTS, normalize=True)
    assert_close(model.classifier(rows), cali.classifier(rows))


def test_hooks_of_the_whole_model_are_the_towers(made):
    clip, _, pixels = made
    name = "blocks.1.attn.hook_z"
    _, cache = clip.run_with_cache(pixels, names_filter=name)
    assert list(cache.keys()) == [name] and name in clip.hook_dict
    zeroed = clip.run_with_hooks(pixels, fwd_hooks=[(name, lambda x, hook: x * 0)])
    with clip.hooks(fwd_hooks=[(name, lambda x, hook: x * 0)]):
        assert_close(clip.encode_image(pixels), zeroed)
    clip.add_hook(name, lambda x, hook: x * 0)
    clip.reset_hooks()
    assert not clip.vision.list_hooks()
