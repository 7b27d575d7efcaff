"""Drawing images so that every group counts the same."""

from __future__ import annotations

import numpy as np

from headlens.errors import CorrectionError


def balanced_rows(groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many rows of every group that occurs as the smallest has, drawn without replacement, in ascending order.

    Args:
        groups: the group of each image.
        generator: draws where a group has more.

    Raises:
        CorrectionError: for no image at all.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if not len(names):
        raise CorrectionError("a reference split with images", "none", "Choose another split.")
    count = int(sizes.min())
    drawn = [generator.permutation(np.flatnonzero(groups == name))[:count] for name in names]
    return np.sort(np.concatenate(drawn))


def halves_by_group(groups: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the rows, each with half of every group.

    The first half has the larger part of an odd group, and so the only image of a group of one, which the second half
    lacks.
    """
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for name in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups == name))
        middle = (len(rows) + 1) // 2
        first.append(rows[:middle])
        second.append(rows[middle:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))
