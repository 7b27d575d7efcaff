"""The measures that the suites have beside accuracy by group.

- common − counter gap (CounterAnimal) and occupation gap (GenderBias-VL): from predictions.
- MaxSkew@k, retrieval skew@k and NDKL over neutral prompts (FairFace): from the scores of a corrected embedding. A
  method that puts a probe in the classifier's place leaves the embedding as it is, and has no row there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.benchmark.measures import Extra, Scored
from headlens.metrics import Measures, ndkl, occupation_gap, retrieval_skew, value_gap
from headlens.prompts import ZeroShotTask

_NDKL_DRAWS = 100  # each ranks all images again for every prompt


def common_counter() -> Extra:
    """Accuracy on the common less that on the counter images, over images."""
    return Extra(
        "Common − counter gap",
        {"common": "common", "counter": "counter", "gap": "gap"},
        "Accuracy on common less accuracy on counter images, over images; the change is against zero-shot, paired.",
        lambda one: value_gap(
            one.method,
            one.predicted,
            one.classes,
            one.values,
            baseline=one.baseline,
            draws=one.draws,
            seed=one.audit.seed,
        ),
    )


def occupations(worst: int = 10) -> Extra:
    """The mean over occupations of |accuracy on women − accuracy on men|, overall and over the ten worst."""

    def measure(one: Scored) -> Measures:
        there = _of_both(one.classes, one.values)
        return occupation_gap(
            one.method,
            one.predicted[there],
            one.classes[there],
            one.values[there],
            baseline=None if one.baseline is None else one.baseline[there],
            worst=worst,
            draws=one.draws,
            seed=one.audit.seed,
        )

    return Extra(
        "Occupation gap",
        {"overall": "all occupations", "worst": f"{worst} worst at zero-shot"},
        "Mean over occupations of |accuracy on one value − accuracy on the other|; the worst are those with the "
        "largest gaps at zero-shot, which move towards the mean by themselves.",
        measure,
    )


def neutral_ranking(prompts: ZeroShotTask, k: int = 1000) -> Extra:
    """How evenly the values share the top k of the ranking by each of some prompts that name no value.

    Args:
        prompts: the neutral descriptions, as "classes" of a task of their own.
        k: images at the top; half of the scored ones where there are fewer than twice as many.
    """

    def measure(one: Scored) -> Measures | None:
        scores = one.scores(prompts)
        if scores is None:
            return None
        before = None if one.correction is None else replace(one, correction=None).scores(prompts)
        top = max(1, min(k, len(scores) // 2))
        shared: dict[str, Any] = {"baseline": before, "draws": one.draws, "seed": one.audit.seed}
        even = retrieval_skew(one.method, scores, one.values, top, "uniform", **shared)
        own = retrieval_skew(one.method, scores, one.values, top, "data", **shared)
        divergence = _divergence(one, scores, before, top)
        return _joined([_only(even, "max", "maxskew"), _only(own, "max", "skew"), divergence])

    return Extra(
        "Ranking by neutral prompts",
        {"maxskew": f"MaxSkew@{k}", "skew": f"retrieval skew@{k}", "ndkl": "NDKL"},
        f"Means over {len(prompts.classes)} prompts that name no value of the attribute. MaxSkew has equal shares as "
        f"its aim, retrieval skew and NDKL the data set's own. With fewer than {2 * k} images k is half of them.",
        measure,
        percent=False,
    )


def _divergence(one: Scored, scores: Tensor, before: Tensor | None, k: int) -> Measures:
    """NDKL with a bootstrap that ranks every resample anew."""
    values, generator = one.values, np.random.default_rng(one.audit.seed)
    rankings = [scores.numpy()] + ([] if before is None else [before.numpy()])
    observed = [ndkl(each, values, k) for each in rankings]
    drawn = []
    for _ in range(max(2, min(one.draws, _NDKL_DRAWS))):
        rows = generator.integers(len(values), size=len(values))
        if len(set(values[rows])) > 1:
            drawn.append([ndkl(each[rows], values[rows], k) for each in rankings])
    samples = np.asarray(drawn)

    def ends(of: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(of, [2.5, 97.5])
        return float(low), float(high)

    found = Measures(one.method, {"ndkl": observed[0]}, {"ndkl": ends(samples[:, 0])})
    if before is None:
        return found
    change, change_ends = observed[0] - observed[1], ends(samples[:, 0] - samples[:, 1])
    return replace(found, difference={"ndkl": change}, difference_interval={"ndkl": change_ends})


def _only(measures: Measures, name: str, called: str) -> Measures:
    """One of several measures, under another name."""

    def one(of: Mapping[str, Any]) -> dict[str, Any]:
        return {called: of[name]} if name in of else {}

    return replace(
        measures,
        values=one(measures.values),
        interval=one(measures.interval),
        difference=one(measures.difference),
        difference_interval=one(measures.difference_interval),
    )


def _joined(parts: Sequence[Measures]) -> Measures:
    """Measures of one method side by side."""
    joined: dict[str, Any] = {
        name: {key: value for part in parts for key, value in getattr(part, name).items()}
        for name in ("values", "interval", "difference", "difference_interval")
    }
    return replace(parts[0], **joined)


def _of_both(classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Images of the classes that have images of every value."""
    table = pd.crosstab(classes, values)
    return np.isin(classes, table.index[(table > 0).all(axis=1)].to_numpy(dtype=object))
