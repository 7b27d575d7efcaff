"""Collateral on retrieval: whether images and texts still find each other once a correction is made.

- Where the manifest has a column `caption`: recall@k from captions to images and from images to captions. What is asked
  for is an image whose caption has these very words; other images that it fits as well count as misses, as usual.
- Where it has none: of the texts of the general bank, which have nothing to do with the question, what zero-shot finds
  first is what is relevant. Zero-shot reaches 1 by definition, and a method loses what it moves.

Recall is defined in `headlens.metrics.retrieval_recall`. Intervals are over queries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.benchmark.measures import Extra, Scored, joined, only
from headlens.manifest import as_text
from headlens.metrics import SMALL, Bootstrap, Measures, retrieval_recall

_MOST = 1000  # images and texts that are ranked against each other
_TEXTS = 200  # of the bank


def retrieval(k: int = 10) -> Extra:
    """Recall@k from texts to images and from images to texts."""

    def measure(one: Scored) -> Measures | None:
        if one.embedding is None:
            return None
        captioned = "caption" in one.audit.data.test.manifest.columns
        return _by_captions(one, k) if captioned else _by_bank(one, k)

    return Extra(
        "Retrieval",
        {"image": f"text to image, recall@{k}", "text": f"image to text, recall@{k}"},
        f"Where images have captions: how often an image with a caption is among its first {k} images, and an image's "
        f"caption among its first {k} captions. Else, of {_TEXTS} neutral texts of the bank: how much of zero-shot's "
        f"first {k} is still among the first {k}. At most {_MOST} images, drawn with the seed; ranked by cosine.",
        measure,
    )


def _by_captions(one: Scored, k: int) -> Measures | None:
    captions = as_text(one.audit.data.test.manifest["caption"])
    rows = _drawn(np.flatnonzero(captions.notna().to_numpy()), one.audit.question.seed, _MOST)
    told = [str(captions.iloc[row]) for row in rows]
    texts = list(dict.fromkeys(told))
    if len(texts) < 2:
        return None
    relevant = np.asarray([[caption == text for text in texts] for caption in told])
    return _recalls(one, rows, texts, k, (relevant, relevant.T), "any")


def _by_bank(one: Scored, k: int) -> Measures | None:
    rows = _drawn(np.arange(len(one.predictions)), one.audit.question.seed, _MOST)
    bank = one.audit.data.bank.texts
    texts = [bank[i] for i in _drawn(np.arange(len(bank)), one.audit.question.seed, _TEXTS)]
    if len(texts) < 2:
        return None
    first = _scores(one.audit.data.test.embedding, one, rows, texts)
    return _recalls(one, rows, texts, k, (_top(first, k), _top(first.T, k)), "share")


def _recalls(
    one: Scored,
    rows: Int[np.ndarray, "row"],
    texts: list[str],
    k: int,
    relevant: tuple[Bool[np.ndarray, "row text"], Bool[np.ndarray, "text row"]],
    found: Literal["share", "any"],
) -> Measures:
    """Both directions, each with its change from zero-shot."""
    assert one.embedding is not None
    scores = _scores(one.embedding, one, rows, texts)
    before = None if one.before is None else _scores(one.audit.data.test.embedding, one, rows, texts)
    measured = []
    for wanted, turned in zip(relevant, (False, True), strict=True):
        baseline = before.T if before is not None and turned else before
        top = min(k, len(wanted))
        recall = retrieval_recall(
            scores.T if turned else scores,
            wanted,
            top,
            method=one.method,
            found=found,
            baseline=baseline,
            bootstrap=Bootstrap(one.draws, seed=one.audit.question.seed),
        )
        measured.append(only(recall, f"recall@{top}", "text" if turned else "image"))
    sizes = {"texts": len(texts), "images": len(rows)}
    return replace(joined(measured), sizes=sizes, small=tuple(name for name, size in sizes.items() if size < SMALL))


def _scores(
    embedding: Float[Tensor, "image embed"], one: Scored, rows: Int[np.ndarray, "row"], texts: list[str]
) -> Float[Tensor, "row text"]:
    """Cosines, since a correction may leave images of different lengths."""
    queries = normalize(one.audit.data.texts(texts).to(embedding), dim=-1)
    return normalize(embedding[torch.as_tensor(rows)], dim=-1) @ queries.T


def _top(scores: Float[Tensor, "item query"], k: int) -> Bool[np.ndarray, "item query"]:
    """Which items are among the k highest scored of each query; of equal ones the first, as recall has it."""
    order = np.argsort(-scores.cpu().numpy(), axis=0, kind="stable")[:k]
    inside = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(inside, order, True, axis=0)
    return inside


def _drawn(rows: Int[np.ndarray, "row"], seed: int, most: int) -> Int[np.ndarray, "drawn"]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
