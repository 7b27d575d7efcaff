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
import os
import re
import tempfile
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from headlens._version import __version__
from headlens.errors import OutputError
from headlens.report.content import ReportContent
from headlens.report.pieces import figure_piece, setting, table_piece


def write(content: ReportContent, path: str | os.PathLike[str]) -> Path:
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
    # The file in place is the old or the new report, whatever happens: a rename within one folder is atomic.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(page)
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def render(content: ReportContent) -> str:
    """The report as HTML text; the same content gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    sections = [
        {
            "title": section.title,
            "paragraphs": [_together(part.strip()) for part in section.text.split("\n\n") if part.strip()],
            "figure": None if section.figure is None else figure_piece(section.figure),
            "caption": section.caption,
            "table": None if section.table is None else table_piece(section.table),
            "table_caption": section.table_caption,
            "table_folded": section.table_folded,
        }
        for section in content.sections
    ]
    verdict = [content.verdict] if isinstance(content.verdict, str) else content.verdict
    scripts = [get_plotlyjs(), _resource("page.js")] if any(s["figure"] for s in sections) else []
    return environment.get_template("page.html.jinja").render(
        content=content,
        verdict=[_together(sentence) for sentence in verdict],
        question={name: setting(value) for name, value in content.question.items()},
        settings={name: setting(value) for name, value in content.settings.items()},
        sections=sections,
        style=Markup(_resource("page.css")),
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
        version=__version__,
    )


def _together(text: str) -> str:
    """Text whose lines never break between a number and its sign of per cent, nor within "p = 0.01"."""
    text = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)
    return re.sub(r"\b([pVz]) = (?=\d)", "\\1\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", text)


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _umask() -> int:
    """The mask for new files, which mkstemp does not heed; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
