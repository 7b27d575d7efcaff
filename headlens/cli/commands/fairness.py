"""`headlens fairness`: the mechanistic fairness audit."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.asked import Asked, takes_audit
from headlens.cli.options import Bootstrap, Draws, Json, Open, Require


@app.command()
@takes_audit(folder=False, out="fairness", without={"pairs"})
def fairness(
    asked: Asked,
    locator: Annotated[
        str, typer.Option(help="How candidates are found: concept, textspan, concept+textspan (both agree), …")
    ] = "concept+textspan",
    first: Annotated[int, typer.Option(min=1, help="Texts of a head among which a prompt must be, for TextSpan.")] = 5,
    texts: Annotated[int, typer.Option(min=1, help="Texts that each head is explained by, at most.")] = 10,
    total: Annotated[
        int, typer.Option(min=0, help="Images passed through the model again for the total effect; 0 leaves it out.")
    ] = 500,
    permutations: Annotated[int, typer.Option(min=1, help="Of the attribute within each class.")] = 1000,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    require: Require = None,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Find the heads that carry a demographic attribute, say what they encode, and judge what ablating them does."""
    from headlens.cli.run_fairness import run_fairness

    run_fairness(
        asked.inputs(),
        locator=locator,
        first=first,
        texts=texts,
        total=total,
        permutations=permutations,
        draws=draws,
        bootstrap=bootstrap,
        require=require or [],
        as_json=as_json,
        open_report=open_report,
    )
