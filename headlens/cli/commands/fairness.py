"""`headlens fairness`: the mechanistic fairness audit."""

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
def fairness(
    model: Model,
    attribute: AttributeOption,
    data: DataOrNone = None,
    dataset: DatasetName = None,
    root: Root = None,
    keep: Keep = None,
    classes: Classes = None,
    out: Out = Path("fairness"),
    pretrained: Pretrained = None,
    template: Templates = None,
    split: Split = "val,test",
    locator: Annotated[
        str, typer.Option(help="How candidates are found: concept, textspan, concept+textspan (both agree), …")
    ] = "concept+textspan",
    first: Annotated[int, typer.Option(min=1, help="Texts of a head among which a prompt must be, for TextSpan.")] = 5,
    texts: Annotated[int, typer.Option(min=1, help="Texts that each head is explained by, at most.")] = 10,
    total: Annotated[
        int, typer.Option(min=0, help="Images passed through the model again for the total effect; 0 leaves it out.")
    ] = 500,
    permutations: Annotated[int, typer.Option(min=1, help="Of the attribute within each class.")] = 1000,
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
    """Find the heads that carry a demographic attribute, say what they encode, and judge what ablating them does."""
    from headlens.cli.inputs import Inputs
    from headlens.cli.run_fairness import run_fairness

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
        pairs=None,
        bank=bank,
        skip_unlabelled=skip_unlabelled,
        store=store,
        batch_size=batch_size,
        on_error=on_error.value,
        device=device,
        precision=precision.value,
        seed=seed,
    )
    run_fairness(
        typed,
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
