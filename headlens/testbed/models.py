"""The models that come with headlens: network, tokenizer, preprocessing, weights, and the card with the facts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from headlens.errors import ModelError, VocabularyError
from headlens.models.description import Preprocessing
from headlens.models.open_clip_import import open_clip
from headlens.serialization import read_arrays
from headlens.testbed.drawing import SIDE
from headlens.testbed.worlds import joint_vocabulary

WEIGHTS = Path(__file__).parent / "weights"
MODELS = ("birds-0", "birds-1", "birds-2", "plain", "worlds-0")
"""The names of the models, after "testbed-"."""

_ALIASES = {"": "birds-0", "figures": "worlds-0"}
PATCH = 8
_MEAN, _STD = 0.45, 0.25
PREPROCESSING = Preprocessing((SIDE, SIDE), (_MEAN,) * 3, (_STD,) * 3, "squash", "bicubic")


@dataclass(frozen=True)
class Size:
    """The size of a model: of the vision tower, of the joint space, of the text tower (`context` in tokens)."""

    n_layers: int = 4
    n_heads: int = 8
    d_head: int = 16
    d_embed: int = 64
    text_width: int = 96
    context: int = 20


# ---- by name ---------------------------------------------------------------------------------------------------------


def model_name(model: str) -> str:
    """The file name of a model: "testbed" is "birds-0", "testbed-figures" is "worlds-0", "testbed-plain" is "plain".

    Raises:
        ModelError: where there is none.
    """
    short = model.removeprefix("testbed").removeprefix("-")
    short = _ALIASES.get(short, short)
    if short not in MODELS:
        names = ", ".join(f"testbed-{name}" for name in MODELS)
        raise ModelError(
            f"There is no testbed model {model!r}.",
            f"There are testbed (birds-0), testbed-figures (worlds-0), {names}.",
        )
    return short


def load_open_clip(name: str = "testbed") -> tuple[nn.Module, Callable[..., Any], WordTokenizer]:
    """The open_clip model, its preprocessing and its tokenizer. `hl.load(name)` hooks them.

    Raises:
        ModelError: for a name that no testbed model has.
    """
    described = _card(name)
    size = Size(**described["recipe"].get("size", {}))
    return restore(WEIGHTS / f"{model_name(name)}.safetensors", worlds_of(name), size)


def restore(path: Path, worlds: tuple[str, ...], size: Size) -> tuple[nn.Module, Callable[..., Any], WordTokenizer]:
    """The same from a file of weights and what they were trained on."""
    model = build(worlds, size)
    model.load_state_dict({key: value.float() for key, value in read_arrays(path).items()})
    return model.requires_grad_(False).eval(), preprocess, tokenizer(worlds, size)


def worlds_of(name: str) -> tuple[str, ...]:
    """The worlds that a model was trained on. Raises `ModelError` for a name that no testbed model has."""
    return tuple(_card(name).get("worlds", ("birds",)))


def card(name: str = "testbed", world: str | None = None) -> dict[str, Any]:
    """What a model was trained on, what was planted in it, how to ask it, and what was measured.

    Args:
        name: the model.
        world: which of its worlds to describe: "birds" or "figures"; by default the figures, where it knows them.

    Raises:
        ModelError: for a name that no testbed model has, and for a world that the model does not know.
    """
    known = worlds_of(name)
    if world is not None and world not in known:
        raise ModelError(
            f"testbed-{model_name(name)} was trained on: {', '.join(known)}; not on {world!r}.",
            "Name one of these, or leave it out.",
        )
    described = _card(name)
    worlds = described.pop("worlds", None)
    return described if worlds is None else described | worlds[world or known[-1]]


def pairs_for(name: str, classes: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """The text pairs that a model's card has for these classes; None for other classes, and for any other model."""
    if not name.startswith("testbed") or Path(name).exists():
        return None
    cards = (card(name, world) for world in worlds_of(name))
    return next((tuple((a, b) for a, b in one["pairs"]) for one in cards if one["classes"] == list(classes)), None)


def _card(name: str) -> dict[str, Any]:
    path = WEIGHTS / f"{model_name(name)}.json"
    if not path.is_file():
        raise ModelError(f"The card of a testbed model is missing: {path.name}.", "Run make testbed to train it.")
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return described


# ---- network ---------------------------------------------------------------------------------------------------------


def tokenizer(worlds: tuple[str, ...] = ("birds",), size: Size | None = None) -> WordTokenizer:
    """The tokenizer of a model that is trained on these worlds."""
    return WordTokenizer(joint_vocabulary(worlds), (size or Size()).context)


def build(worlds: tuple[str, ...] = ("birds",), size: Size | None = None) -> nn.Module:
    """An untrained model, from torch's global seed."""
    size = size or Size()
    vision = {
        "layers": size.n_layers, "width": size.n_heads * size.d_head, "head_width": size.d_head, "patch_size": PATCH,
        "image_size": SIDE, "mlp_ratio": 2.0,
    }  # fmt: skip
    text = {
        "context_length": size.context, "vocab_size": tokenizer(worlds, size).vocab_size, "width": size.text_width,
        "heads": 4, "layers": 2, "mlp_ratio": 2.0,
    }  # fmt: skip
    return open_clip().CLIP(size.d_embed, vision, text)


def preprocess(image: Image.Image) -> Float[Tensor, "channel height width"]:
    """A picture of any size as the network's pixels: RGB, resized, centred."""
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return normalise(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def normalise(pixels: UInt8[Tensor, "*batch channel height width"]) -> Float[Tensor, "*batch channel height width"]:
    """(pixels / 255 − 0.45) / 0.25, the same for every channel."""
    return (pixels.to(torch.float32) / 255 - _MEAN) / _STD


# ---- tokenizer -------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[a-z0-9]+")


class WordTokenizer:
    """A tokenizer with one token a word, for a text tower with a small vocabulary, called as open_clip's are.

    Sentences to ids: 0 pads, 1 starts, the words follow in the given order, the last id ends.

    The end token has the largest id of all, because open_clip's text tower finds the end of a sentence as the argmax
    of its ids. Case and punctuation are dropped: "A photo of a Landbird." and "a photo of a landbird" are one sentence.

    Args:
        words: the vocabulary, in the order of its ids.
        context_length: tokens a sentence, start and end included.
    """

    def __init__(self, words: Sequence[str], context_length: int):
        self.words = tuple(words)
        self.context_length = context_length
        self.ids = {word: number for number, word in enumerate(self.words, start=2)}
        self.start, self.end = 1, len(self.words) + 2

    @property
    def vocab_size(self) -> int:
        return self.end + 1

    def encode(self, text: str) -> list[int]:
        """The ids of one sentence, without padding.

        Raises:
            VocabularyError: for an unknown word, a sentence without words, or one that is too long.
        """
        words = _WORD.findall(text.lower())
        if not words:
            raise VocabularyError(
                "a sentence with at least one word", repr(text), "Write a prompt such as 'a photo of a bird'."
            )
        for word in words:
            if word not in self.ids:
                raise self._unknown(word, text)
        if len(words) > self.context_length - 2:
            raise VocabularyError(
                f"at most {self.context_length - 2} words in a sentence",
                f"{len(words)} in {text!r}",
                "Shorten the prompt.",
            )
        return [self.start, *(self.ids[word] for word in words), self.end]

    def _unknown(self, word: str, text: str) -> VocabularyError:
        near = difflib.get_close_matches(word, self.words, n=5, cutoff=0.5)
        hint = f"Near ones: {', '.join(near)}. " if near else ""
        return VocabularyError(
            f"words among the {len(self.words)} that this model was trained on",
            f"{word!r} in {text!r}",
            f"{hint}Use one of the tokenizer's .words, which lists them all, or a model with a larger vocabulary.",
        )

    def save_pretrained(self, folder: str) -> None:
        """Write the files from which open_clip's `HFTokenizer` makes the same ids of the same sentences.

        What this tokenizer refuses (a word that it does not know, a sentence that is too long) that one refuses as
        well, or cuts.
        """
        vocabulary = {"<pad>": 0, "<start>": self.start, **self.ids, "<end>": self.end}
        special = [("<pad>", 0), ("<start>", self.start), ("<end>", self.end)]
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        template = [{"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        template.append({"SpecialToken": {"id": "<end>", "type_id": 0}})
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": number, "content": text, **flags} for text, number in special],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {
                "type": "Split", "pattern": {"Regex": "[^a-z0-9]+"}, "behavior": "Removed", "invert": False,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template,
                "pair": template,
                "special_tokens": {
                    text: {"id": text, "ids": [number], "tokens": [text]} for text, number in special[1:]
                },
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": ""},
        }  # fmt: skip
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<pad>",
            "bos_token": "<start>",
            "eos_token": "<end>",
            "model_max_length": self.context_length,
        }
        for name, value in (("tokenizer.json", content), ("tokenizer_config.json", config)):
            (Path(folder) / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Int[Tensor, "text token"]:
        """Ids of one or more sentences, padded with zeros to the context length."""
        sentences = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        ids = torch.zeros(len(sentences), length, dtype=torch.long)
        for row, sentence in enumerate(sentences):
            encoded = self.encode(sentence)
            if len(encoded) > length:
                raise VocabularyError(
                    f"at most {length - 2} words in a sentence", f"{len(encoded) - 2}", "Shorten the prompt."
                )
            ids[row, : len(encoded)] = torch.tensor(encoded)
        return ids
