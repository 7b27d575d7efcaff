"""How the commands that take one step of an audit are told which: by a saved audit's folder, or by everything that
`headlens audit` takes. The options are written once, here, and `takes_audit` gives them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from headlens.cli.options import (
    BankFile,
    BatchSize,
    Classes,
    DataOrNone,
    DatasetName,
    Device,
    Keep,
    OnError,
    OnErrorOption,
    Out,
    Pairs,
    Precision,
    PrecisionOption,
    Pretrained,
    Root,
    Seed,
    SkipUnlabelled,
    Split,
    Store,
    Templates,
)


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Attributes:
        folder: a saved audit's folder, or None.
        options: the value of every shared option, by its parameter's name.
        given: the names of those that were typed; the others hold defaults.
    """

    folder: Path | None
    options: dict[str, Any]
    given: frozenset[str]


def _shared(
    folder: Annotated[
        Path | None, typer.Argument(help="A saved audit's folder; without it, name model, images and question.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="open_clip name, hf-hub:…, checkpoint path, or testbed; a FOLDER's own by default."
        ),
    ] = None,
    pretrained: Pretrained = None,
    data: DataOrNone = None,
    dataset: DatasetName = None,
    root: Root = None,
    keep: Keep = None,
    classes: Classes = None,
    attribute: Annotated[
        str | None,
        typer.Option("--attribute", "-a", help="Column of the attribute; with prompts: `age:young=a young person,…`."),
    ] = None,
    out: Out = Path("audit"),
    template: Templates = None,
    split: Split = "val,test",
    pairs: Pairs = None,
    bank: BankFile = None,
    skip_unlabelled: SkipUnlabelled = False,
    store: Store = None,
    batch_size: BatchSize = 64,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    seed: Seed = 0,
) -> None:
    """The options, for their signature alone."""


def takes_audit(command: Callable[..., None]) -> Callable[..., None]:
    """Put the shared options before and behind a command's own; it gets them as its first argument, an `Asked`."""
    shared = inspect.signature(_shared, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(context: Any, **typed: Any) -> None:
        options = {name: typed.pop(name) for name in shared}
        # The source's name, because its type belongs to the library under typer.
        sources = {name: context.get_parameter_source(name) for name in options}
        given = frozenset(n for n, source in sources.items() if source is not None and source.name == "COMMANDLINE")
        command(Asked(options.pop("folder"), options, given - {"folder"}), **typed)

    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    folder, *rest = shared.values()
    parameters = [first, folder, *own, *rest]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
