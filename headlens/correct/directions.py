"""Pushing vectors towards, or out of, the directions that pairs of texts span.

Follows RoboShot (Adila et al. 2024, arXiv 2309.04344), as Yeo et al. 2025 (arXiv 2505.17425) use it on heads:

1. Each pair of texts gives the difference of its two embeddings, which are **not** normalised.
2. Q is the orthonormal basis of the differences by QR, in the order of the pairs.
3. For each q in order: x ← x ± cos(x, q) q, then x ← x / ‖x‖ (plus injects, minus rejects).

A step depends on the ones before it, because x has been normalised in between, so the order of the pairs matters.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import CorrectionError


def inject(x: Float[Tensor, "image embed"], pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "image embed"]:
    """Add to x, one by one, the directions that tell the texts of each pair apart: x ← unit(x + cos(x, q) q).

    Args:
        x: embeddings, or the contributions of one head.
        pairs: text embeddings, not normalised.

    Returns:
        Vectors of norm one, in the precision of x.

    Raises:
        CorrectionError: for widths that disagree, no pair, numbers that are not finite, a pair that adds no direction
            of its own, and a vector of norm zero, for which no cosine is defined.

    Limit: a component is enlarged with the sign it has; a vector that points the wrong way is pushed further.
    """
    return _walk(x, pairs, 1.0)


def reject(x: Float[Tensor, "image embed"], pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "image embed"]:
    """Take from x, one by one, the directions that tell the texts of each pair apart: x ← unit(x − cos(x, q) q).

    The published step subtracts the cosine and not the component, so that q leaves x altogether only where x has norm
    one: always after the first step, and before it where x comes so. Arguments, result and errors as for `inject`.
    """
    return _walk(x, pairs, -1.0)


def basis_of_pairs(pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "direction embed"]:
    """Q: orthonormal rows that span the differences of the pairs, one a pair, in order. Raises as `inject` does."""
    if pairs.ndim != 3 or pairs.shape[1] != 2 or pairs.shape[0] == 0:
        raise CorrectionError(
            "pairs of [pair 2 embed], at least one",
            f"shape {tuple(pairs.shape)}",
            "Encode the two texts of each pair and stack them: headlens.prompts.encode_pairs does.",
        )
    if not bool(torch.isfinite(pairs).all()):
        raise CorrectionError("finite pair embeddings", "NaN or infinite ones", "Check the texts and the text tower.")
    differences = pairs[:, 0] - pairs[:, 1]
    work = differences if differences.dtype in (torch.float32, torch.float64) else differences.float()
    q, r = torch.linalg.qr(work.T)
    lengths = work.norm(dim=1)
    count = r.shape[0]
    own = r.diagonal().abs() <= 100 * torch.finfo(work.dtype).eps * lengths[:count]
    if count < len(work) or bool(own.any()):
        first = int(own.nonzero()[0]) if bool(own.any()) else count
        raise CorrectionError(
            "pairs that each add a direction of their own",
            f"pair {first} (counted from 0), whose difference lies in the span of those before it",
            "Remove it: its texts mean the same to the model, or repeat an earlier pair.",
        )
    return q.T


def _walk(
    x: Float[Tensor, "image embed"], pairs: Float[Tensor, "pair 2 embed"], sign: float
) -> Float[Tensor, "image embed"]:
    if x.ndim != 2 or pairs.shape[-1] != x.shape[-1]:
        raise CorrectionError(
            "vectors and pairs of one width",
            f"{tuple(x.shape)} and {tuple(pairs.shape)}",
            "Use text embeddings of the same model.",
        )
    work = torch.promote_types(x.dtype, torch.float32)
    start = x.to(work)
    basis = basis_of_pairs(pairs.to(x.device, torch.promote_types(work, pairs.dtype))).to(work)
    # Q is orthonormal, so every vector stays scale · (start + Σ added_q q): a step changes one entry of `added` and
    # the scale, and the vectors themselves are touched twice in all instead of several times a pair.
    inside = (start @ basis.T).double()
    norm = torch.linalg.vector_norm(start, dim=1, dtype=torch.float64)
    _refuse(norm, norm)
    scale, added = torch.ones_like(norm), torch.zeros_like(inside)
    for number in range(len(basis)):
        along = scale * inside[:, number]
        cosine = along / norm
        moved = (norm.square() + 2 * sign * cosine * along + cosine.square()).clamp(min=0).sqrt()
        _refuse(moved, norm)
        added[:, number] = sign * cosine / scale
        scale, norm = scale / moved, torch.ones_like(norm)
    return ((start + added.to(work) @ basis) * scale.to(work)[:, None]).to(x.dtype)


def _refuse(norm: Float[Tensor, "image"], before: Float[Tensor, "image"]) -> None:
    kept = norm > 1e-6 * before
    if not bool(kept.all()):
        bad = int((~kept).nonzero()[0])
        raise CorrectionError(
            "vectors with a norm above zero",
            f"norm {float(norm[bad]):.3g} at image {bad}",
            "A direction cannot be moved without a length: do not inject a head that was ablated to zero, nor reject "
            "pairs that span the whole vector, and look for NaN in the contributions.",
        )
