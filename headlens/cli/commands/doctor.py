"""`headlens doctor`: versions, devices, and how exactly a model was converted."""

from __future__ import annotations

from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import Device, Json, Pretrained, PretrainedTag


@app.command()
def doctor(
    model: Annotated[str | None, typer.Argument(help="open_clip name, checkpoint path, or testbed.")] = None,
    pretrained: Pretrained = None,
    pretrained_tag: PretrainedTag = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Print versions and devices; of a model, what decides its numbers, and how exactly its conversion agrees."""
    from headlens.cli.doctor import run_doctor

    run_doctor(model, pretrained, pretrained_tag, device, as_json)
