"""How a command ends: the audit is saved, the report written, the result shown."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from headlens.audit import Audit
from headlens.audit.requirements import Requirement, check_requirements
from headlens.cli.app import EXIT_MISSED
from headlens.serialization import to_json


def finish(
    audit: Audit,
    out: Path,
    record: dict[str, Any],
    show: Callable[[Path], None],
    required: Sequence[Requirement],
    *,
    as_json: bool,
    open_report: bool | None,
) -> None:
    """Write report and card, print the record as JSON or what `show(report)` prints, and exit by what was required."""
    report = audit.report(out / "report.html")
    (out / "card.md").write_text(audit.card(), encoding="utf-8", errors="backslashreplace")
    outcomes = check_requirements(audit, required)
    if outcomes:
        record |= {"requirements": [{"required": str(o.requirement), **asdict(o)} for o in outcomes]}
    if as_json:
        typer.echo(to_json(record))
    else:
        show(report)
    if open_report:
        open_in_browser(report)
    for outcome in outcomes:
        typer.secho(outcome.sentence, fg="green" if outcome.met else "red", err=True)
    if not all(outcome.met for outcome in outcomes):
        raise typer.Exit(EXIT_MISSED)


def wants_report(as_json: bool, open_report: bool | None) -> bool:
    """What was asked; where nothing was, a person at a terminal gets to see the report."""
    return sys.stdout.isatty() and not as_json and not os.environ.get("CI") if open_report is None else open_report


def open_in_browser(report: Path) -> None:
    """Open the report where there is a screen; elsewhere the path that was printed is enough."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen:
        webbrowser.open(report.resolve().as_uri())
