"""Heads that carry an attribute, by zero-shot concept vectors: no probe is trained and no label is needed for them.

Steps:

1. The concept vector of an attribute with two values is u = unit(prototype 1 − prototype 0); with more values, one a
   value, unit(prototype − mean of the prototypes). The classes' subspace is projected out first where that is asked.
2. For each head: the share of its variance along u; the difference of the groups' mean projections on u, in pooled
   standard deviations, class by class where the classes are given; the probability that an image of the group projects
   higher than one of the rest (AUROC); and the head's part in the groups' distance, its difference of means over the
   sum of all heads' absolute ones.
3. A head is flagged where all four reach the thresholds of the rule, which stays with the result. The first three say
   that a head separates the groups; the fourth, that it moves the embedding by it, and in the direction in which the
   heads together move it.

After Yasser et al. 2026, *Locating Demographic Bias at the Attention-Head Level in CLIP's Vision Encoder* (arXiv
2603.11793). Its formulas are not public where this was written: the scores, their combination and the thresholds are
our reading. `headlens.locate.concept_span` holds the second test, and the heads that both flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError, TaskError
from headlens.heads import HeadId, HeadScores
from headlens.locate.separation import area, standardised, within_strata

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
        difference: mean projection of the group less that of the rest, in pooled standard deviations, signed.
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
            raise LocateError(f"one of the scores {', '.join(known)}", repr(name), "Choose one of these.")
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
            "prototypes of two values or more, as rows", f"shape {list(prototypes.shape)}", "Add what it is told from."
        )
    rows = prototypes.detach().double()
    if not bool(torch.isfinite(rows).all()):
        raise TaskError("prototypes that are all finite", "NaN or infinity", "Check the prompts' embeddings.")
    raw = rows[1:] - rows[:1] if len(rows) == 2 else rows - rows.mean(0)
    size = rows.norm(dim=1).max()
    distances = torch.cdist(rows, rows) + torch.eye(len(rows)).to(rows) * size
    if bool((distances <= _COINCIDE * size).any()):
        first, second = (distances <= _COINCIDE * size).nonzero()[0].tolist()
        raise TaskError(
            "values whose embeddings differ",
            f"values {first} and {second}, which coincide",
            "Describe them by prompts that the model tells apart.",
        )
    left = raw
    if classes is not None:
        if classes.shape[1:] != rows.shape[1:]:
            raise TaskError(
                f"class embeddings of width {rows.shape[1]}", f"shape {list(classes.shape)}", "Use the same model."
            )
        _, values, axes = torch.linalg.svd(classes.detach().double(), full_matrices=False)
        span = axes[values > 1e-6 * values.max()]
        left = raw - raw @ span.mT @ span
    norms = left.norm(dim=1, keepdim=True)
    lost = norms[:, 0] <= 1e-6 * size
    if bool(lost.any()):
        raise TaskError(
            "a concept vector that is more than a mixture of the others and the classes",
            f"none left of vector {int(lost.nonzero()[0, 0])}",
            "Leave the classes in, or describe the values by other prompts.",
        )
    return (left / norms).to(prototypes.dtype)


def head_variance(moments: HeadMoments, basis: Any) -> Float[Tensor, "layer head"]:
    """The total variance of every head's contributions, tr(Bᵀ Σ B), from moments and `store.basis`."""
    weights = basis.B.double()
    return (moments.scatter * (weights @ weights.mT)).sum((2, 3)) / moments.count


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
            the midpoint of the groups' means is taken off first, so that a head that tells the classes apart is not
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
        along, inside = within_strata(flat[..., direction], inside, strata)
        differences.append(standardised(along[inside], along[~inside]))
        gaps.append(along[inside].mean(axis=0) - along[~inside].mean(axis=0))
        areas.append(area(along, inside))
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
        raise LocateError(f"{len(groups)} classes, one an image", f"{len(classes)}", "Take both from the same images.")
    expected = (len(groups), *variance.shape, len(directions))
    if tuple(projections.shape) != expected:
        raise LocateError(
            f"projections of shape {list(expected)}: images, layers, heads, concept vectors",
            f"{list(projections.shape)}",
            "Take projections, groups and variance from the same images, with the same concept vectors.",
        )
    for name, values in (("projections", projections), ("variances", variance)):
        if not bool(torch.isfinite(values).all()):
            raise LocateError(f"{name} that are all finite", "NaN or infinity", "Find and leave out what made them.")
    if len(groups) and not -1 <= int(groups.min()) <= int(groups.max()) < n_values:
        raise LocateError(
            f"values from 0 to {n_values - 1}, or -1 for images without a label",
            f"{int(groups.min())} to {int(groups.max())}",
            "Count the values in the order of the attribute's prototypes.",
        )
    sizes = tuple(int((groups == value).sum()) for value in range(n_values))
    for value, size in enumerate(sizes):
        if size < 2:
            raise LocateError(
                "two images or more of each value",
                f"{size} of value {value}",
                "Take images of every group, or leave this value out of the attribute.",
            )
    return sizes


def _part(gap: Float[Tensor, "layer head"]) -> Float[Tensor, "layer head"]:
    whole = gap.abs().sum()
    agreeing = gap if float(gap.sum()) >= 0 else -gap
    return agreeing / whole if float(whole) > 0 else torch.zeros_like(gap)
