"""Prompts are embedded without the empty places behind them, and it makes no difference."""

import pytest
import torch
from tower_factory import randomize

import headlens as hl
from headlens.models.clip import without_padding
from headlens.models.open_clip_import import open_clip

VISION = {"image_size": 12, "layers": 2, "width": 10, "head_width": 5, "patch_size": 4}
TEXT = {"context_length": 23, "vocab_size": 49408, "width": 6, "heads": 2, "layers": 3}
TEXTS = ["a heron", "a photo of a heron in a marsh with reeds", "water"]


@pytest.fixture(scope="module")
def model():
    # In double precision, so that only rounding is forgiven.
    return randomize(open_clip().CLIP(7, VISION, TEXT), seed=5).double()


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip().SimpleTokenizer(context_length=23)


@torch.no_grad()
def test_the_embeddings_are_those_of_the_whole_context(model, tokenizer):
    tokens = tokenizer(TEXTS)
    tower, short = without_padding(model, tokens)
    assert short.shape == (3, 13)  # the pieces of the longest text, its beginning and its end
    torch.testing.assert_close(tower.encode_text(short), model.encode_text(tokens), rtol=1e-12, atol=1e-12)
    assert model.positional_embedding.shape[0] == model.attn_mask.shape[0] == 23
    clip = hl.HookedCLIP.from_open_clip(model, lambda image: image, tokenizer)
    for text in TEXTS:  # each of another length
        one = clip.encode_text([text])
        torch.testing.assert_close(one, model.encode_text(tokenizer([text])), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_a_text_as_long_as_the_context_keeps_its_end(model, tokenizer):
    tokens = tokenizer(["bird " * 40])
    tower, short = without_padding(model, tokens)
    assert short.shape == (1, 23)
    torch.testing.assert_close(tower.encode_text(short), model.encode_text(tokens), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("odd", ["sees what follows", "pools the last place", "has no mask"])
def test_a_tower_of_another_kind_is_left_alone(model, tokenizer, odd, monkeypatch):
    if odd == "sees what follows":
        monkeypatch.setitem(model._buffers, "attn_mask", torch.zeros(23, 23))
    elif odd == "has no mask":
        monkeypatch.setitem(model._buffers, "attn_mask", None)
    else:
        monkeypatch.setattr(model, "text_pool_type", "last")
    tokens = tokenizer(TEXTS)
    tower, same = without_padding(model, tokens)
    assert tower is model
    assert same is tokens
