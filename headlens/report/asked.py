"""What every report of an audit says alike: what was asked, what to know before, and how to repeat it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headlens.locate import Located
from headlens.plots.style import shorten
from headlens.report.words import counted, few
from headlens.steps import reproduce
from headlens.tables import plain

if TYPE_CHECKING:
    from headlens.steps.audited import Audited


def attribute_name(audit: Audited) -> str:
    """The attribute, and that its values are inferred where they are."""
    return f"{audit.attribute.name} (inferred)" if audit.data.inferred else audit.attribute.name


def location_of(audit: Audited) -> Located | None:
    """The located heads: the audit's own, or the candidates of its fairness audit."""
    if audit.location is not None or audit.fairness_results is None:
        return audit.location
    found = audit.fairness_results.located
    return Located("named", audit.fairness_results.candidates) if found is None else found.located


def title(audit: Audited) -> str:
    """The report's heading: a few classes by name, many by their number; names that would fill a page are cut."""
    classes = counted([shorten(plain(name), 40) for name in audit.task.classes])
    inferred = " (inferred)" if audit.data.inferred else ""
    return f"{classes} by {shorten(plain(audit.attribute.name), 60)}{inferred}"


def question(audit: Audited) -> dict[str, object]:
    """The question in a sentence; model, images, classes and attribute."""
    inferred = " (inferred zero-shot: the manifest has no such column)" if audit.data.inferred else ""
    name = shorten(plain(audit.attribute.name), 60)
    return {
        "Question": f"When the model tells these classes apart, does it go by {name}? Which of its attention heads "
        "bring that about, and what does correcting them do?",
        "Model": audit.store.model_name,
        "Images": f"{len(audit.splits.test)} scored; {len(audit.splits.reference)} others, the reference, to find "
        "heads and fit corrections on",
        "Classes": ", ".join(audit.task.classes),
        "Attribute": f"{audit.attribute.name}: {', '.join(audit.attribute.value_names)}{inferred}",
    }


def notes(audit: Audited) -> list[str]:
    """What holds for every result of this audit: its parts, inferred values, small groups, images left out."""
    said = [audit.splits.note, audit.location_note]
    if audit.data.inferred:
        said.append(
            f"The values of {audit.attribute.name} are inferred zero-shot; groups inherit the model's mistakes."
        )
    names, sizes = np.unique(audit.data.test_groups, return_counts=True)
    said.append(few(dict(zip(names.tolist(), sizes.tolist(), strict=True))))
    if len(audit.store.skipped):
        said.append(f"{len(audit.store.skipped)} images could not be read and were left out.")
    said += [finding.sentence for finding in audit.findings]
    return [note for note in said if note]


def settings(audit: Audited) -> dict[str, object]:
    """Everything needed to repeat the result."""
    return dict(reproduce.settings(audit.data, audit.record))


def command(audit: Audited) -> str:
    """Python that repeats the audit from its store."""
    return audit.script()
