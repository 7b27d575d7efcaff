"""What moments say of a head's hold on an attribute: the scores of `locate.concept_scores` that need no rows.

For a head with moments over images and a direction t, the projections z B t have the mean m·Bt and the variance
tᵀBᵀΣBt. Between the images of a value (n₁, mean m₁, variance v₁) and the others (n₀, m₀, v₀):

    difference = (m₁ − m₀) / sqrt((n₁v₁ + n₀v₀) / (n₁ + n₀ − 2)),    gap = m₁ − m₀,
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
from headlens.states.basis import HeadBasis
from headlens.states.moment_store import MomentStore
from headlens.states.moments import Moments


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
    store: MomentStore, directions: Float[Tensor, "direction embed"], column: str, values: Sequence[str]
) -> MomentScores:
    """Share, difference and gap of every head along concept vectors, from moments by a group column.

    Args:
        store: moments kept with this column among its groups.
        directions: `locate.concept_directions(prototypes)`: one for two values, which tells the second from the first;
            else one a value, which tells it from the others.
        column: the attribute's column.
        values: its values, in the order of the prototypes. Images with another value count for `share` alone.

    Raises:
        StoreError: for a column or a value without moments, fewer than two images of a value, or directions that are
            not as many as the values ask for.
    """
    expected = 1 if len(values) == 2 else len(values)
    if len(values) < 2 or directions.shape != (expected, store.basis.B.shape[-1]):
        raise StoreError(
            f"two values or more, and directions of shape {[expected, store.basis.B.shape[-1]]}",
            f"{len(values)} values and directions of shape {list(directions.shape)}",
            "Take them from concept_directions(prototypes), with one prototype a value.",
        )
    groups = [store.subset(**{column: value}) for value in values]
    small = [value for value, group in zip(values, groups, strict=True) if group.count < 2]
    if small:
        raise StoreError("two images or more of each value", f"one of {', '.join(small)}", "Leave this value out.")
    differences, gaps = [], []
    for place in range(expected):
        inside = 1 if len(values) == 2 else place
        others = [group for number, group in enumerate(groups) if number != inside]
        outside: Moments = others[0]
        for other in others[1:]:
            outside = outside.merge(other)
        difference, gap = _apart(groups[inside], outside, store.basis, directions[place])
        differences.append(difference)
        gaps.append(gap)
    along = store.deviations(store.basis, directions).square()
    weights = store.basis.B.double()
    total = (store.scatter * (weights @ weights.mT)).sum((2, 3)) / store.count
    share = torch.where(total[..., None] > 0, along / total[..., None], torch.zeros_like(along))
    sizes = tuple(group.count for group in groups)
    return MomentScores(share, torch.stack(differences, -1), torch.stack(gaps, -1), sizes)


def _apart(
    inside: Moments, outside: Moments, basis: HeadBasis, direction: Float[Tensor, "embed"]
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    folded = einsum(basis.B.double(), direction.double(), "layer head d embed, embed -> layer head d")
    gap = ((inside.mean - outside.mean) * folded).sum(-1)
    both = inside.scatter + outside.scatter
    squares = einsum(folded, both, folded, "layer head i, layer head i j, layer head j -> layer head").clamp_min(0)
    pooled = (squares / (inside.count + outside.count - 2)).sqrt()
    apart = torch.where(gap.abs() > 1e-12, torch.copysign(torch.full_like(gap, torch.inf), gap), torch.zeros_like(gap))
    return torch.where(pooled > 0, gap / pooled, apart), gap
