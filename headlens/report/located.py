"""Which heads: the section on what a locator found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from headlens import plots
from headlens.locate import Candidates, Location
from headlens.report.asked import attribute_name, location_of
from headlens.report.content import Section
from headlens.report.words import change, listed, number, percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited


def heads_section(audit: Audited) -> Section:
    """The located heads, their scores as a figure and as a table, whatever the locator."""
    location = location_of(audit)
    if location is None:
        return Section("Which heads", "No heads were located. audit.locate() does that.")
    if isinstance(location, Location):
        return _decisions(location)
    if isinstance(location, Candidates) and (location.concept is not None or location.spans is not None):
        return _candidates(location, attribute_name(audit))
    salient = f" Salient heads: {listed(location.salient, 40)}." if location.salient else ""
    how = location.method if location.method == "transferred" else f"by the locator {location.method}"
    return Section("Which heads", f"Heads {how}: {listed(location.spurious, 40)}.{salient}")


def _decisions(location: Location) -> Section:
    soft = location.method.endswith("-soft")
    frame = location.table()
    for column in ("V_C", "V_W", "difference"):
        frame[column] = [change(value) if soft else percent(value) for value in frame[column]]
    apart = (
        f"where the mean scores differ by more than {location.threshold:.4f}"
        if soft
        else f"where the shares differ by more than {percent(location.threshold)} points"
    )
    what = "A head's mean score over" if soft else "The share of images whose decision rests most on each head:"
    return Section(
        "Which heads",
        f"Spurious heads: {listed(location.spurious, 40)}. Salient heads: {listed(location.salient, 40)}.\n\nSpurious "
        "heads weigh in more where the answer is wrong than where it is right; salient heads the other way round. "
        f"Compared are {location.n_wrong} incorrectly and {location.n_correct} correctly classified images of the "
        f"reference, from the groups in which class and attribute conflict; a head is named {apart}.",
        plots.location(location),
        caption=f"{what} {'the right images' if soft else 'right ones'} (V_C) and wrong ones (V_W).",
        table=frame,
        table_caption="Every head with a score."
        if soft
        else "Every head that decided an image, in per cent of the images.",
    )


def _candidates(candidates: Candidates, attribute: str) -> Section:
    tests = []
    if (concept := candidates.concept) is not None:
        rule = concept.rule
        tests.append(
            f"By concept vectors a head is flagged that tells the groups of {attribute} apart by "
            f"{rule.minimum_difference} standard deviations and with an AUROC of {rule.minimum_auroc} or more, and "
            f"that makes {percent(rule.minimum_part)} % or more of the distance that heads put between them."
        )
    if (spans := candidates.spans) is not None:
        tests.append(
            f"By TextSpan a head is flagged where {attribute} is among the first {spans.first} texts that span it, "
            f"in competition with {spans.n_bank} general texts."
        )
    both = len(tests) == 2
    if both:
        tests.append("Candidates are the heads that both tests flag.")
    return Section(
        "Which heads",
        f"Candidates: {listed(candidates.spurious, 40)}. {' '.join(tests)}\n\n"
        f"The scores say what heads encode, not that it matters: that is shown by the intervention below.",
        plots.candidates(candidates, title=""),
        caption=f"Every head's {candidates.scores().name}, for {attribute}."
        + (" Heads that one test alone flags are outlined with a broken line." if both else ""),
        table=_table(candidates),
        table_caption=f"Every head that a test flags for {attribute}.",
    )


def _table(candidates: Candidates) -> pd.DataFrame:
    frame = candidates.table()
    shown = {
        "part": ("part of distance, %", percent),
        "difference": ("difference, st. dev.", lambda value: f"{value:+.2f}"),
        "auroc": ("AUROC", number),
        "share": ("variance along vector, %", percent),
        "place": ("place among texts", lambda value: f"{value:.0f}" if value == value and value else "–"),
        "prompts' share": ("variance explained, %", percent),
    }
    flags = {"by concept": "by concept vectors", "by TextSpan": "by TextSpan", "candidate": "candidate"}
    table = pd.DataFrame({"head": frame["head"]})
    for column, (name, write) in shown.items():
        if column in frame:
            table[name] = [write(float(value)) for value in frame[column]]
    for column, name in flags.items():
        if column in frame:
            table[name] = ["yes" if value else "no" for value in frame[column]]
    return table
