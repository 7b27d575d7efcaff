"""Greedy forward selection of heads to ablate: the best head, then the best beside it, and so on.

Each step tries every head that is left on top of those chosen, at one addition a head, and keeps the one that improves
the objective most. It sees heads that matter only beside others, but never takes a choice back: `best_set` does.

An oracle: it optimises what it is judged by. See `headlens.locate.oracle`.
"""

from __future__ import annotations

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.effects import HeadEffects
from headlens.locate.objective import Objective
from headlens.locate.oracle import Oracle
from headlens.locate.sweep import added, along, every_head


def greedy_sweep(effects: HeadEffects, objective: Objective, count: int, *, minimum: float | int = 0.0) -> Oracle:
    """Add heads one by one, each time the one that improves the objective most, up to `count` of them.

    It stops before where no head improves the objective by more than `minimum`, strictly. Among heads that tie, the
    first is taken.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        count: how many heads at most.
        minimum: what every step has to improve by.

    Raises:
        LocateError: for other images than the objective's, or a count outside 1 … the tower's heads.
    """
    check_count(effects, count)
    baseline, values = every_head(effects, objective)
    chosen = grow(effects, objective, count, minimum=minimum, baseline=baseline)
    heads = [HeadId(*divmod(i, effects.shape[1])) for i in chosen]
    return Oracle(
        method="greedy sweep",
        objective=objective.name,
        baseline=baseline,
        values=values,
        improvement=objective.improvement(values, baseline),
        minimum=float(minimum),
        spurious=heads,
        path=along(effects, objective, heads),
        how=f"greedy forward selection of {len(heads)} among {values.numel()} heads, at most {count}",
    )


def grow(
    effects: HeadEffects, objective: Objective, count: int, *, minimum: float | int | None, baseline: float
) -> list[int]:
    """The heads that greedy selection takes, counted through the layers; with a minimum of None, `count` of them."""
    n_layers, n_heads = effects.shape
    logits, score = effects.logits, baseline
    chosen: list[int] = []
    left = list(range(n_layers * n_heads))
    while len(chosen) < count:
        scores = added(effects, objective, logits, left)
        gains = objective.improvement(scores, score)
        best = int(gains.argmax())
        if minimum is not None and not float(gains[best]) > minimum:
            break
        score = float(scores[best])
        head = left.pop(best)
        logits = logits - effects.centred[:, head // n_heads, head % n_heads]
        chosen.append(head)
    return chosen


def check_count(effects: HeadEffects, count: int) -> None:
    """Raise `LocateError` for a count outside 1 … the tower's heads."""
    every = effects.shape[0] * effects.shape[1]
    if not 1 <= count <= every:
        raise LocateError(f"a number of heads from 1 to the tower's {every}", str(count), "Ask for fewer heads.")
