"""An audit as a document: the verdict first, then what it rests on, and how to repeat it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens.document.blocks import Document, Section, Tile, Tone
from headlens.document.collateral import elsewhere_section
from headlens.document.correction import LIMITS as CORRECTION_LIMITS
from headlens.document.correction import (
    correction_controls,
    correction_notes,
    correction_sections,
    correction_settings,
    correction_tiles,
    correction_verdict,
)
from headlens.document.fairness import LIMITS as FAIRNESS_LIMITS
from headlens.document.fairness import (
    fairness_controls,
    fairness_notes,
    fairness_sections,
    fairness_settings,
    fairness_tiles,
    fairness_verdict,
)
from headlens.document.formatting import attribute_name, counted, few, location_of, today
from headlens.document.html import write
from headlens.errors import CorrectionError
from headlens.plots.style import shorten
from headlens.steps import reproduce
from headlens.tables import Table, listed, plain

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

LIMITS = (
    "The result holds for this model, these images and these prompts. Other prompts for the same classes can move "
    "every number.",
    "The cost elsewhere was measured on these same images, for the tasks that are named alone: other tasks may "
    "lose more.",
)


def write_report(audit: Audited, path: Path, images: int) -> Path:
    """See `Audit.report`."""
    return write(audit_document(audit, images, date=today()), path)


def audit_document(audit: Audited, images: int = 4, date: str = "") -> Document:
    """All that an audit found: a correction, a fairness audit, or both, as far as there are results.

    In this order: the verdict with its conditions, the heads and what they encode, what correcting them does, who is
    harmed, what it costs elsewhere, whether random heads do as much, and the data.

    Args:
        audit: with the results of `evaluate`, of `fairness`, or of both.
        images: how many images to draw per-token maps for; with 0 no picture is drawn at all.
        date: of the document, as text.
    """
    results, found = audit.results, audit.fairness_results
    verdict: list[str] = []
    notes = _notes(audit)
    settings: dict[str, object] = {**reproduce.settings(audit.data, audit.record), "made with": _versions()}
    sections: list[Section] = []
    controls: list[Section] = []
    limits, tiles = [*LIMITS], list[Tile]()
    tones: list[Tone] = []
    if found is not None:
        verdict += fairness_verdict(audit)
        tones.append("neutral" if found.verdict.word == "not shown" else "caution")
        tiles += fairness_tiles(audit)
        sections += fairness_sections(audit, images=8 if images else 0, maps=images)
        controls += fairness_controls(audit)
        notes += fairness_notes(audit)
        settings |= fairness_settings(audit)
        limits += FAIRNESS_LIMITS
    if results is not None:
        verdict += correction_verdict(audit)
        tones.append("good" if results.verdict is not None and results.verdict.supported else "caution")
        tiles += correction_tiles(audit)
        sections += correction_sections(audit, images, heads=found is None)
        controls += correction_controls(audit)
        notes += correction_notes(audit)
        settings |= correction_settings(audit)
        limits += CORRECTION_LIMITS
    return Document(
        title=_title(audit),
        verdict=verdict,
        tone=_tone(tones),
        tiles=tiles,
        question=_question(audit),
        words=_glossary(audit),
        notes=notes,
        conditions=_conditions(audit),
        sections=[*sections, elsewhere_section(audit), *controls, _data(audit)],
        settings=settings,
        commands=_commands(audit),
        limits=limits,
        date=date,
    )


def _versions() -> str:
    """Python and the libraries that run the model, as they are where the document is made."""
    libraries = [f"{name} {version(name)}" for name in ("torch", "open_clip_torch", "transformers", "timm")]
    return ", ".join([f"Python {python_version()}", *libraries])


def _tone(tones: list[Tone]) -> Tone:
    """The most wary one."""
    return next((tone for tone in ("caution", "neutral", "good") if tone in tones), "neutral")


def _commands(audit: Audited) -> dict[str, str]:
    """What repeats the audit from its store; in a shell once it was saved."""
    found = {"Python": audit.script()}
    with suppress(CorrectionError):
        found["Shell"] = audit.commands()
    return found


def _conditions(audit: Audited) -> list[Section]:
    """Each condition of the verdicts with its outcome."""
    results, found = audit.results, audit.fairness_results
    judged = {} if found is None else {attribute_name(audit): found.verdict.shown()}
    if results is not None and results.verdict is not None:
        judged[results.verdict.method] = results.verdict.shown()
    return [
        Section(
            f"Conditions of the verdict ({name})",
            "A verdict needs every condition to be met; 'open' means that these images, labels or sets cannot decide.",
            table=replace(table, caption="Every condition of the rule, its outcome and the numbers."),
            brief=(),
            brief_table=True,
        )
        for name, table in judged.items()
    ]


def _data(audit: Audited) -> Section:
    """The images of each group in both parts."""
    parts = {"reference": audit.splits.reference, "scored": audit.splits.test}
    counts = {f"{name} images": pd.Series(audit.data.groups[rows]).value_counts() for name, rows in parts.items()}
    frame = pd.DataFrame(counts).fillna(0).astype(int).rename_axis("group").sort_index().reset_index()
    return Section(
        "The data",
        f"Manifest {audit.question.manifest}, head states {audit.store.fingerprint}. Heads are located and corrections "
        "fitted on the reference images; all accuracies are those of the scored ones.",
        table=Table(frame, caption="Images of each group in both parts."),
        table_folded=len(frame) > 20,
    )


def _title(audit: Audited) -> str:
    """The report's heading: a few classes by name, many by their number; names that would fill a page are cut."""
    classes = counted([shorten(plain(name), 40) for name in audit.task.classes])
    inferred = " (inferred)" if audit.data.inferred else ""
    return f"{classes} by {shorten(plain(audit.attribute.name), 60)}{inferred}"


def _question(audit: Audited) -> dict[str, object]:
    """The question in a sentence; model, images, classes and attribute."""
    inferred = " (inferred zero-shot: the manifest has no such column)" if audit.data.inferred else ""
    name = shorten(plain(audit.attribute.name), 60)
    return {
        "Question": f"When the model distinguishes these classes, does it go by {name}? Which of its attention heads "
        "bring that about, and what does correcting them do?",
        "Model": audit.store.model_name,
        "Images": f"{len(audit.splits.test):,} scored; {len(audit.splits.reference):,} others, the reference, to find "
        "heads and fit corrections on",
        "Classes": listed(audit.task.classes, 30),
        "Attribute": f"{audit.attribute.name}: {', '.join(audit.attribute.value_names)}{inferred}",
    }


def _notes(audit: Audited) -> list[str]:
    """What holds for every result of this audit: its parts, inferred values, small groups, images left out."""
    location = location_of(audit)
    located = location is None or bool(location.spurious or location.salient)
    said = [audit.splits.note, audit.location_note if located else ""]  # why none is what 'Which heads' says
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


_HEAD = (
    "an attention head, one of the small parts that a layer of the model is made of; head L3H0 is the first head of "
    "the fourth layer, both counted from 0"
)
_ALWAYS = {
    "embedding": "the numbers that the model makes of an image or of a text; near ones belong together",
    "zero-shot": "the model as it is: an image gets the class whose text is nearest to it",
}
_INTERVAL = {
    "95 % interval": "how far the number would mostly move with other images of the same kind",
    "p": "how often chance alone would do as well; near 0 speaks against chance",
}
_CORRECTION = {
    "group": "the images of one class with one value of the attribute, written class/value",
    "worst group": "the group with the lowest accuracy; the gap is how far it lies below the average",
    "spurious, salient": "heads that weigh in where the answer is wrong, and where it is right",
}
_METHODS = {
    "ablation": "the spurious heads say the same of every image: their mean over the reference images",
    "ltc": "locate, then correct: the ablation, and salient heads turned towards what truly distinguishes the classes",
}
_RANDOM = {
    "random heads": "as many heads of the same layers, or of those beside them, instead of the located ones: chance",
}
_FAIRNESS = {
    "Cramér's V": "how strongly attribute and answer go together: 0 not at all, 1 wholly",
    "candidates": "the heads that encode the attribute by the tests that the report names",
    "ablated": "what a head says of an image is replaced by its mean over the reference images",
    "focal, diffuse": "brought about by a few heads that were found; not by a few that were found",
}


def _glossary(audit: Audited) -> dict[str, str]:
    """Word and meaning, in the order in which a reader meets them."""
    words = {"head": _HEAD, **_ALWAYS}
    if audit.fairness_results is not None:
        words |= _FAIRNESS
    if audit.results is not None:
        words |= _CORRECTION
        words |= {name: meaning for name, meaning in _METHODS.items() if name in audit.results.evaluations}
    return words | _RANDOM | _INTERVAL
