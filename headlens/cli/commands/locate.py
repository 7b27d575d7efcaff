"""`headlens locate`: which heads."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Conflicting, Json


@app.command()
@takes_audit()
def locate(
    asked: Asked,
    locator: Annotated[
        str, typer.Option(help="How heads are located: contrastive, contrastive-soft, concept, textspan, …")
    ] = "contrastive",
    conflicting: Conflicting = None,
    as_json: Json = False,
) -> None:
    """Find the heads that carry the attribute into the task, and keep them in the audit's folder."""
    from headlens.cli.run_steps import run_locate

    run_locate(asked, locator=locator, conflicting=conflicting, as_json=as_json)
