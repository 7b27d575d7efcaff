"""What an ablation does to each class, and where the changed predictions went: two sections of a fairness report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens import plots
from headlens.metrics import SMALL
from headlens.report.asked import attribute_name
from headlens.report.content import Section
from headlens.report.words import candidates, number, percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited


def classes_section(audit: Audited) -> Section:
    """Accuracy, V and the gap between the attribute's values of every class, before and after."""
    found, name = audit.fairness_results, attribute_name(audit)
    assert found is not None
    ranked = sorted(found.by_class, key=lambda one: one.v_after - one.v_before)
    table = pd.DataFrame(
        [
            {
                "class": one.name if one.images >= SMALL else f"{one.name} (under {SMALL} images)",
                "images": one.images,
                "V before": number(one.v_before),
                "V after": number(one.v_after),
                "gap before, %": percent(one.gap_before),
                "gap after, %": percent(one.gap_after),
                "accuracy before, %": percent(one.accuracy_before),
                "accuracy after, %": percent(one.accuracy_after),
                "corrected": one.corrected,
                "newly wrong": one.newly_wrong,
            }
            for one in ranked
        ]
    )
    return Section(
        "Class by class",
        f"V here is that of {name} and being taken for the class or not, over all scored images; the gap is the "
        f"largest less the smallest accuracy on the class over {', '.join(found.values)}.",
        plots.classes(found.by_class),
        caption=f"Classes sorted by the change of V by {name}; squares are classes under 30 images.",
        table=table,
        table_caption=f"Every class, largest fall of V by {name} first.",
    )


def flow_section(audit: Audited) -> Section:
    """The largest flows of changed predictions."""
    found, name = audit.fairness_results, attribute_name(audit)
    assert found is not None
    named = candidates(len(found.candidates))
    scored, changed = len(found.predictions["before"]), int(found.transitions.sum())
    title = "Where the changed predictions went"
    if changed == 0:
        return Section(title, f"None of {scored} predictions changed.")
    fates = ", ".join(f"{count} {fate}" for fate, count in found.fate.items())
    parts = transitions_by_fate(
        audit.data.labels[audit.splits.test],
        found.predictions["before"],
        found.predictions["after"],
        len(found.classes),
    )
    return Section(
        title,
        f"{changed} of {scored} predictions changed ({percent(changed / scored)} %): {fates}.",
        plots.flow(found.classes, found.transitions, found.fate, parts),
        caption=f"Images whose predicted class changed with {named} for {name} ablated, from the class before to the "
        "class after.",
    )


def transitions_by_fate(
    labels: Int[np.ndarray, "image"],
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "image"],
    n_classes: int,
) -> dict[str, Int[np.ndarray, "class class_after"]]:
    """How many images moved from one predicted class (row) to another (column), by what became of them."""
    moved = before != after
    right, was_right = after == labels, before == labels
    fates = {"corrected": right, "newly wrong": was_right, "wrong before and after": ~right & ~was_right}
    counted = {}
    for name, mask in fates.items():
        table = np.zeros((n_classes, n_classes), dtype=np.int64)
        np.add.at(table, (before[moved & mask], after[moved & mask]), 1)
        counted[name] = table
    return counted
