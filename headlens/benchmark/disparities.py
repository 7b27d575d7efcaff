"""Disparities between the attribute's values in a task of two classes.

With ŷ the prediction of the second class, y the true class and v the attribute's value, over the scored images:

- demographic parity difference: the largest difference over values of P(ŷ | v);
- equalised odds difference: the larger of the largest differences over values of P(ŷ | v, y) for either true class;

both as fairlearn defines them (https://fairlearn.org).
"""

from __future__ import annotations

import numpy as np

from headlens.benchmark.measures import Extra, Scored
from headlens.metrics import SMALL, Measures
from headlens.metrics.bootstrap import Bootstrap, bootstrap_cells, count_cells

_Array = np.ndarray


def disparities() -> Extra:
    """Demographic parity and equalised odds differences of the second of two classes."""

    def measure(one: Scored) -> Measures | None:
        names, labels, values = one.audit.task.classes, one.labels, one.audit.data.values[one.audit.splits.test]
        if len(names) != 2 or one.audit.results is None:
            return None
        before = one.audit.results.predictions["zero-shot"]
        positive = [part == 1 for part in ([one.predictions] if one.correction is None else [before, one.predictions])]
        codes, present = np.unique(values, return_inverse=True)
        counts = count_cells([present, labels], (len(codes), 2), positive)
        images = counts.reshape(*counts.shape[:2], -1).sum(-1)
        if not images.all():
            return None
        bootstrap = Bootstrap(one.draws, seed=one.audit.question.seed)
        found = bootstrap_cells(counts, one.correction is not None, _differences, bootstrap)
        held = one.audit.attribute.value_names
        sizes = {f"{names[j]}/{held[code]}": int(images[i, j]) for i, code in enumerate(codes) for j in (0, 1)}
        return Measures(one.method, *found, sizes, _small(sizes), 0.95, one.draws)

    return Extra(
        "Disparities",
        {"parity": "demographic parity difference", "odds": "equalised odds difference"},
        "Of how often the second class is predicted: the largest difference between the attribute's values over all "
        "images, and within a true class.",
        measure,
    )


def _differences(positive: _Array, images: _Array) -> dict[str, _Array]:
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = positive.sum(-1) / images.sum(-1)
        within = positive / np.where(images > 0, images, np.nan)
    spread = within.max(-2) - within.min(-2)
    return {"parity": overall.max(-1) - overall.min(-1), "odds": spread.max(-1)}


def _small(sizes: dict[str, int]) -> tuple[str, ...]:
    return tuple(name for name, size in sizes.items() if size < SMALL)
