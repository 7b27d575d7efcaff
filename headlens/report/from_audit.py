"""An audit as a report: the verdict first, then what it rests on, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headlens.report import asked
from headlens.report import from_correction as correction
from headlens.report import from_fairness as fairness
from headlens.report.content import ReportContent, Section
from headlens.report.elsewhere import elsewhere_section
from headlens.report.glossary import glossary
from headlens.report.write import write

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
    return write(content(audit, images), path)


def content(audit: Audited, images: int = 4) -> ReportContent:
    """The report's content, without writing it: a correction, a fairness audit, or both, as far as there are results.

    In this order: what was found, the heads and what they encode, what correcting them does, what it costs elsewhere,
    and whether random heads do as much.

    Args:
        audit: with the results of `evaluate`, of `fairness`, or of both.
        images: how many images to draw per-token maps for; with 0 no picture is drawn at all.
    """
    results, found = audit.results, audit.fairness_results
    verdict: list[str] = []
    notes, settings = asked.notes(audit), asked.settings(audit)
    sections: list[Section] = []
    controls: list[Section] = []
    limits: list[str] = [*LIMITS]
    tones: list[Literal["good", "caution", "neutral"]] = []
    if found is not None:
        verdict += fairness.fairness_verdict(audit)
        tones.append("neutral" if found.verdict.word == "not shown" else "caution")
        sections += fairness.fairness_sections(audit, images=8 if images else 0, maps=images)
        controls += fairness.control_sections(audit)
        notes += fairness.fairness_notes(audit)
        settings |= fairness.fairness_settings(audit)
        limits += fairness.LIMITS
    if results is not None:
        verdict += correction.correction_verdict(audit)
        tones.append("good" if results.verdict is not None and results.verdict.supported else "caution")
        sections += correction.correction_sections(audit, images, heads=found is None)
        controls += correction.control_sections(audit)
        notes += correction.correction_notes(audit)
        settings |= correction.correction_settings(audit)
        limits += correction.LIMITS
    return ReportContent(
        title=asked.title(audit),
        verdict=verdict,
        tone=_tone(tones),
        question=asked.question(audit),
        words=glossary(audit),
        notes=notes,
        sections=[*sections, elsewhere_section(audit), *controls],
        settings=settings,
        command=asked.command(audit),
        limits=limits,
    )


def _tone(
    tones: Sequence[Literal["good", "caution", "neutral"]],
) -> Literal["good", "caution", "neutral"]:
    """The most wary one."""
    return next((tone for tone in ("caution", "neutral", "good") if tone in tones), "neutral")
