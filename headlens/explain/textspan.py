"""TextSpan of contributions, and of every head of a store from its moments alone.

For the method, its source and the conventions of the published code see `headlens.locate.textspan`, which works on
arrays; here are the two ways in.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ExplainError
from headlens.extraction import HeadStore
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.locate.textspan import TextSpan, check_bank, check_finite, head_spans
from headlens.states import HeadBasis, Moments, head_moments


def textspan(
    contributions: Float[Tensor, "image embed"],
    texts: Float[Tensor, "text embed"],
    count: int,
    rank: int | None = None,
) -> TextSpan:
    """The `count` texts that greedily span a head's contributions.

    With X the contributions, X_c = X − mean, V_r the leading r right singular vectors of X (not of X_c) and
    t ← V_rᵀ V_r t: repeat: t* = argmax std(X_c t), u = t*/‖t*‖, X_c ← X_c (I − uuᵀ), t ← (I − uuᵀ) t.

    Args:
        contributions: of one head, `store.heads(layer, head)`; at least two images.
        texts: the bank's embeddings, not normalised: `clip.encode_text(texts)`. A longer embedding is chosen sooner.
        count: how many texts.
        rank: r; by default, and at most, the numerical rank (singular values above 1e-6 of the largest).

    Returns:
        The span, computed in float64. It ends early where nothing is left to explain.

    Raises:
        ExplainError: fewer than two images, widths that differ, numbers that are not finite, a count outside 1 … the
            bank, or a rank outside 1 … min(images, width).

    Limits: greedy choice is not the best set; a text's share counts what is left when its turn comes, so later texts
    look weaker than they are alone; and a bank can only name what is in it.
    """
    if contributions.ndim != 2 or len(contributions) < 2:
        raise ExplainError(
            "the contributions of two images or more, as rows",
            f"shape {list(contributions.shape)}",
            "A single image has no variance to explain.",
        )
    check_bank(texts, contributions.shape[1], count)
    check_finite(contributions, "contributions")
    rows = contributions.detach().double()
    axes = torch.linalg.svd(rows, full_matrices=False).Vh
    z = rows @ axes.mT
    mean = z.mean(0)
    centred = z - mean
    covariance = centred.mT @ centred / len(z)
    (span,) = head_spans(axes[None], mean[None], covariance[None], texts.to(rows.device), count, rank)
    return span


def textspan_heads(
    source: HeadStore | Moments,
    texts: Float[Tensor, "text embed"],
    count: int,
    rank: int | None = None,
    heads: Iterable[HeadLike] | None = None,
    *,
    basis: HeadBasis | None = None,
) -> dict[HeadId, TextSpan]:
    """The span of every head, from moments alone: equal to `textspan` on the head's contributions, row by row.

    Args:
        source: a store, which is streamed through once, or its moments.
        texts: the bank's embeddings, not normalised.
        count: how many texts a head.
        rank: as in `textspan`; at most the width of a head.
        heads: the heads to explain; all of them by default.
        basis: the weights that the moments are read through, `store.basis`; a store brings its own.

    Raises:
        ExplainError: as `textspan` does; and for moments without a basis, or of another tower.
        LocateError: for a head outside the tower.
    """
    moments, basis = moments_of(source, basis)
    n_layers, n_heads = moments.mean.shape[:2]
    chosen = as_heads(heads, n_layers, n_heads)
    spans = []
    for where, weights in basis.in_parts(chosen):
        layers, places = [h.layer for h in chosen[where]], [h.head for h in chosen[where]]
        mean, covariance = moments.mean[layers, places], moments.scatter[layers, places] / moments.count
        spans += head_spans(weights, mean, covariance, texts.to(weights.device), count, rank)
    return dict(zip(chosen, spans, strict=True))


def moments_of(source: HeadStore | Moments, basis: HeadBasis | None) -> tuple[Moments, HeadBasis]:
    """Moments and the weights that they are read through, of two images or more."""
    moments = source if isinstance(source, Moments) else head_moments(source)
    if basis is None:
        basis = getattr(source, "basis", None)  # a store has one, and so have moments that were kept with it
    if basis is None or basis.shape[:3] != moments.mean.shape:
        received = "none" if basis is None else f"one of {list(basis.shape[:3])}"
        raise ExplainError(
            f"a basis of the moments' shape, {list(moments.mean.shape)}", received, "Pass basis=store.basis."
        )
    if moments.count < 2:
        raise ExplainError("two images or more", f"{moments.count}", "A single image has no variance to explain.")
    return moments, basis
