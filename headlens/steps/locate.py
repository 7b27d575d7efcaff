"""Locating heads, and scoring every head, on the reference split of a question.

A locator is a function from `Evidence` and its own options to a result with `spurious` and `salient` heads; a score is
one to `HeadScores`. Adding either, also from a notebook cell, is one decorated function:

    @hl.steps.LOCATORS.register("largest heads")
    def mine(evidence, count=3):
        ...
        return hl.locate.Located("largest heads", heads)

    @hl.steps.SCORES.register("variance")
    def variance(evidence):
        return hl.HeadScores("variance", hl.locate.head_variance(evidence.moments, evidence.store.basis))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.errors import LocateError, NothingLocatedError, TaskError, check_type
from headlens.extraction import HeadStore
from headlens.heads import HeadScores
from headlens.locate import LOCATORS as ON_ARRAYS
from headlens.locate import (
    Calibrated,
    Candidates,
    ConceptRule,
    ConceptScores,
    ConceptSpans,
    ConflictingGroups,
    Decisions,
    HeadEffects,
    Located,
    Location,
    Locator,
    Objective,
    ObjectiveName,
    SearchResult,
    calibrated_from_margins,
    concept_candidates,
    concept_scores,
    concept_spans,
    contrast_spans,
    contrastive_from_margins,
    greedy_sweep,
    head_margins,
    resamples,
    single_head_sweep,
)
from headlens.prompts import Attribute, TextBank, ZeroShotTask
from headlens.registry import Registry
from headlens.states import Moments
from headlens.steps.data import AuditData, nearest
from headlens.steps.record import GIVEN, Groups, Locate
from headlens.steps.texts import TextEmbeddings, bank_embeddings
from headlens.tables import listed


class Evidence:
    """What a locator may read: the reference split seen through a question, each part made when it is first read.

    Args:
        data: the question's arrays.
        conflicting: the conflicting groups, where the user names them.
        n_bootstrap: of the locator's stability, where it has one; 0 leaves it out.
    """

    def __init__(self, data: AuditData, conflicting: Groups | None = None, n_bootstrap: int = 0):
        self.data, self._named, self._n_bootstrap = data, conflicting, n_bootstrap

    @property
    def store(self) -> HeadStore:
        """Head states of the reference split."""
        return self.data.reference

    @property
    def task(self) -> ZeroShotTask:
        """The classes."""
        return self.data.question.task

    @property
    def attribute(self) -> Attribute:
        """The attribute."""
        return self.data.question.attribute

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.data.question.seed

    @property
    def texts(self) -> TextEmbeddings:
        """Embeds prompts, and remembers them."""
        return self.data.texts

    @property
    def classifier(self) -> Float[Tensor, "class embed"]:
        """The class embeddings, unit norm."""
        return self.data.classifier

    @cached_property
    def labels(self) -> Int[Tensor, "image"]:
        """The true class of each image, as an index."""
        return torch.as_tensor(self.data.labels[self.data.splits.reference])

    @cached_property
    def values(self) -> Int[Tensor, "image"]:
        """The attribute's value of each image, as an index."""
        return torch.as_tensor(self.data.values[self.data.splits.reference])

    @property
    def logits(self) -> Float[Tensor, "image class"]:
        """Class scores of the unit embeddings."""
        return self.data.scores.logits

    @property
    def head_logits(self) -> Float[Tensor, "image layer head class"]:
        """Every head's part of them, which grows with heads × classes: `margins` needs two classes an image."""
        return self.data.scores.head_logits

    @property
    def margins(self) -> tuple[Float[Tensor, "image layer head"], Decisions]:
        """Each head's part of the score of the predicted class minus that of the class compared with it."""
        margins, decisions = self.data.scores.margins
        clusters = self.data.clusters_of(self.data.splits.reference)
        if clusters is not None:
            decisions = replace(decisions, clusters=torch.as_tensor(clusters).to(decisions.correct.device))
        return margins, decisions

    def named_by(
        self, locator: Locator, margins: Float[Tensor, "image layer head"], conflicting: Bool[Tensor, "image"]
    ) -> Located:
        """What a locator on arrays names, with its stability where that is wanted."""
        decisions = self.margins[1]
        draws = resamples(decisions, self._n_bootstrap, self.seed) if self._n_bootstrap else None
        return locator(margins, decisions, conflicting, draws=draws)

    @property
    def effects(self) -> HeadEffects:
        """What ablating any heads does to the class scores of these images."""
        return self.data.scores.effects

    @property
    def moments(self) -> Moments:
        """Mean and scatter of every head."""
        return self.data.images.moments

    @cached_property
    def conflicting(self) -> ConflictingGroups:
        """The groups in which attribute and class conflict."""
        return self.data.conflicting(self._named)

    @property
    def directions(self) -> Float[Tensor, "direction embed"]:
        """The attribute's concept vectors."""
        return self.data.directions

    @cached_property
    def prompts(self) -> Float[Tensor, "prompt embed"]:
        """The embeddings of all of the attribute's prompts, not normalised, in the order of the values."""
        return self.texts(self.data.attribute_prompts)

    @property
    def bank(self) -> TextBank:
        """The general texts."""
        return self.data.bank

    @cached_property
    def bank_embeddings(self) -> Float[Tensor, "text embed"]:
        """Their embeddings, not normalised."""
        return bank_embeddings(self.bank, self.texts, self.data.clip)


LOCATORS: Registry[Callable[..., Located]] = Registry("locator")
SCORES: Registry[Callable[..., HeadScores]] = Registry("score")


@dataclass(frozen=True, eq=False)
class LocatedHeads:
    """The located heads of an audit.

    Attributes:
        located: the locator's own result.
        note: the groups that it compared, in a sentence; "" for a locator that compares none.
    """

    located: Location | Calibrated | Candidates | SearchResult | Located
    note: str = ""


def locate(data: AuditData, call: Locate) -> LocatedHeads:
    """Find the heads that carry the attribute into the task.

    With their stability, the note also names the heads of the other rule: the calibrated one's beside the published
    one's, and the published one's beside every other that reads class scores.

    Args:
        data: the question's arrays.
        call: the locator and its options, or the heads.

    Raises:
        UnknownNameError: for an unknown locator.
        LocateError: for an option that it does not have, a group that does not exist, or nothing to contrast.
    """
    if call.spurious is not None:
        if not (call.spurious or call.salient):
            return LocatedHeads(Located("none"), call.source or "No heads were named.")
        given = Located(call.source or GIVEN, call.spurious, call.salient)
        return LocatedHeads(given, f"Heads located elsewhere: {call.source or 'named by the user'}.")
    evidence = Evidence(data, call.conflicting, call.n_bootstrap)
    found = run(LOCATORS, call.locator, evidence, locator_options(call.rule, dict(call.options)))
    how = f"Return the heads as hl.locate.Located({call.locator!r}, spurious=heads)."
    check_type(f"What the locator {call.locator!r} returned", found, Located, how, LocateError)
    # A locator that did not ask for the conflicting groups has nothing to say about them.
    note = _groups_in_words(evidence.conflicting) if "conflicting" in vars(evidence) else ""
    if call.n_bootstrap and found.stability is not None:
        note += _beside(Evidence(data, call.conflicting), call.locator)
    if isinstance(found, Candidates) and not found.spurious:
        note += _each_alone(found)
    return LocatedHeads(found, note)


def _beside(evidence: Evidence, locator: str) -> str:
    """The spurious heads of the published rule, or beside that of the calibrated one, as a sentence."""
    other = "calibrated" if locator == "contrastive" else "contrastive"
    name = "The calibrated locator" if other == "calibrated" else "The published rule (contrastive)"
    try:
        heads = LOCATORS[other](evidence).spurious
    except LocateError as error:
        return f" {name} does not apply. {error.problem}"
    return f" {name} names {', '.join(map(str, heads)) or 'no head'}."


def _each_alone(found: Candidates) -> str:
    """Which heads each of the two tests of a fairness locator flags where they agree on none, as a sentence."""
    flagged, tests = found.table(), ("by concept", "by TextSpan")
    if any(test not in flagged for test in tests):
        return ""
    heads = [listed(flagged.loc[flagged[test], "head"], 6) for test in tests]
    return (
        f"The two tests agree on no head: the concept vectors flag {heads[0]}, TextSpan {heads[1]}. Each test is a "
        "locator of its own, 'concept' and 'textspan'."
    )


def locator_options(rule: ConceptRule | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a locator as one mapping."""
    return dict(options) | ({} if rule is None else {"rule": rule})


def check_options(registry: Registry[Callable[..., Any]], name: str, options: Mapping[str, Any]) -> None:
    """Raise `LocateError` for an option that the entry of that name does not have."""
    known = list(inspect.signature(registry[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise LocateError(
                f"The {registry.kind} {name!r} has no option {option!r}.",
                f"Its options are {', '.join(known)}." if known else "It has none.",
            )


def run(registry: Registry[Callable[..., Any]], name: str, evidence: Evidence, options: Mapping[str, Any]) -> Any:
    """The result of a locator or score; raises `LocateError` for an option that it does not have."""
    check_options(registry, name, options)
    return registry[name](evidence, **options)


def head_scores(evidence: Evidence, name: str, **options: Any) -> HeadScores:
    """The score of that name for every head, over the reference split.

    Args:
        evidence: which keeps what several scores share.
        name: "attribution", "contrastive", "concept" or "effect", or one that was registered.
        options: the score's own, see the functions of this module.

    Raises:
        UnknownNameError: for an unknown name.
        LocateError: for an option that the score does not have, and where there is nothing to score.
    """
    found = run(SCORES, name, evidence, options)
    how = f"Return hl.HeadScores({name!r}, values), a number for each layer and head."
    check_type(f"What the score {name!r} returned", found, HeadScores, how, LocateError)
    return found


def _groups_in_words(groups: ConflictingGroups) -> str:
    how = {
        "named": "as named",
        "majority": "each class's rarer values in the reference split",
        "rarer": "the values that are rarer in the class than over all classes of the reference split",
        "accuracy": "the values on which each class is classified worse, because no value leads in some class of the "
        "reference split",
    }[groups.rule]
    sizes = list(zip(groups.groups, groups.sizes, strict=True))
    named = listed((f"{c}/{v} ({n} {'image' if n == 1 else 'images'})" for (c, v), n in sizes), 12)
    tied = f" No value leads in {listed(groups.tied, 12)}: left out." if groups.tied else ""
    return f"Conflicting groups: {named}; {how}.{tied}"


# ---- locators -------------------------------------------------------------------------------------------------------


def _on_arrays(name: str, default: str = "separate") -> Callable[..., Located]:
    def locate(evidence: Evidence, constants: str = default) -> Located:
        margins, decisions = evidence.margins
        if constants != "separate":
            seen = evidence.store.project(evidence.classifier, constants=constants)
            margins = head_margins(seen, decisions)
        return evidence.named_by(ON_ARRAYS[name], margins, evidence.conflicting.mask)

    return locate


for _name in ON_ARRAYS:
    LOCATORS.add(_name, _on_arrays(_name))
for _name in ("contrastive", "contrastive-full"):
    LOCATORS.add(f"{_name} (published)", _on_arrays(_name, "spread"))


@LOCATORS.register("calibrated")
def _calibrated(evidence: Evidence, q: float | int = 0.05, minimum_share: float | int = 0.02) -> Located:
    groups = evidence.conflicting
    if groups.rule == "accuracy":
        raise NothingLocatedError(
            "The reference split is balanced, and its conflicting groups would be those on which the model errs: that "
            "biases the calibrated test.",
            "Name the conflicting groups, take the correlated split as reference, or locate with 'contrastive'.",
        )
    rule = partial(calibrated_from_margins, q=float(q), minimum_share=float(minimum_share))
    return evidence.named_by(rule, evidence.margins[0], groups.mask)


@LOCATORS.register("contrastive-inferred")
def _contrastive_inferred(evidence: Evidence) -> Located:
    """The contrastive locator where the attribute is labelled nowhere: its values are inferred zero-shot."""
    values = nearest(evidence.store.embedding, evidence.attribute.prototypes(evidence.texts))
    groups = evidence.data.conflicting(values=values)
    found = evidence.named_by(contrastive_from_margins, evidence.margins[0], groups.mask)
    return replace(found, method="contrastive-inferred")


def _concept_scores(evidence: Evidence, rule: ConceptRule | None) -> ConceptScores:
    return concept_scores(
        evidence.store.project(evidence.directions),
        evidence.values,
        evidence.data.images.variance,
        evidence.directions,
        rule,
        # In real data an attribute goes together with the classes; a head that carries these alone is no candidate.
        evidence.labels,
    )


def _spans(
    evidence: Evidence, first: int, minimum_share: float | int, enter: str, maximum_p: float | int
) -> ConceptSpans:
    moments, basis = evidence.moments, evidence.store.basis
    if enter == "vectors":
        bank = evidence.bank_embeddings
        return contrast_spans(moments, basis, bank, evidence.directions, first, minimum_share, None, maximum_p)
    if enter != "prompts":
        raise LocateError(
            f"The attribute cannot enter the bank as {enter!r}.", "Pass enter='vectors' or enter='prompts'."
        )
    # Of two equal texts only the first can ever be chosen: the bank gives way to the attribute's own prompts.
    whole = evidence.bank.extended(list(dict.fromkeys(evidence.data.attribute_prompts)), "attribute")
    general = whole.take(i for i, category in enumerate(whole.categories) if category != "attribute")
    texts = bank_embeddings(general, evidence.texts, evidence.data.clip)
    return concept_spans(moments, basis, texts, evidence.prompts, first, minimum_share, None, maximum_p)


@LOCATORS.register("concept")
def _concept(evidence: Evidence, rule: ConceptRule | None = None) -> Candidates:
    scores = _concept_scores(evidence, rule)
    return Candidates("concept", scores.flagged, concept=scores)


@LOCATORS.register("textspan")
def _textspan(
    evidence: Evidence,
    first: int = 5,
    minimum_share: float | int = 0.0,
    enter: str = "vectors",
    maximum_p: float | int = 0.05,
) -> Candidates:
    spans = _spans(evidence, first, minimum_share, enter, maximum_p)
    return Candidates("textspan", spans.flagged, spans=spans)


@LOCATORS.register("concept+textspan")
def _both(
    evidence: Evidence,
    rule: ConceptRule | None = None,
    first: int = 5,
    minimum_share: float | int = 0.0,
    enter: str = "vectors",
    maximum_p: float | int = 0.05,
) -> Candidates:
    scores, spans = _concept_scores(evidence, rule), _spans(evidence, first, minimum_share, enter, maximum_p)
    return Candidates("concept+textspan", concept_candidates(scores, spans), concept=scores, spans=spans)


@LOCATORS.register("single-head sweep")
def _sweep(
    evidence: Evidence, objective: ObjectiveName = "balanced_v", minimum: float | int = 0.01, count: int | None = None
) -> SearchResult:
    wanted = Objective(objective, evidence.labels, evidence.values)
    return single_head_sweep(evidence.effects, wanted, minimum=minimum, count=count)


@LOCATORS.register("greedy sweep")
def _greedy(
    evidence: Evidence, objective: ObjectiveName = "balanced_v", count: int = 4, minimum: float | int = 0.01
) -> SearchResult:
    wanted = Objective(objective, evidence.labels, evidence.values)
    return greedy_sweep(evidence.effects, wanted, count, minimum=minimum)


# ---- scores ---------------------------------------------------------------------------------------------------------


def direction_between(evidence: Evidence, between: Sequence[str] | None) -> tuple[Float[Tensor, "embed"], str]:
    """t_a − t_b, of unit texts each, and the names of both.

    A name is a class, else a value of the attribute, which stands for the mean of its prompts, else a prompt.

    Args:
        evidence: whose classes and text tower.
        between: a and b; the first two classes by default.

    Raises:
        TaskError: unless there are two, and different ones.
    """
    names = list(evidence.task.classes[:2]) if between is None else list(between)
    if len(names) != 2 or names[0] == names[1] or not all(name.strip() for name in names):
        raise TaskError(f"{names!r} are not two different classes or texts to compare.", "Name one for each end.")
    values = evidence.attribute.values
    rows = [
        evidence.classifier[evidence.task.classes.index(name)]
        if name in evidence.task.classes
        else _unit_mean(evidence.texts(list(values.get(name, [name])))).to(evidence.classifier)
        for name in names
    ]
    return rows[0] - rows[1], f"{names[0]} − {names[1]}"


def _unit_mean(texts: Float[Tensor, "text embed"]) -> Float[Tensor, "embed"]:
    return normalize(normalize(texts, dim=-1).mean(0), dim=-1)


@SCORES.register("attribution")
def _attribution(evidence: Evidence, between: Sequence[str] | None = None) -> HeadScores:
    """The mean over the reference images of x_h·(t_a − t_b): what a head adds to the score of a over that of b.

    Limit: a head may say the same of every image; the mean then is large, though the head distinguishes no images.
    """
    direction, names = direction_between(evidence, between)
    along = evidence.store.basis.fold(direction[None].double())[..., 0]
    return HeadScores(f"attribution, {names}", (evidence.data.images.mean * along).sum(-1))


@SCORES.register("contrastive")
def _contrastive(evidence: Evidence) -> HeadScores:
    """V_W − V_C of contrastive attribution, the spurious heads selected."""
    return LOCATORS["contrastive"](evidence).scores()


@SCORES.register("concept")
def _concept_score(evidence: Evidence, measure: str = "part", rule: ConceptRule | None = None) -> HeadScores:
    """A score of the concept test, the flagged heads selected; see `headlens.locate.ConceptScores.scores`."""
    return _concept_scores(evidence, rule).scores(measure)


OBJECTIVES = {
    "cramers_v": "decrease in Cramér's V",
    "balanced_v": "decrease in balanced V",
    "worst_group": "gain in worst-group accuracy",
    "average": "gain in accuracy",
}
"""What an improvement of each objective of the score "effect" is called: V is better where it is lower."""


@SCORES.register("effect")
def _effect(evidence: Evidence, objective: ObjectiveName = "cramers_v", minimum: float | int = 0.01) -> HeadScores:
    """How much better the objective gets when a head alone is replaced by its reference mean; below zero, worse.

    V gets better by falling. Limit: labels, attribute and objective are all read on the same images.
    """
    wanted = Objective(objective, evidence.labels, evidence.values)
    swept = single_head_sweep(evidence.effects, wanted, minimum=minimum)
    name = f"ablated alone: {OBJECTIVES.get(objective, objective)}"
    return HeadScores(name, swept.improvement, float(minimum), swept.spurious)
