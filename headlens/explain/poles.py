"""What a head distinguishes: its principal directions, the texts at both ends, and whether these say more than chance.

Steps, for every head with contributions x_h = z B, z of covariance Σ:

1. **Poles.** The principal directions u of the contributions: the leading eigenvectors of BᵀΣB, from moments alone,
   each with its share of the head's variance.
2. **Candidates.** A text that no image of the data resembles more than others is no candidate: those remain that are
   among the nearest texts (by cosine) of at least one image.
3. **Ends.** With t̂ the texts' unit embeddings and t̄ the candidates' mean, a text lies at (t̂ − t̄)·u: at the ends of a
   pole stand texts that differ along it, whatever their norm. δ is the mean of the texts at the high end minus that of
   those at the low end.
4. **Alignment.** The cosine of u with δ inside the space that the head can write to.
5. **Faithfulness.** On images that chose neither the direction nor the texts, the correlation of δ·(x − x_h), the text
   score of the embedding *without this head*, with the head's own projection x_h·u.
6. **Null.** The same for random directions of the same head's row space, at right angles to its poles where eight or
   more such directions are left: each gets ends of its own by the same rule, and its δ is compared with it, and with
   the head's projection, in the same way. (A direction near a pole has the pole's texts at its ends, and hides what is
   there; but two or three directions are no null distribution.) The statistic is alignment times faithfulness; it is
   standardised by the mean and deviation of the head's own draws, and all heads' standardised draws together are the
   null distribution, so that p can be as small as many heads ask for. Benjamini-Hochberg over all tested poles of all
   heads.

Where only moments are at hand, steps 2 and 5 are left out, and the statistic is the alignment.

Why not the variance that texts explain: d texts of any kind span a head of width d, and directions drawn with the
bank's own mean and covariance explain a trained head nearly as well as the bank does, because the bank varies most
where the heads do (`Explanation.chance` reports them). In a head of random weights the direction that varies has no
relation to where the texts lie, nor the texts to what the images show elsewhere: that is what the rotation tests.
`benchmarks/head_labels.py` measures the rates, and docs/explain.md gives them. All of this is ours; step 1 and the
texts' ranking follow the habit of naming principal directions, TextSpan stays in `headlens.locate.textspan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import atanh, sqrt, tanh

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control, rankdata
from torch import Tensor
from torch.nn.functional import normalize

from headlens.errors import ExplainError
from headlens.explain.label import LabelRule
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.locate.textspan import HeadTexts, row_space
from headlens.states import HeadBasis, Moments

MOST_IMAGES = 2_000  # held-out images behind the null's correlations; the faithfulness itself uses all
_DRAWS = (60, 1_000)  # at least and at most, of a head
_Z = 1.959964  # of a 95 % interval
_CHUNK = 4_096  # images whose cosines with the bank are held at a time
_FEWEST = 10
_ACROSS = 8  # directions at right angles to a head's poles; fewer make no null: a random tower of width 4 showed it
_NEARLY = 1 - 1e-12  # Fisher's z of a correlation of one is infinite
_LEAST = 1e-30
_SHUFFLES = 999

Texts = tuple[tuple[str, ...], tuple[str, ...], Float[Tensor, "text embed"]]
"""A bank: its texts, their categories, their embeddings."""


@dataclass(frozen=True)
class Faithfulness:
    """Does a pole's text score predict the head, on images that chose neither?

    Attributes:
        n: held-out images.
        rank_correlation: Spearman's, of δ·(x − x_h) with x_h·u.
        interval: its 95 % interval (Fisher's z with the variance (1 + ρ²/2)/(n − 3) of Bonett and Wright 2000).
        auroc: of the text score for images above the head's median projection.
        auroc_interval: its 95 % interval (Hanley and McNeil 1982).
        random: the 95 % quantile of the plain correlation of random labels with the same projection: the ends of random
            directions of this head, by the same rule.
    """

    n: int
    rank_correlation: float
    interval: tuple[float, float]
    auroc: float
    auroc_interval: tuple[float, float]
    random: float

    @property
    def above_chance(self) -> bool:
        """Whether the interval of the rank correlation lies above zero; a label below is withdrawn."""
        return self.interval[0] > 0


@dataclass(frozen=True, eq=False)
class Pole:
    """One principal direction of a head, and what lies at its ends.

    Attributes:
        direction: of unit norm, in the joint space. Its sign is that of the end with the furthest text.
        share: of the head's variance.
        high, low: the texts at both ends, the furthest first.
        high_scores, low_scores: their places, (t̂ − t̄)·u.
        name: of the texts at the ends, the pair (high, low) whose difference goes along best with the head on the
            images that it was explained on; the first ones where there were only moments.
        alignment: the cosine of the direction with the ends' difference, in the head's row space.
        faithfulness: on held-out images; None where there were none.
        p: of alignment and faithfulness under random directions; NaN where the pole was not tested.
        q: p adjusted for all tested poles of all heads.
        clear: whether the texts say more than chance does: q within the rule, and faithfulness above chance.
        consistency: the share of pairs of texts at one end that have one category.
        consistency_p: the probability of at least that under random texts of the candidates.
    """

    direction: Float[Tensor, "embed"]
    share: float
    high: tuple[str, ...]
    low: tuple[str, ...]
    high_scores: tuple[float, ...]
    low_scores: tuple[float, ...]
    name: tuple[str, str] | None
    alignment: float
    faithfulness: Faithfulness | None
    p: float
    q: float = float("nan")
    clear: bool = False
    consistency: float = float("nan")
    consistency_p: float = float("nan")

    @property
    def pair(self) -> str:
        """Its name as a pair, 'dry land ↔ open water'."""
        return "" if self.name is None else f"{self.name[0]} ↔ {self.name[1]}"


def candidate_texts(
    embedding: Float[Tensor, "image embed"], texts: Float[Tensor, "text embed"], nearest: int
) -> Int[Tensor, "candidate"]:
    """The texts that are among the `nearest` ones, by cosine, of at least one image; all of them for 0."""
    if not 0 < nearest < len(texts):
        return torch.arange(len(texts))
    unit = normalize(texts.float(), dim=1).mT
    seen = torch.zeros(len(texts), dtype=torch.bool)
    for rows in embedding.float().split(_CHUNK):
        seen[(rows @ unit).topk(nearest, dim=1).indices.flatten()] = True
    return seen.nonzero()[:, 0]


def shares_along(
    head: HeadId, moments: Moments, basis: HeadBasis, directions: Float[Tensor, "direction embed"]
) -> Float[Tensor, "direction"]:
    """The share of the head's variance along each direction's projection on the space that it can write to.

    tᵀCt / (‖Pt‖² tr C), with C the covariance of the contributions and P the projection; zero where Pt is.
    """
    parts = basis.of(*head).double()[None], moments.mean[head][None], moments.covariance(*head)[None]
    axes, spread, total = (one[0] for one in row_space(*parts))
    inside = directions.double() @ axes.mT
    squares = inside.square().sum(1) * total
    return torch.where(squares > 0, (inside @ spread * inside).sum(1) / squares.clamp_min(1e-300), 0.0)


def pooled_p(scores: Float[np.ndarray, "pole"], null: Float[np.ndarray, "draw"]) -> Float[np.ndarray, "pole"]:
    """(1 + draws that reach the score) / (1 + draws), the draws of all poles together."""
    ordered = np.sort(null)
    return (1 + len(ordered) - np.searchsorted(ordered, scores)) / (1 + len(ordered))


class PoleSearch:
    """The poles of heads that are tested together: `add` every head, then take what was `found`.

    Args:
        bank: texts, their categories and their embeddings.
        n_heads: how many heads will be added.
        chosen_on: the images that heads are explained on, for the candidates and the names; None where only moments
            are at hand.
        held_out: other images of the same kind, for the faithfulness; None for none.
        rule: thresholds and counts.
        seed: of the draws.

    Raises:
        ExplainError: for held-out images of which there are fewer than ten.
    """

    def __init__(
        self,
        bank: Texts,
        n_heads: int,
        *,
        chosen_on: HeadStore | None = None,
        held_out: HeadStore | None = None,
        rule: LabelRule | None = None,
        seed: int = 0,
    ):
        if held_out is not None and len(held_out) < _FEWEST:
            raise ExplainError(
                f"{len(held_out)} held-out images cannot show whether a label predicts a head.",
                f"Hold out {_FEWEST} or more, or none.",
            )
        self.rule = rule or LabelRule()
        self.chosen_on, self.held_out, self.seed = chosen_on, held_out, seed
        self.few = held_out
        if held_out is not None and len(held_out) > MOST_IMAGES:
            self.few = held_out.subset(np.arange(MOST_IMAGES))
        texts, categories, embeddings = bank
        nearest = self.rule.nearest if chosen_on is not None else 0
        self.kept = candidate_texts(embeddings if chosen_on is None else chosen_on.embedding, embeddings, nearest)
        self.ends = min(self.rule.texts, len(self.kept) // 2)
        self.texts = tuple(texts[i] for i in self.kept.tolist())
        self.categories = tuple(categories[i] for i in self.kept.tolist())
        lengths = embeddings.float().norm(dim=1)
        self.lengths, self.unit = lengths, normalize(embeddings[self.kept].float(), dim=1)
        self.draws = int(np.clip(self.rule.draws // max(1, n_heads), *_DRAWS))
        self.generator = torch.Generator().manual_seed(seed)
        self._poles: dict[HeadId, list[Pole]] = {}
        self._tested: list[tuple[HeadId, int]] = []
        self._scores: list[float] = []
        self._null: list[np.ndarray] = []

    def add(self, head: HeadId, few: HeadTexts, place: int) -> None:
        """Find a head's poles; it is the one at `place` of heads along which the bank's texts come first."""
        self._poles[head] = []
        total = float(few.total[place])
        if self.ends == 0 or total <= 0:
            return
        values, vectors = torch.linalg.eigh(few.spread[place])
        shares = (values.flip(0) / total)[: self.rule.poles].tolist()
        shares = [share for share in shares if share >= self.rule.minimum_share]
        if not shares:
            return
        inside = few.axes[place]
        inside = inside[:, inside.norm(dim=0) > 0.5]  # axes beyond the rank are zero
        turned = torch.randn(self.draws, inside.shape[1], generator=self.generator, dtype=torch.float64) @ inside.mT
        poles = vectors.mT.flip(0)[: len(shares)]
        if inside.shape[1] - len(shares) >= _ACROSS:
            turned = turned - turned @ poles.mT @ poles
        directions = torch.cat([poles, normalize(turned, dim=1)]).float()
        placed = few.along[place][:, self.kept] / self.lengths[self.kept].clamp_min(_LEAST)
        placed = placed - placed.mean(1, keepdim=True)
        along = directions @ placed
        own = slice(0, len(shares))
        turn = torch.where(along[own].amax(1) < -along[own].amin(1), -1.0, 1.0)[:, None]
        directions[own], along[own] = directions[own] * turn, along[own] * turn  # the furthest text is at the high end
        high, low = along.topk(self.ends, dim=1), (-along).topk(self.ends, dim=1)
        apart = (placed[:, high.indices].mean(2) - placed[:, low.indices].mean(2)).mT
        size = (apart @ inside.float()).norm(dim=1)
        alignment = (apart * directions).sum(1) / size.clamp_min(_LEAST)
        written = directions[own] @ few.frame[place].float()
        names = self._names(head, written, high.indices[own], low.indices[own])
        predicted = self._predicted(head, written, high.indices, low.indices)
        for i, share in enumerate(shares):
            statistic, faithfulness = alignment, None
            if predicted is not None:
                statistic, faithfulness = alignment * predicted[i][0], predicted[i][1]
            # Against the draws, whatever the number of poles before this one.
            random = statistic[len(shares) :].double()
            if float(random.std()) > 0:
                self._tested.append((head, i))
                self._scores.append(float((statistic[i] - random.mean()) / random.std()))
                self._null.append(((random - random.mean()) / random.std()).numpy())
            ends = [[self.texts[j] for j in end.indices[i].tolist()] for end in (high, low)]
            self._poles[head].append(
                Pole(
                    direction=(directions[i].double() @ few.frame[place]),
                    share=share,
                    high=tuple(ends[0]),
                    low=tuple(ends[1]),
                    high_scores=tuple(high.values[i].tolist()),
                    low_scores=tuple((-low.values[i]).tolist()),
                    name=names[i],
                    alignment=float(alignment[i]),
                    faithfulness=faithfulness,
                    p=float("nan"),
                )
            )

    def found(self) -> dict[HeadId, tuple[Pole, ...]]:
        """For each head its poles with at least the rule's share of the variance, at most the rule's number, tested.

        A head that does not vary has none, and none has any with a bank of fewer than two candidates.
        """
        p = pooled_p(np.array(self._scores), np.concatenate(self._null) if self._null else np.zeros(0))
        q = false_discovery_control(p) if len(p) else p
        for (head, place), own_p, own_q in zip(self._tested, p.tolist(), q.tolist(), strict=True):
            pole = self._poles[head][place]
            predicts = pole.faithfulness is None or pole.faithfulness.above_chance
            clear = own_q <= self.rule.false_discoveries and predicts
            self._poles[head][place] = replace(pole, p=own_p, q=own_q, clear=clear)
        if self.ends == 0:
            return dict.fromkeys(self._poles, ())
        consistent, category = (
            _Consistency(self.categories, self.ends, self.seed),
            dict(zip(self.texts, self.categories, strict=True)),
        )
        return {head: tuple(consistent.of(pole, category) for pole in poles) for head, poles in self._poles.items()}

    def _predicted(
        self,
        head: HeadId,
        poles: Float[Tensor, "pole embed"],
        high: Int[Tensor, "direction end"],
        low: Int[Tensor, "direction end"],
    ) -> list[tuple[Float[Tensor, "direction"], Faithfulness]] | None:
        """For each pole the correlations of all directions' text scores with it, and its own faithfulness."""
        if self.held_out is None or self.few is None:
            return None
        apart, n = self.unit[high].mean(1) - self.unit[low].mean(1), len(poles)
        few, together = _without_head(self.few, head, poles, apart)
        own, scores = few, together[:, :n]
        if len(self.few) < len(self.held_out):
            own, scores = _without_head(self.held_out, head, poles, apart[:n])
        correlations = correlation(together, few)
        return [
            (by_chance, faithful(scores[:, i].numpy(), own[:, i].numpy(), by_chance[n:].numpy()))
            for i, by_chance in enumerate(correlations)
        ]

    def _names(
        self,
        head: HeadId,
        poles: Float[Tensor, "pole embed"],
        high: Int[Tensor, "pole end"],
        low: Int[Tensor, "pole end"],
    ) -> list[tuple[str, str]]:
        """For each pole the pair of texts, one from each end, whose difference goes along best with the head."""
        best = [0] * len(poles)
        if self.chosen_on is not None:
            texts = self.unit[torch.cat([high, low], dim=1)]
            own, scores = _without_head(self.chosen_on, head, poles, texts.flatten(0, 1))
            for i, ends in enumerate(scores.unflatten(1, texts.shape[:2]).unbind(1)):
                pairs = (ends[:, : self.ends, None] - ends[:, None, self.ends :]).flatten(1)
                best[i] = int(correlation(pairs, own[:, i : i + 1]).argmax())
        pairs_of = [divmod(place, self.ends) for place in best]
        return [
            (self.texts[int(high[i, one])], self.texts[int(low[i, other])]) for i, (one, other) in enumerate(pairs_of)
        ]


def _without_head(
    store: HeadStore, head: HeadId, poles: Float[Tensor, "pole embed"], texts: Float[Tensor, "text embed"]
) -> tuple[Float[Tensor, "image pole"], Float[Tensor, "image text"]]:
    """The head's projections on its poles, and the texts' scores of the embedding without the head."""
    own = store.project_head(*head, torch.cat([poles, texts])).float()
    return own[:, : len(poles)], store.embedding.float() @ texts.mT - own[:, len(poles) :]


def correlation(
    scores: Float[Tensor, "image score"], along: Float[Tensor, "image pole"]
) -> Float[Tensor, "pole score"]:
    """Pearson's, of each column with each; zero where either does not vary."""
    scores, along = scores - scores.mean(0), along - along.mean(0)
    return (along.mT @ scores) / (along.norm(dim=0)[:, None] * scores.norm(dim=0)).clamp_min(_LEAST)


def faithful(
    scores: Float[np.ndarray, "image"], along: Float[np.ndarray, "image"], random: Float[np.ndarray, "draw"]
) -> Faithfulness:
    """How well scores predict a head's projections, both of the same images; `random` are correlations by chance."""
    n = len(scores)
    ranks, own = rankdata(scores), rankdata(along)
    spread = float(ranks.std() * own.std())
    rho = float(((ranks - ranks.mean()) * (own - own.mean())).mean()) / spread if spread > 0 else 0.0
    step = _Z * sqrt((1 + rho**2 / 2) / (n - 3))
    ends = [atanh(min(max(rho, -_NEARLY), _NEARLY)) + sign * step for sign in (-1, 1)]
    above = along > np.median(along)
    inside, outside = int(above.sum()), int((~above).sum())
    area, error = 0.5, float("nan")
    if inside and outside:
        area = (float(ranks[above].sum()) - inside * (inside + 1) / 2) / (inside * outside)
        first, second = area / (2 - area), 2 * area**2 / (1 + area)
        squares = (inside - 1) * (first - area**2) + (outside - 1) * (second - area**2)
        error = _Z * sqrt(max(0.0, area * (1 - area) + squares) / (inside * outside))
    return Faithfulness(
        n=n,
        rank_correlation=rho,
        interval=(tanh(ends[0]), tanh(ends[1])),
        auroc=area,
        auroc_interval=(max(0.0, area - error), min(1.0, area + error)),
        random=float(np.quantile(random, 0.95)) if len(random) else float("nan"),
    )


class _Consistency:
    """How many pairs of texts at one end share a category, and how often that many do by chance."""

    def __init__(self, categories: tuple[str, ...], ends: int, seed: int):
        self.of_text = categories
        codes = np.unique(np.array(categories, dtype=object).astype(str), return_inverse=True)[1]
        generator = np.random.default_rng([seed, 3])
        drawn = np.array([codes[generator.permutation(len(codes))[: 2 * ends]] for _ in range(_SHUFFLES)])
        self.null = np.array([self._share(row[:ends]) + self._share(row[ends:]) for row in drawn]) / 2

    @staticmethod
    def _share(codes: np.ndarray) -> float:
        pairs = len(codes) * (len(codes) - 1)
        return float((codes[:, None] == codes[None]).sum() - len(codes)) / pairs if pairs else float("nan")

    def of(self, pole: Pole, category: Mapping[str, str]) -> Pole:
        """The pole with its consistency."""
        share = np.mean([self._share(np.array([category[t] for t in end])) for end in (pole.high, pole.low)])
        p = (1 + int((self.null >= share - 1e-12).sum())) / (1 + len(self.null))
        return replace(pole, consistency=float(share), consistency_p=p)
