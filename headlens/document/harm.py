"""Who is harmed: what the images of each attribute value meet in each class, before and after a correction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens import plots
from headlens.document.blocks import Section
from headlens.document.formatting import attribute_name
from headlens.document.intersections import intersection_sections
from headlens.metrics import SMALL
from headlens.metrics.harm import confusion, harm, parity
from headlens.tables import Column, Kind, Table, percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

_MOST_CLASSES = 12  # whose table is open from the start


def harm_sections(
    audit: Audited, before: Int[np.ndarray, "image"], after: Int[np.ndarray, "image"], method: str
) -> list[Section]:
    """Accuracy, selection rate and differences by class and value; parity by class; a confusion matrix per value.

    Args:
        audit: whose scored images they are.
        before, after: the predicted class of every scored image without and with the method.
        method: its name.
    """
    data = audit.data
    classes, values = audit.task.classes, audit.attribute.value_names
    labels, held = data.test_labels, data.test_values
    rows = harm(
        labels, after, baseline=before, attribute=held, classes=classes, values=values, cluster=data.test_clusters
    )
    if rows.empty:
        return []
    shape, name = (len(values), len(classes)), attribute_name(audit)
    tables = {"zero-shot": confusion(labels, before, held, shape), method: confusion(labels, after, held, shape)}
    matrices = {
        f"{value}, {when}": counts[v]
        for v, value in enumerate(values)
        for when, counts in tables.items()
        if counts[v].any()
    }
    return [
        _by_value(rows, name, method),
        _parity(parity(tables["zero-shot"], tables[method], classes), method),
        _confusion(matrices, classes, name),
        *intersection_sections(audit, before, after, method),
    ]


def _by_value(rows: pd.DataFrame, name: str, method: str) -> Section:
    rows = rows.sort_values("accuracy_before", kind="stable")
    small = [f" (under {SMALL} images)" * few for few in rows["small"]]
    columns: dict[str, Kind | Column] = {"class": "text", "value": "text", "images": "count"}
    measures: dict[str, tuple[str, Kind]] = {
        "accuracy": ("accuracy", "percent"),
        "difference": ("difference", "points"),
        "selection": ("predicted", "percent"),
        "ratio": ("ratio", "number"),
    }
    for measure, (heading, kind) in measures.items():
        columns |= {f"{measure}_{when}": Column(kind, f"{heading} {when}") for when in ("before", "after")}
    worst = rows.iloc[0]
    return Section(
        "Who is harmed",
        f"Images of {worst['class']} with {name} {worst['value']} are classified correctly least often: "
        f"{percent(worst['accuracy_before'])} % before and {percent(worst['accuracy_after'])} % with {method}. The "
        "difference and the ratio compare a value's accuracy with that of the class's other images; 'predicted' is how "
        "often the class is predicted for images of the value, whatever they show.",
        table=Table(
            rows.assign(value=rows["value"] + small),
            columns,
            f"Every class and value of {name}, the lowest accuracy first, with 95 % bootstrap intervals of the "
            "differences.",
        ),
    )


def _parity(found: pd.DataFrame, method: str) -> Section:
    columns: dict[str, Kind | Column] = {"class": "text"}
    for when, name in (("before", "zero-shot"), ("after", method)):
        columns |= {
            f"dp_difference_{when}": Column("percent", f"demographic parity difference, {name}"),
            f"dp_ratio_{when}": Column("number", f"ratio, {name}"),
            f"eo_difference_{when}": Column("percent", f"equalised odds difference, {name}"),
        }
    return Section(
        "Demographic parity and equalised odds",
        "Of each class compared with the rest: how much more often it is predicted for one value than for another, in "
        "points, the smaller rate over the larger, and the larger difference of the true and the false positive rate "
        "(fairlearn's definitions). Parity is no aim where the values truly differ in how often the class occurs.",
        table=Table(found, columns, "Differences of 0 and a ratio of 1 mean no difference."),
        table_folded=len(found) > _MOST_CLASSES,
    )


def _confusion(
    matrices: Mapping[str, Int[np.ndarray, "class class_predicted"]], classes: tuple[str, ...], name: str
) -> Section:
    return Section(
        f"Confusion by {name}",
        "Rows are true classes, columns predicted ones.",
        plots.confusion(matrices, classes),
        caption=f"Shares of a true class's images, for each value of {name}.",
    )
