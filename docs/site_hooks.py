"""What the documentation's build adds to mkdocs: the example notebooks as pages, and formulae as MathML.

Both are done while the site is built, so that a reader's browser needs nothing from elsewhere.
"""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[1] / "examples"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Each notebook of examples/ as a page: its text and its code."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page_of(path)))
    return files


def page_of(path: Path) -> str:
    """A notebook as Markdown, with a line on where it lies."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    parts = [
        text if kind == "markdown" else f"```python\n{text}\n```"
        for kind, text in zip(kinds, texts, strict=True)
        if text
    ]
    parts.insert(1, f"*This page is the notebook `examples/{path.name}`, without its outputs.*")
    return "\n\n".join(parts) + "\n"


def on_page_content(html: str, **_: Any) -> str:
    """LaTeX between the marks that arithmatex leaves, as MathML."""
    return _FORMULA.sub(_as_mathml, html)


def _as_mathml(found: re.Match[str]) -> str:
    return convert(unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline")
