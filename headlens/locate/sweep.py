"""The single-head sweep: what ablating each head alone does to a measure.

For every head h the predictions are made again with h replaced by its reference mean (`HeadEffects`), and scored. The
heads whose ablation improves the objective by more than a stated minimum are named, best first.

It is exact and costs one addition a head, but it is no locator: it reads labels, attribute and measure at once. See
`headlens.locate.oracle`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.effects import HeadEffects
from headlens.locate.objective import Objective
from headlens.locate.oracle import Oracle

_NUMBERS = 16_000_000  # class scores at a time: memory stays bounded however many heads there are


def single_head_sweep(
    effects: HeadEffects, objective: Objective, *, minimum: float | int = 0.01, count: int | None = None
) -> Oracle:
    """Ablate every head alone and name those that improve the objective by more than `minimum`, strictly.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        minimum: of the improvement; by default 0.01: a hundredth of V, or a point of accuracy.
        count: name no more than this many.

    Raises:
        LocateError: for other images than the objective's, or a count below one.

    Limits: heads are named by what each does alone. Two heads that repeat each other may both be named though one is
    enough, and heads that matter only together are not seen: see `greedy_sweep` and `best_set`.
    """
    if count is not None and count < 1:
        raise LocateError("a count of one head or more", str(count), "Leave it out for all heads.")
    baseline, values = every_head(effects, objective)
    improvement = objective.improvement(values, baseline)
    order = improvement.flatten().sort(descending=True, stable=True).indices.tolist()
    chosen = [head for head in (HeadId(*divmod(i, effects.shape[1])) for i in order) if improvement[head] > minimum]
    chosen = chosen[:count]
    return Oracle(
        method="single-head sweep",
        objective=objective.name,
        baseline=baseline,
        values=values,
        improvement=improvement,
        minimum=float(minimum),
        spurious=chosen,
        path=along(effects, objective, chosen),
        how=f"each of {values.numel()} heads ablated alone",
    )


def every_head(effects: HeadEffects, objective: Objective) -> tuple[float, Float[Tensor, "layer head"]]:
    """The objective with nothing ablated, and with each head ablated alone."""
    check_images(effects, objective)
    n_layers, n_heads = effects.shape
    values = added(effects, objective, effects.logits, list(range(n_layers * n_heads)))
    return float(objective.score(effects.predictions()[:, None])[0]), values.view(n_layers, n_heads)


def added(
    effects: HeadEffects, objective: Objective, logits: Float[Tensor, "image class"], heads: list[int]
) -> Float[Tensor, "candidate"]:
    """The objective with one more head ablated on top of `logits`, for each of `heads`: ascending, counted through the
    layers."""
    parts = [objective.score(predictions) for predictions in _blocks(effects, logits, heads)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _blocks(
    effects: HeadEffects, logits: Float[Tensor, "image class"], heads: list[int]
) -> Iterator[Int[Tensor, "image candidate"]]:
    centred = effects.centred.flatten(1, 2)
    step = max(1, _NUMBERS // max(1, logits.numel()))
    for start in range(0, len(heads), step):
        part = heads[start : start + step]
        # A run of neighbours is a view; anything else is copied, a block at a time.
        some = centred[:, part[0] : part[-1] + 1] if part[-1] - part[0] + 1 == len(part) else centred[:, part]
        yield (logits[:, None] - some).argmax(-1)


def along(effects: HeadEffects, objective: Objective, heads: list[HeadId]) -> tuple[float, ...]:
    """The objective with the first 1, 2, … of the heads ablated together."""
    scores, logits = [], effects.logits
    for head in heads:
        logits = logits - effects.centred[:, head.layer, head.head]
        scores.append(float(objective.score(logits.argmax(-1)[:, None])[0]))
    return tuple(scores)


def check_images(effects: HeadEffects, objective: Objective) -> None:
    """Raise `LocateError` unless both are about as many images."""
    if len(effects.logits) != len(objective):
        raise LocateError(
            f"effects on the objective's {len(objective)} images",
            f"effects on {len(effects.logits)}",
            "Take labels and values from the rows that the effects were computed on.",
        )
