"""What a report says, as plain things: results are put into these, and the page is rendered from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Section:
    """A heading with what stands under it, in this order: text, figure, table.

    Attributes:
        title: the heading; also the entry in the list of contents.
        text: plain text; an empty line begins a new paragraph.
        figure: a plotly figure, best one of `headlens.plots`, which come with their text alternative.
        caption: plain text under the figure.
        table: the first column heads the rows. Numbers stand right; floating-point numbers are shown to three
            decimals, so a column of percentages is best given as text.
        table_caption: plain text above the table.
        table_folded: whether the table is there only when it is opened, on the screen and on paper.
    """

    title: str
    text: str = ""
    figure: go.Figure | None = None
    caption: str = ""
    table: pd.DataFrame | None = None
    table_caption: str = ""
    table_folded: bool = False


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything on the page; all of it is plain text and shown letter by letter.

    Attributes:
        title: the heading of the page and of the browser's window.
        verdict: one sentence, or several, that answer the question; they come first.
        tone: how the verdict is set off: "good", "caution" or "neutral". The words have to say it as well.
        question: what was asked, on what: name and value, such as model, data, task, attribute.
        words: what the words of the page mean: word and meaning.
        notes: what a reader has to know before believing the numbers, such as groups of few images.
        sections: in the order of the page.
        settings: everything needed to repeat the result: name and value.
        command: a command or a few lines of Python that repeat it; "" for none.
        limits: what the result does not show.
    """

    title: str
    verdict: str | Sequence[str]
    tone: Literal["good", "caution", "neutral"] = "neutral"
    question: Mapping[str, object] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    limits: Sequence[str] = ()
