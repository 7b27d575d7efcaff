"""The measures that the suites have beside accuracy by group.

- averages over groups, common − counter gap (CounterAnimal) and occupation gap (GenderBias-VL): from predictions.
- MaxSkew@k, retrieval skew@k and NDKL over neutral prompts (FairFace), retrieval skew@k within an occupation
  (GenderBias-VL): from the scores of a corrected embedding. A method that puts a probe in the classifier's place leaves
  the embedding as it is, and has no row there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.benchmark.measures import Extra, Scored, joined, only
from headlens.metrics import (
    SMALL,
    Measures,
    evaluate,
    max_skew,
    ndkl,
    occupation_gap,
    paired_difference,
    retrieval_skew,
    value_gap,
)
from headlens.metrics.accuracy import Weighting
from headlens.metrics.bootstrap import Bootstrap, interval
from headlens.prompts import ZeroShotTask

_NDKL_DRAWS = 100  # each ranks all images again for every prompt


def averages() -> Extra:
    """The average accuracy where every group counts once, and where groups count as in the training split."""

    def measure(one: Scored) -> Measures:
        groups = [one.audit.data.groups[row] for row in one.audit.splits.test]
        weightings: dict[str, Weighting] = {"groups": "groups", "training": _training_shares(one, groups)}
        bootstrap = Bootstrap(one.draws, seed=one.audit.question.seed)
        parts = []
        for name, weighting in weightings.items():
            own = evaluate(one.labels, one.predictions, groups=groups, weighting=weighting, bootstrap=bootstrap)
            part = Measures(one.method, {name: own.average}, {name: own.interval["average"]}, sizes=own.sizes)
            if one.before is not None:
                change = paired_difference(
                    one.labels,
                    one.predictions,
                    baseline=one.before.predictions,
                    groups=groups,
                    weighting=weighting,
                    bootstrap=bootstrap,
                )
                moved = {name: change.difference["average"]}
                part = replace(part, difference=moved, difference_interval={name: change.interval["average"]})
            parts.append(part)
        small = tuple(name for name, size in parts[0].sizes.items() if size < SMALL)
        return replace(joined(parts), small=small, n_bootstrap=one.draws)

    return Extra(
        "Other averages",
        {"groups": "over groups", "training": "weighted as in training"},
        "The table's average counts every image once. Here every group counts once; or as often as in the split train, "
        "where there is one, and else in the reference split, as published averages of Waterbirds do.",
        measure,
    )


def _training_shares(one: Scored, scored: Sequence[str]) -> dict[str, float]:
    """Each scored group's share of the split train, or of the reference split where there is none."""
    audit = one.audit
    splits = audit.store.manifest.get("split")
    rows = audit.splits.reference if splits is None else np.flatnonzero((splits == "train").to_numpy())
    counts = pd.Series(audit.data.groups[rows if len(rows) else audit.splits.reference]).value_counts()
    shares = {name: float(counts.get(name, 0)) for name in dict.fromkeys(scored)}
    return shares if sum(shares.values()) else dict.fromkeys(shares, 1.0)


def common_counter() -> Extra:
    """Accuracy on the common less that on the counter images, over images."""
    return Extra(
        "Common − counter gap",
        {"common": "common", "counter": "counter", "gap": "gap"},
        "Accuracy on common less accuracy on counter images, over images; the change is against zero-shot, paired.",
        lambda one: value_gap(
            one.classes,
            one.predicted,
            attribute=one.values,
            method=one.method,
            baseline=one.baseline,
            bootstrap=Bootstrap(one.draws, seed=one.audit.question.seed),
        ),
    )


def occupations(worst: int = 10) -> Extra:
    """The mean over occupations of |accuracy on women − accuracy on men|, overall and over the ten worst."""

    def measure(one: Scored) -> Measures:
        there = _of_both(one.classes, one.values)
        return occupation_gap(
            one.classes[there],
            one.predicted[there],
            attribute=one.values[there],
            method=one.method,
            baseline=None if one.baseline is None else one.baseline[there],
            n_worst=worst,
            bootstrap=Bootstrap(one.draws, seed=one.audit.question.seed),
        )

    return Extra(
        "Occupation gap",
        {"overall": "all occupations", "worst": f"{worst} worst at zero-shot"},
        "Mean over occupations of |accuracy on one value − accuracy on the other|; the worst are those with the "
        "largest gaps at zero-shot, which move towards the mean by themselves.",
        measure,
    )


def occupation_skew(k: int = 10) -> Extra:
    """How evenly the values share the top k of each occupation's own images, ranked by its score."""

    def measure(one: Scored) -> Measures | None:
        scores = one.scores(one.audit.task)
        if scores is None:
            return None
        before = None if one.before is None else one.before.scores(one.audit.task)
        methods = [each for each in (before, scores) if each is not None]
        found = []
        for label in np.unique(one.labels):
            own = np.flatnonzero(one.labels == label)
            if len(own) >= k and len(set(one.values[own])) > 1:
                values = one.values[own]
                found.append([max_skew(each[own, label], values, k, "data") for each in methods])
        return _over_queries(one, "skew", np.asarray(found)) if found else None

    return Extra(
        f"Retrieval skew within occupations, top {k}",
        {"skew": f"retrieval skew@{k}"},
        f"The largest ln(share among the first {k} / share of all) over values, of each occupation's own images ranked "
        f"by its score; the mean over the occupations that have {k} images. Intervals are over occupations.",
        measure,
        percent=False,
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
        before = None if one.before is None else one.before.scores(prompts)
        top = max(1, min(k, len(scores) // 2))
        bootstrap = Bootstrap(one.draws, seed=one.audit.question.seed)
        even, own = (
            retrieval_skew(scores, one.values, top, of, method=one.method, baseline=before, bootstrap=bootstrap)
            for of in ("uniform", "data")
        )
        divergence = _divergence(one, scores, before, top)
        return joined([only(even, "max", "maxskew"), only(own, "max", "skew"), divergence])

    return Extra(
        "Ranking by neutral prompts",
        {"maxskew": f"MaxSkew@{k}", "skew": f"retrieval skew@{k}", "ndkl": "NDKL"},
        f"Means over {len(prompts.classes)} prompts that name no value of the attribute. MaxSkew has equal shares as "
        f"its aim, retrieval skew and NDKL the data set's own. With fewer than {2 * k} images k is half of them.",
        measure,
        percent=False,
    )


def _over_queries(one: Scored, name: str, found: np.ndarray) -> Measures:
    """The mean of numbers of [query method], zero-shot first where there are two, with a bootstrap over queries."""
    picks = np.random.default_rng(one.audit.question.seed).integers(len(found), size=(one.draws, len(found)))
    means, drawn = found.mean(axis=0), found[picks].mean(axis=1)
    measures = Measures(
        one.method,
        {name: float(means[-1])},
        {name: interval(drawn[:, -1])},
        sizes={"queries": len(found)},
        n_bootstrap=one.draws,
    )
    if found.shape[1] == 1:
        return measures
    change = {name: float(means[1] - means[0])}
    return replace(measures, difference=change, difference_interval={name: interval(drawn[:, 1] - drawn[:, 0])})


def _divergence(one: Scored, scores: Tensor, before: Tensor | None, k: int) -> Measures:
    """NDKL with a bootstrap that ranks every resample anew."""
    values, generator = one.values, np.random.default_rng(one.audit.question.seed)
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


def _of_both(classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Images of the classes that have images of every value."""
    table = pd.crosstab(classes, values)
    return np.isin(classes, table.index[(table > 0).all(axis=1)].to_numpy(dtype=object))
