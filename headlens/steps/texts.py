"""Text embeddings that an audit has asked for, kept so that it opens again without its model.

Every prompt goes through here. What was embedded once is saved with the audit; a prompt that is not there needs the
model, and without one the error says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ModelError
from headlens.prompts import TextBank

Encoder = Callable[[list[str]], Tensor]

# Beside the text tower, not in it: a copy that is sent to another process shall not carry it.
_BANKS: WeakKeyDictionary[Any, tuple[list[tuple[int, int]], dict[str, Tensor]]] = WeakKeyDictionary()


class TextEmbeddings:
    """A memory of prompts and their embeddings, not normalised, in front of a text encoder.

    Args:
        encode: the model's `encode_text`; None where only remembered prompts are needed.
    """

    def __init__(self, encode: Encoder | None):
        self._encode = encode
        self._known: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "text embed"]:
        """The embeddings of the prompts, in their order; only unseen ones reach the model.

        Raises:
            ModelError: for an unseen prompt where there is no model.
        """
        unseen = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if unseen:
            if self._encode is None:
                raise ModelError(
                    f"The prompt {unseen[0]!r} was not embedded when this audit was saved.",
                    "Give the model as well: Audit.load(folder, clip=hl.load(...)).",
                )
            with torch.no_grad():
                embeddings = self._encode(unseen).detach().to("cpu")
            self._known.update(zip(unseen, embeddings, strict=True))
        return torch.stack([self._known[prompt] for prompt in prompts])

    def known(self) -> tuple[list[str], Float[Tensor, "text embed"]]:
        """Every prompt that was embedded, and its embedding."""
        return list(self._known), torch.stack(list(self._known.values()))

    def remember(self, prompts: Sequence[str], embeddings: Float[Tensor, "text embed"]) -> None:
        """Take up again what `known` gave."""
        self._known.update(zip(prompts, embeddings, strict=True))


def bank_embeddings(bank: TextBank, texts: TextEmbeddings, tower: Any) -> Float[Tensor, "text embed"]:
    """The embeddings of a bank, not normalised: made once for each text tower, whatever is asked of it.

    Args:
        bank: the texts.
        texts: embeds them, and remembers them.
        tower: the text tower (`clip.text`), beside which they are kept until its weights change; None for none.
    """
    if not isinstance(tower, torch.nn.Module):
        return texts(bank.texts)
    weights = [(weight.data_ptr(), weight._version) for weight in tower.parameters() if not weight.is_inference()]
    known, banks = _BANKS.get(tower, ([], {}))
    if known != weights:
        banks = {}
        _BANKS[tower] = (weights, banks)
    key = bank.digest()
    if key in banks:
        texts.remember(bank.texts, banks[key])
    else:
        banks[key] = texts(bank.texts)
    return banks[key]
