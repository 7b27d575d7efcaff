"""`headlens audit`: locate, correct and judge, on your own images."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Bootstrap, Conflicting, Draws, Json, Open, Require


@app.command()
@takes_audit(folder=False)
def audit(
    asked: Asked,
    locator: Annotated[
        str, typer.Option(help="How heads are located: contrastive, contrastive-soft, concept, textspan, …")
    ] = "contrastive",
    conflicting: Conflicting = None,
    methods: Annotated[str, typer.Option(help="Corrections to score, separated by commas.")] = "ablation,ltc",
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    require: Require = None,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Locate, correct and judge the heads that carry an attribute into a zero-shot task, on your own images."""
    from headlens.cli.run_audit import run_audit

    run_audit(
        asked.inputs(),
        locator=locator,
        conflicting=conflicting,
        methods=methods,
        draws=draws,
        bootstrap=bootstrap,
        require=require or [],
        as_json=as_json,
        open_report=open_report,
    )
