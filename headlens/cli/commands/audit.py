"""`headlens audit`: locate, correct and judge, on your own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headlens.cli.app import app
from headlens.cli.options import (
    AttributeOption,
    BankFile,
    BatchSize,
    Bootstrap,
    Classes,
    Conflicting,
    DataOrNone,
    DatasetName,
    Device,
    Draws,
    Json,
    Keep,
    Model,
    OnError,
    OnErrorOption,
    Open,
    Out,
    Pairs,
    Precision,
    PrecisionOption,
    Pretrained,
    Require,
    Root,
    Seed,
    SkipUnlabelled,
    Split,
    Store,
    Templates,
)


@app.command()
def audit(
    model: Model,
    attribute: AttributeOption,
    data: DataOrNone = None,
    dataset: DatasetName = None,
    root: Root = None,
    keep: Keep = None,
    classes: Classes = None,
    out: Out = Path("audit"),
    pretrained: Pretrained = None,
    template: Templates = None,
    split: Split = "val,test",
    pairs: Pairs = None,
    locator: Annotated[
        str, typer.Option(help="How heads are located: contrastive, contrastive-soft, concept, textspan, …")
    ] = "contrastive",
    conflicting: Conflicting = None,
    methods: Annotated[str, typer.Option(help="Corrections to score, separated by commas.")] = "ablation,ltc",
    bank: BankFile = None,
    skip_unlabelled: SkipUnlabelled = False,
    store: Store = None,
    batch_size: BatchSize = 64,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    require: Require = None,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Locate, correct and judge the heads that carry an attribute into a zero-shot task, on your own images."""
    from headlens.cli.inputs import Inputs
    from headlens.cli.run_audit import run_audit

    typed = Inputs(
        model=model,
        pretrained=pretrained,
        data=data,
        dataset=dataset,
        root=root,
        keep=keep or [],
        classes=classes,
        attribute=attribute,
        out=out,
        templates=template or ["a photo of a {}"],
        split=split,
        pairs=pairs,
        bank=bank,
        skip_unlabelled=skip_unlabelled,
        store=store,
        batch_size=batch_size,
        on_error=on_error.value,
        device=device,
        precision=precision.value,
        seed=seed,
    )
    run_audit(
        typed,
        locator=locator,
        conflicting=conflicting,
        methods=methods,
        draws=draws,
        bootstrap=bootstrap,
        require=require or [],
        as_json=as_json,
        open_report=open_report,
    )
