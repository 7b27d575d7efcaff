"""The random-head control: located heads prove little by helping where any heads of the same layers would help too.

1. `draw_head_sets` draws sets with as many heads of each layer as the located one, from *all* such sets but the located
   one itself. They may overlap with it: sets of the *other* heads alone are worse by construction where one head
   matters, so that 5 % of randomly chosen 'located' sets would be called better far more often than in 5 % of cases.
   Under a method with two roles (ablated and injected heads) each role is drawn by itself, with the other as located,
   or both together.
2. Where the pattern has too few sets for p ≤ alpha (a layer of 8 heads has 7 others), the neighbouring layers join, one
   on each side at a time, until it has enough. The result names them, and has the *other* sets of the located layers,
   to measure how many of these would themselves be called better.

`headlens.steps.controls` repeats a method with the sets and compares.

Sources: the control of Yasser et al. 2026 (arXiv 2603.11793), who draw from the layer's other heads; the overlap, the
roles and the pooling are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import ceil, comb

import numpy as np

from headlens.errors import LocateError
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.metrics.random_heads import TOLERANCE

Roles = dict[str, tuple[HeadId, ...]]
"""Heads by the role that they have in a method: "spurious" are ablated, "salient" strengthened."""

ALPHA = 0.05


@dataclass(frozen=True)
class HeadSets:
    """Random sets of heads to compare a located one with.

    Attributes:
        located: the located heads by role.
        varied: the roles that were drawn; the others stand as located.
        sets: the draws, each with every role.
        n_possible: how many sets there are to draw from, the located one not counted.
        exhaustive: whether `sets` holds all of them.
        pooled: the layers that were pooled, one tuple a pool; empty where the located layers had sets enough.
        own: with pooling, all other sets of the located layers alone, to see what pooling does; else empty.
        alpha: the level that the sets should allow p to reach.
        seed: of the draws.
    """

    located: Roles
    varied: tuple[str, ...]
    sets: tuple[Roles, ...]
    n_possible: int
    exhaustive: bool
    pooled: tuple[tuple[int, ...], ...]
    own: tuple[Roles, ...]
    alpha: float
    seed: int

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that a comparison with these sets can give."""
        return 1 / (1 + len(self.sets))

    @property
    def enough(self) -> bool:
        """Whether a p-value of at most `alpha` is possible."""
        return self.smallest_p <= self.alpha + TOLERANCE

    @property
    def note(self) -> str:
        """How the sets were drawn, as a sentence that stands wherever a comparison with them is shown."""
        what = "all" if self.exhaustive else f"{len(self.sets)} (seed {self.seed})"
        kept = [role for role in self.located if role not in self.varied]
        roles = f", {' and '.join(self.varied)} heads drawn and {' and '.join(kept)} heads as located" if kept else ""
        if not self.sets:
            return "Random heads: there is no other set of heads to compare with."
        if not self.pooled:
            return f"Random heads: {what} of {self.n_possible:,} sets with as many heads of the same layers{roles}."
        layers = "; ".join(f"{min(pool)} to {max(pool)}" for pool in self.pooled)
        return (
            f"Random heads: {what} of {self.n_possible:,} sets with as many heads of layers {layers}{roles}; the "
            f"located layers alone have too few sets for p ≤ {self.alpha:g}."
        )


def draw_head_sets(
    located: Mapping[str, Sequence[HeadLike]] | Sequence[HeadLike],
    n_layers: int,
    n_heads: int,
    n_random_sets: int = 100,
    seed: int = 0,
    *,
    vary: Iterable[str] | None = None,
    alpha: float = ALPHA,
) -> HeadSets:
    """Distinct random sets with as many heads of each layer and role as the located ones.

    Args:
        located: the located heads, by role; plain heads have the role "spurious".
        n_layers: layers of the tower.
        n_heads: heads of a layer.
        n_random_sets: how many sets are wanted. Where no more exist, all of them are taken, in order.
        seed: the same seed gives the same sets.
        vary: the roles to draw; all by default. The heads of a role that stands as located are in no draw.
        alpha: where fewer sets exist than p ≤ alpha takes, neighbouring layers are pooled.

    Returns:
        The sets; none where nothing is located or nothing else can be drawn.

    Raises:
        LocateError: for a head outside the tower or named twice, an unknown role, or fewer than one set.
    """
    by_role = located if isinstance(located, Mapping) else {"spurious": located}
    every = as_heads([head for heads in by_role.values() for head in heads], n_layers, n_heads)
    roles = {role: tuple(map(HeadId.of, heads)) for role, heads in by_role.items()}
    varied = tuple(roles if vary is None else dict.fromkeys(vary))
    if unknown := [role for role in varied if role not in roles]:
        raise LocateError(f"No heads have the role {unknown[0]!r}.", f"Known: {', '.join(roles)}.")
    if n_random_sets < 1:
        raise LocateError(f"{n_random_sets} random sets are none.", "Pass n_random_sets=100, for example.")
    varied = tuple(role for role in varied if roles[role])
    fixed = {head for role, heads in roles.items() if role not in varied for head in heads}
    if not varied:
        return HeadSets(roles, (), (), 0, True, (), (), alpha, seed)
    layers = sorted({head.layer for head in every if head not in fixed})
    needed = ceil(1 / alpha - TOLERANCE) - 1
    for reach in range(n_layers):
        pools = _pools(layers, reach, n_layers)
        pattern = _Pattern(roles, varied, pools, n_heads, fixed)
        if pattern.size - 1 >= needed or all(len(pool) == n_layers for pool in pools):
            break
    sets = pattern.draw(n_random_sets, seed)
    own: list[Roles] = []
    if reach:
        own = _Pattern(roles, varied, [(layer,) for layer in layers], n_heads, fixed).draw(needed, seed)
    whole, others = (tuple({**roles, **one} for one in part) for part in (sets, own))
    exhaustive = len(sets) == pattern.size - 1
    return HeadSets(
        roles, varied, whole, pattern.size - 1, exhaustive, tuple(pools) if reach else (), others, alpha, seed
    )


def _pools(layers: list[int], reach: int, n_layers: int) -> list[tuple[int, ...]]:
    """The layers within `reach` of each located one; pools that share a layer are one."""
    pools: list[set[int]] = []
    for layer in layers:
        near = set(range(max(0, layer - reach), min(n_layers, layer + reach + 1)))
        apart = [pool for pool in pools if not pool & near]
        pools = [*apart, near.union(*(pool for pool in pools if pool & near))]
    return sorted(tuple(sorted(pool)) for pool in pools)


class _Pattern:
    """How many heads of each role come from each pool of layers, and the sets that fit."""

    def __init__(
        self,
        roles: Roles,
        varied: tuple[str, ...],
        pools: list[tuple[int, ...]],
        n_heads: int,
        fixed: set[HeadId],
    ):
        self.roles, self.varied, self.pools = roles, varied, pools
        self.free = [
            [h for h in (HeadId(i, j) for i in pool for j in range(n_heads)) if h not in fixed] for pool in pools
        ]
        self.counts = [[sum(h.layer in pool for h in roles[role]) for role in varied] for pool in pools]
        self._located = {role: tuple(sorted(roles[role])) for role in varied}

    @property
    def size(self) -> int:
        """How many sets fit, the located one among them."""
        ways = 1
        for free, counts in zip(self.free, self.counts, strict=True):
            left = len(free)
            for count in counts:
                ways, left = ways * comb(left, count), left - count
        return ways

    def draw(self, wanted: int, seed: int) -> list[Roles]:
        """All sets but the located one, in order, where that is no more than wanted; else different random ones."""
        if self.size - 1 <= wanted:
            return [one for one in self._all() if one != self._located]
        generator = np.random.default_rng(seed)
        drawn: dict[tuple[tuple[HeadId, ...], ...], Roles] = {}
        while len(drawn) < wanted:
            one: dict[str, list[HeadId]] = {role: [] for role in self.varied}
            for free, counts in zip(self.free, self.counts, strict=True):
                picked = iter(generator.choice(len(free), size=sum(counts), replace=False))
                for role, count in zip(self.varied, counts, strict=True):
                    one[role] += [free[next(picked)] for _ in range(count)]
            whole = {role: tuple(sorted(heads)) for role, heads in one.items()}
            if whole != self._located:
                drawn[tuple(whole.values())] = whole
        return list(drawn.values())

    def _all(self) -> Iterator[Roles]:
        ways = [list(_splits(free, counts)) for free, counts in zip(self.free, self.counts, strict=True)]
        for parts in product(*ways):
            yield {
                role: tuple(sorted(head for part in parts for head in part[place]))
                for place, role in enumerate(self.varied)
            }


def _splits(free: list[HeadId], counts: list[int]) -> Iterator[list[tuple[HeadId, ...]]]:
    """Every way to give so many heads to each role."""
    if not counts:
        yield []
        return
    for chosen in combinations(free, counts[0]):
        left = [head for head in free if head not in chosen]
        for rest in _splits(left, counts[1:]):
            yield [chosen, *rest]
