"""What corrections cost elsewhere, as `Audit.collateral` found it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from headlens.metrics import Collateral, Measures

Kind = Literal["other", "class", "attribute"]


@dataclass(frozen=True)
class OtherTask:
    """A question that the scored images were asked beside the audited one.

    Attributes:
        name: a column of the manifest, "class NAME", or the audited attribute.
        kind: "other" for a further attribute or task; "class" for the audited task's accuracy on one class;
            "attribute" for telling the audited attribute itself, which a correction of it may well lower.
        images: how many scored images have an answer.
        guess: the share that guessing the most frequent answer gets right; None for a class.
        prompts: the prompts of each answer; empty for a class.
        given: whether the prompts were given, and not made from the column's values.
    """

    name: str
    kind: Kind
    images: int
    guess: float | None
    prompts: dict[str, tuple[str, ...]]
    given: bool


@dataclass(frozen=True, eq=False)
class CollateralResults:
    """What each correction does to other tasks, and to what is near what.

    Attributes:
        tasks: the tasks, in the order of tables.
        methods: accuracy of the tasks before and after, by method. A method that only changes the audited task's
            classifier has its classes alone: all else is as it was.
        neighbours: of an image's `k` nearest images, the share that are still among its k nearest after the correction,
            by method, as the measure "recall@k".
        k: how many neighbours.
        compared: among how many scored images.
        notes: what could not be measured, and why, in sentences.
    """

    tasks: tuple[OtherTask, ...]
    methods: dict[str, Collateral]
    neighbours: dict[str, Measures]
    k: int
    compared: int
    notes: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """One row a method and task: `method`, `task`, `kind`, `before`, `after`, `difference`, the ends `low` and
        `high` of its paired interval, `images`, `guess`. Accuracies are fractions."""
        rows = [
            (
                method, task.name, task.kind, one.before[task.name], one.after[task.name], one.difference[task.name],
                *one.interval[task.name], task.images, task.guess,
            )
            for method, one in self.methods.items()
            for task in self.tasks
            if task.name in one.before
        ]  # fmt: skip
        columns = ["method", "task", "kind", "before", "after", "difference", "low", "high", "images", "guess"]
        return pd.DataFrame(rows, columns=columns).astype({"guess": float})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tasks": [asdict(task) for task in self.tasks],
            "methods": {name: one.to_dict() for name, one in self.methods.items()},
            "neighbours": {name: one.to_dict() for name, one in self.neighbours.items()},
            "k": self.k,
            "compared": self.compared,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format, na_rep="")
