"""A document in the terminal: its short form, as `headlens` prints it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import accumulate
from textwrap import wrap

from rich import table as rich
from rich.box import SIMPLE
from rich.console import Console
from rich.text import Text

from headlens.document.blocks import Document, Section
from headlens.tables import Table

_STYLES = {"good": "bold green", "caution": "bold yellow", "neutral": "bold"}
_MOST_ROWS = 12
_LONGEST_WORD = 16  # letters that a column of text keeps in one line
_GAP = 2  # letters between two columns
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
        show_table(console, replace(shown, frame=shown.frame.head(most or len(shown.frame))), section.title)
        if most and len(shown.frame) > most:
            console.print(Text(f"{len(shown.frame) - most} more are in the report.", style="dim"))
    for sentence in section.brief or ():
        console.print(Text(sentence, style="" if shown is None else "dim"))


def show_table(console: Console, shown: Table, title: str = "", ends: Collection[int] = ()) -> None:
    """A table, and the names of the columns at its end that have no room; rows in `ends` have a line below them.

    No digit is lost where a terminal is narrow, and no word is broken that has fewer than 17 letters: a number stays
    whole, its interval may come below it, and columns are left out from the end, where the least important stand.
    """
    table = rich.Table(
        title=Text(title) if title else None, title_justify="left", title_style="bold", box=SIMPLE if ends else None,
        pad_edge=False,
    )  # fmt: skip
    headings = [heading.replace(", %", ",\N{NO-BREAK SPACE}%") for heading in shown.headings]
    rows = [[_INSIDE.sub(",\N{NO-BREAK SPACE}", cell) for cell in row] for row in shown.rows()]
    widths, whole, halves = [], [], []
    for heading, numeric, *cells in zip(headings, shown.numeric, *rows, strict=True):
        longest = max(len(word) for cell in (heading, *cells) for word in cell.split(" "))
        widths.append(longest if numeric else min(longest, _LONGEST_WORD))
        whole.append(max(map(len, cells), default=0))
        two_lines = (n for n in range(1, len(heading) + 1) if len(wrap(heading, n, break_long_words=False)) < 3)
        halves.append(next(two_lines, 0))
    fits = max(2, sum(total <= console.width + _GAP for total in accumulate(width + _GAP for width in widths)))
    del widths[fits:]
    spare = console.width - sum(widths) - _GAP * (fits - 1)
    for wanted in (whole, halves, [len(heading) for heading in headings]):  # room for cells, then for headings
        for done, i in enumerate(sorted(range(fits), key=lambda i: wanted[i] - widths[i])):
            more = max(0, min(spare // (fits - done), wanted[i] - widths[i]))
            widths[i], spare = widths[i] + more, spare - more
    for width, heading, numeric in zip(widths, headings, shown.numeric, strict=False):
        table.add_column(Text(heading), justify="right" if numeric else "left", width=width, overflow="fold")
    for i, row in enumerate(rows):
        table.add_row(*map(Text, row[:fits]), end_section=i in ends)
    console.print(table)
    if left_out := shown.headings[fits:]:
        where = "A wider terminal, the report and --json have them."
        console.print(Text(f"Not shown for want of room: {'; '.join(left_out)}. {where}", style="dim"))
