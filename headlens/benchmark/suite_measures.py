"""The measures that the suites have beside accuracy by group.

- demographic parity and equalised odds differences of a task of two classes: with ŷ the prediction of the second class,
  y the true class and v the attribute's value, the largest difference over values of P(ŷ | v), and the larger of the
  largest differences of P(ŷ | v, y) for either true class; as fairlearn defines them (https://fairlearn.org).
- averages over groups, common − counter gap (CounterAnimal) and occupation gap (GenderBias-VL): from predictions.
- MaxSkew@k, retrieval skew@k and NDKL over neutral prompts (FairFace), retrieval skew@k within an occupation
  (GenderBias-VL): from the scores of a corrected embedding. A method that replaces the classifier by a probe leaves
  the embedding as it is, and has no row there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import Tensor

from headlens.benchmark.measures import Extra, Scored, joined, only, over_units
from headlens.metrics import (
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
from headlens.metrics.bootstrap import bootstrap_cells, count_cells, small
from headlens.metrics.clusters import Clusters
from headlens.prompts import ZeroShotTask

_NDKL_DRAWS = 100  # each ranks all images again for every prompt


def averages() -> Extra:
    """The average accuracy where every group counts once, and where groups count as in the training split."""

    def measure(one: Scored) -> Measures:
        groups = one.audit.data.test_groups.tolist()
        weightings: dict[str, Weighting] = {"groups": "groups", "training": _training_shares(one, groups)}
        parts = []
        for name, weighting in weightings.items():
            own = evaluate(one.labels, one.predictions, groups=groups, weighting=weighting, cluster=one.cluster)
            part = Measures(one.method, {name: own.average}, {name: own.interval["average"]}, sizes=own.sizes)
            if one.before is not None:
                change = paired_difference(
                    one.labels,
                    one.predictions,
                    baseline=one.before.predictions,
                    groups=groups,
                    weighting=weighting,
                    cluster=one.cluster,
                )
                moved = {name: change.difference["average"]}
                part = replace(part, difference=moved, difference_interval={name: change.interval["average"]})
            parts.append(part)
        return joined(parts)

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


def disparities() -> Extra:
    """Demographic parity and equalised odds differences of the second of two classes."""

    def measure(one: Scored) -> Measures | None:
        names, labels, values = one.audit.task.classes, one.labels, one.audit.data.test_values
        if len(names) != 2:
            return None
        methods = [one] if one.before is None else [one.before, one]
        positive = [each.predictions == 1 for each in methods]
        codes, present = np.unique(values, return_inverse=True)
        counts = count_cells([present, labels], (len(codes), 2), positive)
        images = counts.reshape(*counts.shape[:2], -1).sum(-1)
        if not images.all():
            return None
        clusters = Clusters.beside(one.cluster, labels=labels)
        found = bootstrap_cells([present, labels], (len(codes), 2), positive, _differences, one.bootstrap, clusters)
        held = one.audit.attribute.value_names
        sizes = {f"{names[j]}/{held[code]}": int(images[i, j]) for i, code in enumerate(codes) for j in (0, 1)}
        return Measures(one.method, *found, sizes, small(sizes), 0.95, one.draws)

    return Extra(
        "Disparities",
        {"parity": "demographic parity difference", "odds": "equalised odds difference"},
        "Of how often the second class is predicted: the largest difference between the attribute's values over all "
        "images, and within a true class.",
        measure,
    )


def _differences(positive: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        overall = positive.sum(-1) / images.sum(-1)
        within = positive / np.where(images > 0, images, np.nan)
    spread = within.max(-2) - within.min(-2)
    return {"parity": overall.max(-1) - overall.min(-1), "odds": spread.max(-1)}


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
            cluster=one.cluster,
            bootstrap=one.bootstrap,
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
            cluster=None if one.cluster is None else one.cluster[there],
            bootstrap=one.bootstrap,
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
        return over_units(one, "skew", np.asarray(found), "queries") if found else None

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
        even, own = (
            retrieval_skew(
                scores,
                one.values,
                top,
                of,
                method=one.method,
                baseline=before,
                cluster=one.cluster,
                bootstrap=one.bootstrap,
            )
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


def _divergence(one: Scored, scores: Tensor, before: Tensor | None, k: int) -> Measures:
    """NDKL with a bootstrap that ranks every resample anew."""
    values, resamples = one.values, replace(one.bootstrap, n_bootstrap=max(2, min(one.draws, _NDKL_DRAWS)))
    rankings = [scores.numpy()] + ([] if before is None else [before.numpy()])
    observed = [ndkl(each, values, k) for each in rankings]
    drawn = []
    for weights in resamples.images(len(values), Clusters.beside(one.cluster, values=values)):
        rows = np.repeat(np.arange(len(values)), weights)
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
