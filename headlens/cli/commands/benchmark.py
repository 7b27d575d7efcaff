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
    suite: Annotated[
        str,
        typer.Argument(
            help="testbed, waterbirds, celeba, counteranimal, counteranimal-imagenet, genderbias-vl, fairface."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="The data set's folder; testbed draws its own images.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="open_clip name, hf-hub:… or path; testbed has its own."),
    ] = None,
    pretrained: Pretrained = None,
    methods: Annotated[str | None, typer.Option(help="Methods, separated by commas; all that are registered.")] = None,
    heads_from: Annotated[
        str | None,
        typer.Option(
            help="Carry heads over instead of locating them: the --out folder of another benchmark of this model, a "
            "saved audit, a located.json, or heads written as 10.10,11.3."
        ),
    ] = None,
    out: Out = Path("benchmark"),
    store: Store = None,
    batch_size: BatchSize = None,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score every method on a data set: one table, in five forms and with figures, beside published numbers.

    Everything is written to --out: the table (Markdown, CSV, JSON, LaTeX), further measures, the located heads, and a
    report. A run that was stopped goes on where it stopped. `headlens benchmark testbed` needs no data.
    """
    from headlens.cli.run_benchmark import run_benchmark

    run_benchmark(
        suite,
        root=root,
        model=model,
        pretrained=pretrained,
        methods=methods,
        heads_from=heads_from,
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
