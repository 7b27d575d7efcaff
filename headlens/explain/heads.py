"""Explain every head of a store by a text bank, and say how far to trust the explanations.

Steps: the poles of every head, tested together (`headlens.explain.poles`); its TextSpan from its moments, beside that
of random directions with the bank's mean and covariance; how many heads chose each text; the same with two halves of
the bank (drawn within its categories); the same with bootstrap samples of the images. A bootstrap sample draws whole
parts of the images, so that it is a merge of moments: no image is read again (a block bootstrap with random blocks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import ExplainError
from headlens.explain.explanation import Explanation, shares_by_category
from headlens.explain.label import LabelRule
from headlens.explain.poles import PoleSearch
from headlens.explain.textspan import moments_of
from headlens.extraction import HeadStore
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.locate.textspan import TextSpan, check_bank, project_texts
from headlens.manifest import cluster_indices
from headlens.progress import progress
from headlens.states import HeadBasis, Moments, group_moments, merge_all

_PARTS = 20
_FIRST = 3  # texts that random directions are compared with: more of them span a narrow head whatever they are


@runtime_checkable
class Bank(Protocol):
    """Texts with a category each, such as `headlens.prompts.bank.TextBank`."""

    @property
    def texts(self) -> Sequence[str]:
        """The texts."""
        ...

    @property
    def categories(self) -> Sequence[str]:
        """The category of each text."""
        ...


def explain_heads(
    source: HeadStore | Moments,
    bank: Bank,
    embeddings: Float[Tensor, "text embed"],
    count: int = 20,
    rank: int | None = None,
    heads: Iterable[HeadLike] | None = None,
    *,
    basis: HeadBasis | None = None,
    held_out: HeadStore | None = None,
    parts: Sequence[Moments] | None = None,
    draws: int = 5,
    seed: int = 0,
    rule: LabelRule | None = None,
) -> dict[HeadId, Explanation]:
    """The explanation of every head.

    Args:
        source: a store, or the moments of one.
        bank: texts and their categories.
        embeddings: of the texts, not normalised: `clip.encode_text(list(bank.texts))`.
        count: how many texts a head.
        rank: as in `textspan`.
        heads: the heads to explain; all by default. Uniqueness is among these.
        basis: `store.basis`, where moments are given.
        held_out: images that are not among the source's, on which labels have to predict the heads, such as
            `store.subset(split="test")`; without them poles are tested by where their texts lie alone.
        parts: moments of random parts of the images, for the bootstrap; a store makes its own, see `image_parts`.
        draws: bootstrap samples of the images; 0 leaves that stability out. Each costs as much as the explanation.
        seed: of every draw.
        rule: of the labels.

    Raises:
        ExplainError: for as many texts, categories or embeddings as there are not of the others, fewer than no draws,
            and as `textspan_heads` does.
        LocateError: for a head outside the tower.
    """
    texts, categories = tuple(bank.texts), tuple(bank.categories)
    if not len(texts) == len(categories) == len(embeddings):
        raise ExplainError(
            "as many embeddings and categories as texts",
            f"{len(texts)} texts, {len(categories)} categories, {len(embeddings)} embeddings",
            "Embed the bank's texts in their order.",
        )
    if draws < 0:
        raise ExplainError("0 draws or more", str(draws), "Pass draws=0 to leave the images' stability out.")
    if parts is None and isinstance(source, HeadStore) and draws and len(source) >= 4:
        parts = image_parts(source, seed=seed)
    if parts and isinstance(source, HeadStore):
        moments, basis = moments_of(merge_all(parts), basis or source.basis)
    else:
        moments, basis = moments_of(source, basis)
    check_bank(embeddings, basis.shape[-1], count)
    n_layers, n_heads = moments.mean.shape[:2]
    chosen = as_heads(heads, n_layers, n_heads)
    halves = _halves(categories, seed)
    search = PoleSearch(
        (texts, categories, embeddings),
        len(chosen),
        chosen_on=source if isinstance(source, HeadStore) else None,
        held_out=held_out,
        rule=rule,
        seed=seed,
    )
    samples = list(_resampled(parts, draws, seed)) if parts else []
    normal = torch.randn(basis.shape[2], len(texts), generator=torch.Generator().manual_seed(seed))
    spans: dict[HeadId, TextSpan] = {}
    chance: dict[HeadId, tuple[float, ...]] = {}
    along: dict[HeadId, Tensor] = {}
    again: dict[HeadId, tuple[float, ...]] = {}
    profiles: dict[HeadId, list[dict[str, float]]] = {}
    with progress("Explaining heads", len(chosen), "heads") as advance:
        for where, weights in basis.in_parts(chosen):
            at = _at(chosen[where])
            covariance = moments.scatter[at] / moments.count
            heads_left = iter(chosen[where])
            for few in project_texts(weights, moments.mean[at], covariance, embeddings.to(weights.device)):
                group = list(islice(heads_left, len(few.total)))
                spans |= dict(zip(group, few.spans(count, rank), strict=True))
                random = few.chance(normal.to(weights.device), min(_FIRST, count))
                chance |= dict(zip(group, map(tuple, random.tolist()), strict=True))
                along |= dict(zip(group, few.shares().cpu(), strict=True))
                of_halves = [few.spans(min(count, len(half)), rank, half.to(weights.device)) for half in halves]
                profiles |= {
                    head: [
                        shares_by_category(tuple(categories[j] for j in one.texts.tolist()), _of_explained(one))
                        for one in of_head
                    ]
                    for head, *of_head in zip(group, *of_halves, strict=True)
                }
                places = _at(group)
                times = [
                    few.under(sample.mean[places], sample.scatter[places] / sample.count).spans(count, rank)
                    for sample in samples
                ]
                for i, head in enumerate(group):
                    search.add(head, few, i)
                    if samples:
                        counted = Counter(j for sample in times for j in sample[i].texts.tolist())
                        again[head] = tuple(counted[j] / draws for j in spans[head].texts.tolist())
                advance(len(group))
    poles = search.found()
    shared = Counter(text for span in spans.values() for text in span.texts.tolist())
    in_bank = {name: number / len(texts) for name, number in Counter(categories).items()}
    return {
        head: Explanation(
            head=head,
            span=span,
            texts=tuple(texts[i] for i in span.texts.tolist()),
            categories=tuple(categories[i] for i in span.texts.tolist()),
            shared=tuple(shared[i] for i in span.texts.tolist()),
            n_heads=len(spans),
            bank=in_bank,
            again=again.get(head),
            bank_stability=_overlap(*profiles[head]) if len(profiles[head]) == 2 else None,
            rule=search.rule,
            poles=poles[head],
            chance=chance[head],
            along=along[head],
        )
        for head, span in spans.items()
    }


def _at(heads: Sequence[HeadId]) -> tuple[list[int], list[int]]:
    """Heads as an index of layers and places."""
    return [head.layer for head in heads], [head.head for head in heads]


def image_parts(store: HeadStore, parts: int = _PARTS, seed: int = 0) -> list[Moments]:
    """The moments of random parts of a store's images, as equal in size as they can be, in one pass; images of one
    cluster are in one part."""
    clusters = cluster_indices(store.manifest)
    _, unit = np.unique(np.arange(len(store)) if clusters is None else clusters, return_inverse=True)
    units = int(unit.max()) + 1
    names = np.random.default_rng([seed, 0]).permutation(np.arange(units) % min(parts, units))
    return list(group_moments(store, names[unit]).values())


def _resampled(parts: Sequence[Moments], draws: int, seed: int) -> Iterator[Moments]:
    """Moments of bootstrap samples of the parts."""
    generator = np.random.default_rng([seed, 1])
    for _ in range(draws):
        yield merge_all(parts[i] for i in generator.integers(0, len(parts), len(parts)))


def _halves(categories: Sequence[str], seed: int) -> list[Int[Tensor, "half"]]:
    """The places of two halves of the bank, with half of every category each; none where there are no two texts."""
    generator = np.random.default_rng([seed, 2])
    shuffled = generator.permutation(len(categories)).tolist()
    ordered = sorted(shuffled, key=lambda i: categories[i])  # stable: shuffled within a category
    halves = [sorted(ordered[0::2]), sorted(ordered[1::2])]
    return [torch.tensor(half) for half in halves] if all(halves) else []


def _of_explained(span: TextSpan) -> tuple[float, ...]:
    explained = span.explained
    return tuple(float(value) / explained for value in span.share) if explained > 0 else (0.0,) * len(span)


def _overlap(one: dict[str, float], other: dict[str, float]) -> float | None:
    if not one or not other:
        return None
    return float(sum(min(value, other.get(name, 0.0)) for name, value in one.items()))
