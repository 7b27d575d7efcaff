"""`headlens explain`: what heads encode, in words."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Json


@app.command()
@takes_audit()
def explain(
    asked: Asked,
    head: Annotated[
        list[str] | None, typer.Option(help="One head's texts, such as 10.3; may be repeated. By default every head.")
    ] = None,
    texts: Annotated[int | None, typer.Option(min=1, help="Texts that each head is explained by, at most.")] = None,
    as_json: Json = False,
) -> None:
    """Say what heads encode: a table of every head with its label, or the texts of some."""
    from headlens.cli.run_steps import run_explain

    run_explain(asked, heads=head or [], texts=texts, as_json=as_json)
