"""From a report's content to one HTML file.

The page holds its style, its script, plotly.js and all pictures, so it opens offline and asks no server for
anything. A content security policy inside the page says so to the browser: only the page's own two scripts
run, named by their hashes, and nothing is loaded from elsewhere. Text is escaped by the template, labels in
figures by `headlens.plots`, the figures' JSON by `script_json`: what a manifest or a prompt holds is shown,
never run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from headlens._version import __version__
from headlens.document.blocks import Document, Section, setting
from headlens.errors import OutputError
from headlens.plots import describe
from headlens.plots.style import theme_patch
from headlens.serialization import write_whole


@dataclass(frozen=True)
class FigurePiece:
    """A figure as JSON that may stand inside a script element, and what the page needs to place it."""

    json: str
    alt: str
    height: int
    min_width: int
    fixed: bool


def figure_piece(figure: go.Figure) -> FigurePiece:
    """Light figure and dark colours as JSON; the text alternative; the room it needs."""
    parts = json.loads(figure.to_json())
    patch = [[path, colour] for path, colour in theme_patch(figure, "dark")]
    payload = {"data": parts["data"], "layout": parts["layout"], "dark": patch}
    meta = figure.layout.meta if isinstance(figure.layout.meta, Mapping) else {}
    return FigurePiece(
        json=script_json(payload),
        alt=describe(figure) or "A figure without a description.",
        height=int(figure.layout.height or 450),
        min_width=int(meta.get("min_width", 480)),
        fixed=figure.layout.width is not None,
    )


def script_json(value: object) -> str:
    r"""JSON without any character that HTML could read as markup: `<`, `>` and `&` as `\u003c` and so on.

    Neither `</script>` nor `<!--` can then end or open anything, and the two line ends that older JavaScript
    does not allow in a string are gone too.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def write(content: Document, path: str | os.PathLike[str]) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        content: what the report says.
        path: the file; one that exists is replaced, folders on the way are made.

    Returns:
        The path of the file.

    Raises:
        OutputError: where the path is a folder, or lies under a file.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(
            "the path of a file to write the report to", f"the folder {target}", "Name a file in it, as report.html."
        )
    page = render(content)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(
            f"{target.parent} to be a folder", "a path that leads through a file", "Choose another folder."
        ) from error
    write_whole(target, page)
    return target


def render(content: Document) -> str:
    """The document as HTML text; the same document gives the same text."""
    sections = [_shown(section) for section in (*content.conditions, *content.sections)]
    drawn = any(section["figure"] for section in sections)
    scripts = [*([get_plotlyjs()] if drawn else []), _resource("page.js")] if sections or content.commands else []
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            content=content,
            verdict=[_together(sentence) for sentence in content.sentences],
            question={name: setting(value) for name, value in content.question.items()},
            settings={name: setting(value) for name, value in content.settings.items()},
            sections=sections,
            parts=_parts(sections),
            style=Markup(_resource("page.css")),
            scripts=[Markup(script) for script in scripts],
            hashes=[_hash(script) for script in scripts],
            version=__version__,
        )
    )


def fragment(section: Section, name: str = "") -> str:
    """A section's table and text as a piece of HTML for a notebook, which brings a style of its own."""
    table = "" if section.table is None else f'<div class="{escape(name)}">{section.table.html()}</div>'
    return table + "".join(f'<p class="soft">{escape(part)}</p>' for part in _paragraphs(section))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _shown(section: Section) -> dict[str, object]:
    """A section as the templates take it."""
    return vars(section) | {
        "paragraphs": _paragraphs(section),
        "figure": None if section.figure is None else figure_piece(section.figure),
        "table": _table(section),
        "heading": section.title if section.table is None else section.table.caption or section.title,
        "csv": "" if section.table is None else section.table.csv(),
    }


def _table(section: Section) -> Markup | None:
    return None if section.table is None else Markup(_together(section.table.html(caption=not section.table_folded)))


def _paragraphs(section: Section) -> list[str]:
    return [_together(part.strip()) for part in section.text.split("\n\n") if part.strip()]


def _parts(sections: Sequence[dict[str, object]]) -> list[tuple[str, list[int]]]:
    """The sections' numbers from one, by the part that they belong to; one without a part is alone."""
    parts: list[tuple[str, list[int]]] = []
    for number, section in enumerate(sections, 1):
        part = str(section["part"])
        if part and parts and parts[-1][0] == part:
            parts[-1][1].append(number)
        else:
            parts.append((part, [number]))
    return parts


def _together(text: str) -> str:
    """Text whose lines never break between a number and its sign of per cent, nor within "p = 0.01"."""
    text = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)
    return re.sub(r"\b([pVz]) = (?=\d)", "\\1\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", text)


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
