"""What `headlens benchmark` does."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headlens.audit.methods import method
from headlens.benchmark import BenchmarkTable, read_heads, run
from headlens.benchmark import suite as suite_of
from headlens.benchmark.carried import LOCATED
from headlens.benchmark.report import write_report
from headlens.cli.inputs import listed
from headlens.errors import TaskError
from headlens.loading import load


def run_benchmark(
    suite: str,
    *,
    root: Path | None,
    model: str | None,
    pretrained: str | None,
    methods: str | None,
    heads_from: str | None,
    out: Path,
    store: Path | None,
    batch_size: int | None,
    on_error: str,
    device: str,
    precision: str,
    draws: int,
    bootstrap: int,
    seed: int,
    as_json: bool,
) -> None:
    """Check, extract, score, write the table in every form and the report with the figures, and show the table."""
    asked = suite_of(suite)
    names = None if methods is None else listed(methods)
    for name in names or []:
        method(name)
    carried = None if heads_from is None else read_heads(heads_from)
    if root is None:
        if not asked.makes_images:
            raise TaskError("the folder of the data set", "none", "Write --root FOLDER; nothing is downloaded.")
        root = out / "images"
    name = model or asked.model
    if not name:
        raise TaskError("a model", "none", "Write --model ViT-B-16 --pretrained laion2b_s34b_b88k, for example.")
    clip = load(name, pretrained=pretrained, device=device, precision=precision)
    table, audit = run(
        asked,
        clip,
        root,
        store or out / "store.zarr",
        methods=names,
        draws=draws,
        bootstrap=bootstrap,
        seed=seed,
        batch_size=batch_size,
        on_error=on_error,
        heads_from=carried,
        keep=out / "kept",
    )
    # The table first: figures need more packages, and files that may be gone.
    write_table(table, out)
    write_report(table, audit, out / "report.html", kinds=asked.caption_kinds)
    if as_json:
        typer.echo(table.json())
    else:
        show(table, out)


def write_table(table: BenchmarkTable, out: Path) -> None:
    """The table as table.md, .csv, .json and .tex; further measures as CSV files; the heads for another benchmark."""
    out.mkdir(parents=True, exist_ok=True)
    forms = {"table.md": table.markdown(), "table.csv": table.csv(), "table.json": table.json()}
    forms["table.tex"] = table.latex()
    for number, extra in enumerate(table.extras, start=1):
        forms[f"measure-{number}.csv"] = extra.frame().to_csv(index=False)
    for name, text in forms.items():
        (out / name).write_text(text, encoding="utf-8")
    if table.heads is not None:
        table.heads.write(out / LOCATED)


def show(table: BenchmarkTable, out: Path) -> None:
    """The table in the terminal; further measures without their intervals, for which there is no room."""
    console = Console()
    cells = table.cells()
    parts = [list(rows) for rows in table.families().values()]
    console.print(_drawn(cells, ends={rows[-1] for rows in parts}))
    for extra in table.extras:
        console.print(Text(f"\n{extra.title}", style="bold"))
        console.print(_drawn(extra.cells(intervals=False), ends=set()))
    console.print()
    for note in table.footnotes():
        console.print(Text(note, style="dim"))
    console.print(Text(f"{out}/table.md, .csv, .json, .tex, report.html and {LOCATED}"))


def _drawn(cells: pd.DataFrame, ends: set[int]) -> Table:
    shown = Table(box=SIMPLE, pad_edge=False)
    for column in cells.columns:
        shown.add_column(Text(str(column)), justify="left" if column == "method" else "right")
    for i, row in enumerate(cells.itertuples(index=False)):
        shown.add_row(*(Text(str(value)) for value in row), end_section=i in ends)
    return shown
