"""How the commands around an audit are told which: by everything that makes one, or, where a command takes one step of
it, by a saved audit's folder as well. The options are written once, here, and `takes_audit` gives them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headlens.cli.options import (
    AttributeOption,
    BankFile,
    BatchSize,
    Classes,
    DataOrNone,
    DatasetName,
    Device,
    Keep,
    Model,
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

if TYPE_CHECKING:
    from headlens.cli.inputs import Inputs

Command = Callable[..., None]


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

    def inputs(self) -> Inputs:
        """The options that make an audit."""
        from headlens.cli.inputs import Inputs

        options = {"pairs": None} | self.options
        options |= {"keep": options["keep"] or [], "templates": options.pop("template") or ["a photo of a {}"]}
        options |= {name: options[name].value for name in ("on_error", "precision")}
        return Inputs(**options)


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
    batch_size: BatchSize = None,
    on_error: OnErrorOption = OnError.stop,
    device: Device = "cpu",
    precision: PrecisionOption = Precision.fp32,
    seed: Seed = 0,
) -> None:
    """The options, for their signature alone."""


def takes_audit(
    *, folder: bool = True, out: str = "audit", without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Give a command the shared options; it gets them as its first argument, an `Asked`.

    Args:
        folder: whether a saved audit's folder may stand in for them; if not, model and attribute have to be named.
        out: the folder to write to, where none is named.
        without: shared options that the command has no use for.
    """
    shared = dict(inspect.signature(_shared, eval_str=True).parameters)
    shared["out"] = shared["out"].replace(default=Path(out))
    if not folder:
        without = {"folder", *without}
        for name, required in (("model", Model), ("attribute", AttributeOption)):
            shared[name] = shared[name].replace(annotation=required, default=inspect.Parameter.empty)
    shared = {name: parameter for name, parameter in shared.items() if name not in without}

    def give(command: Command) -> Command:
        own = dict(list(inspect.signature(command, eval_str=True).parameters.items())[1:])

        def run(context: Any, **typed: Any) -> None:
            options = {name: typed.pop(name) for name in shared}
            # The source's name, because its type belongs to the library under typer.
            sources = {name: context.get_parameter_source(name) for name in options}
            given = frozenset(n for n, source in sources.items() if source is not None and source.name == "COMMANDLINE")
            command(Asked(options.pop("folder", None), options, given - {"folder"}), **typed)

        # Of a step, its own options come first in the help; of a whole audit, what it is made of.
        parts = [{"folder": shared["folder"]}, own, shared] if folder else [shared, own]
        ordered = {name: parameter for part in parts for name, parameter in part.items()}
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in ordered.values())]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return give
