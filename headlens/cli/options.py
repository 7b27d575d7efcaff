"""The options that commands share, each written once, so that one name means one thing everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class OnError(StrEnum):
    stop = "raise"
    skip = "skip"


Model = Annotated[str, typer.Option("--model", "-m", help="open_clip name, hf-hub:…, checkpoint path, or testbed.")]
Pretrained = Annotated[str | None, typer.Option(help="Pretrained tag of open_clip, or a local checkpoint file.")]
PretrainedTag = Annotated[
    str | None,
    typer.Option("--pretrained-tag", help="The tag that a checkpoint file stems from, which it does not say."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
PrecisionOption = Annotated[Precision, typer.Option(help="Number format of the model's weights.")]
Data = Annotated[Path, typer.Option("--data", "-d", help="CSV with the columns path, label, split and the attribute.")]
DataOrNone = Annotated[
    Path | None, typer.Option("--data", "-d", help="CSV with the columns path, label, split and the attribute.")
]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="A known data set, such as facet; needs --root.")]
Root = Annotated[Path | None, typer.Option(help="The folder of --dataset.")]
Keep = Annotated[
    list[str] | None, typer.Option(help="COLUMN=VALUE,VALUE: keep only these of --dataset; may be repeated.")
]
Classes = Annotated[
    str | None, typer.Option(help="Class names, separated by commas, as in the label column; --dataset knows its own.")
]
AttributeOption = Annotated[
    str,
    typer.Option("--attribute", "-a", help="Column of the attribute; with prompts: `age:young=a young person,old=…`."),
]
Templates = Annotated[
    list[str] | None, typer.Option("--template", help="Prompt with {} for the class; may be repeated.")
]
Split = Annotated[str, typer.Option(help="The splits to fit on and to score: REFERENCE,TEST.")]
Pairs = Annotated[
    Path | None, typer.Option(help="YAML or JSON of text pairs that tell the classes apart by true features.")
]
BankFile = Annotated[
    Path | None, typer.Option("--bank", help="Texts to explain heads by: TXT, CSV (text,category) or JSONL.")
]
SkipUnlabelled = Annotated[
    bool, typer.Option("--skip-unlabelled", help="Leave out images without a value of the attribute, and say so.")
]
Require = Annotated[
    list[str] | None,
    typer.Option(help='Exit with code 3 unless met: "worst_group >= 0.6", "ltc.gap <= 0.1"; may be repeated.'),
]
Store = Annotated[Path | None, typer.Option(help="Where head states are kept; by default OUT/store.zarr.")]
Conflicting = Annotated[
    list[str] | None, typer.Option(help="A group where attribute and class conflict, class/value; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images that go through the model at once.", show_default="found by trial")
]
OnErrorOption = Annotated[OnError, typer.Option(help="What to do about an image that cannot be read.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]
Draws = Annotated[int, typer.Option(min=0, help="Layer-matched random head sets to compare with.")]
Bootstrap = Annotated[int, typer.Option(min=10, help="Resamples behind every interval.")]
Seed = Annotated[int, typer.Option(help="Of every random draw.")]
Open = Annotated[bool | None, typer.Option("--open/--no-open", help="Open the report in a browser.")]
