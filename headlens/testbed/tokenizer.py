"""A tokenizer with one token a word, for a text tower that has seen a small vocabulary.

It is called as open_clip's tokenizers are. The end token has the largest id of all, because open_clip's text tower
finds the end of a sentence as the argmax of its ids.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from headlens.errors import VocabularyError

_WORD = re.compile(r"[a-z0-9]+")


class WordTokenizer:
    """Sentences to ids: 0 pads, 1 starts, the words follow in the given order, the last id ends.

    Case and punctuation are dropped: "A photo of a Landbird." and "a photo of a landbird" are one sentence.

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
