"""The commands and their options. Each command is a thin layer over public calls; what it computes, Python can too."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headlens._version import __version__
from headlens.errors import HeadlensError

app = typer.Typer(
    name="headlens",
    help="Which attention heads of a CLIP vision tower carry a bias, and what happens when they are corrected.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


class Precision(StrEnum):
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class OnError(StrEnum):
    stop = "raise"
    skip = "skip"


Model = Annotated[str, typer.Option("--model", "-m", help="open_clip name, hf-hub:…, checkpoint path, or testbed.")]
Pretrained = Annotated[str | None, typer.Option(help="Pretrained tag of open_clip, or a local checkpoint file.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
PrecisionOption = Annotated[Precision, typer.Option(help="Number format of the model's weights.")]
Data = Annotated[Path, typer.Option("--data", "-d", help="CSV with the columns path, label, split and the attribute.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that go through the model at once.")]
OnErrorOption = Annotated[OnError, typer.Option(help="What to do about an image that cannot be read.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]
Draws = Annotated[int, typer.Option(min=0, help="Layer-matched random head sets to compare with.")]
Bootstrap = Annotated[int, typer.Option(min=10, help="Resamples behind every interval.")]
Seed = Annotated[int, typer.Option(help="Of every random draw.")]
Open = Annotated[bool | None, typer.Option("--open/--no-open", help="Open the report in a browser.")]


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"headlens {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    model: Annotated[str, typer.Option("--model", "-m", help="A testbed model; see the model card.")] = "testbed",
    out: Out = Path("demo"),
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    open_report: Open = None,
) -> None:
    """Run the whole path on the embedded testbed, whose biased heads are known."""
    from headlens.cli.run import run_demo

    run_demo(model, out, draws=draws, bootstrap=bootstrap, seed=seed, as_json=as_json, open_report=open_report)


@app.command()
def audit(
    model: Model,
    data: Data,
    classes: Annotated[str, typer.Option(help="Class names, separated by commas, as in the label column.")],
    attribute: Annotated[
        str,
        typer.Option(help="Column of the attribute; with prompts: `age:young=a photo of a young person,old=…`."),
    ],
    out: Out = Path("audit"),
    pretrained: Pretrained = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {} for the class; may be repeated.")] = None,
    split: Annotated[str, typer.Option(help="The splits to fit on and to score: REFERENCE,TEST.")] = "val,test",
    pairs: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON of text pairs that tell the classes apart by true features."),
    ] = None,
    conflicting: Annotated[
        list[str] | None,
        typer.Option(help="A group where attribute and class conflict, class/value; may be repeated."),
    ] = None,
    methods: Annotated[str, typer.Option(help="Corrections to score, separated by commas.")] = "ablation,ltc",
    store: Annotated[Path | None, typer.Option(help="Where head states are kept; by default OUT/store.zarr.")] = None,
    batch_size: BatchSize = 64,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    draws: Draws = 100,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    open_report: Open = False,
) -> None:
    """Locate, correct and judge the heads that carry an attribute into a zero-shot task, on your own images."""
    from headlens.cli.run import AuditRequest, run_audit

    request = AuditRequest(
        model=model,
        pretrained=pretrained,
        data=data,
        classes=[name.strip() for name in classes.split(",") if name.strip()],
        attribute=attribute,
        out=out,
        templates=template or ["a photo of a {}"],
        split=split,
        pairs=pairs,
        conflicting=conflicting,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        store=store,
        batch_size=batch_size,
        on_error=on_error.value,
        device=device,
        precision=precision.value,
        draws=draws,
        bootstrap=bootstrap,
        seed=seed,
    )
    run_audit(request, as_json=as_json, open_report=open_report)


@app.command()
def extract(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="The store to fill, such as acts.zarr.")],
    pretrained: Pretrained = None,
    batch_size: BatchSize = 64,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    as_json: Json = False,
) -> None:
    """Fill a store with the head states of a data set; a run that was stopped goes on where it stopped."""
    from headlens.cli.run import run_extract

    run_extract(model, pretrained, data, out, batch_size, on_error.value, device, precision.value, as_json)


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


def main() -> None:
    """The entry point: errors become one paragraph on standard error and a non-zero exit."""
    try:
        app(standalone_mode=True)
    except HeadlensError as error:
        _say(str(error))
        sys.exit(EXIT_ERROR)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this exit code without a word.
        if stop.code == EXIT_INTERRUPTED:
            _say("Interrupted. What was already extracted is kept; the same command goes on from there.")
        raise


def _say(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # As plain text: a path or a label may hold square brackets, which are markup to rich.
    Console(stderr=True, soft_wrap=True).print(Text(f"headlens: {message}", style="bold red"))
