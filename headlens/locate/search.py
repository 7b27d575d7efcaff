"""The best set of heads of a given size to ablate: by trying all sets where that is affordable, else by local search.

- Exhaustive, where no more sets exist than the limit: every set of k heads, the last head of all that share the first
  k − 1 in one vectorised step.
- Else: greedy selection of k heads, then exchange of one head for another as long as that improves the objective (the
  best of all k · (heads − k) exchanges each time); again from seeded random sets; the best of all starts. What it finds
  is a lower bound of the best set.

The result says which. An oracle: it optimises what it is judged by. See `headlens.locate.oracle`.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.effects import HeadEffects
from headlens.locate.greedy import check_count, grow
from headlens.locate.objective import Objective
from headlens.locate.oracle import Oracle
from headlens.locate.sweep import added, along, every_head

_Found = tuple[tuple[int, ...], float]  # heads counted through the layers, and their improvement


def best_set(
    effects: HeadEffects,
    objective: Objective,
    size: int,
    *,
    limit: int = 200_000,
    restarts: int = 8,
    seed: int = 0,
) -> Oracle:
    """The set of exactly `size` heads whose ablation improves the objective most, or worsens it least.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        size: how many heads.
        limit: try every set where no more than this many exist.
        restarts: of the local search, from random sets, beside the greedy start.
        seed: of the restarts.

    Returns:
        The set, best single head first. Among sets that tie, the first in the order of layers and heads.

    Raises:
        LocateError: for other images than the objective's, a size outside 1 … the tower's heads, or a negative number
            of restarts.
    """
    check_count(effects, size)
    if restarts < 0:
        raise LocateError("restarts of zero or more", str(restarts), "Pass restarts=8, for example.")
    baseline, values = every_head(effects, objective)
    every = values.numel()
    if comb(every, size) <= limit:
        chosen = _exhaustive(effects, objective, size, baseline)
        how = f"exhaustive: all {comb(every, size)} sets of {size} among {every} heads"
    else:
        chosen = _local(effects, objective, size, restarts, seed, baseline)
        how = (
            f"greedy selection and exchanges of one head, with {restarts} seeded restarts: {comb(every, size)} sets of "
            f"{size} among {every} heads are more than {limit}"
        )
    improvement = objective.improvement(values, baseline)
    heads = sorted((HeadId(*divmod(i, effects.shape[1])) for i in chosen), key=lambda h: (-float(improvement[h]), h))
    return Oracle(
        method="best set",
        objective=objective.name,
        baseline=baseline,
        values=values,
        improvement=improvement,
        minimum=float("-inf"),
        spurious=heads,
        path=along(effects, objective, heads),
        how=how,
    )


def _exhaustive(effects: HeadEffects, objective: Objective, size: int, baseline: float) -> tuple[int, ...]:
    every = effects.shape[0] * effects.shape[1]
    centred = effects.centred.flatten(1, 2)
    best: _Found = ((), float("-inf"))
    for prefix in combinations(range(every - 1), size - 1):
        rest = list(range(prefix[-1] + 1 if prefix else 0, every))
        logits = effects.logits - centred[:, list(prefix)].sum(1) if prefix else effects.logits
        gains = objective.improvement(added(effects, objective, logits, rest), baseline)
        place = int(gains.argmax())
        if float(gains[place]) > best[1]:
            best = ((*prefix, rest[place]), float(gains[place]))
    return best[0]


def _local(
    effects: HeadEffects, objective: Objective, size: int, restarts: int, seed: int, baseline: float
) -> tuple[int, ...]:
    every = effects.shape[0] * effects.shape[1]
    generator = np.random.default_rng(seed)
    starts = [grow(effects, objective, size, minimum=None, baseline=baseline)]
    starts += [sorted(generator.choice(every, size, replace=False).tolist()) for _ in range(restarts)]
    found = [_exchange(effects, objective, start, baseline) for start in starts]
    return max(found, key=lambda one: one[1])[0]


def _exchange(effects: HeadEffects, objective: Objective, start: list[int], baseline: float) -> _Found:
    every = effects.shape[0] * effects.shape[1]
    centred = effects.centred.flatten(1, 2)
    chosen, gain = sorted(start), float("-inf")
    while True:
        logits = effects.logits - centred[:, chosen].sum(1)
        others = [head for head in range(every) if head not in chosen]
        here = float(objective.improvement(objective.score(logits.argmax(-1)[:, None]), baseline)[0])
        gain, step = max(gain, here), None
        for place, head in enumerate(chosen):
            gains = objective.improvement(added(effects, objective, logits + centred[:, head], others), baseline)
            top = int(gains.argmax()) if len(others) else -1
            # Rounding may move an image that sits between two classes: such a step is no improvement.
            if top >= 0 and float(gains[top]) > gain + 1e-9:
                gain, step = float(gains[top]), (place, others[top])
        if step is None:
            return tuple(chosen), here
        chosen[step[0]] = step[1]
        chosen = sorted(chosen)
