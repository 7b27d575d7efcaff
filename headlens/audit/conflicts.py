"""The groups of an audit in which attribute and class conflict: named, or found by a stated rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.locate import ConflictingGroups, conflicting_groups
from headlens.prompts import Attribute, ZeroShotTask


def choose_conflicting(
    task: ZeroShotTask,
    attribute: Attribute,
    labels: Int[Tensor, "image"],
    values: Int[Tensor, "image"],
    predicted: Int[Tensor, "image"],
    named: Sequence[tuple[str, str]] | None = None,
) -> ConflictingGroups:
    """The groups that were named; else each class's rarer values; else those that are classified worse.

    A balanced reference split has no majority to conflict with. What the classifier gets wrong still tells the
    direction of its bias, and the heads are judged on other images.

    Args:
        task: the classes.
        attribute: the attribute.
        labels: the true class of each image, as an index.
        values: the attribute's value of each image, as an index.
        predicted: the class that zero-shot predicts, as an index.
        named: (class, value) groups.

    Raises:
        LocateError: for a named group that does not exist, or where no group is classified worse than its class.
    """
    classes = np.asarray(task.classes, dtype=object)
    true, held = classes[labels.numpy()], np.asarray(attribute.value_names, dtype=object)[values.numpy()]
    if named is not None:
        return conflicting_groups(true, held, groups=named)
    try:
        return conflicting_groups(true, held)
    except LocateError:
        return conflicting_groups(true, held, rule="accuracy", predictions=classes[predicted.numpy()], margin=0.0)


def conflict_note(groups: ConflictingGroups) -> str:
    """One sentence on the groups and where they come from."""
    how = {
        "named": "as named",
        "majority": "each class's rarer values in the reference split",
        "accuracy": "the values on which each class is classified worse, because the reference split is balanced",
    }[groups.rule]
    listed = ", ".join(f"{c}/{v} ({n} images)" for (c, v), n in zip(groups.groups, groups.sizes, strict=True))
    tied = f" No value leads in {', '.join(groups.tied)}, which are left out." if groups.tied else ""
    return f"Conflicting groups: {listed}; {how}.{tied}"
