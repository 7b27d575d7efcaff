"""Who is harmed where two attributes meet: every class and value of the audited attribute by a second one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens import plots
from headlens.document.blocks import Section
from headlens.document.formatting import attribute_name
from headlens.metrics import SMALL, evaluate, intersections
from headlens.tables import Column, Kind, Table, listed, percent, plain

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

_MOST_COLUMNS = 4
_MOST_CELLS = 200


def intersection_sections(
    audit: Audited, before: Int[np.ndarray, "image"], after: Int[np.ndarray, "image"], method: str
) -> list[Section]:
    """The audited attribute crossed with every further column of a few values, one section a column.

    Args:
        audit: whose scored images they are.
        before, after: the predicted class of every scored image without and with the method.
        method: its name.
    """
    columns = list(_columns(audit))
    sections = [_crossed(audit, before, after, method, *one) for one in columns[:_MOST_COLUMNS]]
    if others := [column for column, _ in columns[_MOST_COLUMNS:]]:
        left_out = f"Only the first {_MOST_COLUMNS} columns are crossed, and not {listed(others)}."
        sections[-1] = replace(sections[-1], text=f"{sections[-1].text} {left_out}")
    return sections


def _columns(audit: Audited) -> Iterator[tuple[str, np.ndarray]]:
    """The further columns each value of which meets several classes and several values of the audited attribute."""
    data = audit.data
    for column, values in data.further_columns.items():
        held = (values != "") & (data.test_values >= 0)
        own = pd.DataFrame({"value": values, "class": data.test_labels, "attribute": data.test_values})[held]
        # A column that the class or the attribute settles crosses nothing: a duck is always a waterbird.
        if own["value"].nunique() > 1 and (own.groupby("value").nunique() > 1).all(axis=None):
            yield column, values


def _crossed(
    audit: Audited,
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "image"],
    method: str,
    column: str,
    others: np.ndarray,
) -> Section:
    data, name, second = audit.data, attribute_name(audit), plain(column)
    values = np.array([*audit.attribute.value_names, ""], dtype=object)[data.test_values]  # −1 is the last
    classes = np.array(audit.task.classes, dtype=object)[data.test_labels]
    cells = intersections(
        data.test_labels,
        after,
        baseline=before,
        cluster=data.test_clusters,
        attributes={"class": classes, "value": values, "other": others},
    ).sort_values("accuracy_before", kind="stable")
    enough = cells[~cells["small"]]
    sentence = f"No class has {SMALL} images of any combination: the numbers of single cells say little."
    if len(enough):
        worst = enough.iloc[0]
        sentence = (
            f"Of the combinations with {SMALL} images or more, images of {worst['class']} with {name} {worst['value']} "
            f"and {second} {worst['other']} are classified correctly least often: {percent(worst['accuracy_before'])} "
            f"% before and {percent(worst['accuracy_after'])} % with {method}."
        )
    few = int(cells["small"].sum())
    shown = cells.head(_MOST_CELLS)
    caption = f"Every class by {name} and {second}, the lowest accuracy first, with 95 % intervals"
    if len(cells) > len(shown):
        caption += f"; the first {len(shown)} of {len(cells)}"
    held = (values != "") & (others != "")
    groups = [f"{value}, {other}" for value, other in zip(values[held], others[held], strict=True)]
    clusters = None if data.test_clusters is None else data.test_clusters[held]
    drawn = [
        evaluate(data.test_labels[held], one[held], groups=groups, method=called, cluster=clusters)
        for called, one in (("zero-shot", before), (method, after))
    ]
    return Section(
        f"Two attributes: {name} and {second}",
        f"{sentence} A disparity may lie in one combination while each attribute by itself shows none. {few} of "
        f"{len(cells)} combinations have fewer than {SMALL} images and are marked; of many combinations, some stand "
        "out by chance.",
        plots.groups(drawn),
        caption=f"Accuracy over all classes for each combination of {name} and {second}.",
        table=_table(shown, name, second, method, f"{caption}."),
        table_folded=True,
    )


def _table(cells: pd.DataFrame, name: str, second: str, method: str, caption: str) -> Table:
    frame = cells.assign(
        other=[
            f"{value} (under {SMALL} images)" if small else value
            for value, small in zip(cells["other"], cells["small"], strict=True)
        ]
    )
    columns: dict[str, Kind | Column] = {
        "class": "text",
        "value": Column("text", name),
        "other": Column("text", second),
        "images": "count",
        "accuracy_before": Column("percent", "accuracy before"),
        "accuracy_after": Column("percent", f"accuracy with {method}"),
        "change": "points",
    }
    return Table(frame, columns, caption)
