"""Results as documents: one content, shown as a page, a model card, in the terminal and in a notebook."""

from headlens.document.blocks import Document, Section, Tile
from headlens.document.comparison import compare
from headlens.document.html import fragment, render, write
from headlens.document.markdown import markdown
from headlens.document.terminal import show, show_section

__all__ = ["Document", "Section", "Tile", "compare", "fragment", "markdown", "render", "show", "show_section", "write"]
