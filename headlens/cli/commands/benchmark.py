"""`headlens benchmark`: every method on a data set, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import (
    BatchSize,
    Bootstrap,
    Device,
    Draws,
    Json,
    OnError,
    OnErrorOption,
    Out,
    Precision,
    PrecisionOption,
    Pretrained,
    Seed,
    Store,
)


@app.command()
def benchmark(
    suite: Annotated[str, typer.Argument(help="testbed, waterbirds, celeba, counteranimal, genderbias-vl, fairface.")],
    root: Annotated[Path | None, typer.Option(help="The data set's folder; testbed draws its own images.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="open_clip name, hf-hub:… or path; testbed has its own."),
    ] = None,
    pretrained: Pretrained = None,
    methods: Annotated[str | None, typer.Option(help="Methods, separated by commas; all that are registered.")] = None,
    out: Out = Path("benchmark"),
    store: Store = None,
    batch_size: BatchSize = 64,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score every method on a data set: a table with intervals in five forms, and published numbers beside it."""
    from headlens.cli.run_benchmark import run_benchmark

    run_benchmark(
        suite,
        root=root,
        model=model,
        pretrained=pretrained,
        methods=methods,
        out=out,
        store=store,
        batch_size=batch_size,
        on_error=on_error.value,
        device=device,
        precision=precision.value,
        draws=draws,
        bootstrap=bootstrap,
        seed=seed,
        as_json=as_json,
    )
