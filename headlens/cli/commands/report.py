"""`headlens report`: a saved audit's report and model card, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import Device, Json, Open, Precision, PrecisionOption, Pretrained


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A saved audit's folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The report; by default FOLDER/report.html.")] = None,
    card: Annotated[Path | None, typer.Option(help="The model card's section; by default FOLDER/card.md.")] = None,
    images: Annotated[
        int, typer.Option(min=0, help="Images with per-token maps; 0 needs neither the model nor the images.")
    ] = 4,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The audit's model, where its name moved.")] = None,
    pretrained: Pretrained = None,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Write a saved audit's report.html and card.md again."""
    from headlens.cli.run_steps import run_report

    run_report(
        folder,
        out=out,
        card=card,
        images=images,
        clip=(model, pretrained, device, precision.value),
        as_json=as_json,
        open_report=open_report,
    )
