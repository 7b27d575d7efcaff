"""The image-text model around the hooked tower."""

import copy

import pytest
import torch
from PIL import Image
from tower_factory import randomize

import headlens as hl
from headlens.errors import ModelError, ModelWarning
from headlens.models.open_clip_import import open_clip

VISION = {"image_size": 12, "layers": 2, "width": 10, "head_width": 5, "patch_size": 4}
TEXT = {"context_length": 11, "vocab_size": 49408, "width": 6, "heads": 2, "layers": 1}
TEXTS = [f"{number} herons" for number in range(13)]


class Resize:
    """Stands in for a transform: what it is called is all that matters here."""

    def __init__(self, side):
        self.side = side

    def __call__(self, image):
        return image

    def __repr__(self):
        return f"Resize({self.side})"


class Nameless:
    def __call__(self, image):
        return image


@pytest.fixture(scope="module")
def model():
    return randomize(open_clip().CLIP(7, VISION, TEXT), seed=2)


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip().SimpleTokenizer(context_length=11)


@pytest.fixture
def clip(model, tokenizer):
    return hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer, name="tiny")


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


NO_PIXELS = {
    "whole numbers": (lambda pixels: (pixels * 50).to(torch.uint8), r"got torch\.uint8"),
    "a list": (lambda pixels: list(pixels), "got list"),
    "NumPy's": (lambda pixels: pixels.numpy(), "got ndarray"),
    "one image": (lambda pixels: pixels[0], r"got \[3, 12, 12\]"),
    "grey": (lambda pixels: pixels[:, :1], r"got \[3, 1, 12, 12\]"),
}


@pytest.mark.parametrize(("spoil", "what"), NO_PIXELS.values(), ids=NO_PIXELS.keys())
def test_images_that_are_no_pixels_of_the_model_are_named(without_shape_checks, clip, pixels, spoil, what):
    for use in (clip.encode_image, clip.vision, lambda images: hl.decompose(clip, images)):
        with pytest.raises(ModelError, match=what) as caught:
            use(spoil(pixels))
        assert "clip.preprocess" in caught.value.remedy


@pytest.mark.filterwarnings("ignore:var_mean")  # torch's, of no numbers
@torch.no_grad()
def test_no_images_have_no_embeddings(clip, pixels):
    assert clip.encode_image(pixels[:0]).shape == hl.decompose(clip, pixels[:0]).total().shape == (0, 7)


def test_what_is_no_text_no_model_and_no_transform_is_named(without_shape_checks, clip, model, tokenizer, pixels):
    with pytest.raises(ModelError, match="texts has the type Tensor"):
        clip.encode_text(tokenizer(["a heron"]))
    with pytest.raises(ModelError, match="A CLIP is no hooked model"):
        hl.decompose(model, pixels)
    transform = open_clip().image_transform(12, is_train=False)
    for preprocess, tokens in ((None, tokenizer), (tokenizer, transform)):
        with pytest.raises(ModelError, match=r"preprocess is a .* and tokenizer a"):
            hl.HookedCLIP.from_open_clip(model, preprocess, tokens)


def test_embeddings_are_the_originals(model, tokenizer, clip, pixels):
    with torch.no_grad():
        image, text = model.encode_image(pixels), model.encode_text(tokenizer(TEXTS))
    torch.testing.assert_close(clip.encode_image(pixels), image, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(clip.encode_text(TEXTS), text, rtol=1e-5, atol=1e-6)
    for normalized in (clip.encode_image(pixels, normalize=True), clip.encode_text(TEXTS, normalize=True)):
        torch.testing.assert_close(normalized.norm(dim=-1), torch.ones(len(normalized)))
    assert clip.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_texts_are_embedded_in_batches_without_gradients(clip, monkeypatch):
    at_once = clip.encode_text(TEXTS)
    monkeypatch.setattr("headlens.models.clip._TEXTS_AT_ONCE", 5)
    sizes = []
    tokenizer, clip.tokenizer = clip.tokenizer, lambda texts: sizes.append(len(texts)) or tokenizer(texts)
    torch.testing.assert_close(clip.encode_text(TEXTS), at_once, rtol=1e-5, atol=1e-6)
    assert sizes == [5, 5, 3] and not at_once.requires_grad
    assert clip.encode_text("one heron").shape == (1, 7)
    with pytest.raises(ModelError, match="no text to embed"):
        clip.encode_text([])


def test_a_text_that_is_cut_at_the_context_is_named(clip):
    clip.encode_text(["one two three four five six seven eight nine"])  # eleven tokens with start and end: just whole
    with pytest.warns(ModelWarning, match=r"'very very .* …' has 83 tokens, and the model reads 11") as caught:
        clip.encode_text(["a heron", "very " * 80 + "blue", "a wren"])
    assert len(caught) == 1


def test_the_callers_model_is_left_as_it_was(model, tokenizer, pixels):
    before = copy.deepcopy(model.state_dict())
    clip = hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer)
    assert not hasattr(clip.text, "visual")
    with torch.no_grad():
        for tensor in clip.parameters():
            tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    clip.double()
    assert model.encode_image(pixels).dtype == torch.float32


def test_types_and_devices_move_together(clip, pixels):
    assert clip.double().dtype == torch.float64
    assert clip.encode_text(TEXTS).dtype == torch.float64
    assert clip.encode_image(pixels).dtype == torch.float64
    assert clip.to("cpu").device == torch.device("cpu")


def test_gradients_are_kept_only_where_the_pixels_ask_for_them(clip, pixels):
    assert not clip.encode_image(pixels).requires_grad
    assert clip.encode_image(pixels.requires_grad_()).requires_grad


def test_a_model_is_decomposed_as_its_vision_tower_is(clip, pixels):
    parts = hl.decompose(clip, pixels)
    assert torch.equal(parts.heads, hl.decompose(clip.vision, pixels).heads)
    torch.testing.assert_close(parts.total(), clip.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_a_fingerprint_names_weights_and_preprocessing(model, tokenizer, clip):
    first = clip.fingerprint
    assert first == clip.fingerprint
    assert hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer, name="other").fingerprint == first
    assert hl.HookedCLIP.from_open_clip(model, Resize(13), tokenizer).fingerprint != first
    assert copy.deepcopy(clip).double().fingerprint == first

    # An object's address is not part of what it does.
    steps = [hl.HookedCLIP.from_open_clip(model, Nameless(), tokenizer).fingerprint for _ in range(2)]
    assert steps[0] == steps[1] != first

    with torch.no_grad():
        clip.vision.layers[1].attn.W_O[1, 2, 3] += 1e-3
    assert clip.fingerprint != first


def test_a_model_made_in_inference_mode_has_the_same_fingerprint(model, tokenizer, clip):
    with torch.inference_mode():
        inside = hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer)
    assert inside.fingerprint == clip.fingerprint


def test_a_vision_tower_alone_embeds_images_and_says_what_it_lacks(model, pixels):
    clip = hl.HookedCLIP.from_open_clip(model, Resize(12), None, name="half")
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(pixels), model.encode_image(pixels), rtol=1e-5, atol=1e-6)
    for ask in (lambda: clip.encode_text(["a heron"]), lambda: clip.logit_scale, lambda: clip.save("nowhere")):
        with pytest.raises(ModelError, match="half is a vision tower alone"):
            ask()


def test_towers_of_two_types_meet_in_the_wider_one_and_a_text_tower_of_two_is_named(model, tokenizer, pixels):
    model = copy.deepcopy(model)
    model.visual.half()
    clip = hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer)
    shares = clip.probabilities(clip.encode_image(pixels), clip.encode_text(TEXTS))
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares.sum(-1), torch.ones(3))
    model.transformer.resblocks[0].half()
    clip = hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer)
    with pytest.raises(ModelError, match=r"text tower has weights of several types \(float16, float32\)"):
        clip.encode_text(TEXTS)


def test_a_tokenizer_beside_a_model_without_a_text_side_is_refused(model, tokenizer):
    with pytest.raises(ModelError, match="has no encode_text"):
        hl.HookedCLIP.from_open_clip(model.visual, Resize(12), tokenizer)


def test_a_description_of_an_object_says_what_can_be_read_off_it(model, tokenizer):
    transform = open_clip().image_transform(12, is_train=False, mean=(0.5,) * 3, std=(0.2, 0.3, 0.4))
    told = hl.HookedCLIP.from_open_clip(model, transform, tokenizer, name="mine").description
    assert told.label == "mine" and told.source == "object" and told.nonlinearity == "gelu"
    assert told.preprocessing.std == (0.2, 0.3, 0.4) and told.preprocessing.resize_mode == "shortest"
    assert "GELU" in told.facts()["nonlinearity"] and "std 0.2/0.3/0.4" in told._repr_html_()
    assert hl.HookedCLIP.from_open_clip(model, Resize(12), tokenizer).description.preprocessing is None


@pytest.mark.usefixtures("without_shape_checks")
def test_pictures_and_tensors_in_the_wrong_place_are_one_sentence_with_what_to_pass() -> None:
    clip, picture = hl.load("testbed"), Image.new("RGB", (5, 7))
    with pytest.raises(ModelError, match=r"texts has the type Tensor.*list of strings"):
        clip.encode_text(torch.zeros(2, 3))
    for call in (lambda: clip.encode_image(picture), lambda: hl.decompose(clip, [picture])):
        with pytest.raises(ModelError, match=r"got (Image|list).*clip\.preprocess\(one\)"):
            call()
