"""`headlens correct`: fit corrections and save them."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Json


@app.command()
@takes_audit()
def correct(
    asked: Asked,
    methods: Annotated[str, typer.Option(help="Corrections to fit, separated by commas.")] = "ltc",
    as_json: Json = False,
) -> None:
    """Fit corrections on the reference split and save each in a folder that `hl.correct.load_correction` opens."""
    from headlens.cli.run_steps import run_correct

    run_correct(asked, methods=methods, as_json=as_json)
