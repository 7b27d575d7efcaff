"""Layer-matched random heads: the control that a located set has to beat.

A set of located heads proves little by helping when any set of as many heads from the same layers would help too. The
control sets hold as many heads of each layer, none of them located or excluded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations, product
from math import comb, prod

import numpy as np

from headlens.errors import LocateError
from headlens.heads import HeadId, as_heads


def layer_matched(
    heads: Iterable[tuple[int, int]],
    n_layers: int,
    n_heads: int,
    n_random_sets: int = 100,
    seed: int = 0,
    exclude: Iterable[tuple[int, int]] = (),
) -> list[tuple[HeadId, ...]]:
    """Distinct random sets with as many heads of each layer as `heads`, and none of `heads` or `exclude` among them.

    There are Π_l C(n_heads − barred_l, k_l) such sets, k_l the number of heads of layer l. Where that is at most
    `n_random_sets`, all of them are returned, in order; otherwise as many different ones, drawn evenly.

    Args:
        heads: the located set. An empty one has no controls.
        n_layers: layers of the tower.
        n_heads: heads of a layer.
        n_random_sets: how many sets are wanted.
        seed: the same seed gives the same sets.
        exclude: further heads that no set may hold, such as other candidates.

    Raises:
        LocateError: for a head outside the tower, fewer than one set, or a layer with too few heads left.
    """
    matched = as_heads(heads, n_layers, n_heads)
    barred = set(matched) | set(as_heads(dict.fromkeys((layer, head) for layer, head in exclude), n_layers, n_heads))
    if n_random_sets < 1:
        raise LocateError(f"{n_random_sets} random sets are none.", "Pass n_random_sets=100, for example.")
    if not matched:
        return []
    per_layer = sorted(Counter(h.layer for h in matched).items())
    free = {layer: [j for j in range(n_heads) if (layer, j) not in barred] for layer, _ in per_layer}
    for layer, count in per_layer:
        if len(free[layer]) < count:
            raise LocateError(
                f"Layer {layer} has {len(free[layer])} heads beside the located and excluded ones, not {count}.",
                "Exclude fewer heads, or judge a smaller set: a layer of which half is located has no control.",
            )
    if prod(comb(len(free[layer]), count) for layer, count in per_layer) <= n_random_sets:
        choices = [[[HeadId(layer, j) for j in c] for c in combinations(free[layer], k)] for layer, k in per_layer]
        return [tuple(head for part in parts for head in part) for parts in product(*choices)]
    generator = np.random.default_rng(seed)
    drawn: dict[tuple[HeadId, ...], None] = {}
    while len(drawn) < n_random_sets:
        one: list[HeadId] = []
        for layer, count in per_layer:
            picked = generator.choice(free[layer], size=count, replace=False)
            one.extend(HeadId(layer, int(j)) for j in sorted(picked))
        drawn[tuple(one)] = None
    return list(drawn)
