"""TextSpan on arrays: the texts that span what a head writes, from the head's weights, mean and covariance alone.

Steps, for a head whose contributions are z B with z of mean m and covariance Σ:

1. Row space: the leading right singular vectors of the contributions, *not* centred, as in the published code; they are
   the leading eigenvectors of Bᵀ (Σ + m mᵀ) B, found in the d coordinates of B's row space.
2. Project the texts, not normalised, on that space.
3. Choose the text whose products with the centred contributions have the largest standard deviation,
   sqrt(tᵀ Bᵀ Σ B t), and remove its direction from contributions and texts. Repeat.

No image is touched: with u the chosen direction and a = t·u, removing u changes the variance of every text by
a² uᵀCu − 2a tᵀCu, C = BᵀΣB, so that one product of the texts with two vectors is a whole step.

Gandelsman, Efros, Steinhardt 2024, *Interpreting CLIP's Image Representation via Text-Based Decomposition*
(arXiv 2310.05916). The working with moments, the tie rule and the early stop are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.errors import ExplainError

RANK_TOLERANCE = 1e-6  # of the largest singular value: above float32's rounding, and what squares in float64 resolve
_STOP = 1e-12  # of the first choice's variance: what is left below is rounding
_STILL = 1e-24  # of the second moment: variance below it is the rounding of equal contributions
_LEAST, _LEAST_ROUGH = 1e-300, 1e-30  # what a head that does not vary is divided by, in float64 and in float32
_TIE = 1e-12  # equal texts may differ in the last bit of a product
_ROUNDING = 1e-6  # of the most that a text could vary: ten times what float32 gets wrong in practice
_NUMBERS = 2_000_000  # of projected texts at a time: every step reads them again, so they should stay in the cache

_Measured = tuple[Float[Tensor, "head axis text"], Float[Tensor, "head text"], Float[Tensor, "head text"]]


@dataclass(frozen=True, eq=False)
class TextSpan:
    """The texts that span a head's contributions, in the order of choice.

    Attributes:
        texts: indices into the bank. Fewer than were asked for where nothing is left to explain.
        variance: the variance of the contributions along each text's direction, once those before it are removed.
        total: the contributions' total variance (the trace of their covariance, over images).
        mean: the mean contribution.
        directions: the orthonormal directions that were removed, one a text.
    """

    texts: Int[Tensor, "text"]
    variance: Float[Tensor, "text"]
    total: float
    mean: Float[Tensor, "embed"]
    directions: Float[Tensor, "text embed"]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def share(self) -> Float[Tensor, "text"]:
        """Each text's share of the total variance; zero for a head that does not vary."""
        return self.variance / self.total if self.total > 0 else torch.zeros_like(self.variance)

    @property
    def explained(self) -> float:
        """The share of the total variance that all texts explain together, from 0 to 1."""
        return float(self.share.sum())

    def reconstruct(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """What the texts say of contributions: mean + (x − mean) Uᵀ U, U the directions; in the type of x.

        Raises:
            ExplainError: for another width.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ExplainError(
                f"Shape {list(x.shape)} has no rows of the embedding's width, {len(self.mean)}.",
                "Pass what the span was made from.",
            )
        centred = x.double() - self.mean
        return (self.mean + centred @ self.directions.mT @ self.directions).to(x.dtype)


def head_spans(
    weights: Float[Tensor, "head d_head embed"],
    mean: Float[Tensor, "head d_head"],
    covariance: Float[Tensor, "head d_head d_head_too"],
    texts: Float[Tensor, "text embed"],
    count: int,
    rank: int | None = None,
) -> list[TextSpan]:
    """The span of every head, from its moments; computed in float64, a few heads at a time.

    Args:
        weights: B of each head; its contributions are z B.
        mean: the mean of z.
        covariance: the covariance of z over images (divided by their number).
        texts: the bank, not normalised. Among texts that tie, the first is chosen.
        count: how many texts a head.
        rank: how many of the leading directions of the contributions to project the texts on; by default, and at most,
            all with a singular value above 1e-6 of the largest.

    Raises:
        ExplainError: for texts of another width, numbers that are not finite, a count outside 1 … the bank, or a rank
            outside 1 … the width of a head.
    """
    check_bank(texts, weights.shape[2], count)
    parts = project_texts(weights, mean, covariance, texts)
    return [span for few in parts for span in few.spans(count, rank)]


def check_bank(texts: Float[Tensor, "text embed"], embed: int, count: int) -> None:
    """Raise `ExplainError` for texts of another width, not finite, or too few of them for `count`."""
    if texts.ndim != 2 or texts.shape[1] != embed:
        raise ExplainError(
            f"Texts of shape {list(texts.shape)} are not rows of the joint space's width, {embed}.",
            "Embed the texts with the same model: clip.encode_text(texts).",
        )
    if not 1 <= count <= len(texts):
        raise ExplainError(
            f"{count} texts cannot be chosen from a bank of {len(texts)}.", "Ask for one to all of them."
        )
    check_finite(texts, "texts")


def check_finite(values: Tensor, name: str) -> None:
    """Raise `ExplainError` where a number is NaN or infinite."""
    # Minimum and maximum are NaN where anything is, and finite where everything is: no mask is made.
    if values.numel() and not bool(torch.isfinite(torch.stack(values.aminmax())).all()):
        bad = int((~torch.isfinite(values)).sum())
        raise ExplainError(f"{bad} of the {name} are NaN or infinite.", "Find and leave out what made them.")


@dataclass(frozen=True, eq=False)
class HeadTexts:
    """A few heads, and texts along what each can write to: where every question about heads and texts begins.

    Attributes:
        weights: B of each head.
        frame: orthonormal rows that span those of B.
        triangle: R of B = Rᵀ frame.
        texts: the texts, float64.
        along: the texts along the frame, float32.
        mean: the mean contribution.
        spread: the covariance of the contributions along the frame.
        total: its trace; zero for a head that does not vary, whose `spread` is zero too.
        axes: the eigenvectors of the second moment along the frame, as columns, smallest first; zero beyond the rank.
    """

    weights: Float[Tensor, "head d_head embed"]
    frame: Float[Tensor, "head axis embed"]
    triangle: Float[Tensor, "head axis d_head"]
    texts: Float[Tensor, "text embed"]
    along: Float[Tensor, "head axis text"]
    mean: Float[Tensor, "head embed"]
    spread: Float[Tensor, "head axis axis_too"]
    total: Float[Tensor, "head"]
    axes: Float[Tensor, "head axis axis_too"]

    def under(
        self, mean: Float[Tensor, "head d_head"], covariance: Float[Tensor, "head d_head d_head_too"]
    ) -> HeadTexts:
        """The same heads and texts under other moments of the heads; nothing is projected again."""
        spread, total, axes = _along_frame(self.triangle, mean.double(), covariance.double())
        centre = (mean.double()[:, None] @ self.weights)[:, 0]
        return replace(self, mean=centre, spread=spread, total=total, axes=axes)

    def shares(self) -> Float[Tensor, "head text"]:
        """The share of every head's variance along each text t̂ − t̄, t̂ of unit norm and t̄ the texts' mean.

        With P the projection on the space that the head can write to and C the covariance of its contributions,
        tᵀCt / (‖Pt‖² tr C); zero where Pt is. In float32.
        """
        projected, variance, squares = self._rough
        per = 1 / self.texts.norm(dim=1).clamp_min(_LEAST).float()
        mean = projected @ per / len(per)
        pair = torch.stack([mean, (self._unit @ mean[:, :, None])[:, :, 0]], dim=1)
        (length, spread), both = (pair @ mean[:, :, None])[:, :, 0].T[:, :, None], pair @ projected
        inside = (squares * per - 2 * both[:, 0]) * per + length
        along = (variance * per - 2 * both[:, 1]) * per + spread
        there = inside > _ROUNDING * (squares * per**2 + length)  # below is the rounding of a text at the mean
        return torch.where(there, along.clamp_min(0) / inside.clamp_min(_LEAST_ROUGH), 0.0)

    def chance(self, draws: Float[Tensor, "most_axes text"], count: int) -> Float[Tensor, "head choice"]:
        """The share of every head's variance that one, two … `count` random directions explain, chosen as texts are.

        There are as many as texts, with the texts' mean and covariance. Standard normal `draws`, the same for all
        heads, become such directions along each head's frame: drawn in the whole embedding and projected they would
        have the same distribution, for the width of the embedding over that of the head as much work.
        """
        placed = self._rough[0]
        mean = placed.mean(2, keepdim=True)
        values, vectors = torch.linalg.eigh((placed @ placed.mT / placed.shape[2] - mean @ mean.mT).double())
        mixed = (vectors * values.clamp_min(0).sqrt()[:, None]).float()
        projected, variance, _ = _measured(mean + mixed @ draws[: mixed.shape[2]], self._unit)
        return choose(projected, self._unit, variance, count, torch.zeros_like(mean[:, 0, 0]))[1].cumsum(1)

    @cached_property
    def _unit(self) -> Float[Tensor, "head axis axis_too"]:
        """The spread of a total of one: float32 has no room for small squares."""
        return (self.spread / self.total.clamp_min(_LEAST)[:, None, None]).float()

    @cached_property
    def _rough(self) -> _Measured:
        """The texts in the numerical rank of each head, measured."""
        return self._within(None)

    def _within(self, rank: int | None) -> _Measured:
        onto = self._onto(rank)
        return _measured(self.along if onto is None else onto.float() @ self.along, self._unit)

    def _onto(self, rank: int | None) -> Float[Tensor, "head axis axis_too"] | None:
        """The projection on the leading axes, along the frame; None where these are all."""
        axes = self.axes if rank is None else self.axes[:, :, -rank:]
        full = bool((axes.square().sum((1, 2)) > axes.shape[1] - 0.5).all())
        return None if full else axes @ axes.mT

    def spans(self, count: int, rank: int | None = None, part: Int[Tensor, "part"] | None = None) -> list[TextSpan]:
        """The span of every head by its texts, or by a part of them. For `rank` see `head_spans`."""
        most = min(self.weights.shape[1:])
        if rank is not None and not 1 <= rank <= most:
            raise ExplainError(
                f"Rank {rank} is not from 1 to {most}, the most directions that contributions of this shape have.",
                "Leave it out for the numerical rank.",
            )
        projected, variance, squares = self._rough if rank is None else self._within(rank)
        if part is not None:  # masked: a copy of the part's projections would take longer than products with all
            variance = torch.full_like(variance, -torch.inf).index_copy_(1, part, variance[:, part])
        doubt = _ROUNDING * self._unit.flatten(1).norm(dim=1) * squares.amax(1)
        texts, explained, sure = choose(projected, self._unit, variance, count, doubt)
        lives, onto, unsure = explained > 0, self._onto(rank), (~sure).nonzero()[:, 0]
        if len(unsure):
            exact = _project(self.frame[unsure], (self.texts if part is None else self.texts[part]).mT)
            exact = exact if onto is None else onto[unsure] @ exact
            spread = self.spread[unsure]
            again, exactly, _ = choose(exact, spread, _measured(exact, spread)[1], count)
            texts[unsure], lives[unsure] = again if part is None else part[again], exactly > 0
        # The directions of the chosen texts are computed anew in float64: they are what QR makes of these in order.
        columns = self.frame @ self.texts[texts].mT
        directions, triangle = torch.linalg.qr(columns if onto is None else onto @ columns)
        directions = (directions * triangle.diagonal(dim1=1, dim2=2).sign()[:, None]).mT
        variance = (directions @ self.spread * directions).sum(2)
        directions = directions @ self.frame
        return [
            TextSpan(
                texts=texts[head, :length],
                variance=variance[head, :length],
                total=float(self.total[head]),
                mean=self.mean[head],
                directions=directions[head, :length],
            )
            for head, length in enumerate(lives.sum(1).tolist())
        ]


def project_texts(
    weights: Float[Tensor, "head d_head embed"],
    mean: Float[Tensor, "head d_head"],
    covariance: Float[Tensor, "head d_head d_head_too"],
    texts: Float[Tensor, "text embed"],
) -> Iterator[HeadTexts]:
    """A few heads at a time, in order, with the texts along each.

    Raises:
        ExplainError: for weights, means or covariances that are not finite.
    """
    for name, values in (("weights", weights), ("means", mean), ("covariances", covariance)):
        check_finite(values, name)
    bank = texts.detach().double()
    rough = bank.float().mT.contiguous()
    step = max(1, _NUMBERS // (min(weights.shape[1:]) * len(texts)))
    for start in range(0, len(weights), step):
        own, centre, spread = (one[start : start + step].detach().double() for one in (weights, mean, covariance))
        frame, triangle = torch.linalg.qr(own.mT)
        rows = frame.mT.contiguous()
        along, means = _project(rows.float(), rough), (centre[:, None] @ own)[:, 0]
        yield HeadTexts(own, rows, triangle, bank, along, means, *_along_frame(triangle, centre, spread))


def row_space(
    weights: Float[Tensor, "head d_head embed"],
    mean: Float[Tensor, "head d_head"],
    covariance: Float[Tensor, "head d_head d_head_too"],
    rank: int | None = None,
) -> tuple[Float[Tensor, "head axis embed"], Float[Tensor, "head axis axis_too"], Float[Tensor, "head"]]:
    """Orthonormal axes of what each head writes, the covariance of its contributions along them, and its trace.

    Axes beyond the rank (see `head_spans`) are zero. Everything is zero for a head that does not vary.
    """
    frame, triangle = torch.linalg.qr(weights.mT)
    spread, total, vectors = _along_frame(triangle, mean, covariance)
    if rank is not None:
        vectors = vectors * (torch.arange(vectors.shape[2], device=vectors.device) >= vectors.shape[2] - rank)
    return vectors.mT @ frame.mT, vectors.mT @ spread @ vectors, total


def _along_frame(
    triangle: Float[Tensor, "head axis d_head"],
    mean: Float[Tensor, "head d_head"],
    covariance: Float[Tensor, "head d_head d_head_too"],
) -> tuple[Float[Tensor, "head axis axis_too"], Float[Tensor, "head"], Float[Tensor, "head axis axis_too"]]:
    """Covariance along the frame, its trace, and the eigenvectors of the second moment within the numerical rank."""
    spread = triangle @ covariance @ triangle.mT
    total = spread.diagonal(dim1=1, dim2=2).sum(1)
    centre = (triangle @ mean[:, :, None])[:, :, 0]
    moment = spread + centre[:, :, None] * centre[:, None, :]
    still = total <= _STILL * moment.diagonal(dim1=1, dim2=2).sum(1)
    spread, total = torch.where(still[:, None, None], 0.0, spread), torch.where(still, 0.0, total)
    values, vectors = torch.linalg.eigh(moment)
    keep = values > RANK_TOLERANCE**2 * values[:, -1:].clamp_min(0)
    return spread, total, vectors * keep[:, None, :]


def _measured(projected: Float[Tensor, "head axis text"], spread: Float[Tensor, "head axis axis_too"]) -> _Measured:
    """Texts along orthonormal axes of each head, the head's variance along each, and its squared length there."""
    return projected, (projected * (spread @ projected)).sum(1), projected.square().sum(1)


def choose(
    projected: Float[Tensor, "head axis text"],
    spread: Float[Tensor, "head axis axis_too"],
    variance: Float[Tensor, "head text"],
    count: int,
    doubt: Float[Tensor, "head"] | None = None,
) -> tuple[Int[Tensor, "head choice"], Float[Tensor, "head choice"], Bool[Tensor, "head"]]:
    """The greedy choice of texts, what each explains, and whether rounding could not change it.

    Args:
        projected: the texts along orthonormal axes of each head.
        spread: the covariance of its contributions along them.
        variance: of the contributions along each text; minus infinity for one that may not be chosen.
        count: how many texts a head.
        doubt: how far apart two variances have to be; None where they are exact.

    Where nothing is left to explain, a choice explains 0. In float64 the first of texts that tie is chosen. In float32,
    which is faster, a head is unsure where one text leads by so little that rounding may have exchanged it with the
    next.
    """
    left = variance
    floor = _STOP * left.amax(1)
    every = torch.arange(len(projected), device=projected.device)
    directions = projected.new_zeros(len(projected), count, projected.shape[1])
    chosen = torch.zeros(len(projected), count, dtype=torch.long, device=projected.device)
    explained = projected.new_zeros(len(projected), count)
    sure = torch.ones_like(every, dtype=torch.bool)
    for step in range(count):
        before = directions[:, :step]
        if doubt is None:
            top = left.amax(1)
            text = (left >= (top * (1 - _TIE))[:, None]).byte().argmax(1)
        else:
            leading = left.topk(min(2, left.shape[1]), dim=1)
            top, text = leading.values[:, 0], leading.indices[:, 0]
            second = leading.values[:, -1] if left.shape[1] > 1 else torch.zeros_like(top)
            sure &= top - second > doubt
        goes_on = top > floor
        direction = projected[every, :, text][:, None]
        for _ in range(2 if step else 0):  # once leaves rounding that grows with the steps
            direction = direction - direction @ before.mT @ before
        length = direction.norm(dim=2, keepdim=True)
        direction = torch.where(goes_on[:, None, None], direction / length.clamp_min(_LEAST_ROUGH), 0.0)
        seen = direction @ spread
        pair = torch.cat([direction, seen - seen @ before.mT @ before], dim=1) @ projected
        along = (seen * direction).sum(2) * pair[:, 0] - 2 * pair[:, 1]
        left = torch.addcmul(left, pair[:, 0], along)
        chosen[:, step], directions[:, step] = text, direction[:, 0]
        explained[:, step] = torch.where(goes_on, (seen * direction).sum((1, 2)).clamp_min(_LEAST_ROUGH), 0.0)
    return chosen, explained, sure


def _project(
    axes: Float[Tensor, "head axis embed"], bank: Float[Tensor, "embed text"]
) -> Float[Tensor, "head axis text"]:
    return (axes.flatten(0, 1) @ bank).unflatten(0, axes.shape[:2])  # one large product
