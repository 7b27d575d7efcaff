"""What `headlens audit` does."""

from __future__ import annotations

from pathlib import Path

from headlens.audit import Audit
from headlens.audit.folder import evaluation_record
from headlens.audit.locators import LOCATORS
from headlens.audit.methods import method
from headlens.audit.requirements import Requirement, parse_requirement
from headlens.cli import show
from headlens.cli.finish import finish
from headlens.cli.inputs import Inputs, check, group_of, listed, open_audit
from headlens.errors import LocateError
from headlens.report.steps import take_missing
from headlens.serialization import write_json


def run_audit(
    typed: Inputs,
    *,
    locator: str,
    conflicting: list[str] | None,
    methods: str,
    draws: int,
    bootstrap: int,
    require: list[str],
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Check everything that can be checked without the model, then extract, audit, save and show."""
    asked = check(typed)
    check_locator(locator)
    required = [parse_requirement(text) for text in require]
    names = listed(methods)
    for name in names:
        method(name)
    groups = None if conflicting is None else [group_of(text) for text in conflicting]
    audit = open_audit(asked)
    audit.locate(locator, conflicting=groups)
    audit.evaluate(names, draws=draws, bootstrap=bootstrap)
    finish_audit(audit, typed.out, required, as_json=as_json, open_report=open_report)


def check_locator(name: str) -> None:
    """Raise `LocateError` for a name that no locator has."""
    if name not in LOCATORS:
        raise LocateError(f"one of the locators {', '.join(LOCATORS)}", repr(name), "Choose one of these.")


def finish_audit(
    audit: Audit,
    out: Path,
    required: list[Requirement],
    *,
    as_json: bool,
    open_report: bool | None,
    planted: list[tuple[int, int]] | None = None,
) -> None:
    """Save the audit, with the planted heads where they are known, then report and show it."""
    take_missing(audit)
    audit.save(out)
    record = evaluation_record(audit)
    if planted is not None:
        record["planted"] = [list(head) for head in planted]
        write_json(out / "evaluation.json", record)
    finish(
        audit,
        out,
        record,
        lambda report: show.audit(audit, report, planted),
        required,
        as_json=as_json,
        open_report=open_report,
    )
