"""Text embeddings that an audit has asked for, kept so that it opens again without its model.

Every prompt goes through here. What was embedded once is saved with the audit; a prompt that is not there needs the
model, and without one the error says so. The texts of a bank, thousands of them, are embedded once a text tower, and
kept in the user's cache folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from headlens.errors import HeadlensWarning, ModelError, ModelWarning
from headlens.fingerprint import fingerprint, weights_state
from headlens.models import HookedCLIP
from headlens.prompts import TextBank
from headlens.serialization import digest, read_arrays, write_arrays

Encoder = Callable[[list[str]], Tensor]

# Beside the text tower, not in it: a copy that is sent to another process shall not carry it.
_BANKS: WeakKeyDictionary[Any, tuple[object, dict[str, Tensor]]] = WeakKeyDictionary()
_PROBED = 2  # texts that are embedded anew before kept embeddings are trusted


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

    def knows(self, prompts: Sequence[str]) -> bool:
        """Whether all of them were embedded before."""
        return all(prompt in self._known for prompt in prompts)

    def known(self) -> tuple[list[str], Float[Tensor, "text embed"]]:
        """Every prompt that was embedded, and its embedding."""
        return list(self._known), torch.stack(list(self._known.values()))

    def remember(self, prompts: Sequence[str], embeddings: Float[Tensor, "text embed"]) -> None:
        """Take up again what `known` gave."""
        self._known.update(zip(prompts, embeddings, strict=True))


def bank_embeddings(bank: TextBank, texts: TextEmbeddings, clip: HookedCLIP | None) -> Float[Tensor, "text embed"]:
    """The embeddings of a bank, not normalised: made once for each text tower, whatever is asked of it.

    They are kept beside the text tower until its weights change, and for later processes in `cache_folder`, under a
    name that is a digest of the tower's weights and modules, of the texts, and of the tokens that its tokenizer makes
    of them. A kept file is used where its checksum is right and the tower, asked for the first two texts, still gives
    the same; one that is damaged is made again, with a warning.

    Args:
        bank: the texts.
        texts: remembers them, for the saved audit; what it knows already is taken as it stands.
        clip: the model; None, or one without a text tower, where `texts` has to know them all.

    Warns:
        HeadlensWarning: for a kept file that is damaged, and for a cache folder that cannot be written to.
    """
    tower = getattr(clip, "text", None)
    if clip is None or tower is None or texts.knows(bank.texts):
        return texts(bank.texts)
    state, key = weights_state(tower), bank.digest()
    known, banks = _BANKS.get(tower, (None, {}))
    if known != state:
        banks = {}
        _BANKS[tower] = (state, banks)
    if key not in banks:
        banks[key] = _embedded(list(bank.texts), clip)
    texts.remember(bank.texts, banks[key])
    return banks[key]


def cache_folder() -> Path | None:
    """Where text embeddings are kept between processes: the folder `HEADLENS_CACHE`, else `headlens` in
    `XDG_CACHE_HOME` or in `~/.cache`; None, for nowhere, where `HEADLENS_CACHE` is 0. It can be removed at any time."""
    named = os.environ.get("HEADLENS_CACHE")
    if named == "0":
        return None
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "headlens")).expanduser()


def _embedded(texts: list[str], clip: HookedCLIP) -> Float[Tensor, "text embed"]:
    """The embeddings of texts: those kept in the cache folder, else the model's, which are then kept there."""
    folder = cache_folder()
    if folder is None:
        return clip.encode_text(texts).cpu()
    tokens = clip.tokens(texts)  # which warns of texts that are cut, so that this is said of kept embeddings as well
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        probe = clip.encode_text(texts[:_PROBED]).cpu()
    tower = fingerprint(clip.text, None, repr(clip.text))
    name = digest((tower, str(probe.dtype), texts, tokens))[:32]
    path = folder / "texts" / f"{name}.safetensors"
    damage = None
    try:
        kept = read_arrays(path)
        if kept["checksum"].tolist() != _checksum(kept["embeddings"]).tolist():
            damage = "its checksum is another"
        elif not torch.allclose(kept["embeddings"][:_PROBED], probe, rtol=0.02, atol=0.02 * float(probe.abs().max())):
            damage = "the text tower gives other embeddings"
        else:
            return kept["embeddings"]
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError) as error:
        damage = str(error)
    if damage:
        warnings.warn(f"{path} cannot be used ({damage}): the texts are embedded again.", HeadlensWarning, stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        embeddings = clip.encode_text(texts).cpu()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"embeddings": embeddings, "checksum": _checksum(embeddings)})
    except OSError as error:
        warnings.warn(
            f"The embeddings of {len(texts)} texts cannot be kept in {path.parent} ({error.strerror or error}); the "
            "next process makes them again. Set HEADLENS_CACHE to a folder that can be written to, or to 0.",
            HeadlensWarning,
            stacklevel=2,
        )
    return embeddings


def _checksum(embeddings: Float[Tensor, "text embed"]) -> Tensor:
    return torch.tensor(list(bytes.fromhex(digest(embeddings))), dtype=torch.uint8)
