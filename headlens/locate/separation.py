"""How far two groups of images lie apart along many projections at once."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from headlens.errors import LocateError


def within_strata(along: np.ndarray, inside: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projections less the midpoint of the two groups' means in their stratum; strata with one group left out."""
    if len(np.unique(strata)) == 1:
        return along, inside
    parts, members = [], []
    for stratum in np.unique(strata):
        here, group = along[strata == stratum], inside[strata == stratum]
        if group.any() and not group.all():
            parts.append(here - (here[group].mean(axis=0) + here[~group].mean(axis=0)) / 2)
            members.append(group)
    if not parts:
        raise LocateError(
            "a class that has images of both groups",
            f"{len(np.unique(strata))} classes with one group each",
            "Attribute and class cannot be told apart on these images: add others, or leave the classes out.",
        )
    return np.concatenate(parts), np.concatenate(members)


def standardised(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The difference of means in pooled standard deviations; 0 where nothing varies."""
    squares = inside.var(axis=0) * len(inside) + outside.var(axis=0) * len(outside)
    pooled = np.sqrt(squares / (len(inside) + len(outside) - 2))
    step = inside.mean(axis=0) - outside.mean(axis=0)
    apart = np.where(np.abs(step) > 1e-12, np.copysign(np.inf, step), 0.0)
    return np.divide(step, pooled, out=apart, where=pooled > 0)


def area(along: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The Mann-Whitney statistic over the number of pairs, all heads at once."""
    ranks = rankdata(along, axis=0)[inside].sum(axis=0)
    count = int(inside.sum())
    return (ranks - count * (count + 1) / 2) / (count * (len(inside) - count))
