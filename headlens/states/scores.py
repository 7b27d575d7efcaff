"""What moments say of a head's hold on an attribute: the scores of `locate.concept_scores` that need no rows.

For a head with moments over images and a direction t, the projections z B t have the mean m·Bt and the variance
tᵀBᵀΣBt. Between the images of a value (n₁, mean m₁, variance v₁) and the others (n₀, m₀, v₀):

    difference = J(m) (m₁ − m₀) / sqrt((n₁v₁ + n₀v₀) / m),  m = n₁ + n₀ − 2,  J as Hedges (1981),    gap = m₁ − m₀,
    share = the variance along t of all images / the head's whole variance.

The AUROC depends on the order of single images: it needs a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from headlens.errors import StoreError
from headlens.locate.concept import hedges_factor
from headlens.states.basis import HeadBasis
from headlens.states.moments import Moments, merge_all


@dataclass(frozen=True, eq=False)
class MomentScores:
    """How far the images of a value lie from the others along each direction, for every head.

    Attributes:
        share: of the head's variance over all images.
        difference: of the means, in pooled standard deviations; 0 where nothing varies.
        gap: of the means, in the units of the contributions.
        sizes: labelled images of each value, in the order that was asked for.
    """

    share: Float[Tensor, "layer head direction"]
    difference: Float[Tensor, "layer head direction"]
    gap: Float[Tensor, "layer head direction"]
    sizes: tuple[int, ...]


def moment_scores(
    everything: Moments, groups: Sequence[Moments], basis: HeadBasis, directions: Float[Tensor, "direction embed"]
) -> MomentScores:
    """Share, difference and gap of every head along concept vectors, from the moments of each value's images.

    Args:
        everything: moments of all images; those without a value count for `share` alone.
        groups: moments of the images of each value.
        basis: the weights that z is read through.
        directions: `locate.concept_directions(prototypes)`, with one prototype a value in the order of the groups. For
            two values it is one direction, which distinguishes the second from the first; else one a value, which
            distinguishes it from the others.

    Raises:
        StoreError: for fewer than two groups, fewer than two images in one, or directions that are not as many as the
            groups ask for.
    """
    width = basis.shape[-1]
    expected = 1 if len(groups) == 2 else len(groups)
    if len(groups) < 2 or directions.shape != (expected, width):
        raise StoreError(
            f"two values or more, and directions of shape {[expected, width]}",
            f"{len(groups)} values and directions of shape {list(directions.shape)}",
            "Take them from concept_directions(prototypes), with one prototype a value.",
        )
    if small := [str(place) for place, group in enumerate(groups) if group.count < 2]:
        raise StoreError(
            f"Fewer than two images have value number {', '.join(small)}.", "Leave out values that are this rare."
        )
    differences, gaps = [], []
    for place in range(expected):
        inside = 1 if len(groups) == 2 else place
        outside = merge_all(group for number, group in enumerate(groups) if number != inside)
        difference, gap = _apart(groups[inside], outside, basis, directions[place])
        differences.append(difference)
        gaps.append(gap)
    along = everything.deviations(basis, directions).square()
    total = basis.variance(everything.scatter) / everything.count
    share = torch.where(total[..., None] > 0, along / total[..., None], torch.zeros_like(along))
    sizes = tuple(group.count for group in groups)
    return MomentScores(share, torch.stack(differences, -1), torch.stack(gaps, -1), sizes)


def _apart(
    inside: Moments, outside: Moments, basis: HeadBasis, direction: Float[Tensor, "embed"]
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    folded = basis.fold(direction[None].double())[..., 0]
    gap = ((inside.mean - outside.mean) * folded).sum(-1)
    both = inside.scatter + outside.scatter
    squares = einsum(folded, both, folded, "layer head i, layer head i j, layer head j -> layer head").clamp_min(0)
    pooled = (squares / (inside.count + outside.count - 2)).sqrt()
    apart = torch.where(gap.abs() > 1e-12, torch.copysign(torch.full_like(gap, torch.inf), gap), torch.zeros_like(gap))
    return hedges_factor(inside.count + outside.count - 2) * torch.where(pooled > 0, gap / pooled, apart), gap
