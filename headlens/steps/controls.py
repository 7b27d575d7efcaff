"""The random-head control: do as many heads of the same layers do as well?

Ablating any head moves some predictions. The control repeats a method with other sets of heads of the same pattern, and
compares the same statistics of the predictions, computed by the same function, with the located heads' own. One control
serves a correction, an ablation of chosen heads, and a fairness audit. The sets are those of
`headlens.locate.draw_head_sets`: all sets of the pattern but the located one, so that they may overlap it; neighbouring
layers are pooled where the located ones have too few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from headlens.heads import HeadId
from headlens.locate import HeadSets, draw_head_sets
from headlens.locate.random_heads import ALPHA
from headlens.metrics import (
    AssociationChange,
    Bootstrap,
    Dependence,
    DependenceChange,
    Evaluation,
    PairedDifference,
    PredictionStatistics,
    RandomComparison,
    against_random,
    association_change,
    dependence,
    dependence_change,
    evaluate,
    paired_difference,
)
from headlens.progress import progress
from headlens.tables import Column, Kind, Shown, Table

Cast = dict[str, tuple[HeadId, ...]]
"""Heads by the role that they play."""
Measure = Literal["worst_group", "cramers_v", "dependence"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the control compares, of one or of many sets of predictions.

    Attributes:
        group_accuracy: accuracy in each group.
        average: accuracy over all images.
        cramers_v: V of attribute × predicted class.
        dependence: D, the dependence on the attribute within the true classes.
    """

    group_accuracy: Float[np.ndarray, "*draw group"]
    average: Float[np.ndarray, "*draw"]
    cramers_v: Float[np.ndarray, "*draw"]
    dependence: Float[np.ndarray, "*draw"]

    @property
    def worst_group(self) -> Float[np.ndarray, "*draw"]:
        """The lowest accuracy of any group."""
        return np.asarray(self.group_accuracy.min(axis=-1))


Predictions = Int[np.ndarray, "image"]


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """The images that predictions are scored on, and what predictions of them are worth.

    Attributes:
        labels: the true class of each, as an index.
        values: the attribute's value of each, as an index.
        groups: the group of each, by name.
        clusters: the person or scene that each shows; None where each stands for itself.
    """

    labels: Int[np.ndarray, "image"]
    values: Int[np.ndarray, "image"]
    groups: np.ndarray
    clusters: Int[np.ndarray, "image"] | None = None

    def some(self, places: Int[np.ndarray, "place"]) -> ScoredImages:
        """Some of the images."""
        clusters = None if self.clusters is None else self.clusters[places]
        return ScoredImages(self.labels[places], self.values[places], self.groups[places], clusters)

    def evaluation(self, predictions: Predictions, method: str = "", level: float = 0.95) -> Evaluation:
        """Accuracies by group, with intervals."""
        return evaluate(self.labels, predictions, groups=self.groups, method=method, level=level, cluster=self.clusters)

    def difference(self, after: Predictions, before: Predictions, level: float = 0.95) -> PairedDifference:
        """The accuracies of some predictions minus those of others, with paired intervals."""
        return paired_difference(
            self.labels, after, baseline=before, groups=self.groups, level=level, cluster=self.clusters
        )

    def association(self, after: Predictions, before: Predictions, bootstrap: Bootstrap) -> AssociationChange:
        """Cramér's V of attribute × predicted class before and after, with paired intervals."""
        return association_change(
            self.labels,
            after,
            baseline=before,
            attribute=self.values,
            cluster=self.clusters,
            bootstrap=bootstrap,
        )

    def dependence(
        self,
        after: Predictions,
        before: Predictions,
        *,
        alpha: float,
        seed: int,
        n_bootstrap: int = 1000,
        n_permutations: int = 1000,
    ) -> tuple[Dependence, DependenceChange]:
        """How predictions depend on the attribute within the true classes, and what of it is gone after.

        Raises:
            MetricError: where no class has images of two values.
        """
        of: dict[str, Any] = {"attribute": self.values, "cluster": self.clusters}
        bootstrap = Bootstrap(n_bootstrap, 1 - alpha, seed)
        return (
            dependence(self.labels, before, **of, n_permutations=n_permutations, seed=seed, alpha=alpha),
            dependence_change(self.labels, after, baseline=before, **of, bootstrap=bootstrap),
        )

    def statistics(self, predictions: Int[np.ndarray, "*draw image"]) -> Statistics:
        """The statistics of predictions of these images."""
        statistics = PredictionStatistics(self.labels, self.values, groups=self.groups)
        every = np.asarray(predictions)
        found = [statistics(one) for one in every.reshape(-1, every.shape[-1])]

        def of(name: str) -> Float[np.ndarray, "*draw"]:
            return np.asarray([one[name][0] for one in found]).reshape(every.shape[:-1])

        by_group = np.stack([of(f"groups.{name}") for name in statistics.groups], axis=-1)
        return Statistics(by_group, of("average"), of("cramers_v"), of("dependence"))


@dataclass(frozen=True, eq=False, repr=False)
class RandomHeads(Shown):
    """A method's statistics with random heads instead of the located ones.

    Attributes:
        method: the method that was repeated.
        sets: the heads of each draw.
        groups: the names of the groups.
        drawn: the statistics of each draw.
        observed: those with the located heads.
        baseline: those without any correction.
        exhaustive: whether `sets` is every possible set.
        seed: of the draws.
        note: how the sets were drawn, and which roles' heads, as a sentence.
        own_p: where layers were pooled, the p-value that each other set of the located layers alone would get; else
            empty.
    """

    method: str
    sets: tuple[tuple[HeadId, ...], ...]
    groups: tuple[str, ...]
    drawn: Statistics
    observed: Statistics
    baseline: Statistics
    exhaustive: bool
    seed: int
    note: str = ""
    own_p: dict[str, list[float]] = field(default_factory=dict)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that so many sets can give."""
        return 1 / (1 + len(self.sets))

    def shown(self) -> Table:
        """The located heads beside the random ones, measure by measure."""
        units: dict[Measure, str] = {"worst_group": "percent", "cramers_v": "number", "dependence": "number"}
        names = {"worst_group": "worst group", "cramers_v": "Cramér's V", "dependence": "D, within classes"}
        rows = []
        for measure, unit in units.items():
            found = self.comparison(measure)
            rows.append((names[measure], found.observed, found.mean, found.best, found.p, unit))
        frame = pd.DataFrame(rows, columns=["measure", "located", "random", "best", "p", "unit"])
        columns: dict[str, Kind | Column] = {
            "measure": "text",
            "located": Column("value", "located heads"),
            "random": Column("value", "random, mean"),
            "best": Column("value", "random, best"),
            "p": "p",
        }
        return Table(frame, columns, f"{self.method}: {self.note} Accuracy in %.")

    def comparison(self, measure: Measure = "worst_group") -> RandomComparison:
        """The located heads against the random ones: higher worst-group accuracy, or lower V or D, is better."""
        return against_random(
            float(getattr(self.observed, measure)),
            getattr(self.drawn, measure),
            lower_is_better=measure != "worst_group",
        )

    def type_1_error(self, measure: Measure, alpha: float) -> float:
        """Of the other sets of the located layers, the share that the pooled sets would give p ≤ alpha; 0 without
        pooling, where it is at most alpha by construction. Above alpha, a small p is what any heads there may have."""
        own = np.asarray(self.own_p.get(measure, []))
        return float((own <= alpha + 1e-9).mean()) if len(own) else 0.0

    def to_record(self) -> dict[str, Any]:
        """A row beside the methods' own: means over the draws, and the central 95 % of the draws as intervals."""

        def spread(values: np.ndarray) -> list[float]:
            return [float(q) for q in np.quantile(values, [0.025, 0.975])]

        drawn = self.drawn
        columns = {"average": drawn.average, "worst_group": drawn.worst_group, "gap": drawn.average - drawn.worst_group}
        by_group = dict(zip(self.groups, drawn.group_accuracy.T, strict=True))
        return {
            "method": f"random heads ({self.method})",
            **{name: float(values.mean()) for name, values in columns.items()},
            "groups": {name: float(values.mean()) for name, values in by_group.items()},
            "interval": {name: spread(values) for name, values in columns.items()}
            | {f"groups.{name}": spread(values) for name, values in by_group.items()},
            "interval_of": "draws of random heads",
        }

    def to_dict(self, measure: Measure = "worst_group") -> dict[str, Any]:
        """For JSON: the draws in full, so that everything can be computed again."""
        compared = self.comparison(measure)
        return {
            "method": self.method,
            "measure": measure,
            "seed": self.seed,
            "exhaustive": self.exhaustive,
            "note": self.note,
            "effect": compared.effect,
            "effect_interval": list(compared.effect_interval),
            "draws": len(self.sets),
            "observed": compared.observed,
            "baseline": float(getattr(self.baseline, measure)),
            "mean": compared.mean,
            "best": compared.best,
            "z": compared.z if isfinite(compared.z) else None,
            "p": compared.p,
            "sets": [[list(head) for head in heads] for heads in self.sets],
            "groups": list(self.groups),
            "group_accuracy": self.drawn.group_accuracy.tolist(),
            "average": self.drawn.average.tolist(),
            "cramers_v": self.drawn.cramers_v.tolist(),
            "dependence": self.drawn.dependence.tolist(),
        }


@dataclass(frozen=True)
class Draw:
    """How random sets are drawn.

    Attributes:
        n_layers, n_heads: of the tower.
        n_random_sets: how many are wanted; all where no more exist.
        seed: the same seed gives the same sets.
        alpha: what p-values are held to: layers are pooled where the located ones have too few sets for it.
    """

    n_layers: int
    n_heads: int
    n_random_sets: int
    seed: int
    alpha: float = ALPHA


def random_head_control(
    method: str,
    located: Cast,
    predict: Callable[[Cast], Predictions],
    scored: ScoredImages,
    draw: Draw,
    *,
    before: Predictions,
    after: Predictions,
    vary: tuple[str, ...] | None = None,
) -> RandomHeads | None:
    """Repeat a method with random heads of the same pattern.

    Args:
        method: its name.
        located: the heads that it uses, by role.
        predict: the predicted classes with other heads in these roles.
        scored: the images.
        draw: how sets are drawn.
        before, after: predicted classes without the method, and with the located heads.
        vary: the roles whose heads are drawn; the others stand as located. All by default.

    Returns:
        None where nothing is located, no set is wanted, or there is no other set.
    """
    if not any(located.values()) or draw.n_random_sets == 0:
        return None
    sets = draw_head_sets(
        located, draw.n_layers, draw.n_heads, draw.n_random_sets, draw.seed, vary=vary, alpha=draw.alpha
    )
    if not sets.sets:
        return None
    predictions = []
    with progress(f"Random heads for {method}", len(sets.sets) + len(sets.own), unit="sets") as advance:
        for cast in (*sets.sets, *sets.own):
            predictions.append(predict(dict(cast)))
            advance(1)
    drawn = scored.statistics(np.stack(predictions[: len(sets)]))
    return RandomHeads(
        method=method,
        sets=tuple(tuple(head for heads in cast.values() for head in heads) for cast in sets.sets),
        groups=tuple(np.unique(scored.groups).tolist()),
        drawn=drawn,
        observed=scored.statistics(after),
        baseline=scored.statistics(before),
        exhaustive=sets.exhaustive,
        seed=draw.seed,
        note=sets.note,
        own_p=_own_p(sets, drawn, scored.statistics(np.stack(predictions[len(sets) :]))) if sets.own else {},
    )


def _own_p(sets: HeadSets, drawn: Statistics, own: Statistics) -> dict[str, list[float]]:
    """The p-value of each other set of the located layers among the pooled ones, itself not counted."""
    found = {}
    for measure, sign in (("worst_group", 1.0), ("cramers_v", -1.0), ("dependence", -1.0)):
        values, others = sign * getattr(drawn, measure), sign * getattr(own, measure)
        among = np.asarray([one in sets.sets for one in sets.own])
        reached = (values >= others[:, None] - 1e-9).sum(1) - among
        found[measure] = ((1 + reached) / (1 + len(values) - among)).tolist()
    return found
