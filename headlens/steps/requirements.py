"""What a team's checks ask of a model: `worst_group >= 0.6`, and whether an audit shows it.

A requirement is met where the whole 95 % interval meets it, not the estimate alone: of `>=` the interval's low end
counts, of `<=` its high end. A small test set then cannot pass by luck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headlens.cells import nearest
from headlens.errors import TaskError

if TYPE_CHECKING:
    from headlens.steps.evaluate import Evaluated
    from headlens.steps.fairness import FairnessResults

# A group's name is a measure of its own and may hold a point.
_FORM = re.compile(
    r"\s*(?:(?!groups\.)(?P<of>[^.<>=]+)\.)?(?P<measure>groups\..+?|[^<>=]+?)\s*(?P<sign>>=|<=)\s*(?P<bound>\S+)\s*"
)
_ASSOCIATION = {"cramers_v": "cramers_v", "cramers_v_corrected": "corrected", "accuracy": "accuracy"}
_ACCURACIES = ("average", "worst_group", "gap")


@dataclass(frozen=True)
class Requirement:
    """One requirement, as it was written.

    Attributes:
        of: what is measured: a method's name ("zero-shot", "ltc"), or "before" or "after" the candidates' ablation;
            "" for the model as it is.
        measure: average, worst_group, gap, groups.CLASS/VALUE; cramers_v, cramers_v_corrected, accuracy.
        sign: the comparison.
        bound: what it is compared with.
    """

    of: str
    measure: str
    sign: Literal[">=", "<="]
    bound: float

    def __str__(self) -> str:
        return f"{self.of + '.' if self.of else ''}{self.measure} {self.sign} {self.bound:g}"

    @property
    def group(self) -> str:
        """The group that is measured, class/value; "" for another measure."""
        return self.measure.removeprefix("groups.") if self.measure.startswith("groups.") else ""

    def check_name(self, methods: Sequence[str]) -> None:
        """Raise `TaskError` for a requirement that no result can meet, before anything is computed.

        Args:
            methods: what will be scored, zero-shot included; none in a fairness audit.
        """
        if methods and self.measure in _ASSOCIATION:
            raise TaskError(f"{self} needs a fairness audit.", "headlens fairness, or Audit.fairness, makes one.")
        if not methods and self.measure not in _ASSOCIATION:
            raise TaskError(f"{self} needs scored methods.", "headlens audit, or Audit.evaluate, scores them.")
        known = methods or ("before", "after")
        if self.of and self.of not in known:
            near = nearest(self.of, known)
            hint = f"Did you mean {near!r}? " if near else ""
            raise TaskError(f"{self.of!r} of {self} is not measured.", f"{hint}There are {', '.join(known)}.")


@dataclass(frozen=True)
class Outcome:
    """Whether an audit meets a requirement.

    Attributes:
        requirement: what was required.
        met: whether the interval's end that counts meets it.
        value: the estimate.
        interval: its 95 % interval.
    """

    requirement: Requirement
    met: bool
    value: float
    interval: tuple[float, float]

    @property
    def sentence(self) -> str:
        """The outcome in words; the end that counts is named."""
        end, which = (self.interval[0], "low") if self.requirement.sign == ">=" else (self.interval[1], "high")
        return (
            f"{self.requirement}: {'met' if self.met else 'missed'}; {self.value:.3f}, and the {which} end of its 95 % "
            f"interval is {end:.3f}."
        )


def parse_requirement(text: str) -> Requirement:
    """Read `worst_group >= 0.6`, `ltc.gap <= 0.1`, `groups.landbird/water >= 0.5` or `after.cramers_v <= 0.3`.

    Raises:
        TaskError: for anything else, or a measure that does not exist.
    """
    found = _FORM.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        measure, bound = found["measure"].strip(), float(found["bound"])
    except ValueError:
        raise TaskError(
            "a requirement written MEASURE >= NUMBER or MEASURE <= NUMBER",
            repr(text),
            'Write for example --require "worst_group >= 0.6" or --require "cramers_v <= 0.3".',
        ) from None
    if measure not in (*_ACCURACIES, *_ASSOCIATION) and not measure.startswith("groups."):
        raise TaskError(
            f"one of the measures {', '.join((*_ACCURACIES, 'groups.CLASS/VALUE', *_ASSOCIATION))}",
            repr(measure),
            "Correct the name; a method's name goes before it, as in ltc.worst_group.",
        )
    return Requirement((found["of"] or "").strip(), measure, ">=" if found["sign"] == ">=" else "<=", bound)


def check_requirements(
    evaluated: Evaluated | None, fairness: FairnessResults | None, requirements: Sequence[Requirement]
) -> list[Outcome]:
    """Whether the results of an audit meet each requirement.

    Args:
        evaluated: what `Audit.evaluate` found; None where it was not called.
        fairness: what `Audit.fairness` found; None where it was not called.
        requirements: as `parse_requirement` reads them.

    Raises:
        TaskError: for a method or group that was not scored, or a measure that needs the other kind of audit.
    """
    return [_check(evaluated, fairness, one) for one in requirements]


def _check(evaluated: Evaluated | None, fairness: FairnessResults | None, required: Requirement) -> Outcome:
    association = required.measure in _ASSOCIATION
    value, interval = _association(fairness, required) if association else _accuracy(evaluated, required)
    met = interval[0] >= required.bound if required.sign == ">=" else interval[1] <= required.bound
    return Outcome(required, met, value, interval)


def _accuracy(evaluated: Evaluated | None, required: Requirement) -> tuple[float, tuple[float, float]]:
    if evaluated is None:
        raise TaskError(f"No method was scored, for {required}.", "headlens audit, or Audit.evaluate, scores them.")
    name = required.of or "zero-shot"
    if name not in evaluated.evaluations:
        raise TaskError(
            f"The method {name!r} of {required} was not scored.", f"Scored: {', '.join(evaluated.evaluations)}."
        )
    scored = evaluated.evaluations[name]
    if required.measure not in scored.interval:
        raise TaskError(
            f"There is no group {required.measure!r}; there are {', '.join(scored.groups)}.",
            "Write groups.CLASS/VALUE.",
        )
    value = scored.groups[required.group] if required.group else getattr(scored, required.measure)
    return float(value), scored.interval[required.measure]


def _association(fairness: FairnessResults | None, required: Requirement) -> tuple[float, tuple[float, float]]:
    if fairness is None:
        raise TaskError(
            f"There is no fairness audit, for {required}.", "headlens fairness, or Audit.fairness, makes one."
        )
    if required.of not in ("", "before", "after"):
        raise TaskError(
            f"{required.of!r} cannot stand in front of {required.measure}.", "Write before or after, or leave it out."
        )
    measured = fairness.change.after if required.of == "after" else fairness.change.before
    name = _ASSOCIATION[required.measure]
    return float(getattr(measured, name)), measured.interval[name]
