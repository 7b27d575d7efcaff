"""Every image twice, with the pair as a cluster, is worth as much as once; without clusters it seems worth twice."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import headlens as hl
from headlens import metrics
from headlens.locate import calibrated_from_margins, contrastive_from_margins, margins_of, significance
from headlens.metrics import (
    Bootstrap,
    PredictionStatistics,
    association_change,
    collateral,
    dependence,
    dependence_change,
    evaluate,
    harm,
    intersections,
    occupation_gap,
    paired_difference,
    retrieval_recall,
    retrieval_skew,
    value_gap,
    within_class,
)

IMAGES = 389
generator = np.random.default_rng(5)
LABELS, VALUES = generator.integers(0, 2, (2, IMAGES))
BEFORE = np.where(generator.random(IMAGES) < 0.72, LABELS, 1 - LABELS)
BEFORE = np.where(generator.random(IMAGES) < 0.06, VALUES, BEFORE)
LEANING = np.where(generator.random(IMAGES) < 0.08, VALUES, BEFORE)
AFTER = np.where(generator.random(IMAGES) < 0.4, LABELS, BEFORE)
OTHER = np.asarray(["", "small", "large"])[generator.integers(0, 3, IMAGES)]
SCORES = generator.normal(size=(IMAGES, 3)) + 0.3 * VALUES[:, None]
BOOTSTRAP = Bootstrap(2000)


def ends(found, names):
    return [found[name] for name in names]


def of_harm(labels, before, after, values, cluster, **_):
    found = harm(
        labels,
        after,
        baseline=before,
        attribute=values,
        classes=("a", "b"),
        values=("x", "y"),
        cluster=cluster,
        bootstrap=BOOTSTRAP,
    )
    return found[["difference_before_low", "difference_before_high"]].to_numpy().tolist()


def of_intersections(labels, before, after, values, other, cluster, **_):
    attributes = {"value": np.asarray(["x", "y"])[values].tolist(), "other": other.tolist()}
    found = intersections(labels, after, baseline=before, attributes=attributes, cluster=cluster)
    return found[["change_low", "change_high"]].to_numpy().tolist()


def of_skew(values, scores, cluster, once, **_):
    k = 60 if once else 120
    found = retrieval_skew(scores, values, k, "uniform", cluster=cluster, bootstrap=Bootstrap(600))
    return [found.interval["skew.0"]]


def of_recall(scores, cluster, once, **_):
    # Every image is a query, over items that are not doubled.
    items = np.random.default_rng(3).normal(size=(40, 3))
    relevant = (np.arange(40) < 6)[:, None].repeat(len(scores), 1)
    found = retrieval_recall(items @ scores.T, relevant, 6, cluster=cluster, bootstrap=BOOTSTRAP)
    return [found.interval["recall@6"]]


def of_statistics(labels, before, values, cluster, **_):
    found = PredictionStatistics(labels, values, cluster=cluster, bootstrap=BOOTSTRAP)(before)
    return [BOOTSTRAP.interval(found[name][1:]) for name in ("average", "dependence", "cramers_v")]


def of_significance(labels, margins_task, cluster, **_):
    head_logits, logits, conflicting = margins_task
    found = significance(
        head_logits, logits, torch.from_numpy(labels), conflicting, credit="soft", n_bootstrap=2000, n_permutations=2,
        clusters=cluster,
    )  # fmt: skip
    return torch.stack([found.low, found.high], -1).flatten(0, 1).tolist()


INTERVALS = {
    "evaluate": lambda labels, before, groups, cluster, **_: ends(
        evaluate(labels, before, groups=groups, cluster=cluster).interval, ("average", "worst_group", "gap")
    ),
    "paired_difference": lambda labels, before, after, groups, cluster, **_: ends(
        paired_difference(labels, after, baseline=before, groups=groups, cluster=cluster).interval,
        ("average", "worst_group", "gap", "groups.0/1"),
    ),
    "association_change": lambda labels, before, after, values, cluster, **_: ends(
        association_change(
            labels, after, baseline=before, attribute=values, cluster=cluster, bootstrap=BOOTSTRAP
        ).interval,
        ("cramers_v", "accuracy"),
    ),
    "dependence_change": lambda labels, before, after, values, cluster, **_: [
        dependence_change(
            labels, after, baseline=before, attribute=values, cluster=cluster, bootstrap=BOOTSTRAP
        ).interval
    ],
    "collateral": lambda labels, before, after, cluster, **_: [
        collateral(
            "m",
            {"t": (labels, after, before)},
            cluster=None if cluster is None else {"t": cluster},
            bootstrap=BOOTSTRAP,
        ).interval["t"]
    ],
    "occupation_gap": lambda labels, before, after, values, cluster, **_: ends(
        occupation_gap(labels, before, attribute=values, cluster=cluster, bootstrap=BOOTSTRAP).interval,
        ("class.0", "class.1"),
    ),
    "value_gap": lambda labels, before, after, values, cluster, **_: ends(
        value_gap(labels, before, attribute=values, values=(0, 1), cluster=cluster, bootstrap=BOOTSTRAP).interval,
        ("0", "1", "gap"),
    ),
    "harm": of_harm,
    "intersections": of_intersections,
    "retrieval_skew": of_skew,
    "retrieval_recall": of_recall,
    "PredictionStatistics": of_statistics,
    "significance": of_significance,
}


def task():
    """Class scores of 3 × 5 heads, one of which pulls images to the class that goes with their value."""
    made = torch.Generator().manual_seed(0)
    heads = torch.randn(IMAGES, 3, 5, 2, generator=made) * 0.3
    labels, values = torch.from_numpy(LABELS), torch.from_numpy(VALUES)
    heads[torch.arange(IMAGES), 2, 1, values] += 0.16
    heads[torch.arange(IMAGES), 1, 4, labels] += 0.9
    return heads, heads.sum((1, 2)), labels != values


def columns(times, clustered):
    heads, logits, conflicting = (one.repeat_interleave(times, 0) for one in task())
    every = {
        "labels": LABELS,
        "values": VALUES,
        "before": BEFORE,
        "after": AFTER,
        "leaning": LEANING,
        "other": OTHER,
        "scores": SCORES,
        "groups": np.array([f"{c}/{v}" for c, v in zip(LABELS, VALUES, strict=True)]),
    }
    return {name: np.repeat(one, times, axis=0) for name, one in every.items()} | {
        "cluster": np.repeat(np.arange(IMAGES), times) if clustered else None,
        "once": times == 1,
        "margins_task": (heads, logits, conflicting),
    }


@pytest.mark.parametrize("name", INTERVALS)
def test_intervals_of_doubled_images_with_clusters_are_those_of_the_images(name):
    once, clustered, naive = (
        np.ptp(np.asarray(INTERVALS[name](**columns(times, cluster))), axis=-1)
        for times, cluster in ((1, False), (2, True), (2, False))
    )
    np.testing.assert_allclose(clustered, once, rtol=0.12)
    assert (naive < 0.87 * once).all(), (naive / once).round(3)


P_VALUES = {
    "within_class": lambda labels, leaning, values, cluster, **_: within_class(
        labels, leaning, attribute=values, cluster=cluster, n_permutations=4000
    ).p,
    "dependence": lambda labels, before, values, cluster, **_: dependence(
        labels, before, attribute=values, cluster=cluster, n_permutations=2000
    ).p,
    "significance": lambda labels, margins_task, cluster, **_: float(
        significance(
            *margins_task[:2], torch.from_numpy(labels), margins_task[2], credit="soft", n_bootstrap=2,
            n_permutations=2000, clusters=cluster,
        ).p[2, 0]
    ),
    "calibrated": lambda **c: float(located(calibrated_from_margins, **c).p[2, 1]),
}  # fmt: skip


def located(rule, labels, margins_task, cluster, **_):
    margins, decisions = margins_of(*margins_task[:2], torch.from_numpy(labels))
    if cluster is not None:
        decisions = type(decisions)(decisions.predicted, decisions.other, decisions.correct, torch.from_numpy(cluster))
    return rule(margins, decisions, margins_task[2])


@pytest.mark.parametrize("name", P_VALUES)
def test_p_values_of_doubled_images_with_clusters_are_those_of_the_images(name):
    once, clustered, naive = (
        P_VALUES[name](**columns(times, cluster)) for times, cluster in ((1, False), (2, True), (2, False))
    )
    assert clustered == pytest.approx(once, rel=0.25)
    assert naive < 0.6 * once


def test_soft_credit_names_heads_of_doubled_images_as_of_the_images():
    """Over many heads and strengths, clusters restore what doubling the images adds."""

    def soft(margins, decisions, conflicting):
        return contrastive_from_margins(margins, decisions, conflicting, credit="soft")

    once, clustered, naive = (
        located(soft, **columns(times, cluster)).spurious for times, cluster in ((1, False), (2, True), (2, False))
    )
    assert clustered == once and set(once) <= set(naive)


def test_whoever_asks_for_an_interval_of_images_says_which_belong_together() -> None:
    asks = {
        name for name in metrics.__all__
        if callable(one := getattr(metrics, name)) and "cluster" in inspect.signature(one).parameters
    }  # fmt: skip
    assert {"evaluate", "paired_difference", "intersections", "dependence"} <= asks
    silent = []
    for path in sorted(Path(hl.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        from_metrics = {
            name.asname or name.name: name.name
            for one in ast.walk(tree)
            if isinstance(one, ast.ImportFrom) and str(one.module).startswith("headlens.metrics")
            for name in one.names
        }
        for call in (one for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)):
            given = {keyword.arg for keyword in call.keywords}  # None stands for **columns
            values_alone = from_metrics.get(call.func.id) == "PredictionStatistics" and "bootstrap" not in given
            if from_metrics.get(call.func.id) in asks and not given & {"cluster", None} and not values_alone:
                silent.append(f"{path.name}:{call.lineno} {call.func.id}")
    assert silent == []
