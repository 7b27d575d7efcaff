"""An audit as a report: the verdict first, then what it rests on, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headlens.locate import Candidates
from headlens.report import asked
from headlens.report import from_correction as correction
from headlens.report import from_fairness as fairness
from headlens.report.content import ReportContent, Section
from headlens.report.write import write

if TYPE_CHECKING:
    from headlens.audit import Audit

LIMITS = (
    "The result holds for this model, these images and these prompts. Other prompts for the same classes can move "
    "every number.",
)


def write_report(audit: Audit, path: Path, images: int) -> Path:
    """See `Audit.report`. Steps that were not taken yet are taken first."""
    if audit.results is None and audit.fairness_results is None:
        if isinstance(audit.location, Candidates):
            audit.fairness()
        else:
            audit.evaluate()
    return write(content(audit, images), path)


def content(audit: Audit, images: int = 4) -> ReportContent:
    """The report's content, without writing it: a correction, a fairness audit, or both, as far as there are results.

    Args:
        audit: with the results of `evaluate`, of `fairness`, or of both.
        images: how many images to draw per-token maps for; with 0 no picture is drawn at all.
    """
    results, found = audit.results, audit.fairness_results
    verdict: list[str] = []
    notes, settings = asked.notes(audit), asked.settings(audit)
    sections: list[Section] = []
    limits: list[str] = [*LIMITS]
    tones: list[Literal["good", "caution", "neutral"]] = []
    if found is not None:
        verdict += fairness.fairness_verdict(audit)
        tones.append("neutral" if found.verdict.word == "not shown" else "caution")
        sections += fairness.fairness_sections(audit, images=8 if images else 0, maps=images)
        notes += fairness.fairness_notes(audit)
        settings |= fairness.fairness_settings(audit)
        limits += fairness.LIMITS
    if results is not None:
        verdict.append(results.verdict.sentence)
        tones.append("good" if results.verdict.supported else "caution")
        sections += correction.correction_sections(audit, images, heads=found is None)
        notes += correction.correction_notes(audit)
        settings |= correction.correction_settings(audit)
        limits += correction.LIMITS
    return ReportContent(
        title=asked.title(audit),
        verdict=verdict,
        tone=_tone(tones),
        question=asked.question(audit),
        notes=notes,
        sections=sections,
        settings=settings,
        command=asked.command(audit),
        limits=limits,
    )


def _tone(
    tones: Sequence[Literal["good", "caution", "neutral"]],
) -> Literal["good", "caution", "neutral"]:
    """The most wary one."""
    return next((tone for tone in ("caution", "neutral", "good") if tone in tones), "neutral")
