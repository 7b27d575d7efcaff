"""A document in the terminal: its short form, as `headlens` prints it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from rich import table as rich
from rich.box import SIMPLE
from rich.console import Console
from rich.text import Text

from headlens.document.blocks import Document, Section
from headlens.tables import Table

_STYLES = {"good": "bold green", "caution": "bold yellow", "neutral": "bold"}
_MOST_ROWS = 12
_INSIDE = re.compile(r", (?=[^\[]*\])")  # the comma of an interval


def show(document: Document, more: Sequence[str] = ()) -> None:
    """The title, the notes, the sections with a short table, the conditions, `more`, and the verdict, seen last.

    Args:
        document: what is shown.
        more: further lines before the verdict.
    """
    console = Console()
    console.print()
    model = document.question.get("Model")
    console.print(Text(f"{model}: {document.title}" if model else document.title, "bold"))
    for note in document.notes:
        console.print(Text(note, style="dim"))
    for section in (*document.sections, *document.conditions):
        if section.brief is not None and section.brief_table:
            show_section(section, _MOST_ROWS)
    for line in more:
        console.print(Text(line))
    for sentence in document.sentences:
        console.print(Text(sentence, style=_STYLES[document.tone]))


def show_section(section: Section, most: int | None = None) -> None:
    """A section's title, its table where the short forms show one, and its brief.

    Args:
        section: what is shown.
        most: rows of the table; None for all.
    """
    console = Console()
    shown = section.table if section.brief_table else None
    if shown is None:
        console.print(Text(section.title, style="bold"))
    else:
        console.print(rich_table(replace(shown, frame=shown.frame.head(most or len(shown.frame))), section.title))
        if most and len(shown.frame) > most:
            console.print(Text(f"{len(shown.frame) - most} more are in the report.", style="dim"))
    for sentence in section.brief or ():
        console.print(Text(sentence, style="" if shown is None else "dim"))


def rich_table(shown: Table, title: str = "", ends: Collection[int] = ()) -> rich.Table:
    """A table as one of rich; rows in `ends` have a line below them."""
    table = rich.Table(
        title=Text(title) if title else None, title_justify="left", title_style="bold", box=SIMPLE if ends else None,
        pad_edge=False,
    )  # fmt: skip
    rows = [[_INSIDE.sub(",\N{NO-BREAK SPACE}", cell) for cell in row] for row in shown.rows()]
    for i, (column, numeric) in enumerate(zip(shown.headings, shown.numeric, strict=True)):
        # No digit is lost where a terminal is narrow: a number stays whole, and its interval may come below it.
        widest = max((len(part) for row in rows for part in row[i].split(" ")), default=0) if numeric else None
        table.add_column(Text(column), justify="right" if numeric else "left", min_width=widest, overflow="fold")
    for i, row in enumerate(rows):
        table.add_row(*map(Text, row), end_section=i in ends)
    return table
