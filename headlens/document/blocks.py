"""What a document says, as plain data: results are put into these blocks, and every form is rendered from them.

The page (`html`), the model card (`markdown`), the shell's output (`terminal`) and the explorer's tables show the same
sections; none of them computes anything. The short forms, card and terminal, take the sections that have a `brief`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import plotly.graph_objects as go

from headlens.tables import Table

Tone = Literal["good", "caution", "neutral"]


@dataclass(frozen=True, eq=False)
class Section:
    """A heading with what belongs to it, in this order: text, figure, table.

    Attributes:
        title: the heading; also the entry in the list of contents.
        text: plain text; an empty line begins a new paragraph.
        figure: a plotly figure, best one of `headlens.plots`, which come with their text alternative.
        caption: plain text under the figure.
        table: of a result, or of several, with its caption.
        table_folded: whether the page shows the table only when it is opened.
        brief: what the short forms say instead of the text, a sentence each; None leaves the section out of them.
        brief_table: whether the short forms show the table as well; the terminal leaves out sections without it.
        part: the folded part of the page that the section belongs to, such as all on one head; "" for none.
    """

    title: str
    text: str = ""
    figure: go.Figure | None = None
    caption: str = ""
    table: Table | None = None
    table_folded: bool = False
    brief: Sequence[str] | None = None
    brief_table: bool = False
    part: str = ""


@dataclass(frozen=True)
class Tile:
    """A headline number: its name, the value, and what to know beside it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class Document:
    """Everything that a document says; all of it is plain text and shown letter by letter.

    Attributes:
        title: the heading of the page and of the browser's window.
        verdict: one sentence, or several, that answer the question; they come first.
        conditions: what the verdict rests on, a section for each of several; they stand beside it in every form.
        tone: how the verdict is set off. The words have to say it as well.
        tiles: the headline numbers.
        question: what was asked, on what: name and value, such as model, data, task, attribute.
        words: what the words of the page mean: word and meaning.
        notes: what a reader has to know before believing the numbers, such as groups of few images.
        sections: in the order of the page.
        settings: everything needed to repeat the result: name and value.
        commands: what repeats it, by the language that it is written in, such as "Python".
        limits: what the result does not show.
        date: when it was made, as text; "" leaves it out.
    """

    title: str
    verdict: str | Sequence[str]
    tone: Tone = "neutral"
    conditions: Sequence[Section] = ()
    tiles: Sequence[Tile] = ()
    question: Mapping[str, object] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    date: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict, sentence by sentence."""
        return (self.verdict,) if isinstance(self.verdict, str) else tuple(self.verdict)


def setting(value: object) -> str:
    """A setting's value in one line: text as it is, everything else as JSON where JSON knows it."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return str(value)
