"""`headlens extract`: fill a store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import (
    BatchSize,
    Device,
    Json,
    Model,
    OnError,
    OnErrorOption,
    Precision,
    PrecisionOption,
    Pretrained,
)


class Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


@app.command()
def extract(
    model: Model,
    data: Annotated[str, typer.Option("--data", "-d", help="CSV with a column path: a file, or an address (s3://…).")],
    out: Annotated[str, typer.Option("--out", "-o", help="The store to fill, such as acts.zarr, or its address.")],
    pretrained: Pretrained = None,
    batch_size: BatchSize = None,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    dtype: Annotated[Dtype, typer.Option(help="Number format of what is kept.")] = Dtype.float32,
    moments: Annotated[bool, typer.Option("--moments", help="Keep moments alone: constant space.")] = False,
    groups: Annotated[str, typer.Option(help="With --moments: columns to keep them by, separated by commas.")] = "",
    engine: Annotated[
        EngineName, typer.Option(help="This process, or the actors of a Ray cluster.")
    ] = EngineName.local,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster, or auto.")] = None,
    devices: Annotated[str, typer.Option(help="That share the work, on this machine: cuda:0,cuda:1.")] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read images; with Ray, actors.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="K/N: write the K-th of N shares, counted from 0, beside N - 1 other processes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fill a store with the head states of a data set; a run that was stopped goes on where it stopped."""
    from headlens.cli.run_extract import ExtractRequest, run_extract

    request = ExtractRequest(
        model=model,
        pretrained=pretrained,
        data=data,
        out=out,
        batch_size=batch_size,
        on_error=on_error.value,
        device=device,
        precision=precision.value,
        dtype=dtype.value,
        moments=moments,
        groups=[name.strip() for name in groups.split(",") if name.strip()],
        engine=engine.value,
        address=address,
        devices=[name.strip() for name in devices.split(",") if name.strip()],
        workers=workers,
        shard=shard,
    )
    run_extract(request, as_json=as_json)
