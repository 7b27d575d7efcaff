"""The sections of a correction audit: what correcting does, group by group, and against random heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens.report.content import Section
from headlens.report.located import heads_section
from headlens.report.pictures import token_figure

if TYPE_CHECKING:
    from headlens.audit import Audit

LIMITS = (
    "Location and corrections here are direct: they change what a head writes into the embedding, and leave what later "
    "layers make of it as it was.",
    "A correction that helps the worst group usually costs the groups that the bias favoured; compare the bars.",
    "A corrected model is not a fair model: only the named classes and attribute were looked at.",
)


def correction_sections(audit: Audit, images: int, heads: bool = True) -> list[Section]:
    """Everything that `audit.evaluate()` found.

    Args:
        audit: with results.
        images: how many images to draw per-token maps for.
        heads: whether the located heads have their section here.
    """
    sections = [_methods(audit), *([heads_section(audit)] if heads else []), _groups(audit), *_controls(audit)]
    figure = token_figure(audit, images) if images else None
    if figure is not None:
        sections.append(
            Section(
                "Where the heads read",
                "Images that zero-shot gets wrong. Each map shows, patch by patch, what a head contributes along the "
                "difference between the predicted and the true class: orange pushes towards the mistake, blue against.",
                figure,
            )
        )
    return sections


def correction_notes(audit: Audit) -> list[str]:
    """What to know before believing a correction's numbers."""
    if audit.pairs_given:
        return []
    return ["No text pairs were given for knowledge injection: the class prompts themselves stand in, which is weak."]


def correction_settings(audit: Audit) -> dict[str, object]:
    """What repeats a correction's numbers."""
    assert audit.results is not None
    verdict = audit.results.verdict
    first = next(iter(audit.results.evaluations.values()))
    return {
        "pairs for injection": [list(pair) for pair in audit.pairs],
        "bootstrap draws": first.draws,
        "verdict rule": f"gain above {100 * verdict.minimum_gain:.0f} points, p at most {verdict.alpha}",
    }


def _methods(audit: Audit) -> Section:
    assert audit.results is not None
    rows = []
    for record in audit.results.records():
        cells = {"method": record["method"]}
        for name, heading in (("average", "average"), ("worst_group", "worst group"), ("gap", "gap")):
            low, high = record["interval"][name]
            cells[heading] = f"{100 * record[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append(cells)
    return Section(
        "What correcting does",
        table=pd.DataFrame(rows),
        table_caption="Accuracy in per cent, with 95 % bootstrap intervals over images; for random heads the central "
        "95 % of the draws. The gap is average less worst group.",
    )


def _groups(audit: Audit) -> Section:
    assert audit.results is not None
    return Section(
        "Group by group",
        figure=plots.groups(list(audit.results.evaluations.values()), chance=1 / len(audit.task.classes)),
        caption="Accuracy before and after, with 95 % bootstrap intervals.",
    )


def _controls(audit: Audit) -> list[Section]:
    assert audit.results is not None
    sections = []
    for name, control in audit.results.controls.items():
        compared = control.comparison
        kind = "every possible set" if control.exhaustive else f"drawn with seed {control.seed}"
        z = f", z = {compared.z:.1f}" if np.isfinite(compared.z) else ""
        sections.append(
            Section(
                f"Would any heads do? ({name})",
                f"The same method with {len(control.sets)} sets of as many heads from the same layers ({kind}): mean "
                f"{100 * compared.mean:.1f} %, best {100 * compared.best:.1f} %, against "
                f"{100 * compared.observed:.1f} % with the located heads{z}, p = {compared.p:.3f}.",
                plots.controls(control.worst_group, control.observed, control.baseline),
            )
        )
    return sections
