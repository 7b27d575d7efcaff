"""The explorer's tables and sentences, as HTML. Everything that a person or a manifest wrote is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from headlens.document import Section, fragment
from headlens.errors import HeadlensError
from headlens.tables import STYLE, listed

if TYPE_CHECKING:
    from headlens.explore.state import ExplorerState

_STYLE = """<style>
.headlens p {margin: 4px 0; max-width: 70em; line-height: 1.45}
.headlens .error {border-left: 4px solid #b3127f; padding: 6px 12px}
.headlens .soft {opacity: .75}
</style>"""


def question(state: ExplorerState) -> str:
    """What is asked, of what, and where heads were located."""
    audit = state.audit
    inferred = ", inferred zero-shot: no column of that name" if audit.data.inferred else ""
    asked = (
        f"{audit.store.model_name}, {len(audit.store):,} images: {listed(audit.task.classes, 12)} "
        f"by {audit.attribute.name} ({', '.join(audit.attribute.value_names)}{inferred}). {audit.data.splits.note}"
    )
    heads = ", ".join(map(str, state.located)) or "none"
    located = state.note or f"Located by {state.locator!r}: {heads}. {audit.location_note}"
    return _page(f"<p class='headlens-question'>{escape(asked)}</p><p class='headlens-located'>{escape(located)}</p>")


def error(problem: HeadlensError) -> str:
    """An error: what is wrong, and how to fix it."""
    return _page(
        f"<div class='error' role='alert'><p>{escape(problem.problem)}</p><p><b>{escape(problem.remedy)}</b></p></div>"
    )


def trouble(said: str) -> str:
    """Any other thing that went wrong."""
    return _page(f"<div class='error' role='alert'><p>{escape(said)}</p></div>")


def section(shown: Section, name: str) -> str:
    """A section of the audit's document."""
    return _page(fragment(shown, name))


def soft(text: str) -> str:
    """A quiet sentence."""
    return _page(f"<p class='soft'>{escape(text)}</p>")


def status(text: str) -> str:
    """What is being done, or was; a screen reader reads it out."""
    return _page(f"<p class='soft headlens-status' role='status'>{escape(text)}</p>")


def _page(body: str) -> str:
    return f"{STYLE}{_STYLE}<div class='headlens'>{body}</div>"
