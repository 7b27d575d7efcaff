"""`headlens demo`: the whole path on the embedded testbed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import Bootstrap, Draws, Json, Open, Out, Seed


class World(StrEnum):
    birds = "birds"
    figures = "figures"


@app.command()
def demo(
    world: Annotated[
        World, typer.Option(help="birds: a background bias, located and corrected; figures: a fairness audit.")
    ] = World.birds,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A testbed model that knows the world; see the model card.")
    ] = None,
    out: Out = Path("demo"),
    images: Annotated[
        int | None, typer.Option(min=16, help="Images to draw in all; all of the world's by default.")
    ] = None,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    open_report: Open = None,
) -> None:
    """Run the whole path on the embedded testbed, whose biased heads are known."""
    from headlens.cli.run_demo import run_demo

    run_demo(
        world.value,
        model,
        out,
        images=images,
        draws=draws,
        bootstrap=bootstrap,
        seed=seed,
        as_json=as_json,
        open_report=open_report,
    )
