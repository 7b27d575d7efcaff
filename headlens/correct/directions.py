"""Pushing vectors towards, or out of, the directions that pairs of texts span: knowledge injection and RoboShot.

Follows RoboShot (Adila et al. 2024, arXiv 2309.04344) on whole embeddings, and Yeo et al. 2025 (arXiv 2505.17425) on
the contributions of single heads:

1. Each pair of texts gives the difference of its two embeddings, which are **not** normalised.
2. Q is the orthonormal basis of the differences by QR, in the order of the pairs.
3. For each q in order: x ← x ± cos(x, q) q, then x ← x / ‖x‖ (plus injects, minus rejects).

A step depends on the ones before it, because x has been normalised in between, so the order of the pairs matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.correct.base import EmbeddingCorrection, HeadCorrection
from headlens.correct.views import along, check_width, head_norms, project_head
from headlens.errors import CorrectionError
from headlens.heads import HeadId


def inject(x: Float[Tensor, "image embed"], pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "image embed"]:
    """Add to x, one by one, the directions that distinguish the texts of each pair: x ← unit(x + cos(x, q) q).

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
    """Take from x, one by one, the directions that distinguish the texts of each pair: x ← unit(x − cos(x, q) q).

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
        raise CorrectionError("Pair embeddings are NaN or infinite.", "Check the texts and the text tower.")
    if len(pairs) > pairs.shape[-1]:
        raise CorrectionError(
            f"{len(pairs)} pairs cannot each add a direction to embeddings of {pairs.shape[-1]} numbers.",
            "Give fewer pairs: those that distinguish the classes by what matters most.",
        )
    differences = pairs[:, 0] - pairs[:, 1]
    work = differences if differences.dtype in (torch.float32, torch.float64) else differences.float()
    q, r = torch.linalg.qr(work.T)
    lengths = work.norm(dim=1)
    dependent = r.diagonal().abs() <= 100 * torch.finfo(work.dtype).eps * lengths
    if bool(dependent.any()):
        raise CorrectionError(
            "pairs that each add a direction of their own",
            f"pair {int(dependent.nonzero()[0])} (counted from 0), whose difference lies in the span of earlier ones",
            "Remove it: its texts mean the same to the model, or repeat an earlier pair.",
        )
    return q.T


def leading_pairs(texts: Float[Tensor, "text embed"]) -> Float[Tensor, "direction 2 embed"]:
    """The directions along which many texts differ most, each as a pair with the zero vector: for `inject`, where the
    texts' differences span (nearly) the whole space.

    Injecting every direction of a space doubles every component, which leaves the vector's direction as it was; what
    `inject` says, it says by the directions that it leaves alone. With t_c the texts and m their mean, the ones taken
    are the eigenvectors of Σ_c (t_c − m)(t_c − m)ᵀ whose eigenvalue is above the mean of all, largest first: the texts
    differ along them more than along an average direction. They do not depend on the order of the texts, and are at
    most embed − 1. The rule is ours; the publication has two classes and a few pairs.

    Args:
        texts: embeddings, not normalised; two at least.

    Raises:
        CorrectionError: for numbers that are not finite, and texts that differ in all directions alike.
    """
    if not bool(torch.isfinite(texts).all()):
        raise CorrectionError("Text embeddings are NaN or infinite.", "Check the texts and the text tower.")
    apart = texts.double() - texts.double().mean(0)
    values, vectors = torch.linalg.eigh(apart.T @ apart)
    above = values > values.mean() * (1 + 1e-9)
    if not bool(above.any()):
        raise CorrectionError(
            "The texts differ in all directions alike: none distinguishes them more than another.",
            "Give pairs of texts that distinguish them by true features.",
        )
    found = vectors[:, above].T.flip(0).to(texts)
    return torch.stack([found, torch.zeros_like(found)], dim=1)


def _walk(
    x: Float[Tensor, "image embed"], pairs: Float[Tensor, "pair 2 embed"], sign: float
) -> Float[Tensor, "image embed"]:
    if x.ndim != 2 or pairs.shape[-1] != x.shape[-1]:
        raise CorrectionError(
            "vectors and pairs of one width",
            f"{tuple(x.shape)} and {tuple(pairs.shape)}",
            "Use text embeddings of the same model.",
        )
    start = x.to(torch.promote_types(x.dtype, torch.float32))
    basis = _basis_for(start, pairs)
    norm = torch.linalg.vector_norm(start, dim=1, dtype=torch.float64)
    scale, added = _steps((start @ basis.T).double(), norm, sign)
    return ((start + added.to(start) @ basis) * scale.to(start)[:, None]).to(x.dtype)


def _basis_for(x: Tensor, pairs: Float[Tensor, "pair 2 embed"]) -> Float[Tensor, "direction embed"]:
    """Q in the precision of x or of the pairs, whichever is the higher, and then where and as x is."""
    return basis_of_pairs(pairs.to(x.device, torch.promote_types(x.dtype, pairs.dtype))).to(x)


def _steps(
    inside: Float[Tensor, "image direction"], norm: Float[Tensor, "image"], sign: float
) -> tuple[Float[Tensor, "image"], Float[Tensor, "image direction"]]:
    """What the steps do to x: afterwards it is scale · (x + Σ added_q q).

    Q is orthonormal, so a step changes one entry of `added` and the scale, and neither needs more of x than its cosines
    and its norm. So the vectors themselves are touched twice in all instead of several times a pair, and scores along
    other directions can do without them.

    Args:
        inside: x · q, in float64.
        norm: of x, in float64.
        sign: 1 injects, −1 rejects.
    """
    _refuse(norm, norm)
    scale, added = torch.ones_like(norm), torch.zeros_like(inside)
    for number in range(inside.shape[1]):
        component = scale * inside[:, number]
        cosine = component / norm
        moved = (norm.square() + 2 * sign * cosine * component + cosine.square()).clamp(min=0).sqrt()
        _refuse(moved, norm)
        added[:, number] = sign * cosine / scale
        scale, norm = scale / moved, torch.ones_like(norm)
    return scale, added


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


@dataclass(frozen=True, eq=False, repr=False)
class KnowledgeInjection(HeadCorrection):
    """contribution ← inject(contribution, pairs), for each of `heads`. It needs no fit.

    Salient heads are pushed towards the features that truly distinguish the classes (Yeo et al. 2025), with pairs of
    texts such as ("a bird with webbed feet", "a bird with talons").

    Attributes:
        heads: the heads to inject, usually the salient ones.
        pairs: text embeddings, not normalised: `clip.encode_text` as it comes, or `headlens.prompts.encode_pairs`.

    Raises:
        CorrectionError: as `inject` does for the pairs; on `apply`, for contributions of another width.

    Limits: each injected head ends at norm one, whatever it was before; that is the published operation. In the store's
    convention, where the whole embedding has norm one, an injected head can so outweigh everything else.
    """

    name: ClassVar[str] = "knowledge-injection"
    pairs: Float[Tensor, "pair 2 embed"]

    def __post_init__(self) -> None:
        super().__post_init__()
        basis_of_pairs(self.pairs)

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The injected contribution."""
        check_width("pairs", self.pairs.shape[-1], x)
        return inject(x, self.pairs)

    def edited_logits(
        self, head: HeadId, view: Any, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """The injected contribution · each direction t: scale · (x·t + Σ added_q q·t)."""
        before = project_head(view, head, directions)
        basis = _basis_for(before, self.pairs)
        inside = project_head(view, head, basis).double()
        scale, added = _steps(inside, head_norms(view, head), 1.0)
        return ((before + added.to(before) @ along(basis, directions)) * scale.to(before)[:, None]).to(before)


@dataclass(frozen=True, eq=False, repr=False)
class RoboShot(EmbeddingCorrection):
    """embedding ← inject(reject(embedding, reject pairs), accept pairs). It needs no fit.

    1. x ← reject(x, spurious pairs), where there are any.
    2. x ← inject(x, true pairs), where there are any.

    Attributes:
        reject: pairs that the bias distinguishes, not normalised; None leaves step 1 out.
        accept: pairs that true features distinguish, not normalised; None leaves step 2 out.

    Raises:
        CorrectionError: where both are missing, and as `inject` does.
    """

    name: ClassVar[str] = "roboshot"
    reject: Float[Tensor, "pair 2 embed"] | None = None
    accept: Float[Tensor, "other_pair 2 embed"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reject is None and self.accept is None:
            raise CorrectionError("RoboShot has no pairs to reject or to accept.", "Pass encoded pairs of texts.")
        for pairs in (self.reject, self.accept):
            if pairs is not None:
                basis_of_pairs(pairs)

    def move(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The moved embeddings, of norm one."""
        for pairs, step in ((self.reject, reject), (self.accept, inject)):
            if pairs is not None:
                check_width("pairs", pairs.shape[-1], x)
                x = step(x, pairs)
        return x
