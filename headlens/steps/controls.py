"""The random-head control: do as many other heads of the same layers do as well?

Ablating any head moves some predictions. The control repeats a method with random heads of the same layers in each
role, and compares the same statistics of the predictions, computed by the same function, with the located heads' own.
One control serves a correction, an ablation of chosen heads, and a fairness audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import comb, factorial, isfinite, prod
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate import layer_matched
from headlens.metrics import v_of_tables
from headlens.progress import progress

Cast = dict[str, tuple[HeadId, ...]]
"""Heads by the role that they play."""
Measure = Literal["worst_group", "cramers_v"]

_TOLERANCE = 1e-9  # statistics of the same predictions are equal to rounding; a tie counts as reaching the observed
_MOST_ORDERS = 5040


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the control compares, of one or of many sets of predictions.

    Attributes:
        group_accuracy: accuracy in each group.
        average: accuracy over all images.
        cramers_v: V of attribute × predicted class.
    """

    group_accuracy: Float[np.ndarray, "*draw group"]
    average: Float[np.ndarray, "*draw"]
    cramers_v: Float[np.ndarray, "*draw"]

    @property
    def worst_group(self) -> Float[np.ndarray, "*draw"]:
        """The lowest accuracy of any group."""
        return np.asarray(self.group_accuracy.min(axis=-1))


@dataclass(frozen=True, eq=False)
class Scored:
    """The images that predictions are scored on.

    Attributes:
        labels: the true class of each, as an index.
        values: the attribute's value of each, as an index; −1 for none.
        groups: the group of each, by name.
        n_classes: of the task.
    """

    labels: Int[np.ndarray, "image"]
    values: Int[np.ndarray, "image"]
    groups: np.ndarray
    n_classes: int

    def statistics(self, predictions: Int[np.ndarray, "*draw image"]) -> Statistics:
        """The statistics of predictions of these images."""
        hits = predictions == self.labels
        names = np.unique(self.groups)
        by_group = np.stack([hits[..., self.groups == name].mean(axis=-1) for name in names], axis=-1)
        held = self.values >= 0
        cells = self.values[held] * self.n_classes + predictions[..., held]
        tables = np.apply_along_axis(np.bincount, -1, cells, minlength=(self.values.max() + 1) * self.n_classes)
        v = v_of_tables(tables.reshape(*tables.shape[:-1], -1, self.n_classes).astype(float))
        return Statistics(by_group, np.asarray(hits.mean(axis=-1)), v)


@dataclass(frozen=True)
class Comparison:
    """One observed statistic against those of the random sets.

    Attributes:
        observed: the value with the located heads.
        mean, best: of the random sets.
        z: (observed − mean) / standard deviation of the random sets, larger is better; NaN where they do not vary.
        p: (1 + #{sets that do at least as well}) / (1 + sets), one-sided.
        share_at_least: the share of the random sets that do at least as well.
    """

    observed: float
    mean: float
    best: float
    z: float
    p: float
    share_at_least: float


@dataclass(frozen=True, eq=False)
class RandomHeads:
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
    """

    method: str
    sets: tuple[tuple[HeadId, ...], ...]
    groups: tuple[str, ...]
    drawn: Statistics
    observed: Statistics
    baseline: Statistics
    exhaustive: bool
    seed: int

    def comparison(self, measure: Measure = "worst_group") -> Comparison:
        """The located heads against the random ones: higher worst-group accuracy, or lower V, is better."""
        sign = -1.0 if measure == "cramers_v" else 1.0
        drawn, observed = getattr(self.drawn, measure), float(getattr(self.observed, measure))
        spread = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
        reached = int((sign * drawn >= sign * observed - _TOLERANCE).sum())
        return Comparison(
            observed=observed,
            mean=float(drawn.mean()),
            best=float(sign * (sign * drawn).max()),
            z=sign * (observed - float(drawn.mean())) / spread if spread > _TOLERANCE else float("nan"),
            p=(1 + reached) / (1 + len(drawn)),
            share_at_least=reached / len(drawn),
        )

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
        }


@dataclass(frozen=True)
class Draw:
    """How random sets are drawn.

    Attributes:
        n_layers, n_heads: of the tower.
        n_random_sets: how many are wanted; all where no more exist.
        seed: the same seed gives the same sets.
    """

    n_layers: int
    n_heads: int
    n_random_sets: int
    seed: int


def random_head_control(
    method: str,
    located: Cast,
    predict: Callable[[Cast], Int[np.ndarray, "image"]],
    scored: Scored,
    draw: Draw,
    *,
    before: Int[np.ndarray, "image"],
    after: Int[np.ndarray, "image"],
    exclude: Sequence[HeadId] = (),
) -> RandomHeads | None:
    """Repeat a method with random heads of the same layers in each role.

    Args:
        method: its name.
        located: the heads that it uses, by role.
        predict: the predicted classes with other heads in these roles.
        scored: the images.
        draw: how sets are drawn.
        before, after: predicted classes without the method, and with the located heads.
        exclude: further heads that no set may hold.

    Returns:
        None where nothing is located, no set is wanted, or a layer has too few other heads.
    """
    casts, exhaustive = random_casts(located, draw, exclude)
    if not casts:
        return None
    predictions = []
    with progress(f"Random heads for {method}", len(casts), unit="sets") as advance:
        for cast in casts:
            predictions.append(predict(cast))
            advance(1)
    return RandomHeads(
        method=method,
        sets=tuple(tuple(head for heads in cast.values() for head in heads) for cast in casts),
        groups=tuple(np.unique(scored.groups).tolist()),
        drawn=scored.statistics(np.stack(predictions)),
        observed=scored.statistics(after),
        baseline=scored.statistics(before),
        exhaustive=exhaustive,
        seed=draw.seed,
    )


def random_casts(located: Cast, draw: Draw, exclude: Sequence[HeadId] = ()) -> tuple[list[Cast], bool]:
    """Distinct random heads for the roles of the located ones, and whether these are all that there are.

    As many heads of each layer as are located there; which of them plays which role is part of the draw.
    """
    heads = [head for own in located.values() for head in own]
    if not heads or draw.n_random_sets == 0:
        return [], False
    wanted = draw.n_random_sets
    try:
        sets = layer_matched(heads, draw.n_layers, draw.n_heads, wanted, draw.seed, exclude=exclude)
    except LocateError:  # a layer of which half is located leaves too few others
        return [], False
    generator = np.random.default_rng(draw.seed)
    if _n_sets(heads, draw, exclude) <= wanted and factorial(len(heads)) <= _MOST_ORDERS:
        ordered = (_cast(located, order) for one in sets for order in permutations(one))
        casts = list({_key(cast): cast for cast in ordered}.values())
        if len(casts) <= wanted:
            return casts, True
        return [casts[i] for i in sorted(generator.choice(len(casts), wanted, replace=False))], False
    return [_cast(located, [one[i] for i in generator.permutation(len(one))]) for one in sets], False


def _n_sets(heads: Sequence[HeadId], draw: Draw, exclude: Sequence[HeadId]) -> int:
    """How many layer-matched sets there are."""
    barred = Counter(head.layer for head in {*heads, *exclude})
    return prod(comb(draw.n_heads - barred[layer], k) for layer, k in Counter(head.layer for head in heads).items())


def _cast(located: Mapping[str, Sequence[HeadId]], order: Sequence[HeadId]) -> Cast:
    """Give out heads in the order in which they come: each role takes the next one of the layer it needs."""
    pool = list(order)
    return {
        role: tuple(pool.pop([h.layer for h in pool].index(layer)) for layer, _ in heads)
        for role, heads in located.items()
    }


def _key(cast: Cast) -> tuple[tuple[HeadId, ...], ...]:
    # Within a role the order of the heads makes no difference to what a method does.
    return tuple(tuple(sorted(heads)) for heads in cast.values())
