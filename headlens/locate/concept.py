"""Heads that carry an attribute, by two tests without a probe: zero-shot concept vectors, and bias-augmented TextSpan.

*Concept vectors.*

1. The concept vector of an attribute with two values is u = unit(prototype 1 − prototype 0); with more values, one a
   value, unit(prototype − mean of the prototypes). The classes' subspace is projected out first where that is asked.
2. For each head: the share of its variance along u; the difference of the groups' mean projections on u, in pooled
   standard deviations, class by class where the classes are given and corrected for small groups; the probability
   that an image of the group projects higher than one of the rest (AUROC); and the head's part in the groups' distance,
   its difference of means over the sum of all heads' absolute ones.
3. A head is flagged where all four reach the thresholds of the rule, which stays with the result. The first three say
   that a head separates the groups; the fourth, that it moves the embedding by it, and in the direction in which the
   heads together move it.

*TextSpan.* Put the attribute after the general bank; choose each head's first k texts; flag the head where the
attribute is among them, explains enough, and more than random directions do. These have the bank's own mean and
covariance and the attribute's norm; one enters where it would have been chosen among the first k, and what it then
explains is compared: in a narrow head any direction may lie along what the head writes. Its place and the share of
variance that it explains are the score. The attribute enters in one of two forms: as its *prompts*, several a value,
each for itself (then what the values have in common competes too, and where a text tower hardly separates them a text
of the bank that names the same things wins); or as its *concept vectors*, in a bank that is centred and brought to unit
norm (`contrast_spans`): what is asked then is the difference of the values alone.

The candidates for an intervention are the heads that both tests flag.

After Yasser et al. 2026, *Locating Demographic Bias at the Attention-Head Level in CLIP's Vision Encoder* (arXiv
2603.11793); TextSpan: Gandelsman et al. 2024 (arXiv 2310.05916). The former's formulas are not public where this was
written: the scores, their combination, k and the thresholds are our reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.special import gammaln
from torch import Tensor

from headlens.errors import LocateError, TaskError, UnknownNameError
from headlens.heads import HeadId, HeadScores
from headlens.locate.located import Located
from headlens.locate.textspan import head_spans, row_space
from headlens.tables import Column, Kind

_DIRECTIONS = 500  # random ones behind a p-value of TextSpan
_COINCIDE = 1e-5  # of the prototypes' norm: two encodings of one text differ by rounding


@runtime_checkable
class HeadMoments(Protocol):
    """Mean and scatter of every head's z over a set of images (`headlens.states.Moments`)."""

    @property
    def count(self) -> int:
        """How many images."""
        ...

    @property
    def mean(self) -> Float[Tensor, "layer head d_head"]:
        """Their mean z."""
        ...

    @property
    def scatter(self) -> Float[Tensor, "layer head d_head d_head_too"]:
        """The sum of outer products of deviations from it."""
        ...


@dataclass(frozen=True)
class ConceptRule:
    """When a head is flagged as a carrier of the attribute: all four thresholds are reached.

    Attributes:
        minimum_share: of the head's variance along the concept vector; 0 leaves it out. An arbitrary direction of the
            joint space holds 1 / embed on average.
        minimum_difference: of the groups' means, in pooled standard deviations, either way.
        minimum_auroc: of the groups' separation, either way: max(AUROC, 1 − AUROC).
        minimum_part: of the distance that heads put between the groups, see `ConceptScores.part`. An early head may
            separate the groups as cleanly as a late one and yet hardly move the embedding, and a head whose part is
            negative works against the others: ablating it strengthens the bias.
    """

    minimum_share: float | int = 0.0
    minimum_difference: float | int = 0.8
    minimum_auroc: float | int = 0.7
    minimum_part: float | int = 0.02


@dataclass(frozen=True, eq=False)
class ConceptScores:
    """How much of an attribute each head carries. With more than two values, along the value that it separates best.

    Attributes:
        share: the share of the head's variance along the concept vector.
        difference: mean projection of the group less that of the rest, in pooled standard deviations, signed. The
            pooled variance is what classes and groups together do not account for, over n − classes − 1 degrees of
            freedom m, and the ratio is multiplied by Hedges' (1981) J(m), so that small groups do not enlarge it.
        gap: the same difference in the units of the contributions: how far the head itself moves the unit embedding
            along the concept vector. A head may separate the groups cleanly and yet hardly move anything: see `part`.
        auroc: the chance that an image of the group projects higher than one of the rest; a tie counts half.
        value: the group: 1 for two values, else the value whose concept vector separates best.
        directions: the concept vectors.
        sizes: labelled images of each value.
        rule: the rule.
        flagged: the heads that the rule names, largest part first.
    """

    share: Float[Tensor, "layer head"]
    difference: Float[Tensor, "layer head"]
    gap: Float[Tensor, "layer head"]
    auroc: Float[Tensor, "layer head"]
    value: Int[Tensor, "layer head"]
    directions: Float[Tensor, "direction embed"]
    sizes: tuple[int, ...]
    rule: ConceptRule
    flagged: tuple[HeadId, ...]

    @property
    def part(self) -> Float[Tensor, "layer head"]:
        """A head's gap over the sum of all heads' absolute gaps, positive where it agrees with the heads' sum.

        Each head's gap is taken along the value that it separates best; zero where no head moves anything.
        """
        return _part(self.gap)

    def scores(self, name: str = "part") -> HeadScores:
        """One of the scores as `HeadScores`, the flagged heads selected: "share", "difference", "gap" (both absolute),
        "part" or "auroc".

        Raises:
            LocateError: for another name.
        """
        known: dict[str, tuple[Tensor, float | int | None]] = {
            "share": (self.share, self.rule.minimum_share),
            "difference": (self.difference.abs(), self.rule.minimum_difference),
            "gap": (self.gap.abs(), None),  # its threshold is that of its part
            "part": (self.part, self.rule.minimum_part),  # the only one with a sign
            "auroc": (self.auroc, None),  # either end counts
        }
        if name not in known:
            raise UnknownNameError(f"There is no concept score {name!r}.", f"Choose one of {', '.join(known)}.")
        values, threshold = known[name]
        return HeadScores(f"concept {name}", values, None if threshold is None else float(threshold), self.flagged)

    def table(self) -> pd.DataFrame:
        """One row a head, largest part first: `head`, the scores, `flagged`."""
        columns = {
            "share": self.share, "difference": self.difference, "gap": self.gap, "part": self.part, "auroc": self.auroc
        }  # fmt: skip
        rows = [
            (str(h), *(float(values[h]) for values in columns.values()), h in self.flagged) for h, _ in self.scores()
        ]
        frame = pd.DataFrame(rows, columns=["head", *columns, "flagged"])
        return frame.sort_values("part", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def concept_directions(
    prototypes: Float[Tensor, "value embed"], classes: Float[Tensor, "class embed"] | None = None
) -> Float[Tensor, "direction embed"]:
    """The concept vectors of an attribute, of unit norm: one for two values, else one a value.

    Args:
        prototypes: `attribute.prototypes(encode_text)`, in the order of the values.
        classes: class embeddings whose span is projected out; what is left of the vector no class can use.

    Raises:
        TaskError: for one value, numbers that are not finite, values that coincide, or a vector that lies in the
            classes' span.
    """
    if prototypes.ndim != 2 or len(prototypes) < 2:
        raise TaskError(
            f"Prototypes of shape {list(prototypes.shape)} are not two rows or more.",
            "Give the attribute two values at least: what is asked is their difference.",
        )
    rows = prototypes.detach().double()
    if not bool(torch.isfinite(rows).all()):
        raise TaskError("Some prototypes are NaN or infinite.", "Check the prompts' embeddings.")
    raw = rows[1:] - rows[:1] if len(rows) == 2 else rows - rows.mean(0)
    size = rows.norm(dim=1).max()
    distances = torch.cdist(rows, rows) + torch.eye(len(rows)).to(rows) * size
    if bool((distances <= _COINCIDE * size).any()):
        first, second = (distances <= _COINCIDE * size).nonzero()[0].tolist()
        raise TaskError(
            f"The embeddings of values {first} and {second} coincide.",
            "Describe them by prompts that the model distinguishes.",
        )
    left = raw
    if classes is not None:
        if classes.shape[1:] != rows.shape[1:]:
            raise TaskError(
                f"Class embeddings of shape {list(classes.shape)} are not {rows.shape[1]} wide, as the prototypes are.",
                "Embed both with the same model.",
            )
        _, values, axes = torch.linalg.svd(classes.detach().double(), full_matrices=False)
        span = axes[values > 1e-6 * values.max()]
        left = raw - raw @ span.mT @ span
    norms = left.norm(dim=1, keepdim=True)
    lost = norms[:, 0] <= 1e-6 * size
    if bool(lost.any()):
        raise TaskError(
            f"Nothing is left of concept vector {int(lost.nonzero()[0, 0])} outside the classes' span.",
            "Do not project the classes out, or describe the values by other prompts.",
        )
    return (left / norms).to(prototypes.dtype)


def head_variance(moments: HeadMoments, basis: Any) -> Float[Tensor, "layer head"]:
    """The total variance of every head's contributions, tr(Bᵀ Σ B), from moments and `store.basis`."""
    return basis.variance(moments.scatter) / moments.count


def concept_scores(
    projections: Float[Tensor, "image layer head direction"],
    groups: Int[Tensor, "image"],
    variance: Float[Tensor, "layer head"],
    directions: Float[Tensor, "direction embed"],
    rule: ConceptRule | None = None,
    classes: Int[Tensor, "image"] | None = None,
) -> ConceptScores:
    """Score every head's hold on an attribute, and flag those that the rule names.

    Args:
        projections: `store.project(directions)`.
        groups: the value of each image, counted from 0 as the prototypes; −1 where it is not labelled.
        variance: every head's total variance over these images, `head_variance(moments, store.basis)`.
        directions: `concept_directions(prototypes)`.
        rule: the thresholds.
        classes: the true class of each image, as an index. With it groups are compared within classes: in each class
            the midpoint of the groups' means is taken off first, so that a head that distinguishes the classes is not
            taken for a carrier of an attribute that goes together with them. A class that lacks a group counts for
            nothing but the variance.

    Raises:
        LocateError: for shapes that disagree, numbers that are not finite, a group number that no value has, or a value
            with fewer than two images.

    Limits: where the groups were inferred zero-shot with the same prompts, they agree with the concept vector by
    construction, and difference and AUROC are too high. A direction that the attribute shares with something else in
    the data flags the heads of both. Scores describe the projection; only an intervention shows that it matters.
    """
    rule = rule or ConceptRule()
    n_values = 2 if len(directions) == 1 else len(directions)
    sizes = _check(projections, groups, variance, directions, classes, n_values)
    flat = projections.detach().cpu().double().numpy()
    labelled = groups.detach().cpu().numpy()
    every = flat.var(axis=0)
    total = variance.detach().cpu().double().numpy()[..., None]
    share = np.divide(every, total, out=np.zeros_like(every), where=total > 0)
    strata = np.zeros_like(labelled) if classes is None else classes.detach().cpu().numpy()
    flat, strata, labelled = flat[labelled >= 0], strata[labelled >= 0], labelled[labelled >= 0]
    differences, gaps, areas = [], [], []
    for direction in range(len(directions)):
        inside = labelled == (1 if n_values == 2 else direction)
        along, inside, kept = _within_strata(flat[..., direction], inside, strata)
        differences.append(_standardised(along, inside, kept))
        gaps.append(along[inside].mean(axis=0) - along[~inside].mean(axis=0))
        areas.append(_area(along, inside))
    scores = [share, *(np.stack(parts, -1) for parts in (differences, gaps, areas))]
    best = np.abs(scores[1]).argmax(axis=-1)[..., None]
    share, difference, gap, auroc = (np.take_along_axis(values, best, -1)[..., 0] for values in scores)
    gaps_of_heads = torch.from_numpy(gap)
    reached = (
        (_part(gaps_of_heads).numpy() >= rule.minimum_part)
        & (gap != 0)
        & (share >= rule.minimum_share)
        & (np.abs(difference) >= rule.minimum_difference)
        & (np.maximum(auroc, 1 - auroc) >= rule.minimum_auroc)
    )
    named = [HeadId(int(i), int(j)) for i, j in np.argwhere(reached)]
    return ConceptScores(
        share=torch.from_numpy(share),
        difference=torch.from_numpy(difference),
        gap=gaps_of_heads,
        auroc=torch.from_numpy(auroc),
        value=torch.from_numpy(np.ones_like(best[..., 0]) if n_values == 2 else best[..., 0]),
        directions=directions,
        sizes=sizes,
        rule=rule,
        flagged=tuple(sorted(named, key=lambda h: (-abs(float(gap[h])), h))),
    )


def _check(
    projections: Tensor,
    groups: Tensor,
    variance: Tensor,
    directions: Tensor,
    classes: Tensor | None,
    n_values: int,
) -> tuple[int, ...]:
    if classes is not None and len(classes) != len(groups):
        raise LocateError(
            f"There are {len(classes)} classes for {len(groups)} images.", "Take both from the same images."
        )
    expected = (len(groups), *variance.shape, len(directions))
    if tuple(projections.shape) != expected:
        raise LocateError(
            f"Projections of shape {list(projections.shape)} are not {list(expected)}: images, layers, heads, concept "
            "vectors.",
            "Take projections, groups and variance from the same images, with the same concept vectors.",
        )
    for name, values in (("projections", projections), ("variances", variance)):
        if not bool(torch.isfinite(values).all()):
            raise LocateError(f"Some {name} are NaN or infinite.", "Find and leave out what made them.")
    if len(groups) and not -1 <= int(groups.min()) <= int(groups.max()) < n_values:
        raise LocateError(
            f"Values run from {int(groups.min())} to {int(groups.max())}, not from 0 to {n_values - 1}.",
            "Count the values in the order of the attribute's prototypes, with -1 for images without a label.",
        )
    sizes = tuple(int((groups == value).sum()) for value in range(n_values))
    for value, size in enumerate(sizes):
        if size < 2:
            raise LocateError(
                f"Value {value} has {size} of the two images that each value needs.",
                "Take images of every group, or leave this value out of the attribute.",
            )
    return sizes


def _part(gap: Float[Tensor, "layer head"]) -> Float[Tensor, "layer head"]:
    whole = gap.abs().sum()
    agreeing = gap if float(gap.sum()) >= 0 else -gap
    return agreeing / whole if float(whole) > 0 else torch.zeros_like(gap)


def _within_strata(
    along: np.ndarray, inside: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projections less the midpoint of the two groups' means in their stratum, which are inside, and the strata; strata
    with one group left out."""
    if len(np.unique(strata)) == 1:
        return along, inside, strata
    parts, members, kept = [], [], []
    for stratum in np.unique(strata):
        here, group = along[strata == stratum], inside[strata == stratum]
        if group.any() and not group.all():
            parts.append(here - (here[group].mean(axis=0) + here[~group].mean(axis=0)) / 2)
            members.append(group)
            kept.append(np.full(len(group), stratum))
    if not parts:
        raise LocateError(
            f"None of {len(np.unique(strata))} classes has images of both groups.",
            "Attribute and class cannot be distinguished on these images: add others, or leave the classes out.",
        )
    return np.concatenate(parts), np.concatenate(members), np.concatenate(kept)


def _standardised(along: np.ndarray, inside: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """The difference of means in pooled standard deviations, corrected for small groups; 0 where nothing varies, or
    there is too little to know how much.

    The residual squares of the model stratum + group are those within cells and Σ w_c (d_c − d̄)², d_c the difference in
    stratum c and w_c = 1 / (1/n_1c + 1/n_0c).
    """
    squares, steps, weights = np.zeros(along.shape[1:]), [], []
    for stratum in np.unique(strata):
        cells = [along[(strata == stratum) & side] for side in (inside, ~inside)]
        squares += sum(cell.var(axis=0) * len(cell) for cell in cells)
        steps.append(cells[0].mean(axis=0) - cells[1].mean(axis=0))
        weights.append(1 / sum(1 / len(cell) for cell in cells))
    mean = np.average(steps, axis=0, weights=weights)
    squares += np.tensordot(weights, (np.stack(steps) - mean) ** 2, axes=1)
    freedom = len(along) - len(weights) - 1
    step = along[inside].mean(axis=0) - along[~inside].mean(axis=0)
    if freedom < 2:
        return np.zeros_like(step)
    pooled = np.sqrt(squares / freedom)
    apart = np.where(np.abs(step) > 1e-12, np.copysign(np.inf, step), 0.0)
    return hedges_factor(freedom) * np.divide(step, pooled, out=apart, where=pooled > 1e-12 * np.abs(step))


def hedges_factor(freedom: int) -> float:
    """J(m) = Γ(m / 2) / (√(m / 2) Γ((m − 1) / 2)), which takes the bias out of a difference in standard deviations that
    were estimated with m degrees of freedom (Hedges 1981)."""
    return float(np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2))


def _area(along: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The Mann-Whitney statistic over the number of pairs, all heads at once: a tie counts half."""
    by_head = (np.ascontiguousarray(np.moveaxis(along[side], 0, -1)) for side in (inside, ~inside))
    group, others = (torch.from_numpy(np.sort(values)) for values in by_head)
    below = torch.searchsorted(others, group) + torch.searchsorted(others, group, right=True)
    return np.asarray(below.double().mean(-1) / (2 * others.shape[-1]))


# ---- bias-augmented TextSpan ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConceptSpans:
    """Where an attribute's prompts come among each head's texts.

    Attributes:
        place: of the first prompt among the head's texts, counted from 1; 0 where none was chosen.
        share: the share of the head's variance that the chosen prompts explain together.
        prompt: which prompt came first, as a row of the prompts; −1 where none was chosen.
        first: k, how many texts were chosen a head.
        minimum_share: what the prompts have to explain for a head to be flagged.
        n_bank: how many texts they competed with.
        form: how the attribute entered: as its "prompts", or as its concept "vectors".
        p: (1 + random directions that explain as much as the prompts) / (1 + random directions) of a head with a
            prompt; 1 for the others, None where it was not asked.
        maximum_p: of a flagged head.
        flagged: the heads with a prompt among their first k, largest share first.
    """

    place: Int[Tensor, "layer head"]
    share: Float[Tensor, "layer head"]
    prompt: Int[Tensor, "layer head"]
    first: int
    minimum_share: float | int
    n_bank: int
    flagged: tuple[HeadId, ...]
    form: Literal["prompts", "vectors"] = "prompts"
    p: Float[Tensor, "layer head"] | None = None
    maximum_p: float | int = 1.0

    def scores(self) -> HeadScores:
        """The share as `HeadScores`, the flagged heads selected."""
        return HeadScores("share of attribute prompts", self.share, float(self.minimum_share), self.flagged)

    def table(self) -> pd.DataFrame:
        """One row for each head with a prompt, largest share first: `head`, `place`, `prompt`, `share`, `p`,
        `flagged`."""
        p = torch.full_like(self.share, torch.nan) if self.p is None else self.p
        rows = [
            (str(h), int(self.place[h]), int(self.prompt[h]), share, float(p[h]), h in self.flagged)
            for h, share in self.scores()
            if int(self.place[h])
        ]
        frame = pd.DataFrame(rows, columns=["head", "place", "prompt", "share", "p", "flagged"])
        return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def concept_spans(
    moments: HeadMoments,
    basis: Any,
    bank: Float[Tensor, "text embed"],
    prompts: Float[Tensor, "prompt embed"],
    first: int = 5,
    minimum_share: float | int = 0.0,
    rank: int | None = None,
    maximum_p: float | int = 0.05,
) -> ConceptSpans:
    """Let an attribute's prompts compete with a bank for every head's variance.

    Args:
        moments: of the images' heads, `headlens.states.head_moments(store)`.
        basis: `store.basis`.
        bank: the general texts' embeddings, not normalised.
        prompts: the embeddings of all of the attribute's prompts, not normalised either: TextSpan prefers the longer of
            two like texts, so that a mean of several prompts, which is shorter, would compete at a loss.
        first: k.
        minimum_share: what the prompts have to explain together; with 0 being chosen is enough.
        rank: as in `headlens.explain.textspan_heads`.
        maximum_p: of a flagged head against 500 random directions; 1 for no such test.

    Raises:
        TaskError: for prompts of another width than the bank, or none.
        ExplainError: as `textspan_heads` does.

    Limits: a bank that describes the attribute too (a general bank holds 'a photo of a woman') competes with the
    prompts and may win; leave such texts out. A prompt chosen late in a wide head explains little: see `share`.
    """
    if prompts.ndim != 2 or bank.ndim != 2 or len(prompts) == 0 or prompts.shape[1] != bank.shape[1]:
        raise TaskError(
            f"Prompts {list(prompts.shape)} and bank {list(bank.shape)} are not embedded alike, one text a row.",
            "Embed both with clip.encode_text.",
        )
    n_layers, n_heads = moments.mean.shape[:2]
    texts = torch.cat([bank, prompts.to(bank)])
    mean, scatter = moments.mean.flatten(0, 1), moments.scatter.flatten(0, 1)
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    spans = [
        span
        for where, weights in basis.in_parts(heads)
        for span in head_spans(weights, mean[where], scatter[where] / moments.count, texts, first, rank)
    ]
    place = torch.zeros(n_layers * n_heads, dtype=torch.long)
    prompt = torch.full_like(place, -1)
    share = torch.zeros(n_layers * n_heads, dtype=torch.float64)
    for head, span in enumerate(spans):
        ours = span.texts >= len(bank)
        share[head] = span.share[ours].sum()
        if bool(ours.any()):
            at = int(ours.nonzero()[0, 0])
            place[head], prompt[head] = at + 1, int(span.texts[at]) - len(bank)
    p = torch.ones_like(share)
    chosen = [head for head in place.nonzero()[:, 0].tolist() if float(share[head]) >= minimum_share]
    rows = _as_rows(bank, prompts)
    for head in chosen:
        weights = next(basis.in_parts([heads[head]]))[1]
        p[head] = _against_directions(weights, mean[head], scatter[head] / moments.count, bank, rows, first, rank)
    passed = (place > 0) & (share >= minimum_share) & (p <= maximum_p)
    named = passed.view(n_layers, n_heads).nonzero().tolist()
    share = share.view(n_layers, n_heads)
    flagged = sorted((HeadId(int(i), int(j)) for i, j in named), key=lambda h: (-float(share[h]), h))
    return ConceptSpans(
        place.view(n_layers, n_heads),
        share,
        prompt.view(n_layers, n_heads),
        first,
        minimum_share,
        len(bank),
        tuple(flagged),
        p=p.view(n_layers, n_heads),
        maximum_p=maximum_p,
    )


def _as_rows(
    bank: Float[Tensor, "text embed"], prompts: Float[Tensor, "prompt embed"]
) -> Float[Tensor, "draw prompt embed"]:
    """The prompts, and 500 random sets of directions with the bank's mean and covariance and the prompts' norms."""
    generator, texts = np.random.default_rng(29), bank.detach().double()
    mean = texts.mean(dim=0)
    mixed = torch.from_numpy(generator.standard_normal((_DIRECTIONS * len(prompts), len(texts)))) @ (texts - mean)
    drawn = mean + (mixed / max(1, len(texts) - 1) ** 0.5).view(_DIRECTIONS, len(prompts), -1)
    own = prompts.detach().double()
    drawn = drawn * (own.norm(dim=1, keepdim=True) / drawn.norm(dim=2, keepdim=True).clamp_min(1e-300))
    return torch.cat([own[None], drawn])


def _against_directions(
    weights: Float[Tensor, "1 d_head embed"],
    mean: Float[Tensor, "d_head"],
    covariance: Float[Tensor, "d_head d_head_too"],
    bank: Float[Tensor, "text embed"],
    rows: Float[Tensor, "draw prompt embed"],
    first: int,
    rank: int | None,
) -> float:
    """p of the first set of rows among the others, by what those rows explain that enter among the first texts.

    A row enters at the first step at which what is left of it varies more than what is left of the text that the bank
    alone would choose; it then explains the variance along its direction.
    """
    head = weights.detach().double(), mean[None].double(), covariance[None].double()
    (span,) = head_spans(*head, bank, first, rank)
    axes, spread, total = (part[0] for part in row_space(*head, rank))
    texts, taken = bank.detach().double()[span.texts] @ axes.mT, span.directions @ axes.mT
    left, explained = rows @ axes.mT, rows.new_zeros(rows.shape[:2])
    waiting = torch.ones_like(explained, dtype=torch.bool)
    for step in range(len(span)):
        before = taken[:step]
        text = texts[step] - texts[step] @ before.mT @ before
        rest = left - left @ before.mT @ before
        varies = (rest @ spread * rest).sum(-1)
        enters = waiting & (varies >= text @ spread @ text)
        share = varies / rest.square().sum(-1).clamp_min(1e-300) / total
        explained = torch.where(enters, share, explained)
        waiting &= ~enters
    found = explained.sum(-1)
    reached = int((found[1:] >= found[0] * (1 - 1e-9)).sum())
    return (1 + reached) / len(found)


def contrast_spans(
    moments: HeadMoments,
    basis: Any,
    bank: Float[Tensor, "text embed"],
    directions: Float[Tensor, "direction embed"],
    first: int = 5,
    minimum_share: float | int = 0.0,
    rank: int | None = None,
    maximum_p: float | int = 0.05,
) -> ConceptSpans:
    """The same with the attribute's concept vectors, in a bank without its mean and of unit norm.

    Args:
        moments: of the images' heads.
        basis: `store.basis`.
        bank: the general texts' embeddings.
        directions: `concept_directions(prototypes)`, of unit norm.
        first: k.
        minimum_share: what the concept vectors have to explain together.
        rank: as in `headlens.explain.textspan_heads`.
        maximum_p: as in `concept_spans`.

    Raises:
        TaskError: for vectors of another width than the bank, or none, and for a bank whose texts all coincide.
        ExplainError: as `textspan_heads` does.
    """
    centred = bank - bank.mean(dim=0)
    sizes = centred.norm(dim=1)
    if len(bank) and not bool((sizes > 0).any()):
        raise TaskError(f"All {len(bank)} texts of the bank have one embedding.", "Use a bank of different texts.")
    apart = centred[sizes > 0] / sizes[sizes > 0][:, None]
    found = concept_spans(moments, basis, apart, directions, first, minimum_share, rank, maximum_p)
    return replace(found, form="vectors")


# ---- both tests -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Candidates(Located):
    """Heads to intervene on, with the scores behind them. A candidate has the role of a spurious head: what corrections
    ablate. Concept tests name no salient heads.

    Attributes:
        concept: the concept scores, where that test was made.
        spans: the bias-augmented TextSpan, where that test was made.
    """

    concept: ConceptScores | None = None
    spans: ConceptSpans | None = None

    def scores(self) -> HeadScores:
        """The scores to draw: each head's part in the concept test, else the share of the attribute in TextSpan.

        Raises:
            LocateError: where neither test was made.
        """
        own = self.concept if self.concept is not None else self.spans
        if own is None:
            return super().scores()
        scores = own.scores()
        return HeadScores(scores.name, scores.values, scores.threshold, self.spurious)

    def table(self) -> pd.DataFrame:
        """One row for each head that a test flags: `head`, the tests' scores, `candidate`."""
        frames = []
        if self.concept is not None:
            frames.append(self.concept.table().set_index("head").rename(columns={"flagged": "by concept"}))
        if self.spans is not None:
            own = self.spans.table().set_index("head")[["place", "share", "flagged"]]
            frames.append(own.rename(columns={"share": "prompts' share", "flagged": "by TextSpan"}))
        if not frames:
            return super().table()
        frame = pd.concat(frames, axis=1) if len(frames) > 1 else frames[0]
        for column in ("by concept", "by TextSpan"):
            if column in frame:
                frame[column] = frame[column].eq(True)
        flagged = frame[[c for c in ("by concept", "by TextSpan") if c in frame]].any(axis=1)
        frame = frame[flagged].rename_axis("head").reset_index()
        frame["candidate"] = frame["head"].isin([str(head) for head in self.spurious])
        return frame

    def _columns(self) -> Mapping[str, Kind | Column]:
        concept: dict[str, Kind | Column] = {
            "part": Column("percent", "part of distance"),
            "difference": Column("change", "difference, st. dev."),
            "auroc": Column("number", "AUROC"),
            "share": Column("percent", "variance along vector"),
        }
        spans: dict[str, Kind | Column] = {
            "place": Column("count", "place among texts"),
            "prompts' share": Column("percent", "variance explained"),
        }
        flags: dict[str, Kind | Column] = {
            **({} if self.concept is None else {"by concept": Column("text", "by concept vectors")}),
            **({} if self.spans is None else {"by TextSpan": "text"}),
        }
        tests = (concept if self.concept is not None else {}) | (spans if self.spans is not None else {})
        return {"head": "head", "candidate": "text", **tests, **flags} if flags else {}


def concept_candidates(scores: ConceptScores, spans: ConceptSpans) -> tuple[HeadId, ...]:
    """The heads that both tests flag, in the order of the concept scores. Both rules stay in the results.

    Raises:
        LocateError: for results of towers of different shapes.
    """
    if scores.share.shape != spans.share.shape:
        raise LocateError(
            f"The tests are about towers of {list(scores.share.shape)} and {list(spans.share.shape)} layers and heads.",
            "Take both from the same store.",
        )
    return tuple(head for head in scores.flagged if head in spans.flagged)
