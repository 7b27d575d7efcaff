"""Disparities between the attribute's values in a task of two classes, and what a correction leaves of the attribute.

With ŷ the prediction of the second class, y the true class and v the attribute's value, over the scored images:

- demographic parity difference: the largest difference over values of P(ŷ | v);
- equalised odds difference: the larger of the largest differences over values of P(ŷ | v, y) for either true class;

both as fairlearn defines them (https://fairlearn.org). And as collateral: how often the attribute's own zero-shot task
still tells its value from the corrected embedding. A correction need not leave the attribute readable, but one that
blurs everything shows here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from headlens.benchmark.measures import Extra, Scored, is_probe
from headlens.correct import OrthoCali
from headlens.metrics import SMALL, Measures
from headlens.metrics.measures import bootstrap_cells, count_cells

_Array = np.ndarray


def disparities() -> Extra:
    """Demographic parity and equalised odds differences of the second of two classes."""

    def measure(one: Scored) -> Measures | None:
        names, labels, values = one.audit.task.classes, one.labels, one.audit.values[one.audit.splits.test]
        if len(names) != 2 or one.audit.results is None:
            return None
        before = one.audit.results.predictions["zero-shot"]
        positive = [part == 1 for part in ([one.predictions] if one.correction is None else [before, one.predictions])]
        codes, present = np.unique(values, return_inverse=True)
        counts = count_cells([present, labels], (len(codes), 2), positive)
        images = counts.reshape(*counts.shape[:2], -1).sum(-1)
        if not images.all():
            return None
        found = bootstrap_cells(counts, one.correction is not None, _differences, one.draws, 0.95, one.audit.seed)
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


def attribute_left() -> Extra:
    """Accuracy of the attribute's own zero-shot task, from the corrected embedding."""

    def measure(one: Scored) -> Measures | None:
        audit = one.audit
        corrected = one.correction
        # Neither a probe nor a calibrated classifier touches the embedding that the attribute is told from.
        if audit.inferred or (corrected is not None and (is_probe(corrected) or isinstance(corrected, OrthoCali))):
            return None
        prototypes = audit.attribute.prototypes(audit.texts).to(audit.test.embedding)
        scores = [audit.test.embedding @ prototypes.T]
        if corrected is not None:
            scores.append(corrected.logits(audit.test, prototypes))
        values = torch.as_tensor(audit.values[audit.splits.test])
        hits: list[_Array] = [(each.argmax(dim=-1).cpu() == values).numpy() for each in scores]
        counts = count_cells([np.zeros(len(values), dtype=int)], (1,), hits)
        found = bootstrap_cells(counts, corrected is not None, _accuracy, one.draws, 0.95, audit.seed)
        sizes = {"images": len(values)}
        return Measures(one.method, *found, sizes, _small(sizes), 0.95, one.draws)

    return Extra(
        "What is left of the attribute",
        {"accuracy": "accuracy"},
        "How often the attribute's own zero-shot task tells its value from the corrected embedding; methods that "
        "change the classifier alone leave it as it is.",
        measure,
    )


def _accuracy(right: _Array, images: _Array) -> dict[str, Any]:
    return {"accuracy": right[..., 0] / images[..., 0]}


def _small(sizes: dict[str, int]) -> tuple[str, ...]:
    return tuple(name for name, size in sizes.items() if size < SMALL)
