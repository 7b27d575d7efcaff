"""`headlens evaluate`: score corrections, with intervals and random heads."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Bootstrap, Draws, Json, Open, Require


@app.command()
@takes_audit()
def evaluate(
    asked: Asked,
    methods: Annotated[
        str | None, typer.Option(help="Corrections to score, separated by commas; by default those that are fitted.")
    ] = None,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    require: Require = None,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Score corrections on the test split, against zero-shot and against random heads, and write the report."""
    from headlens.cli.run_steps import run_evaluate

    run_evaluate(
        asked,
        methods=methods,
        draws=draws,
        bootstrap=bootstrap,
        require=require or [],
        as_json=as_json,
        open_report=open_report,
    )
