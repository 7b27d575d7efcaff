"""Requirements: read strictly, judged by the end of the interval that counts."""

from types import SimpleNamespace

import pytest

from headlens.errors import TaskError
from headlens.metrics import Association, Evaluation
from headlens.steps.requirements import Requirement, check_requirements, parse_requirement

EVALUATION = Evaluation(
    method="zero-shot",
    average=0.8,
    worst_group=0.62,
    gap=0.18,
    groups={"a.b/c": 0.62, "d/e": 0.9},
    sizes={"a.b/c": 50, "d/e": 50},
    interval={
        "average": (0.7, 0.9),
        "worst_group": (0.55, 0.7),
        "gap": (0.1, 0.25),
        "groups.a.b/c": (0.55, 0.7),
        "groups.d/e": (0.8, 0.95),
    },
)
BEFORE = Association(0.4, 0.38, 0.8, {"cramers_v": (0.35, 0.45), "corrected": (0.33, 0.43), "accuracy": (0.75, 0.85)})
AUDIT = SimpleNamespace(
    results=SimpleNamespace(evaluations={"zero-shot": EVALUATION}),
    fairness_results=SimpleNamespace(change=SimpleNamespace(before=BEFORE, after=BEFORE)),
)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("worst_group >= 0.55", True),
        ("worst_group >= 0.6", False),  # the estimate meets it, the low end does not
        ("gap <= 0.25", True),
        ("gap <= 0.2", False),
        ("zero-shot.average>=.7", True),
        ("groups.a.b/c >= 0.5", True),
        ("zero-shot.groups.d/e <= 0.9", False),
        ("cramers_v <= 0.45", True),
        ("after.cramers_v_corrected <= 0.4", False),
        ("before.accuracy >= 0.75", True),
    ],
)
def test_the_end_that_counts_decides(text: str, met: bool) -> None:
    (outcome,) = check_requirements(AUDIT.results, AUDIT.fairness_results, [parse_requirement(text)])
    assert outcome.met is met
    assert ("met" if met else "missed") in outcome.sentence
    assert ("low end" if ">=" in text else "high end") in outcome.sentence


def test_what_is_read_is_written_again() -> None:
    assert parse_requirement("ltc.groups.a.b/c<=1e-2") == Requirement("ltc", "groups.a.b/c", "<=", 0.01)
    assert str(parse_requirement(" ltc.gap  <=  .1 ")) == "ltc.gap <= 0.1"


@pytest.mark.parametrize("text", ["", "worst_group", "worst_group > 0.5", "worst >= 0.5", "gap <= much", ">= 3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TaskError):
        parse_requirement(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [("ltc.gap <= 1", "Scored: zero-shot"), ("groups.x/y >= 0", "a.b/c"), ("ltc.cramers_v <= 1", "before or after")],
)
def test_what_was_not_scored_cannot_be_required(text: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        check_requirements(AUDIT.results, AUDIT.fairness_results, [parse_requirement(text)])


def test_each_kind_of_audit_has_its_measures() -> None:
    for text, said in (("gap <= 1", "headlens audit"), ("cramers_v <= 1", "headlens fairness")):
        with pytest.raises(TaskError, match=said):
            check_requirements(None, None, [parse_requirement(text)])
