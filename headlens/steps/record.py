"""The record of an audit: each call that was made, with its result.

A `Step` pairs a frozen call with its frozen result, so that what was asked and what was found cannot come apart. An
audit's whole state is its question and its steps. A new step replaces the one with the same `slot`; only a new `Locate`
with other heads (or a correction replaced on purpose) invalidates others: those that rest on what it replaced.

`headlens.steps.options` says how the fields of the calls are written in the shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from headlens.explain import LabelRule
from headlens.heads import HeadId
from headlens.locate import ConceptRule
from headlens.prompts import Attribute
from headlens.serialization import digest
from headlens.steps.verdicts import FairnessRule

GIVEN = "given"
"""The locator's name of heads that were located elsewhere, or named."""

Plain = str | float | int | bool | None
"""What a locator's own option may be, beside its rule."""
Options = tuple[tuple[str, Plain], ...]
"""A locator's own options, by name."""
Groups = tuple[tuple[str, str], ...]
"""(class, value) groups."""


class Made:
    """A call that was made."""

    @property
    def verb(self) -> str:
        """The method of `Audit` and the shell command that make it."""
        return type(self).__name__.lower()

    @property
    def slot(self) -> tuple[str, ...]:
        """What a later call of the same slot replaces."""
        return (self.verb,)


@dataclass(frozen=True)
class Locate(Made):
    """`audit.locate`: find the heads that carry the attribute into the task.

    Attributes:
        locator: the locator's name; "given" for heads that were located elsewhere.
        conflicting: the conflicting groups; None for the stated rule.
        rule: the thresholds of the concept test, for the locators that make it.
        options: the locator's other options.
        spurious, salient: under "given", the heads.
        source: under "given", where they come from.
        n_bootstrap: resamples of the reference images behind the locator's stability; 0 leaves it out.
    """

    locator: str = "contrastive"
    conflicting: Groups | None = None
    rule: ConceptRule | None = None
    options: Options = ()
    spurious: tuple[HeadId, ...] | None = None
    salient: tuple[HeadId, ...] = ()
    source: str = ""
    n_bootstrap: int = 50


@dataclass(frozen=True)
class Correct(Made):
    """`audit.correct`: fit a correction on the reference split.

    Attributes:
        name: what tables call it.
        method: the registered method; None for a correction of the user's own.
        located: whether it rests on the heads of the audit's own `Locate`.
    """

    name: str
    method: str | None
    located: bool = False

    @property
    def slot(self) -> tuple[str, ...]:
        """Each correction has its own."""
        return (self.verb, self.name)


@dataclass(frozen=True)
class Evaluate(Made):
    """`audit.evaluate`: score fitted corrections on the test split, against random heads.

    Attributes:
        methods: the corrections that are scored beside zero-shot.
        controls: those that are compared with random heads.
        judged: the correction that the verdict is about; None for none.
        n_random_sets, n_bootstrap: how many random head sets, and resamples behind the interval of D's fall.
        n_null: how often the verdict is repeated with the attribute permuted within the true classes.
        total: scored images that are passed through the model again for the total effect; 0 leaves it out.
    """

    methods: tuple[str, ...] = ("ablation", "ltc")
    controls: tuple[str, ...] = ()
    judged: str | None = None
    n_random_sets: int = 100
    n_bootstrap: int = 1000
    n_null: int = 50
    total: int = 500


@dataclass(frozen=True)
class Fairness(Made):
    """`audit.fairness`: ablate candidates and judge whether the attribute's hold on the predictions is focal.

    Attributes:
        locator: whose heads are the candidates; "given" for heads that were named.
        rule, options: the locator's own.
        heads: under "given", the candidates.
        n_random_sets, n_bootstrap, n_permutations: random head sets; resamples; permutations of the attribute within
            each class.
        total: scored images that are passed through the model again for the total effect; 0 leaves it out.
        tokens: at which tokens the total ablation replaces the heads.
        verdict_rule: the thresholds of the verdict.
        n_null: how often the verdict is repeated with the attribute permuted within the true classes.
    """

    locator: str = "concept+textspan"
    rule: ConceptRule | None = None
    options: Options = ()
    heads: tuple[HeadId, ...] | None = None
    n_random_sets: int = 100
    n_bootstrap: int = 1000
    n_permutations: int = 1000
    total: int = 500
    tokens: Literal["class", "all"] = "class"
    verdict_rule: FairnessRule = field(default_factory=FairnessRule)
    n_null: int = 50


@dataclass(frozen=True)
class Explain(Made):
    """`audit.explain`: say what heads encode, by the texts of the bank that span their contributions.

    Attributes:
        heads: the heads; None for all. How many heads share a text is counted among these.
        k: texts a head, at most.
        n_bootstrap: bootstrap samples of the images behind the texts' stability; 0 leaves it out.
        rule: how a label is made.
    """

    heads: tuple[HeadId, ...] | None = None
    k: int = 10
    n_bootstrap: int = 5
    rule: LabelRule = field(default_factory=LabelRule)


@dataclass(frozen=True)
class Collateral(Made):
    """`audit.collateral`: what corrections cost elsewhere, on the scored images.

    Attributes:
        methods: the corrections.
        heads: candidates of a fairness audit, whose mean ablation is measured, too.
        attributes: further attributes, named after the manifest's columns; a further task is written as one, too. None:
            those of the manifest's columns that can be asked.
        k: how many nearest images are compared.
        n_bootstrap: resamples behind every interval.
    """

    methods: tuple[str, ...]
    heads: tuple[HeadId, ...] = ()
    attributes: tuple[Attribute, ...] | None = None
    k: int = 10
    n_bootstrap: int = 1000


@dataclass(frozen=True)
class Ablate(Made):
    """`audit.ablate`: replace chosen heads by their reference means, and score before and after.

    Attributes:
        heads: the heads.
        n_random_sets, n_bootstrap: how many random head sets, and bootstrap resamples.
    """

    heads: tuple[HeadId, ...]
    n_random_sets: int = 100
    n_bootstrap: int = 1000


Call = Locate | Correct | Evaluate | Fairness | Explain | Collateral | Ablate
C = TypeVar("C", Locate, Correct, Evaluate, Fairness, Explain, Collateral, Ablate)


@dataclass(frozen=True, eq=False)
class Step:
    """A call, and what it found."""

    call: Call
    result: Any


Record = tuple[Step, ...]
"""The steps in the order in which they were made."""


def last(record: Record, kind: type[C]) -> Step | None:
    """The step of a kind of call; the latest where there are several."""
    return next((step for step in reversed(record) if isinstance(step.call, kind)), None)


def result_of(record: Record, kind: type[C]) -> Any:
    """The result of a kind of call; None where it was not made."""
    step = last(record, kind)
    return None if step is None else step.result


def corrections(record: Record) -> dict[str, Step]:
    """The steps that fitted a correction, by its name."""
    return {step.call.name: step for step in record if isinstance(step.call, Correct)}


def known(record: Record, call: Call) -> Step | None:
    """The step that made this very call, where its result still stands."""
    return next((step for step in record if step.call == call), None)


def with_step(record: Record, new: Step) -> tuple[Record, tuple[Step, ...]]:
    """The record after one more step, and the steps that it invalidates.

    A step replaces the one of its slot. Steps that rest on a replaced one with another result are dropped, and steps
    that rest on those.
    """
    old = next((step for step in record if step.call.slot == new.call.slot), None)
    if old is not None and digest(old.result) == digest(new.result):
        return tuple(new if step is old else step for step in record), ()
    stale = set() if old is None or not isinstance(new.call, Locate | Correct) else {new.call.slot}
    kept: list[Step] = []
    dropped: list[Step] = []
    for step in record:
        if step is old:
            continue
        if stale & _rests_on(step.call):
            dropped.append(step)
            stale.add(step.call.slot)
        else:
            kept.append(step)
    return (*kept, new), tuple(dropped)


def _rests_on(call: Call) -> set[tuple[str, ...]]:
    """The slots whose results a call used."""
    if isinstance(call, Correct):
        return {("locate",)} if call.located else set()
    if isinstance(call, Evaluate | Collateral):
        return {("correct", name) for name in call.methods}
    return set()


def in_words(call: Call) -> str:
    """A step as a message names it: "the correction 'ltc'"."""
    if isinstance(call, Correct):
        return f"the correction {call.name!r}"
    names = {
        "locate": "the located heads",
        "evaluate": "the evaluation",
        "fairness": "the fairness audit",
        "explain": "the explanations",
        "collateral": "the collateral measures",
        "ablate": "the ablation of chosen heads",
    }
    return names[call.verb]
