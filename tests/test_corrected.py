"""A corrected model answers like a model of open_clip, and ranks classes as the audit of the same correction does."""

import copy
import inspect

import families
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tower_factory import random_images, random_tower

import headlens as hl
from headlens.correct import (
    ByClass,
    Compose,
    KnowledgeInjection,
    MeanAblation,
    OrthoCali,
    Probe,
    ResampleAblation,
    RoboShot,
)
from headlens.errors import CorrectionError, ModelError
from headlens.models.corrected import CorrectedCLIP
from headlens.models.open_clip_import import open_clip

HEADS = [(0, 0), (1, 1)]


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    clip, folder = hl.load("testbed"), tmp_path_factory.mktemp("corrected")
    drawn = hl.testbed.images(folder / "images", n=48)
    store = hl.extract(clip, drawn, folder / "acts.zarr")
    return clip, drawn.assign(path=[folder / "images" / path for path in drawn["path"]]), store


def pixels(clip, manifest):
    from PIL import Image

    return torch.stack([clip.preprocess(Image.open(path).convert("RGB")) for path in manifest["path"]])


def pairs(width, count=2, seed=0):
    return torch.randn(count, 2, width, generator=torch.Generator().manual_seed(seed))


def corrections(view):
    width = view.embedding.shape[1]
    mean = MeanAblation(HEADS).fit(view)
    ltc = Compose([MeanAblation([(0, 0)]), KnowledgeInjection([(1, 1)], pairs(width))]).fit(view)
    by_class = ByClass([mean, ltc], [0, 1], F.normalize(pairs(width, 1)[0], dim=-1), torch.tensor([0, 1]))
    return {"mean": mean, "ltc": ltc, "by class": by_class, "roboshot": RoboShot(pairs(width), pairs(width, seed=1))}


@pytest.mark.parametrize("name", ["mean", "ltc", "by class", "roboshot"])
def test_each_image_ranks_classes_as_the_audit_does(testbed, name, tmp_path):
    clip, manifest, store = testbed
    correction = corrections(store)[name]
    classifier = clip.encode_text(["a waterbird", "a landbird", "a bird on water", "a bird on land"], normalize=True)
    correction.save(tmp_path / "saved")
    for used in (correction, tmp_path / "saved"):
        found = clip.corrected(used).encode_image(pixels(clip, manifest))
        audited = correction.apply(store).embedding * store_norms(clip, manifest)
        assert (found - audited).norm(dim=1).max() < 1e-4 * audited.norm(dim=1).max()
        theirs = correction.logits(store, classifier)
        assert torch.equal((found @ classifier.T).argsort(1), theirs.argsort(1))
    unit = clip.corrected(correction).encode_image(pixels(clip, manifest), normalize=True)
    torch.testing.assert_close(unit, F.normalize(found, dim=-1))


def store_norms(clip, manifest):
    return clip.encode_image(pixels(clip, manifest)).norm(dim=1, keepdim=True)


@pytest.mark.parametrize("family", families.RELEASED)
def test_every_family(family):
    vision = hl.HookedVisionTransformer.from_open_clip(families.tower(family)).double()
    images = torch.randn(4, 3, *vision.cfg.image_size, generator=torch.Generator().manual_seed(1)).double()
    parts = hl.decompose(vision, images, normalize=True)
    heads = [(0, 0), (vision.cfg.n_layers - 1, vision.cfg.n_heads - 1)][: vision.cfg.n_layers * vision.cfg.n_heads]
    correction = MeanAblation(list(dict.fromkeys(heads))).fit(parts)
    expected = correction.apply(parts).total() * vision(images).norm(dim=-1, keepdim=True)
    found = CorrectedCLIP(vision, None, correction).encode_image(images)
    assert (found - expected).norm() < 1e-10 * expected.norm()


def test_code_for_open_clip_runs_unchanged(testbed):
    """Zero-shot classification and retrieval as people write them."""
    clip, manifest, store = testbed
    correction = MeanAblation(HEADS).fit(store)
    model, images = clip.corrected(correction), pixels(clip, manifest)
    names = ["a waterbird", "a landbird"]
    model.eval().to("cpu")
    with torch.no_grad():
        weights = []
        for name in names:
            embedding = F.normalize(model.encode_text(clip.tokenizer([name])), dim=-1).mean(0)
            weights.append(embedding / embedding.norm())
        weights = torch.stack(weights, dim=1)
        logits = 100.0 * F.normalize(model.encode_image(images), dim=-1) @ weights
        assert torch.equal(logits.argmax(1), correction.logits(store, weights.T).argmax(1))
        image_features, text_features, scale = model(images, clip.tokenizer(names))
        similarity = scale * image_features @ text_features.T
        assert torch.equal(similarity.argmax(1), logits.argmax(1))
        by_text = similarity.T.topk(5, dim=1).indices  # retrieval: images of each text
        expected = F.normalize(correction.apply(store).embedding, dim=-1) @ text_features.T
        assert torch.equal(by_text, expected.T.topk(5, dim=1).indices)
        per_image, per_text = model.get_logits(images, clip.tokenizer(names))
        torch.testing.assert_close(per_image, similarity)
        torch.testing.assert_close(per_text, similarity.T)
    assert float(model.logit_scale.exp()) == pytest.approx(clip.logit_scale)


def test_the_interface_is_that_of_open_clip():
    theirs = open_clip().CLIP
    for name in ("encode_image", "encode_text", "forward", "get_logits"):
        asked = list(inspect.signature(getattr(theirs, name)).parameters)
        assert list(inspect.signature(getattr(CorrectedCLIP, name)).parameters) == asked


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(testbed, dtype):
    clip, manifest, store = testbed
    correction, images = corrections(store)["ltc"], pixels(clip, manifest)[:4]
    exact = clip.corrected(correction).encode_image(images)
    cast = copy.deepcopy(clip.corrected(correction)).to(dtype)
    found = cast.encode_image(images)
    assert found.dtype == dtype
    assert (found.float() - exact).norm() < 0.05 * exact.norm()
    assert clip.dtype == torch.float32


def test_a_calibrated_classifier_comes_with_the_model(testbed):
    clip, manifest, store = testbed
    width = store.embedding.shape[1]
    correction = Compose([MeanAblation(HEADS), OrthoCali(pairs(width)[:, 0], pairs(width, seed=3))]).fit(store)
    classifier = clip.encode_text(["a waterbird", "a landbird"], normalize=True)
    model = clip.corrected(correction)
    scores = model.encode_image(pixels(clip, manifest)) @ model.classifier(classifier).T
    assert torch.equal(scores.argmax(1), correction.logits(store, classifier).argmax(1))
    assert clip.corrected(MeanAblation(HEADS).fit(store)).classifier(classifier) is classifier


def test_what_cannot_be_used_is_refused(testbed, without_shape_checks):
    clip, manifest, store = testbed
    width = store.embedding.shape[1]
    probe = Probe.__subclasses__()[0](torch.as_tensor(np.arange(len(store)) % 2), 2).fit(store)
    for correction, reason in (
        (MeanAblation(HEADS), "cannot be used yet"),
        (MeanAblation(HEADS, reference="self"), "depend on the others"),
        (ResampleAblation(HEADS).fit(store), "depend on the others"),
        (probe, "probe"),
        (MeanAblation(HEADS, means=torch.zeros(2, width), fingerprint="another"), "another"),
        (3, "not a correction"),
    ):
        with pytest.raises(CorrectionError, match=reason):
            clip.corrected(correction)
    model = clip.corrected(MeanAblation(HEADS).fit(store))
    with (
        clip.vision.hooks([("blocks.0.attn.hook_z", lambda z, hook: z)]),
        pytest.raises(ModelError, match="without hooks"),
    ):
        model.encode_image(pixels(clip, manifest)[:1])


def test_gradients_reach_the_pixels():
    visual = random_tower(0, layers=2)
    vision = hl.HookedVisionTransformer.from_open_clip(visual)
    images = random_images(visual).requires_grad_()
    correction = MeanAblation([(0, 0)]).fit(hl.decompose(vision, images.detach(), normalize=True))
    CorrectedCLIP(vision, None, correction).encode_image(images).sum().backward()
    assert images.grad is not None and images.grad.abs().max() > 0


def test_under_autocast_images_have_the_precision_of_texts(testbed):
    """As open_clip's own do: code multiplies them outside of it."""
    clip, manifest, store = testbed
    model, images = clip.corrected(MeanAblation(HEADS).fit(store)), pixels(clip, manifest)[:3]
    for normalize in (False, True):
        exact = model.encode_image(images, normalize)
        with torch.no_grad(), torch.autocast("cpu"):
            found, texts = (
                model.encode_image(images, normalize),
                model.encode_text(clip.tokenizer(["a bird"]), normalize),
            )
            assert found.dtype == texts.dtype == torch.bfloat16
        assert (found.float() - exact).norm() < 0.05 * exact.norm()


class Pictures(torch.utils.data.Dataset):
    """The testbed's images with a class, or with captions."""

    classes = ("a landbird", "a waterbird")

    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        return self.images[place], self.targets[place]


@pytest.mark.parametrize("amp", [False, True])
def test_the_evaluation_of_clip_benchmark_runs_unchanged(testbed, amp):
    """Zero-shot classification and retrieval, with and without automatic mixed precision."""
    classification = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    from clip_benchmark.metrics import zeroshot_retrieval

    clip, manifest, store = testbed
    correction, images = MeanAblation(HEADS).fit(store), pixels(clip, manifest)
    model, labels = clip.corrected(correction), [int(label == "waterbird") for label in manifest["label"]]
    loader = torch.utils.data.DataLoader(Pictures(images, labels), batch_size=16)
    # Not its `evaluate`, whose last line, after the model's work, is an error under new versions of NumPy.
    weights = classification.zero_shot_classifier(
        model, clip.tokenizer, Pictures.classes, ["a photo of {c}"], "cpu", amp=amp
    )
    logits, truth = classification.run_classification(model, weights, loader, "cpu", amp=amp)
    found = (logits.argmax(1) == truth).double().mean()
    classifier = clip.encode_text([f"a photo of {name}" for name in Pictures.classes], normalize=True)
    ours = (correction.logits(store, classifier).argmax(1) == torch.tensor(labels)).double().mean()
    assert float(found) == pytest.approx(float(ours), abs=0.05 if amp else 1e-9)

    captions = [
        [f"a {label} on the {place}"] for label, place in zip(manifest["label"], manifest["background"], strict=True)
    ]
    together = lambda rows: (torch.stack([image for image, _ in rows]), [texts for _, texts in rows])  # noqa: E731
    loader = torch.utils.data.DataLoader(Pictures(images, captions), batch_size=16, collate_fn=together)
    found = zeroshot_retrieval.evaluate(model, loader, clip.tokenizer, "cpu", amp=amp, recall_k_list=[5])
    rows = F.normalize(correction.apply(store).embedding, dim=-1)
    texts = clip.encode_text([texts[0] for texts in captions], normalize=True)
    top = (texts @ rows.T).topk(5, dim=1).indices
    recall = float((top == torch.arange(len(top))[:, None]).any(1).double().mean())
    assert found["image_retrieval_recall@5"] == pytest.approx(recall, abs=0.05 if amp else 1e-6)
