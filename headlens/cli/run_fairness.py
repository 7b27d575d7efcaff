"""What `headlens fairness` does."""

from __future__ import annotations

from typing import Any

from headlens.audit import Audit
from headlens.audit.folder import fairness_record
from headlens.audit.requirements import parse_requirement
from headlens.cli import show_fairness
from headlens.cli.finish import finish
from headlens.cli.inputs import Inputs, check, open_audit
from headlens.cli.run_audit import check_locator
from headlens.report.steps import take_missing


def run_fairness(
    typed: Inputs,
    *,
    locator: str,
    first: int,
    texts: int,
    total: int,
    permutations: int,
    draws: int,
    bootstrap: int,
    require: list[str],
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Check everything that can be checked without the model, then extract, locate, explain, judge, save and show."""
    asked = check(typed)
    check_locator(locator)
    required = [parse_requirement(text) for text in require]
    audit = open_audit(asked)
    steps(
        audit,
        locator=locator,
        first=first,
        texts=texts,
        total=total,
        permutations=permutations,
        draws=draws,
        bootstrap=bootstrap,
    )
    take_missing(audit)
    audit.save(typed.out)
    finish(
        audit,
        typed.out,
        fairness_record(audit),
        lambda report: show_fairness.fairness(audit, report, asked.notes),
        required,
        as_json=as_json,
        open_report=open_report,
    )


def steps(
    audit: Audit,
    *,
    locator: str,
    first: int,
    texts: int,
    total: int,
    permutations: int,
    draws: int,
    bootstrap: int,
) -> None:
    """Locate, explain, judge."""
    options: dict[str, Any] = {"first": first} if "textspan" in locator else {}
    audit.locate(locator, **options)
    audit.explain(count=min(texts, len(audit.bank)))
    audit.fairness(draws=draws, bootstrap=bootstrap, permutations=permutations, total=total)
