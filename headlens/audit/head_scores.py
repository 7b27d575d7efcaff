"""One number for every head, by name: what a heatmap of an audit can show.

A score is a function from `Evidence` and its own options to `HeadScores`. All of them read the reference split, as
locators do. Adding one, also from a notebook cell, is one decorated function:

    @hl.audit.register_score("variance")
    def mine(evidence):
        return hl.HeadScores("variance", hl.locate.head_variance(evidence.moments, evidence.store.basis))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.audit.evidence import Evidence
from headlens.audit.locators import run_locator
from headlens.errors import LocateError, TaskError
from headlens.heads import HeadScores
from headlens.locate import Candidates, ConceptRule, Objective, ObjectiveName, single_head_sweep

if TYPE_CHECKING:
    from headlens.audit.question import Question

ScoreOfEvidence = Callable[..., HeadScores]

HEAD_SCORES: dict[str, ScoreOfEvidence] = {}


def register_score(name: str) -> Callable[[ScoreOfEvidence], ScoreOfEvidence]:
    """Add a score under a name. A name registered again is replaced."""

    def add(function: ScoreOfEvidence) -> ScoreOfEvidence:
        HEAD_SCORES[name] = function
        return function

    return add


def head_scores(source: Question | Evidence, name: str, **options: Any) -> HeadScores:
    """The score of that name for every head, over the reference split.

    Args:
        source: an audit; or its `evidence()`, which keeps what several scores share.
        name: "attribution", "contrastive", "concept" or "effect", or one that was registered.
        options: the score's own, see the functions of this module.

    Raises:
        LocateError: for an unknown name, an option that the score does not have, and where there is nothing to score.
    """
    if name not in HEAD_SCORES:
        raise LocateError(f"one of the scores {', '.join(HEAD_SCORES)}", repr(name), "Choose one of these.")
    known = list(inspect.signature(HEAD_SCORES[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise LocateError(
                f"options of {name!r}: {', '.join(known) or 'none'}", repr(option), "Correct or leave it out."
            )
    evidence = source if isinstance(source, Evidence) else source.evidence()
    return HEAD_SCORES[name](evidence, **options)


def direction_between(evidence: Evidence, between: Sequence[str] | None) -> tuple[Float[Tensor, "embed"], str]:
    """t_a − t_b, of unit texts each, and the names of both; a name that is no class is read as a prompt of its own.

    Args:
        evidence: whose classes and text tower.
        between: a and b; the first two classes by default.

    Raises:
        TaskError: unless there are two, and different ones.
    """
    names = list(evidence.task.classes[:2]) if between is None else list(between)
    if len(names) != 2 or names[0] == names[1] or not all(name.strip() for name in names):
        raise TaskError("two different classes or texts to compare", repr(names), "Name one for each end.")
    rows = [
        evidence.classifier[evidence.task.classes.index(name)]
        if name in evidence.task.classes
        else normalize(evidence.texts([name]), dim=-1)[0].to(evidence.classifier)
        for name in names
    ]
    return rows[0] - rows[1], f"{names[0]} − {names[1]}"


@register_score("attribution")
def attribution(evidence: Evidence, between: Sequence[str] | None = None) -> HeadScores:
    """The mean over the reference images of x_h·(t_a − t_b): what a head adds to the score of a over that of b.

    Args:
        evidence: the reference split.
        between: a and b, classes or free texts; the first two classes by default.

    Limit: a head may say the same of every image; the mean then is large, though the head tells no images apart.
    """
    direction, names = direction_between(evidence, between)
    classes = evidence.task.classes
    a, b = classes[:2] if between is None else between
    if a in classes and b in classes:  # whose parts a locator has made, or will want
        along = evidence.head_logits[..., classes.index(a)] - evidence.head_logits[..., classes.index(b)]
    else:
        along = evidence.store.project(direction[None])[..., 0]
    return HeadScores(f"attribution, {names}", along.mean(0, dtype=torch.float64))


@register_score("contrastive")
def contrastive(evidence: Evidence) -> HeadScores:
    """V_W − V_C of contrastive attribution, the spurious heads selected."""
    return run_locator("contrastive", evidence, {}).scores()


@register_score("concept")
def concept(evidence: Evidence, measure: str = "part", rule: ConceptRule | None = None) -> HeadScores:
    """A score of the concept test, the flagged heads selected; see `headlens.locate.ConceptScores.scores`."""
    found = run_locator("concept", evidence, {"rule": rule})
    assert isinstance(found, Candidates)
    assert found.concept is not None
    return found.concept.scores(measure)


OBJECTIVES = {
    "cramers_v": "decrease in Cramér's V",
    "balanced_v": "decrease in balanced V",
    "worst_group": "gain in worst-group accuracy",
    "average": "gain in accuracy",
}
"""What an improvement of each objective of the score "effect" is called: V is better where it is lower."""


@register_score("effect")
def effect(evidence: Evidence, objective: ObjectiveName = "cramers_v", minimum: float | int = 0.01) -> HeadScores:
    """How much better the objective gets when a head alone is replaced by its reference mean; below zero, worse.

    Args:
        evidence: the reference split, on which the effect is measured, too.
        objective: one of `headlens.locate.OBJECTIVES`.
        minimum: heads that improve it by more are selected.

    Limit: an oracle. It reads labels, attribute and objective at once: see `headlens.locate.search`.
    """
    swept = single_head_sweep(evidence.effects, Objective(objective, evidence.labels, evidence.values), minimum=minimum)
    return HeadScores(
        f"ablated alone: {OBJECTIVES.get(objective, objective)}",
        swept.improvement,
        float(minimum),
        swept.spurious,
    )
