"""Mean and second moment of every head, streamed over images and mergeable.

Steps: for a block of images take the mean and the scatter (the sum of outer products of deviations from it)
of each head's z; merge blocks, groups or machines two at a time. For two parts a and b with n, m images and
δ = mean_b − mean_a

    mean = mean_a + δ m / (n + m),        scatter = scatter_a + scatter_b + δ δᵀ n m / (n + m),

which is exact and does not cancel (Chan, Golub, LeVeque 1983). A contribution is z B, so that its mean is
mean B and its covariance Bᵀ Σ B: no row is needed again, however many there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from headlens.errors import StoreError
from headlens.states.basis import HeadBasis


@runtime_checkable
class HasHeadStates(Protocol):
    """What moments are taken of: a store of head states, or a view of one."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "image layer head d_head"]]]:
        """z of all heads as parts of the unit embedding, a block of images at a time, with the block's place."""
        ...


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of z for every head, in float64.

    Attributes:
        count: how many images.
        mean: Σ_i z_i / count.
        scatter: Σ_i (z_i − mean)ᵀ (z_i − mean).
    """

    count: int
    mean: Float[Tensor, "layer head d_head"]
    scatter: Float[Tensor, "layer head d_head d_head_too"]

    @classmethod
    def of(cls, z: Float[Tensor, "image layer head d_head"]) -> Moments:
        """The moments of one block. Raises `StoreError` for a block without an image."""
        if len(z) == 0:
            raise StoreError("at least one image", "none", "Leave empty groups out.")
        by_head = rearrange(z, "image layer head d_head -> layer head image d_head")
        # Each layer's images one after the other in memory, which takes the products a third of the time.
        rows = [layer.to(torch.float64, memory_format=torch.contiguous_format) for layer in by_head]
        mean = torch.stack([layer.mean(dim=1) for layer in rows])
        scatter = [(own := layer - own_mean[:, None]).mT @ own for layer, own_mean in zip(rows, mean, strict=True)]
        return cls(len(z), mean, torch.stack(scatter))

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of images together."""
        count = self.count + other.count
        step = other.mean - self.mean
        between = einsum(step, step, "layer head i, layer head j -> layer head i j")
        between *= self.count * other.count / count
        mean = self.mean + step * (other.count / count)
        return Moments(count, mean, (self.scatter + other.scatter).add_(between))

    def covariance(self, layer: int, head: int) -> Float[Tensor, "d_head d_head_too"]:
        """Σ of one head: scatter / count, the population's covariance."""
        return self.scatter[layer, head] / self.count

    def contribution_means(self, basis: HeadBasis) -> Float[Tensor, "layer head embed"]:
        """The mean contribution of every head."""
        return basis.contributions(self.mean[None])[0]

    def deviations(
        self, basis: HeadBasis, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "layer head direction"]:
        """The standard deviation of every head's contributions along each direction t: sqrt(tᵀ Bᵀ Σ B t)."""
        folded = basis.fold(directions.double())
        variance = einsum(
            folded, self.scatter @ folded, "layer head d direction, layer head d direction -> layer head direction"
        )
        return (variance / self.count).clamp_min(0).sqrt()


def merge_all(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together. Raises `StoreError` where there is none."""
    total: Moments | None = None
    for part in parts:  # one at a time: they may be more than memory holds
        total = part if total is None else total.merge(part)
    if total is None:
        raise StoreError("at least one part", "none", "Leave empty groups out.")
    return total


def head_moments(store: HasHeadStates | Moments) -> Moments:
    """The moments of a store's heads, as parts of the unit embedding, read block by block; moments as they are."""
    if isinstance(store, Moments):
        return store
    return merge_all(Moments.of(z) for _, z in store.blocks())


def contribution_variance(store: HasHeadStates, basis: HeadBasis) -> Float[Tensor, "layer head"]:
    """The total variance of every head's contributions, tr(Bᵀ Σ B), where nothing else of the moments is needed.

    Equals `basis.variance(moments.scatter) / moments.count` to the rounding of the states' own numbers, in which outer
    products are taken here, around the mean of the first block. Sums over blocks are in float64. A third of the time.

    Args:
        store: the images.
        basis: the weights that z is read through, `store.basis`.
    """
    centre = total = scatter = None
    for _, z in store.blocks():
        rows = rearrange(z, "image layer head d_head -> (layer head) image d_head").contiguous()
        if centre is None or total is None or scatter is None:
            centre = rows.mean(dim=1, keepdim=True)
            total = torch.zeros_like(centre, dtype=torch.float64)
            scatter = torch.zeros(*rows.shape[::2], rows.shape[2], dtype=torch.float64)
        rows -= centre
        total += rows.sum(dim=1, keepdim=True)
        scatter += rows.mT @ rows
    if total is None or scatter is None:
        raise StoreError("at least one image", "none", "Leave empty groups out.")
    scatter -= total.mT @ total / len(store)
    return (basis.variance(scatter.to(z).view(*z.shape[1:], -1)) / len(store)).double()


def group_moments(store: HasHeadStates, groups: Iterable[object]) -> dict[str, Moments]:
    """The moments of every group, from a name for each image.

    Raises:
        StoreError: for another number of names.
    """
    names = np.array([str(group) for group in groups], dtype=object)
    if len(names) != len(store):
        raise StoreError(
            f"a group for each of the {len(store)} images", f"{len(names)} of them", "Take them from store.manifest."
        )
    result: dict[str, Moments] = {}
    for where, z in store.blocks():
        part = names[where]
        for name in dict.fromkeys(part):
            new = Moments.of(z[torch.from_numpy(part == name)])
            result[name] = result[name].merge(new) if name in result else new
    return dict(sorted(result.items()))
