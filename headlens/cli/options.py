"""The shell's options, each declared once, and the decorator that gives them to a command.

A command is a function of one argument, what was `Typed`. The options of an audit's steps are those of
`headlens.steps.options`: what is not typed is not passed on, so that Python's defaults are the shell's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rich_click as click

from headlens.errors import ModelError
from headlens.model_names import check_device, no_model, testbed_names
from headlens.registry import Registry
from headlens.steps.options import CALLS, KNOWN
from headlens.steps.options import Option as CallOption

_FOLDER = click.Path(path_type=Path)
_DEVICES = ("cuda", "mps", "xpu", "hpu", "xla", "meta")  # types of torch that hold models

Parameters = tuple[click.Parameter, ...]


class WholeNumber(click.IntRange):
    """A number as people call it, in help and in what is said of a text that is none."""

    name = "whole number"


@dataclass(frozen=True)
class Typed:
    """What was typed.

    Attributes:
        values: the value of every option of the command, by its Python name.
        given: the names of those that were typed; the others hold defaults.
    """

    values: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option that the command may lack."""
        return self.values.get(name, default)


def option(flags: str, help: str, panel: str, **settings: Any) -> click.Option:
    """One option; `flags` are separated by spaces, the last may be the Python name."""
    shown = {"show_default": settings.get("default") is not None and not settings.get("is_flag")}
    return click.RichOption(flags.split(), help=help, panel=panel, **shown | settings)


MODEL: Parameters = (
    option("--model -m", "open_clip name, hf-hub:…, a checkpoint file or folder, or testbed.", "Model"),
    option("--pretrained", "Pretrained tag of open_clip, or a local checkpoint file.", "Model"),
    option("--pretrained-tag", "The tag that a checkpoint file stems from, which it does not say.", "Model"),
    option("--device", "cpu, cuda, cuda:1, …", "Model", default="cpu"),
    option(
        "--precision",
        "Number format of the weights.",
        "Model",
        type=click.Choice(["fp32", "fp16", "bf16"]),
        default="fp32",
    ),
)
EXTRACTION: Parameters = (
    option("--batch-size", "Images that go through the model at once; found by trial.", "Data", type=WholeNumber(1)),
    option(
        "--on-error",
        "What to do about an image that cannot be read: end with an error, or skip it.",
        "Data",
        type=click.Choice(["raise", "skip"]),
        default="raise",
    ),
)
DATA: Parameters = (
    option("--data -d", "CSV with the columns path, label, split and the attribute.", "Data", type=_FOLDER),
    option("--dataset", "A known data set, such as facet; needs --root.", "Data"),
    option(
        "--root",
        "The folder of --dataset; with --data, the one that its relative paths count from.",
        "Data",
        type=_FOLDER,
    ),
    option("--keep", "COLUMN=VALUE,VALUE: use only these of --dataset; may be repeated.", "Data", multiple=True),
    option("--classes", "Class names as in the label column, separated by commas; or a file, one a line.", "Data"),
    option("--template", "Prompt with {} for the class; may be repeated.", "Data", multiple=True),
    option(
        "--attribute -a",
        "Column of the attribute; with prompts: age:young=a young person,old=an old person; or a YAML file.",
        "Data",
    ),
    option("--split", "The splits to fit on and to score: REFERENCE,TEST.", "Data", default="val,test"),
    option(
        "--pairs",
        "YAML or JSON of text pairs that distinguish the classes by true features; FILE:SET for one set of a file.",
        "Data",
    ),
    option("--bank", "Texts to explain heads by: TXT, CSV (text,category) or JSONL.", "Data", type=_FOLDER),
    option(
        "--skip-unlabelled",
        "Leave out images whose value of the attribute is missing or not among those named, and count them by value.",
        "Data",
        is_flag=True,
    ),
    option(
        "--store",
        "Where head states are kept; by default OUT/store.zarr. With one, --data may be left out.",
        "Data",
        type=_FOLDER,
    ),
    *EXTRACTION,
    option("--seed", "Of every random draw.", "Data", type=int, default=0),
)
FOLDER: Parameters = (click.RichArgument(["folder"], type=_FOLDER, required=False),)
OVERWRITE = option("--overwrite", "Replace what another audit left in the folder.", "Output", is_flag=True)
JSON = option(
    "--json as_json", "Print the result as JSON, and nothing else, on standard output.", "Output", is_flag=True
)
OPEN = option("--open/--no-open open_report", "Open the report in a browser.", "Output", default=None)
REQUIRE = option(
    "--require",
    'Exit with code 3 unless met: "worst_group >= 0.6", "ltc.gap <= 0.1"; may be repeated.',
    "Output",
    multiple=True,
)


def out(default: str) -> click.Option:
    """The folder to write to."""
    return option(
        "--out -o",
        "Folder to write to.",
        "Output",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
    )


def of_call(verb: str, only: Iterable[str] | None = None) -> Parameters:
    """The options of one of an audit's calls."""
    return tuple(_from_call(name, one) for name, one in CALLS[verb].items() if only is None or name in only)


def arguments(typed: Typed, verb: str) -> dict[str, Any]:
    """The arguments of a call that were typed, as Python takes them."""
    given = {name: typed[_key(name)] for name in CALLS[verb] if _key(name) in typed.given}
    found = {name: _as_argument(CALLS[verb][name], value) for name, value in given.items()}
    for name, value in found.items():
        if CALLS[verb][name].known:
            check_known(CALLS[verb][name].known, value)
    return found


def check_known(kind: str, names: str | Sequence[str]) -> None:
    """Raise `UnknownNameError` for a locator or a method that headlens does not have."""
    known = Registry(kind, dict.fromkeys(KNOWN[kind]))
    for name in [names] if isinstance(names, str) else names:
        _ = known[name]


def check_model(name: str | None) -> None:
    """Raise `ModelError` for a name that nothing on this machine or on a hub can have, before torch is imported."""
    if not name or re.search(r"[/\\:]", name) or Path(name).exists() or (package := find_spec("open_clip")) is None:
        return
    known = [path.stem for path in sorted((Path(str(package.origin)).parent / "model_configs").glob("*.json"))]
    if name not in (*known, *testbed_names()):
        raise no_model(name, known)


def _check_device(name: str | None) -> None:
    """Raise `ModelError` for a device that is not here; torch is imported for one beside the processor alone."""
    if name in (None, "cpu"):
        return
    if str(name).partition(":")[0] not in _DEVICES:
        raise ModelError(f"There is no device {name!r}.", "Write cpu, cuda, or cuda:1 for the second GPU.")
    check_device(name)


def command(
    group: click.Group, name: str, *parameters: click.Parameter | Parameters, example: str
) -> Callable[[Callable[[Typed], None]], Callable[[Typed], None]]:
    """Add a command to the shell; its function gets what was typed."""
    every = [one for part in parameters for one in (part if isinstance(part, tuple) else (part,))]

    def add(function: Callable[[Typed], None]) -> Callable[[Typed], None]:
        @click.pass_context
        def run(context: click.Context, **values: Any) -> None:
            sources = {one: context.get_parameter_source(one) for one in values}
            given = frozenset(
                one for one, source in sources.items() if source is not None and source.name == "COMMANDLINE"
            )
            check_model(values.get("model"))
            _check_device(values.get("device"))
            function(Typed(values, given))

        group.add_command(
            click.RichCommand(
                name=name, callback=run, params=every, help=function.__doc__, epilog=f"Example: {example}"
            )
        )
        return function

    return add


def listed(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _key(name: str) -> str:
    # Two options of one command never share a Python name: `heads` and `methods` mean the same in every call.
    return f"of_{name}"


def _from_call(name: str, one: CallOption) -> click.Option:
    settings: dict[str, Any] = {}
    if one.kind == "number":
        settings["type"] = WholeNumber(one.least)
    elif one.kind == "choice":
        settings["type"] = click.Choice(one.choices)
    elif one.kind in ("group", "setting", "attribute"):
        settings["multiple"] = True
    return option(f"{one.flag} {_key(name)}", one.help, "Method", **settings)


def _as_argument(one: CallOption, value: Any) -> Any:
    if one.kind == "heads":
        return head_names(value)
    if one.kind == "names":
        return listed(value)
    if one.kind == "group":
        return [_split(text, "/", "a group as class/value, such as landbird/water") for text in value]
    if one.kind == "setting":
        return dict(_setting(text) for text in value)
    return value


def head_names(text: str) -> list[str]:
    """Heads separated by commas, or one as LAYER,HEAD; whether the model has them is seen when it is there."""
    if pair := re.fullmatch(r"\s*\(?\s*(\d+)\s*,\s*(\d+)\s*\)?\s*", text, re.ASCII):
        return [".".join(pair.groups())]
    for name in (names := listed(text)):
        if re.fullmatch(r"L\d+H\d+|\d+\.\d+", name, re.IGNORECASE | re.ASCII) is None:
            raise click.BadParameter(f"{name!r} names no head. Write L10H3 or 10.3: layer and head, from zero.")
    return names


def _setting(text: str) -> tuple[str, Any]:
    name, value = _split(text, "=", "a setting as NAME=VALUE, such as first=5")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, {"None": None, "True": True, "False": False}.get(value, value)


def _split(text: str, mark: str, form: str) -> tuple[str, str]:
    first, found, second = text.partition(mark)
    if not found or not first.strip() or not second.strip():
        raise click.BadParameter(f"{text!r} is not written as {form}.")
    return first.strip(), second.strip()
