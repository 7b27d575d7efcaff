"""Random casts: other heads of the same layers in the roles that the located ones play.

A method may use spurious and salient heads at once, so a control draws for both: as many heads of each layer as are
located there, none of them located, and who plays which role is part of the draw. Where all casts are no more than the
draws that were asked for, every one of them is taken.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np

from headlens.audit.methods import ROLES, Ingredients, Roles
from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import layer_matched

Cast = dict[str, tuple[HeadId, ...]]
_MOST_ORDERS = 5040


def random_casts(
    known: Ingredients, roles: Roles, n_layers: int, n_heads: int, draws: int, seed: int
) -> tuple[list[Cast], bool]:
    """Distinct random casts of the located heads' roles, and whether they are all that there are.

    Args:
        known: the located heads.
        roles: the roles to recast; a method without any has no control.
        n_layers: layers of the tower.
        n_heads: heads of a layer.
        draws: how many casts are wanted.
        seed: the same seed gives the same casts.

    Returns:
        No casts where nothing is located, or where a layer has too few other heads to draw from.
    """
    located = known.located(roles)
    if not located or draws == 0:
        return [], False
    try:
        sets = layer_matched(located, n_layers, n_heads, draws, seed, exclude=known.located(ROLES))
    except LocateError:
        # A layer of which half is located leaves too few others.
        return [], False
    generator = np.random.default_rng(seed)
    if len(sets) < draws and factorial(len(located)) <= _MOST_ORDERS:
        ordered = (_cast(known, roles, order) for heads in sets for order in permutations(heads))
        casts = list({_key(cast): cast for cast in ordered}.values())
        if len(casts) <= draws:
            return casts, True
        return [casts[i] for i in sorted(generator.choice(len(casts), draws, replace=False))], False
    return [_cast(known, roles, [heads[i] for i in generator.permutation(len(heads))]) for heads in sets], False


def _cast(known: Ingredients, roles: Roles, order: tuple[HeadId, ...] | list[HeadId]) -> Cast:
    """Give out heads in the order in which they come: each role takes the next one of the layer it needs."""
    pool = list(order)
    return {
        role: tuple(pool.pop([h.layer for h in pool].index(layer)) for layer, _ in getattr(known.location, role))
        for role in roles
    }


def _key(cast: Cast) -> tuple[tuple[HeadId, ...], ...]:
    # Within a role the order of the heads makes no difference to what a method does.
    return tuple(tuple(sorted(heads)) for heads in cast.values())
