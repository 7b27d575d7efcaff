"""What `headlens benchmark` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from headlens.benchmark.head_transfer import LOCATED, read_heads
from headlens.benchmark.report import write_report
from headlens.benchmark.run import run
from headlens.benchmark.suite import suite as suite_of
from headlens.benchmark.table import BenchmarkTable
from headlens.document.terminal import show_table
from headlens.errors import TaskError
from headlens.extraction import extract
from headlens.loading import load
from headlens.serialization import write_whole


def run_benchmark(typed: Mapping[str, Any], draws: Mapping[str, Any]) -> None:
    """Check, extract, score, write the table in every form and the report with the figures, and show the table."""
    wanted = suite_of(typed["suite"])
    names = None if typed["methods"] is None else [one.strip() for one in typed["methods"].split(",") if one.strip()]
    heads_from = None if typed["heads_from"] is None else read_heads(typed["heads_from"])
    folder = Path(typed["out"])
    root = typed["root"] or folder / "images"
    model = typed["model"] or wanted.model
    if not model:
        raise TaskError("There is no --model.", "Write --model ViT-B-16 --pretrained laion2b_s34b_b88k, for example.")
    clip = load(
        model,
        pretrained=typed["pretrained"],
        device=typed["device"],
        precision=typed["precision"],
        pretrained_tag=typed["pretrained_tag"],
    )
    if heads_from is not None:
        heads_from.located(clip)  # heads of another model are refused before a pass over the images
    data, place = wanted.read(root), typed["store"] or folder / "store.zarr"
    store = extract(clip, data.manifest, place, batch_size=typed["batch_size"], on_error=typed["on_error"])
    table, audit = run(
        wanted,
        clip,
        data,
        store,
        methods=names,
        seed=typed["seed"],
        heads_from=heads_from,
        cache=folder / "cache",
        **draws,
    )
    # The table first: figures need more packages, and files that may be gone.
    write_table(table, folder)
    write_report(table, audit, folder / "report.html", kinds=wanted.caption_kinds)
    if typed["as_json"]:
        click.echo(table.json())
    else:
        show(table, folder)


def write_table(table: BenchmarkTable, out: Path) -> None:
    """The table as table.md, .csv, .json and .tex; further measures as CSV files; the heads for another benchmark."""
    out.mkdir(parents=True, exist_ok=True)
    forms = {"table.md": table.markdown(), "table.csv": table.csv(), "table.json": table.json()}
    forms["table.tex"] = table.latex()
    for number, extra in enumerate(table.extras, start=1):
        forms[f"measure-{number}.csv"] = extra.frame().to_csv(index=False)
    for name, text in forms.items():
        write_whole(out / name, text)
    if table.heads is not None:
        table.heads.write(out / LOCATED)


def show(table: BenchmarkTable, out: Path) -> None:
    """The table in the terminal; further measures without their intervals, for which there is no room."""
    console = Console()
    parts = [list(rows) for rows in table.families().values()]
    show_table(console, table.shown(), ends={rows[-1] for rows in parts})
    for extra in table.extras:
        show_table(console, extra.shown(intervals=False), f"\n{extra.title}")
    console.print()
    for note in table.footnotes():
        console.print(Text(note, style="dim"))
    console.print(Text(f"{out}/table.md, .csv, .json, .tex, report.html and {LOCATED}"))
