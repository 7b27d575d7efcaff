"""How sure the difference V_W − V_C of each head is.

Two questions about the images of G_N (ours, beside the published rule):

- *Interval*: the images are resampled with replacement, the correct ones among the correct and the incorrect ones among
  the incorrect (V_C and V_W are shares within each); the percentiles of V_W − V_C make the interval.
- *Permutation*: were correct and incorrect labels exchangeable, how often would a difference as large come about? The
  labels are shuffled over the images; p = (1 + #{|difference| at least as large}) / (1 + n_permutations), two-sided.
  For all heads together, the largest of all heads' |difference| of each shuffle, each in standard deviations of its own
  over the shuffles, is what a head has to exceed (max-T, Westfall and Young 1993): few heads of hundreds can then be
  named with a thousand shuffles, where a false-discovery rate would need as many shuffles as heads times a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.contrastive import (
    Credit,
    check_conflicting,
    head_credit,
    margins_of,
)

_CHUNK = 1 << 24  # resampled entries held at once


@dataclass(frozen=True, eq=False)
class Significance:
    """Intervals and p-values of V_W − V_C.

    Attributes:
        difference: V_W − V_C.
        low: the interval's lower end.
        high: the interval's upper end.
        p: p-value of the permutation test; 1 for a head that is never credited.
        adjusted: (1 + shuffles whose largest standardised difference of any head is at least this head's) /
            (1 + n_permutations): naming the heads with adjusted ≤ α keeps the chance of any false one below α.
        level: the interval's level, such as 0.95.
        n_bootstrap: resamples behind the intervals.
        n_permutations: shuffles behind p.
    """

    difference: Float[Tensor, "layer head"]
    low: Float[Tensor, "layer head"]
    high: Float[Tensor, "layer head"]
    p: Float[Tensor, "layer head"]
    adjusted: Float[Tensor, "layer head"]
    level: float
    n_bootstrap: int
    n_permutations: int

    def table(self) -> pd.DataFrame:
        """One row for each head with a difference or an interval around zero, smallest p first."""
        rows = []
        for i, j in ((self.difference != 0) | (self.low != 0) | (self.high != 0)).nonzero().tolist():
            values = (self.difference, self.low, self.high, self.p, self.adjusted)
            rows.append((str(HeadId(i, j)), *(float(v[i, j]) for v in values)))
        frame = pd.DataFrame(rows, columns=["head", "difference", "low", "high", "p", "adjusted"])
        return frame.sort_values("p", kind="stable", ignore_index=True)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.4f}".format)


def significance(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"],
    *,
    credit: Credit = "top",
    n_bootstrap: int = 1000,
    n_permutations: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    clusters: Int[np.ndarray, "image"] | None = None,
) -> Significance:
    """Bootstrap intervals and a permutation test of V_W − V_C; the arguments of `contrastive`, and:

    Args:
        credit: as in `contrastive`.
        n_bootstrap: resamples behind the intervals.
        n_permutations: shuffles behind p.
        level: the interval's level.
        seed: the same seed gives the same numbers.
        clusters: which images show one person or scene: these are resampled together, and clusters of equal size
            exchange their labels.

    Raises:
        LocateError: as `contrastive` does, and for fewer than one permutation or a level outside (0, 1).

    Limits: the images are taken as exchangeable within G_N; where its groups differ in size and difficulty, part of a
    difference may be theirs. With n permutations no p is below 1 / (1 + n).
    """
    if n_permutations < 1 or not 0 < level < 1:
        raise LocateError(
            f"{n_permutations} permutations at level {level} are not a test.",
            "Pass at least one permutation and a level between 0 and 1.",
        )
    margins, decisions = margins_of(head_logits, logits, labels)
    rows = check_conflicting(conflicting, decisions)
    correct = decisions.correct[rows]
    n_wrong = int((~correct).sum())
    if n_wrong == 0 or n_wrong == len(correct):
        raise LocateError(
            f"{n_wrong} of the {len(correct)} images in the conflicting groups are classified incorrectly.",
            "A contrast needs correct and incorrect predictions there; see headlens.locate.contrastive.",
        )
    credits = head_credit(margins[rows], credit)
    shape = credits.shape[1:]
    flat = rearrange(credits.detach().cpu().double(), "image layer head -> image (layer head)")
    correct, together = correct.cpu(), None
    if clusters is not None:
        together = np.unique(np.asarray(clusters)[rows.cpu().numpy()], return_inverse=True)[1]
    observed = flat[~correct].mean(0) - flat[correct].mean(0)
    resampled = _bootstrap(flat, correct, together, n_bootstrap, seed)
    tail = (1 - level) / 2
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    p, adjusted = _permutation(flat, correct, together, observed, n_permutations, seed)
    return Significance(
        observed.view(shape),
        low.view(shape),
        high.view(shape),
        p.view(shape),
        adjusted.view(shape),
        level,
        n_bootstrap,
        n_permutations,
    )


Codes = Int[np.ndarray, "image"] | None


def _bootstrap(
    credits: Float[Tensor, "image head"], correct: Bool[Tensor, "image"], clusters: Codes, n_bootstrap: int, seed: int
) -> Float[Tensor, "draw head"]:
    generator = np.random.default_rng([seed, 0])
    parts = []
    for start in range(0, n_bootstrap, step := max(1, _CHUNK // len(credits))):
        count = min(step, n_bootstrap - start)
        if clusters is not None:
            n = int(clusters.max()) + 1
            every = generator.multinomial(n, np.full(n, 1 / n), size=count)[:, clusters]
        part = torch.zeros(count, credits.shape[1], dtype=torch.float64)
        for side, sign in ((~correct, 1.0), (correct, -1.0)):
            n = int(side.sum())
            drawn = (
                generator.multinomial(n, np.full(n, 1 / n), size=count) if clusters is None else every[:, side.numpy()]
            )
            weights = torch.from_numpy(drawn / np.maximum(drawn.sum(1, keepdims=True), 1))
            part += sign * (weights @ credits[side])
        parts.append(part)
    return torch.cat(parts)


def _permutation(
    credits: Float[Tensor, "image head"],
    correct: Bool[Tensor, "image"],
    clusters: Codes,
    observed: Float[Tensor, "head"],
    n_permutations: int,
    seed: int,
) -> tuple[Float[Tensor, "head"], Float[Tensor, "head"]]:
    generator = np.random.default_rng([seed, 1])
    n, n_wrong = len(correct), int((~correct).sum())
    signed = np.where(correct.numpy(), -1 / (n - n_wrong), 1 / n_wrong)
    blocks = [np.arange(n)[:, None]]
    if clusters is not None:
        members = np.split(np.argsort(clusters, kind="stable"), np.cumsum(np.bincount(clusters))[:-1])
        sizes = np.array([len(one) for one in members])
        blocks = [np.stack([members[i] for i in np.flatnonzero(sizes == size)]) for size in np.unique(sizes)]
    # Of a difference of means over shuffles of images: its exact standard deviation.
    deviation = (credits.var(0) * (1 / n_wrong + 1 / (n - n_wrong))).sqrt()
    active = deviation > 0
    standardised = torch.where(active, observed.abs() / deviation.where(active, torch.ones_like(deviation)), 0.0)
    extreme, larger = torch.zeros_like(observed), torch.zeros_like(observed)
    for start in range(0, n_permutations, step := max(1, _CHUNK // n)):
        shuffled = np.empty((min(step, n_permutations - start), n))
        for block in blocks:
            order = generator.permuted(np.tile(np.arange(len(block)), (len(shuffled), 1)), axis=1)
            shuffled[:, block] = signed[block[order]]
        differences = torch.from_numpy(shuffled) @ credits
        # Equal counts may differ in the last bit: as large up to rounding is as large.
        extreme += (differences.abs() >= observed.abs() - 1e-12).sum(0)
        top = (differences.abs() / deviation)[:, active].amax(1) if bool(active.any()) else differences.new_zeros(0)
        larger += (top[:, None] >= standardised - 1e-9).sum(0)
    alone, together = (torch.where(active, (1 + count) / (1 + n_permutations), 1.0) for count in (extreme, larger))
    return alone, together
