"""Searches over head sets: which heads' ablation improves a measure most.

- `single_head_sweep`: every head ablated alone, at one addition a head.
- `greedy_sweep`: the best head, then the best beside it, and so on. It sees heads that matter only beside others, but
  never takes a choice back.
- `best_set`: the best set of a given size, by trying all sets where that is affordable, else by local search (greedy
  selection, then exchange of one head for another as long as that improves the objective; again from seeded random
  sets). The result says which: what a local search finds is a lower bound of the best set.

**An oracle, not evidence.** Such heads were chosen by the very measure that they are then said to improve, from labels
and attribute: they show what an ablation can reach, and how much of that a locator reaches that never saw the measure.
On other images than those searched on, the improvement is an honest estimate; on the same ones it is the best of many
and too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError, UnknownNameError
from headlens.heads import HeadId, HeadScores
from headlens.locate.head_ablation import HeadEffects
from headlens.locate.located import Located
from headlens.metrics.association import v_of_tables

ObjectiveName = Literal["cramers_v", "balanced_v", "worst_group", "average"]
OBJECTIVES: tuple[ObjectiveName, ...] = ("cramers_v", "balanced_v", "worst_group", "average")

_NUMBERS = 16_000_000  # class scores at a time: memory stays bounded however many heads there are


class Objective:
    """What a search tries to improve: a number that class predictions alone determine, of many predictions at once.

    "cramers_v" is Cramér's V of attribute × predicted class, better where lower. "worst_group" is the lowest accuracy
    of any (class, value) group that has images, and "average" the share of images that are correct: better where
    higher. "balanced_v" is Cramér's V with images weighted so that, within each true class, all values that it has
    weigh the same. Where classes and attribute go together in the images, correct predictions alone make V large, and
    lowering it there costs accuracy; the balanced V of a perfect classifier is 0 as long as every class has images of
    every value.

    Args:
        name: "cramers_v", "balanced_v", "worst_group" or "average".
        labels: the true class of each image, as an index into the classes.
        values: the attribute's value of each image, as an index.

    Raises:
        LocateError: for columns of different lengths, no images, negative indices, or one value alone; an unknown name
            is an `UnknownNameError`.
    """

    def __init__(self, name: ObjectiveName, labels: Int[Tensor, "image"], values: Int[Tensor, "image"]):
        if name not in OBJECTIVES:
            raise UnknownNameError(f"There is no objective {name!r}.", f"Choose one of {', '.join(OBJECTIVES)}.")
        if labels.shape != values.shape or not len(labels):
            raise LocateError(
                f"{len(labels)} classes and {len(values)} values are not one of each for every image.",
                "Take both from the same rows, at least one.",
            )
        if (low := min(int(labels.min()), int(values.min()))) < 0:
            raise LocateError(f"Index {low} is no class or value.", "Count from 0, and leave out images without one.")
        kinds, codes = torch.unique(values, return_inverse=True)
        if len(kinds) < 2:
            raise LocateError(f"All images have value {int(kinds[0])}.", "Take images of two attribute values or more.")
        self.name: ObjectiveName = name
        self.lower_is_better = name in ("cramers_v", "balanced_v")
        self.labels = labels.long()
        self._codes, self._n_values = codes, len(kinds)
        cells, groups = torch.unique(torch.stack([self.labels, codes]), dim=1, return_inverse=True)
        self._weights = _balancing(self.labels, cells[0], groups) if name == "balanced_v" else None
        if name == "average":
            groups = torch.zeros_like(groups)
        self._members = torch.nn.functional.one_hot(groups).to(torch.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Objective({self.name!r}, {len(self)} images)"

    def score(self, predictions: Int[Tensor, "image set"]) -> Float[Tensor, "set"]:
        """The objective of each column of predicted classes, in float64."""
        if len(predictions) != len(self):
            raise LocateError(
                f"There are predictions of {len(predictions)} images, and the objective is about {len(self)}.",
                "Take both from the same images.",
            )
        if self.lower_is_better:
            return torch.from_numpy(v_of_tables(self._tables(predictions)))
        correct = (predictions == self.labels[:, None]).to(torch.float32)
        counts = (self._members.mT @ correct).double()  # exact below 2^24 images a group
        return (counts / self._members.sum(0, dtype=torch.float64)[:, None]).amin(0)

    def improvement(self, score: Float[Tensor, "*set"], baseline: float) -> Float[Tensor, "*set"]:
        """How much better a score is than the baseline; above zero where it is better."""
        return baseline - score if self.lower_is_better else score - baseline

    def _tables(self, predictions: Int[Tensor, "image set"]) -> Float[np.ndarray, "set value class"]:
        n_sets, n_classes = predictions.shape[1], int(predictions.max()) + 1
        cells = self._n_values * n_classes
        places = (self._codes * n_classes)[:, None] + predictions + torch.arange(n_sets) * cells
        weights = None if self._weights is None else self._weights[:, None].expand(predictions.shape).flatten()
        counts = torch.bincount(places.flatten(), weights, minlength=n_sets * cells)
        return counts.view(n_sets, self._n_values, n_classes).numpy().astype(float)


def _balancing(
    labels: Int[Tensor, "image"], classes: Int[Tensor, "group"], groups: Int[Tensor, "image"]
) -> Float[Tensor, "image"]:
    """Each image's weight: the images of its class, over the groups of that class and the images of its own group."""
    of_class, of_group = torch.bincount(labels).double(), torch.bincount(groups).double()
    return of_class[labels] / (torch.bincount(classes).double()[labels] * of_group[groups])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SearchResult(Located):
    """The heads that a search chose: best first, or in the order in which they were added.

    Attributes:
        objective: what was improved: "cramers_v", "balanced_v", "worst_group" or "average".
        baseline: the objective with no head ablated.
        values: the objective with each head ablated alone.
        improvement: how much better that is than the baseline; below zero where it is worse.
        minimum: what a step had to improve by for its head to be named.
        path: the objective with the first 1, 2, … of the named heads ablated together.
        how: how the heads were searched for, in words.
    """

    objective: str
    baseline: float
    values: Float[Tensor, "layer head"]
    improvement: Float[Tensor, "layer head"]
    minimum: float
    path: tuple[float, ...]
    how: str

    @property
    def best(self) -> float:
        """The objective with all chosen heads ablated together; the baseline where none was chosen."""
        return self.path[-1] if self.path else self.baseline

    def scores(self) -> HeadScores:
        """The improvement by each head alone as `HeadScores`, with the chosen heads selected."""
        threshold = self.minimum if self.method == "single-head sweep" else None
        return HeadScores(f"improvement of {self.objective}", self.improvement, threshold, self.spurious)

    def table(self) -> pd.DataFrame:
        """One row a head, best first: `head`, `alone`, `improvement`, `chosen`, `together`.

        `alone` is the objective with this head ablated, `chosen` the head's place among the chosen ones, from 1, or 0,
        and `together` the objective with it and those before it ablated, missing where it was not chosen.
        """
        rows = []
        for head, improvement in self.scores():
            place = self.spurious.index(head) + 1 if head in self.spurious else 0
            together = self.path[place - 1] if place else float("nan")
            rows.append((str(head), float(self.values[head]), improvement, place, together))
        frame = pd.DataFrame(rows, columns=["head", "alone", "improvement", "chosen", "together"])
        return frame.sort_values("improvement", ascending=False, kind="stable", ignore_index=True)


# ---- the three searches ---------------------------------------------------------------------------------------------


def single_head_sweep(
    effects: HeadEffects, objective: Objective, *, minimum: float | int = 0.01, count: int | None = None
) -> SearchResult:
    """Ablate every head alone and name those that improve the objective by more than `minimum`, strictly.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        minimum: of the improvement; by default 0.01: a hundredth of V, or a point of accuracy.
        count: name no more than this many.

    Raises:
        LocateError: for other images than the objective's, or a count below one.

    Limits: heads are named by what each does alone. Two heads that repeat each other may both be named though one is
    enough, and heads that matter only together are not seen: see `greedy_sweep` and `best_set`.
    """
    if count is not None and count < 1:
        raise LocateError(f"{count} heads are none.", "Name at least one, or leave the count out for all.")
    search = _Search(effects, objective)
    order = search.improvement.flatten().sort(descending=True, stable=True).indices.tolist()
    heads = [head for head in order if search.improvement.flatten()[head] > minimum][:count]
    return search.result("single-head sweep", heads, minimum, f"each of {search.n_heads} heads ablated alone")


def greedy_sweep(effects: HeadEffects, objective: Objective, count: int, *, minimum: float | int = 0.0) -> SearchResult:
    """Add heads one by one, each time the one that improves the objective most, up to `count` of them.

    It stops before where no head improves the objective by more than `minimum`, strictly. Among heads that tie, the
    first is taken.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        count: how many heads at most.
        minimum: what every step has to improve by.

    Raises:
        LocateError: for other images than the objective's, or a count outside 1 … the tower's heads.
    """
    search = _Search(effects, objective, count)
    heads = search.grow(count, minimum)
    how = f"greedy forward selection of {len(heads)} among {search.n_heads} heads, at most {count}"
    return search.result("greedy sweep", heads, minimum, how)


def best_set(
    effects: HeadEffects, objective: Objective, size: int, *, limit: int = 200_000, restarts: int = 8, seed: int = 0
) -> SearchResult:
    """The set of exactly `size` heads whose ablation improves the objective most, or worsens it least.

    Args:
        effects: the heads' effects on the images of the objective.
        objective: what to improve.
        size: how many heads.
        limit: try every set where no more than this many exist.
        restarts: of the local search, from random sets, beside the greedy start.
        seed: of the restarts.

    Returns:
        The set, best single head first. Among sets that tie, the first in the order of layers and heads.

    Raises:
        LocateError: for other images than the objective's, a size outside 1 … the tower's heads, or a negative number
            of restarts.
    """
    if restarts < 0:
        raise LocateError(f"{restarts} restarts are fewer than none.", "Pass restarts=8, for example.")
    search = _Search(effects, objective, size)
    sets = comb(search.n_heads, size)
    if sets <= limit:
        heads = search.exhaustive(size)
        how = f"exhaustive: all {sets} sets of {size} among {search.n_heads} heads"
    else:
        heads = search.local(size, restarts, seed)
        how = (
            f"greedy selection and exchanges of one head, with {restarts} seeded restarts: {sets} sets of {size} among "
            f"{search.n_heads} heads are more than {limit}"
        )
    alone = search.improvement.flatten()
    heads = sorted(heads, key=lambda head: (-float(alone[head]), head))
    return search.result("best set", heads, float("-inf"), how)


class _Search:
    """What the three share. Heads are counted through the layers here."""

    def __init__(self, effects: HeadEffects, objective: Objective, count: int = 1):
        self.n_heads = effects.shape[0] * effects.shape[1]
        if not 1 <= count <= self.n_heads:
            raise LocateError(
                f"{count} is not a number of heads from 1 to the tower's {self.n_heads}.", "Ask for such a number."
            )
        if len(effects.logits) != len(objective):
            raise LocateError(
                f"The objective is about {len(objective)} images, the effects about {len(effects.logits)}.",
                "Take labels and values from the rows that the effects were computed on.",
            )
        self.effects, self.objective = effects, objective
        self.baseline = float(objective.score(effects.predictions()[:, None])[0])
        self.values = self.added(effects.logits, list(range(self.n_heads))).view(*effects.shape)
        self.improvement = objective.improvement(self.values, self.baseline)

    def added(self, logits: Float[Tensor, "image class"], heads: list[int]) -> Float[Tensor, "candidate"]:
        """The objective with one more head ablated on top of `logits`, for each of `heads`, ascending."""
        scores = [self.objective.score(predictions) for predictions in self._blocks(logits, heads)]
        return torch.cat(scores) if scores else torch.zeros(0, dtype=torch.float64)

    def _blocks(
        self, logits: Float[Tensor, "image class"], heads: list[int]
    ) -> Iterator[Int[Tensor, "image candidate"]]:
        step = max(1, _NUMBERS // max(1, logits.numel()))
        for start in range(0, len(heads), step):
            yield (logits[:, None] - self.effects.block(heads[start : start + step])).argmax(-1)

    def result(self, method: str, heads: list[int], minimum: float | int, how: str) -> SearchResult:
        """The search's result, with the objective along the path of its heads."""
        path, logits = [], self.effects.logits
        for head in heads:
            logits = logits - self._centred(head)
            path.append(float(self.objective.score(logits.argmax(-1)[:, None])[0]))
        return SearchResult(
            method,
            tuple(HeadId(*divmod(head, self.effects.shape[1])) for head in heads),
            objective=self.objective.name,
            baseline=self.baseline,
            values=self.values,
            improvement=self.improvement,
            minimum=float(minimum),
            path=tuple(path),
            how=how,
        )

    def _centred(self, head: int) -> Float[Tensor, "image class"]:
        return self.effects.centred(divmod(head, self.effects.shape[1]))

    def grow(self, count: int, minimum: float | int | None) -> list[int]:
        """The heads that greedy selection takes; with a minimum of None, `count` of them."""
        logits, score = self.effects.logits, self.baseline
        chosen: list[int] = []
        left = list(range(self.n_heads))
        while len(chosen) < count:
            scores = self.added(logits, left)
            gains = self.objective.improvement(scores, score)
            best = int(gains.argmax())
            if minimum is not None and not float(gains[best]) > minimum:
                break
            score = float(scores[best])
            chosen.append(left.pop(best))
            logits = logits - self._centred(chosen[-1])
        return chosen

    def exhaustive(self, size: int) -> list[int]:
        """The best of all sets: the last head of all that share the first ones in one vectorised step."""
        best: tuple[list[int], float] = ([], float("-inf"))
        for prefix in map(list, combinations(range(self.n_heads - 1), size - 1)):
            rest = list(range(prefix[-1] + 1 if prefix else 0, self.n_heads))
            gains = self.objective.improvement(self.added(self._without(prefix), rest), self.baseline)
            place = int(gains.argmax())
            if float(gains[place]) > best[1]:
                best = ([*prefix, rest[place]], float(gains[place]))
        return best[0]

    def _without(self, heads: list[int]) -> Float[Tensor, "image class"]:
        return self.effects.logits - self.effects.block(heads).sum(1) if heads else self.effects.logits

    def local(self, size: int, restarts: int, seed: int) -> list[int]:
        """The best of greedy selection and seeded random sets, each improved by exchanges."""
        generator = np.random.default_rng(seed)
        starts = [self.grow(size, None)]
        starts += [sorted(generator.choice(self.n_heads, size, replace=False).tolist()) for _ in range(restarts)]
        return max((self._exchange(start) for start in starts), key=lambda one: one[1])[0]

    def _exchange(self, start: list[int]) -> tuple[list[int], float]:
        chosen, gain = sorted(start), float("-inf")
        while True:
            logits = self._without(chosen)
            others = [head for head in range(self.n_heads) if head not in chosen]
            score = float(self.objective.score(logits.argmax(-1)[:, None])[0])
            here = float(self.objective.improvement(torch.tensor(score, dtype=torch.float64), self.baseline))
            gain, step = max(gain, here), None
            for place, head in enumerate(chosen):
                scores = self.added(logits + self._centred(head), others)
                gains = self.objective.improvement(scores, self.baseline)
                top = int(gains.argmax()) if len(others) else -1
                # Rounding may move an image that sits between two classes: such a step is no improvement.
                if top >= 0 and float(gains[top]) > gain + 1e-9:
                    gain, step = float(gains[top]), (place, others[top])
            if step is None:
                return chosen, here
            chosen[step[0]] = step[1]
            chosen = sorted(chosen)
