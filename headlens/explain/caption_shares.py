"""Which words of an image's caption the output of heads goes with, by Shapley values.

For a caption of words 1 … n and the output x of a head or of a sum of heads for its image, the value of a set of words
is the cosine of x with the embedding of the caption that holds these words alone, in their order. Word w's Shapley
value is its mean contribution to that value over all orders in which words could join (Lundberg and Lee 2017, arXiv
1705.07874; package `shap`):

    φ_w = Σ_S |S|! (n − |S| − 1)! / n! · [cos(x, t(S ∪ w)) − cos(x, t(S))],      over sets S without w

and a kind of word (class, attribute, features) has the share Σ_{w of the kind} |φ_w| / Σ_w |φ_w|. LTC (Yeo et al. 2025,
arXiv 2505.17425) shows such shares for located heads. They mask tokens by a placeholder and estimate; here words are
left out, and captions of up to 12 words are computed exactly, over all 2ⁿ sets.

Needs the extra `captions` (shap).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.errors import ExplainError
from headlens.models.open_clip_import import open_clip
from headlens.prompts import EncodeText

MOST_EXACT = 12
_ROUNDS = 20  # orders of a longer caption's words that are drawn
_BATCH = 512
_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class CaptionShares:
    """Shapley values of captions' words, for one or more sets of heads.

    Attributes:
        captions: the captions, each as its words.
        kinds: the kind of every word; "other" for those of none.
        values: for each set of heads, by name, the Shapley value of every word of every caption.
        exact: whether each caption's values are exact; longer ones are estimated from drawn orders.
        order: the kinds, in the order in which they were named, and "other".
    """

    captions: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[str, ...], ...]
    values: dict[str, tuple[np.ndarray, ...]]
    exact: tuple[bool, ...]
    order: tuple[str, ...]

    def shares(self) -> dict[str, dict[str, float]]:
        """For each set of heads, the mean over captions of each kind's share; captions without effect are left out."""
        result = {}
        for name, captions in self.values.items():
            rows = []
            for values, kinds in zip(captions, self.kinds, strict=True):
                size = np.abs(values)
                if size.sum() > 0:
                    rows.append([size[[kind == one for kind in kinds]].sum() / size.sum() for one in self.order])
            means = np.mean(rows, axis=0) if rows else np.full(len(self.order), np.nan)
            result[name] = dict(zip(self.order, map(float, means), strict=True))
        return result

    def table(self) -> pd.DataFrame:
        """One row a word: `caption`, `word`, `kind`, and its value for every set of heads."""
        rows = []
        for i, (words, kinds) in enumerate(zip(self.captions, self.kinds, strict=True)):
            for j, (word, kind) in enumerate(zip(words, kinds, strict=True)):
                own = {name: float(values[i][j]) for name, values in self.values.items()}
                rows.append({"caption": i, "word": word, "kind": kind, **own})
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.4f}".format)


def caption_shares(
    encode_text: EncodeText,
    outputs: Mapping[str, Float[Tensor, "image embed"]],
    captions: Sequence[str],
    kinds: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
) -> CaptionShares:
    """Shapley values of every caption's words for the outputs of sets of heads.

    Args:
        encode_text: `clip.encode_text`. A caption of n words is encoded 2ⁿ − 1 times, in parts; of more than 12 words,
            a few hundred times.
        outputs: by name, the summed output of a set of heads for each image.
        captions: the caption of each image.
        kinds: by name, the words or phrases that belong to a kind. Case and punctuation do not count; of two kinds that
            name a word the first has it.
        seed: of the orders that are drawn for captions of more than 12 words.

    Raises:
        ExplainError: where `shap` is not installed, for no set of heads, outputs that are not as many as the captions,
            a caption of fewer than two words, or outputs that are zero or not finite.

    Limits: a share counts words by the size of their effect, not its sign. A caption without words of a kind gives it
    nothing, so compare sets of heads over the same captions, not kinds of words with one another. The text of no words
    at all counts as a cosine of zero.
    """
    shap = _shap()
    if not outputs or any(len(one) != len(captions) for one in outputs.values()) or not len(captions):
        raise ExplainError(
            "an output of every set of heads for each caption, of one set and one caption at least",
            f"{ {name: len(one) for name, one in outputs.items()} } for {len(captions)} captions",
            "Take outputs and captions of the same images.",
        )
    stacked = torch.stack([one.detach().cpu().float() for one in outputs.values()], dim=1)
    lengths = stacked.norm(dim=-1)
    if not bool(torch.isfinite(lengths).all()) or not bool((lengths > 0).all()):
        raise ExplainError("outputs with a direction", "some that are zero or not finite", "Leave those images out.")
    directions = normalize(stacked, dim=-1)
    phrases = {kind: [_words(text) for text in texts] for kind, texts in kinds.items()}
    split = [tuple(str(caption).split()) for caption in captions]
    values: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for words, own in zip(split, directions, strict=True):
        if len(words) < 2:
            raise ExplainError("captions of two words or more", repr(" ".join(words)), "Leave that image out.")
        found = _values(shap, encode_text, words, own, seed)
        for name, column in zip(outputs, found.T, strict=True):
            values[name].append(column)
    return CaptionShares(
        captions=tuple(split),
        kinds=tuple(_kinds(words, phrases) for words in split),
        values={name: tuple(columns) for name, columns in values.items()},
        exact=tuple(len(words) <= MOST_EXACT for words in split),
        order=(*kinds, "other"),
    )


def _values(
    shap: Any, encode_text: EncodeText, words: tuple[str, ...], directions: Float[Tensor, "set embed"], seed: int
) -> Float[np.ndarray, "word set"]:
    known: dict[tuple[bool, ...], np.ndarray] = {(False,) * len(words): np.zeros(len(directions))}

    def worth(masks: np.ndarray) -> np.ndarray:
        keys = [tuple(row) for row in masks.astype(bool).tolist()]
        unseen = [key for key in dict.fromkeys(keys) if key not in known]
        for start in range(0, len(unseen), _BATCH):
            part = unseen[start : start + _BATCH]
            texts = [" ".join(word for word, kept in zip(words, key, strict=True) if kept) for key in part]
            with torch.no_grad():
                encoded = normalize(encode_text(texts).detach().cpu().float(), dim=-1)
            cosines = einsum(encoded, directions, "text embed, set embed -> text set").double().numpy()
            known.update(zip(part, cosines, strict=True))
        return np.stack([known[key] for key in keys])

    nothing, everything = np.zeros((1, len(words))), np.ones((1, len(words)))
    if len(words) <= MOST_EXACT:
        # Kernel SHAP over every set of words: a weighted regression whose solution is the Shapley values themselves.
        explainer = shap.KernelExplainer(worth, nothing)
        found = explainer.shap_values(everything, nsamples=2 ** len(words), l1_reg=False, silent=True)
    else:
        explainer = shap.explainers.Permutation(worth, shap.maskers.Independent(nothing, max_samples=1), seed=seed)
        found = explainer(everything, max_evals=_ROUNDS * (2 * len(words) + 1), silent=True).values
    return np.asarray(found, dtype=np.float64).reshape(len(words), len(directions))


def _words(text: str) -> list[str]:
    return [plain for word in text.split() if (plain := _plain(word))]


def _plain(word: str) -> str:
    return _LETTERS.sub("", word.casefold())


def _kinds(words: Sequence[str], phrases: Mapping[str, Sequence[Sequence[str]]]) -> tuple[str, ...]:
    """The kind of each word, by the phrases that stand in the caption."""
    plain = [_plain(word) for word in words]
    found = ["other"] * len(plain)
    for kind, texts in phrases.items():
        for phrase in sorted(texts, key=len, reverse=True):
            for start in range(len(plain) - len(phrase) + 1):
                if phrase and plain[start : start + len(phrase)] == list(phrase):
                    for place in range(start, start + len(phrase)):
                        found[place] = kind if found[place] == "other" else found[place]
    return tuple(found)


def _shap() -> Any:
    open_clip()  # shap looks into transformers, which imports torchvision: this lets that import through
    try:
        import shap
    except ImportError as error:
        raise ExplainError(
            "the package shap, for Shapley values of words",
            "an environment without it",
            "Install it: pip install 'headlens[captions]'.",
        ) from error
    return shap
