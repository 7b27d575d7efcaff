"""`headlens doctor`: versions, devices, and how exactly a model was converted."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import Device, Json, Pretrained


@app.command()
def doctor(
    model: Annotated[str | None, typer.Argument(help="open_clip name, checkpoint path, or testbed.")] = None,
    pretrained: Pretrained = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Print versions and devices, and for a model how exactly its conversion and its decomposition agree with it."""
    from headlens.cli.doctor import run_doctor

    run_doctor(model, pretrained, device, as_json)
