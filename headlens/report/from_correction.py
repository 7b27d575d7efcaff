"""The parts of a correction audit's report: what correcting does, group by group, and against random heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from headlens import plots
from headlens.metrics import Evaluation
from headlens.report.content import Section
from headlens.report.elsewhere import elsewhere_verdict
from headlens.report.encoded import encoded_sections
from headlens.report.located import heads_section
from headlens.report.pictures import token_figure
from headlens.report.words import percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

LIMITS = (
    "Location and corrections here are direct: they change what a head writes into the embedding, and leave what later "
    "layers make of it as it was.",
    "A correction that helps the worst group usually costs the groups that the bias favoured; compare the bars.",
    "A corrected model is not a fair model: only the named classes and attribute were looked at.",
)


def correction_verdict(audit: Audited) -> list[str]:
    """The verdict by its rule, then the same in plain words, with its cost."""
    assert audit.results is not None
    results = audit.results
    if results.verdict is None:
        return []
    name = results.verdict.method
    before, after = results.evaluations["zero-shot"], results.evaluations[name]
    there = "" if _worst(before) == _worst(after) else f"it does worst on {_worst(after)}, where "
    plain = (
        f"In plain words: the model does worst on {_worst(before)}, where {percent(before.worst_group)} % of its "
        f"answers are right. With {name} {there}{percent(after.worst_group)} % are. Over all images "
        f"{percent(before.average)} % are right before and {percent(after.average)} % after."
    )
    return [results.verdict.sentence, f"{plain} {elsewhere_verdict(audit)}"]


def _worst(evaluation: Evaluation) -> str:
    return min(evaluation.groups, key=lambda group: evaluation.groups[group])


def correction_sections(audit: Audited, images: int, heads: bool = True) -> list[Section]:
    """Everything that `audit.evaluate()` found, but the cost elsewhere.

    Args:
        audit: with results.
        images: how many images to draw per-token maps for; with 0 no picture is drawn at all.
        heads: whether the located heads, and what they encode, have their sections here.
    """
    located = [heads_section(audit), *encoded_sections(audit, 8 if images else 0)] if heads else []
    return [*located, *_maps(audit, images), _methods(audit), _groups(audit)]


def _maps(audit: Audited, images: int) -> list[Section]:
    figure = token_figure(audit, images) if images else None
    if figure is None:
        return []
    return [
        Section(
            "Where the heads read",
            "Images that zero-shot gets wrong. Each map shows, patch by patch, what a head contributes along the "
            "difference between the predicted and the true class: orange pushes towards the mistake, blue against.",
            figure,
        )
    ]


def correction_notes(audit: Audited) -> list[str]:
    """What to know before believing a correction's numbers."""
    if audit.question.pairs is not None:
        return []
    return ["No text pairs were given for knowledge injection: the class prompts themselves stand in, which is weak."]


def correction_settings(audit: Audited) -> dict[str, object]:
    """What repeats a correction's numbers."""
    assert audit.results is not None
    verdict = audit.results.verdict
    rule: dict[str, object] = (
        {}
        if verdict is None
        else {"verdict rule": f"gain above {100 * verdict.minimum_gain:.0f} points, p at most {verdict.alpha}"}
    )
    return rule | {"pairs for injection": [list(pair) for pair in audit.data.pairs]}


def _methods(audit: Audited) -> Section:
    assert audit.results is not None
    rows = []
    for record in audit.results.records():
        cells = {"method": record["method"]}
        for name, heading in (("average", "average"), ("worst_group", "worst group"), ("gap", "gap")):
            low, high = record["interval"][name]
            cells[heading] = f"{percent(record[name])} [{percent(low)}, {percent(high)}]"
        rows.append(cells)
    return Section(
        "What correcting does",
        "Each row is a way to answer: the model as it is (zero-shot), the corrections, and each correction with random "
        "heads instead of the located ones. A correction is worth its name where its worst group gains and random "
        "heads do not do as much.",
        table=pd.DataFrame(rows),
        table_caption="Accuracy in per cent, with 95 % bootstrap intervals over images; for random heads the central "
        "95 % of the draws. The gap is average minus worst group.",
    )


def _groups(audit: Audited) -> Section:
    assert audit.results is not None
    return Section(
        "Group by group",
        "A group is a class with a value of the attribute. A correction that helps the groups in which the two "
        "conflict often costs those in which they agree.",
        figure=plots.groups(list(audit.results.evaluations.values()), chance=1 / len(audit.task.classes)),
        caption="Accuracy before and after, with 95 % bootstrap intervals.",
    )


def control_sections(audit: Audited) -> list[Section]:
    """Every method against random heads."""
    assert audit.results is not None
    sections = []
    for name, control in audit.results.controls.items():
        compared = control.comparison()
        z = f"z = {compared.z:.1f}, " if np.isfinite(compared.z) else ""
        sections.append(
            Section(
                f"Random-head control ({name})",
                f"The method {name} repeated with other heads. {control.note} The worst group then "
                f"reaches {percent(compared.mean)} % on average and "
                f"{percent(compared.best)} % at best, against {percent(compared.observed)} % with the located heads "
                f"({z}p = {compared.p:.3f}).",
                plots.controls(control.drawn.worst_group, compared.observed, float(control.baseline.worst_group)),
                caption="Worst-group accuracy of each random set; the located heads count where they stand to the "
                "right of nearly all.",
            )
        )
    return sections
