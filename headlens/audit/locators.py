"""The locators of an audit, by name: what `Audit.locate`, the shell, the report and the oracle table iterate over.

A locator is a function from `Evidence` and its own options to a result with `spurious` and `salient` heads. Adding one,
also from a notebook cell, is one decorated function:

    @hl.audit.register_locator("largest heads")
    def mine(evidence, count=3):
        ...
        return hl.locate.Located("largest heads", heads)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headlens.audit.conflicts import choose_conflicting
from headlens.audit.evidence import Evidence, attribute_prompts
from headlens.errors import LocateError
from headlens.locate import LOCATORS as ON_ARRAYS
from headlens.locate import (
    Candidates,
    ConceptRule,
    ConceptScores,
    ConceptSpans,
    Located,
    Location,
    Objective,
    ObjectiveName,
    SearchResult,
    concept_candidates,
    concept_scores,
    concept_spans,
    contrast_spans,
    contrastive,
    greedy_sweep,
    head_variance,
    margins_of,
    single_head_sweep,
)

LocatorOfEvidence = Callable[..., Located]

LOCATORS: dict[str, LocatorOfEvidence] = {}


def register_locator(name: str) -> Callable[[LocatorOfEvidence], LocatorOfEvidence]:
    """Add a locator under a name. A name registered again is replaced."""

    def add(function: LocatorOfEvidence) -> LocatorOfEvidence:
        LOCATORS[name] = function
        return function

    return add


def run_locator(name: str, evidence: Evidence, options: dict[str, Any]) -> Located:
    """The result of the locator of that name.

    Raises:
        LocateError: for an unknown name, or an option that the locator does not have.
    """
    if name not in LOCATORS:
        raise LocateError(f"one of the locators {', '.join(LOCATORS)}", repr(name), "Choose one of these.")
    known = list(inspect.signature(LOCATORS[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise LocateError(
                f"options of {name!r}: {', '.join(known) or 'none'}", repr(option), "Correct or leave it out."
            )
    return LOCATORS[name](evidence, **options)


def _on_arrays(name: str) -> LocatorOfEvidence:
    def locate(evidence: Evidence) -> Located:
        made = margins_of(evidence.head_logits, evidence.logits, evidence.labels)
        return ON_ARRAYS[name](*made, evidence.conflicting.mask)

    return locate


for _name in ON_ARRAYS:
    LOCATORS[_name] = _on_arrays(_name)


@register_locator("contrastive-inferred")
def _contrastive_inferred(evidence: Evidence) -> Location:
    """The contrastive locator where the attribute is labelled nowhere: its values are inferred zero-shot."""
    prototypes = evidence.attribute.prototypes(evidence.texts)
    values = (evidence.store.embedding @ prototypes.T.to(evidence.store.embedding)).argmax(dim=-1)
    predicted = evidence.logits.argmax(dim=-1)
    groups = choose_conflicting(evidence.task, evidence.attribute, evidence.labels, values, predicted)
    found = contrastive(evidence.head_logits, evidence.logits, evidence.labels, groups.mask)
    return replace(found, method="contrastive-inferred")


def _scores(evidence: Evidence, rule: ConceptRule | None) -> ConceptScores:
    return concept_scores(
        evidence.store.project(evidence.directions),
        evidence.values,
        head_variance(evidence.moments, evidence.store.basis),
        evidence.directions,
        rule,
        # In real data an attribute goes together with the classes; a head that carries these alone is no candidate.
        evidence.labels,
    )


def _spans(evidence: Evidence, first: int, minimum_share: float | int, enter: str) -> ConceptSpans:
    if enter == "vectors":
        return contrast_spans(
            evidence.moments,
            evidence.store.basis,
            evidence.bank_embeddings,
            evidence.directions,
            first,
            minimum_share,
        )
    if enter != "prompts":
        raise LocateError("enter='vectors' or 'prompts'", repr(enter), "Say how the attribute joins the bank.")
    # Of two equal texts only the first can ever be chosen: the bank gives way to the attribute's own prompts.
    whole = evidence.bank.extended(list(dict.fromkeys(attribute_prompts(evidence.attribute))), "attribute")
    bank = whole.take(i for i, category in enumerate(whole.categories) if category != "attribute")
    moments, basis = evidence.moments, evidence.store.basis
    return concept_spans(moments, basis, evidence.texts(bank.texts), evidence.prompts, first, minimum_share)


@register_locator("concept")
def _concept(evidence: Evidence, rule: ConceptRule | None = None) -> Candidates:
    scores = _scores(evidence, rule)
    return Candidates("concept", scores.flagged, concept=scores)


@register_locator("textspan")
def _textspan(
    evidence: Evidence, first: int = 5, minimum_share: float | int = 0.0, enter: str = "vectors"
) -> Candidates:
    spans = _spans(evidence, first, minimum_share, enter)
    return Candidates("textspan", spans.flagged, spans=spans)


@register_locator("concept+textspan")
def _both(
    evidence: Evidence,
    rule: ConceptRule | None = None,
    first: int = 5,
    minimum_share: float | int = 0.0,
    enter: str = "vectors",
) -> Candidates:
    scores, spans = _scores(evidence, rule), _spans(evidence, first, minimum_share, enter)
    return Candidates("concept+textspan", concept_candidates(scores, spans), concept=scores, spans=spans)


@register_locator("single-head sweep")
def _sweep(
    evidence: Evidence, objective: ObjectiveName = "balanced_v", minimum: float | int = 0.01, count: int | None = None
) -> SearchResult:
    asked = Objective(objective, evidence.labels, evidence.values)
    return single_head_sweep(evidence.effects, asked, minimum=minimum, count=count)


@register_locator("greedy sweep")
def _greedy(
    evidence: Evidence, objective: ObjectiveName = "balanced_v", count: int = 4, minimum: float | int = 0.01
) -> SearchResult:
    asked = Objective(objective, evidence.labels, evidence.values)
    return greedy_sweep(evidence.effects, asked, count, minimum=minimum)
