"""A document as Markdown, short and without figures: the section of a model card.

Names of classes, values and models, and whatever else a manifest or a prompt holds, are shown letter by letter: every
sign that Markdown, HTML or a card's template could read as markup is escaped, and code stands between fences that its
content cannot close.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from headlens.document.audit import audit_document
from headlens.document.blocks import Document, Section, setting

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

# A backslash is understood before the first kind by every renderer, before the second kind only by some.
_MARKUP = re.compile(r"[\\`*_\[\]{}]")
_REFERENCE = re.compile(r"[<>&|~$]|:(?=//)|(?<=www)\.")
_OPENING = re.compile(r"^(?:[#+=-]+|\d{1,9}[.)])(?=\s|$)")  # what would begin a list, a heading or a line
_KEPT = ("headlens", "model", "model fingerprint", "audit", "splits", "locate", "seed")


def card(audit: Audited, level: int = 2, document: Document | None = None) -> str:
    """An audit's section of a model card. Steps that were not taken are named.

    Args:
        audit: the results of `evaluate`, of `fairness`, or of both are shown.
        level: of the section's heading, from 1 to 5; the headings within it are one level lower.
        document: the audit's, where it is there already; a card shows none of its pictures.
    """
    document = document or audit_document(audit, images=0)
    return markdown(
        replace(
            document,
            title=f"Attention heads and bias: {document.title}",
            settings={name: value for name, value in document.settings.items() if name in _KEPT},
            commands={"Python": _without_place(audit, document.commands["Python"])},
        ),
        level,
    )


def markdown(document: Document, level: int = 2) -> str:
    """The verdict, the question, the notes, the sections that have a brief, the limits, and how to repeat it."""
    question = {name: setting(value) for name, value in document.question.items()}
    repeat = {name: setting(value) for name, value in document.settings.items()}
    under = "#" * (level + 1)
    blocks = [
        f"{'#' * level} {plain(document.title)}",
        *(f"**{plain(said)}**" if said == document.sentences[0] else plain(said) for said in document.sentences),
        table(("what was asked", "of what"), question.items()),
        _list(document.notes),
        *(_section(one, under) for one in (*document.conditions, *document.sections) if one.brief is not None),
        *((f"{under} Limits", _list(document.limits)) if document.limits else ()),
        f"{under} To repeat it",
        table(("setting", "value"), repeat.items()),
        *(_code(text, language.lower()) for language, text in document.commands.items()),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _section(section: Section, heading: str) -> str:
    one = section.table if section.brief_table else None
    shown = "" if one is None else table([plain(name) for name in one.headings], one.rows())
    parts = [f"{heading} {plain(section.title)}", _list(section.brief or ()), shown]
    return "\n\n".join(part for part in parts if part)


def plain(text: object) -> str:
    """Text in one line in which nothing is markup: neither Markdown nor HTML, a link, a mention or a template."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = _REFERENCE.sub(lambda sign: f"&#{ord(sign[0])};", line)
    line = _MARKUP.sub(lambda sign: f"\\{sign[0]}", line)
    return _OPENING.sub(lambda start: f"{start[0][:-1]}\\{start[0][-1]}", line)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are shown letter by letter."""
    lines = [columns, ["---"] * len(columns), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _code(text: str, language: str) -> str:
    """A fenced block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _without_place(audit: Audited, command: str) -> str:
    """Where a store lies is nobody's business who reads a published card: its name is enough."""
    path = str(audit.store.path)
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return command.replace(json.dumps(path, ensure_ascii=False), json.dumps(name, ensure_ascii=False))
