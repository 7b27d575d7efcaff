"""What a team's checks ask of a model: `worst_group >= 0.6`, and whether an audit shows it.

A requirement is met where the whole 95 % interval meets it, not the estimate alone: of `>=` the interval's low end
counts, of `<=` its high end. A small test set then cannot pass by luck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headlens.errors import TaskError

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

_FORM = re.compile(r"^\s*(?:(?P<of>[^.<>=]+)\.)?(?P<measure>[^<>=]+?)\s*(?P<sign>>=|<=)\s*(?P<bound>[-+.\deE]+)\s*$")
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


@dataclass(frozen=True)
class Outcome:
    """Whether an audit meets a requirement.

    Attributes:
        requirement: what was asked.
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
    written = text.strip()
    # A group's name is a measure of its own and may hold a point.
    group = re.match(r"^(?:(?P<of>[^.<>=]+)\.)?(?P<measure>groups\..+?)\s*(?P<sign>>=|<=)\s*(?P<bound>\S+)$", written)
    found = group or _FORM.match(written)
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


def check_requirements(audit: Audit, requirements: Sequence[Requirement]) -> list[Outcome]:
    """Whether the audit's results meet each requirement.

    Raises:
        TaskError: for a method or group that was not scored, or a measure that needs the other kind of audit.
    """
    return [_check(audit, one) for one in requirements]


def _check(audit: Audit, asked: Requirement) -> Outcome:
    value, interval = _association(audit, asked) if asked.measure in _ASSOCIATION else _accuracy(audit, asked)
    met = interval[0] >= asked.bound if asked.sign == ">=" else interval[1] <= asked.bound
    return Outcome(asked, met, value, interval)


def _accuracy(audit: Audit, asked: Requirement) -> tuple[float, tuple[float, float]]:
    if audit.results is None:
        raise TaskError(f"scored methods for {asked}", "none", "headlens audit, or Audit.evaluate, scores them.")
    name = asked.of or "zero-shot"
    if name not in audit.results.evaluations:
        raise TaskError(f"a scored method for {asked}", repr(name), f"Scored: {', '.join(audit.results.evaluations)}.")
    scored = audit.results.evaluations[name]
    if asked.measure not in scored.interval:
        raise TaskError(f"a group among {', '.join(scored.groups)}", repr(asked.measure), "Write groups.CLASS/VALUE.")
    group = asked.measure.removeprefix("groups.")
    value = scored.groups[group] if asked.measure.startswith("groups.") else getattr(scored, asked.measure)
    return float(value), scored.interval[asked.measure]


def _association(audit: Audit, asked: Requirement) -> tuple[float, tuple[float, float]]:
    if audit.fairness_results is None:
        raise TaskError(f"a fairness audit for {asked}", "none", "headlens fairness, or Audit.fairness, makes one.")
    if asked.of not in ("", "before", "after"):
        raise TaskError(f"before or after in front of {asked.measure}", repr(asked.of), "Leave it out for before.")
    measured = audit.fairness_results.change.after if asked.of == "after" else audit.fairness_results.change.before
    name = _ASSOCIATION[asked.measure]
    return float(getattr(measured, name)), measured.interval[name]
