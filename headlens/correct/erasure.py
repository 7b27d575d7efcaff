"""Erasing an attribute linearly from whole embeddings, or from the contributions of chosen heads.

Least-squares concept erasure is the least change after which no linear map of the result recovers the concept.

Follows Belrose et al. 2023, *LEACE: Perfect linear concept erasure in closed form* (arXiv 2306.03819), through the
package `concept-erasure`:

    x ← x − W⁺ U Uᵀ W (x − mean(x)),   W = cov(x)^(−1/2),   U an orthonormal basis of the columns of W cov(x, z)

with z the concept's values, one column a value. Afterwards the covariance of x and z over the reference split is zero.
The values of the attribute are those of the reference split's images: labelled, or inferred zero-shot.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from headlens.correct.base import LEARNT, EmbeddingCorrection, HeadCorrection
from headlens.correct.views import check_width, contribution, embedding_of
from headlens.errors import CorrectionError
from headlens.heads import HeadId


@dataclass(frozen=True, eq=False)
class Eraser:
    """x ← x − (x − mean) rightᵀ leftᵀ.

    Attributes:
        left: W⁺ U.
        right: Uᵀ W.
        mean: the mean of x over the reference split.
    """

    left: Float[Tensor, "embed value"]
    right: Float[Tensor, "value embed"]
    mean: Float[Tensor, "embed"]

    def __post_init__(self) -> None:
        width, rank = self.left.shape
        if self.right.shape != (rank, width) or self.mean.shape != (width,):
            shapes = [tuple(part.shape) for part in (self.left, self.right, self.mean)]
            raise CorrectionError("an erasure of one width and rank", f"shapes {shapes}", "Fit it again.")

    def __call__(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """Vectors without the concept, in the precision of x."""
        check_width("reference split", self.mean.shape[0], x)
        work = x.to(torch.promote_types(x.dtype, torch.float32))
        left, right, mean = (part.to(work) for part in (self.left, self.right, self.mean))
        return (work - (work - mean) @ right.mT @ left.mT).to(x.dtype)


def fit_eraser(x: Float[Tensor, "image embed"], values: Int[Tensor, "image"]) -> Eraser:
    """LEACE of `values` out of `x`, in float64, with the covariance shrunk as the package does by default.

    The package's bound on the trace of the covariance is left off: it is for features that are fed back into a network,
    and under it some of the concept may stay.

    Raises:
        CorrectionError: for a number of values that is not that of the images, values below zero, fewer than two values
            or two images, numbers that are not finite, and where the package `concept-erasure` is missing.
    """
    if values.shape != x.shape[:1] or len(x) < 2 or int(values.min()) < 0 or len(values.unique()) < 2:
        raise CorrectionError(
            f"a value of zero or more for each of {len(x)} images, of two kinds at least",
            f"{len(values)} values of {len(values.unique())} kinds",
            "Pass the attribute's values of the very reference split that the correction is fitted on.",
        )
    if not bool(torch.isfinite(x).all()):
        raise CorrectionError("Vectors are NaN or infinite.", "Extract again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the package compiles on import, the old way
            from concept_erasure import LeaceFitter
    except ImportError as error:
        raise CorrectionError(
            f"Erasure needs the package concept-erasure ({error}).", "Install it: pip install concept-erasure."
        ) from error
    concept = one_hot(values.long().cpu()).double()
    found = LeaceFitter.fit(x.detach().cpu().double(), concept, constrain_cov_trace=False).eraser
    return Eraser(found.proj_left, found.proj_right, found.bias)


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingErasure(EmbeddingCorrection):
    """embedding ← LEACE of the attribute's values out of it.

    Attributes:
        values: the attribute's value of every image of the reference split, as an index.
        eraser: learnt.

    Raises:
        CorrectionError: on `fit`, as `fit_eraser` does.

    Limits: the erasure is exact over the reference split and linear; other images keep what the split did not show. A
    class that goes with the attribute in the reference split is erased along with it.
    """

    name: ClassVar[str] = "leace"
    values: Int[Tensor, "image"]
    eraser: Eraser | None = field(default=None, kw_only=True, metadata=LEARNT)

    def learn(self, reference: Any) -> dict[str, Any]:
        """The erasure, from embeddings or a view."""
        return {"eraser": fit_eraser(embedding_of(reference), self.values)}

    def move(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The embeddings without the attribute."""
        assert self.eraser is not None
        return self.eraser(x)


@dataclass(frozen=True, eq=False, repr=False)
class HeadErasure(HeadCorrection):
    """contribution ← LEACE of the attribute's values out of it, for each of `heads`, each by itself.

    Attributes:
        heads: the heads to erase the attribute from.
        values: the attribute's value of every image of the reference split, as an index.
        erasers: learnt, one a head.

    Raises:
        CorrectionError: on `fit`, as `fit_eraser` does.

    Limits: as for `EmbeddingErasure`; heads that are each without the attribute can still tell it together.
    """

    name: ClassVar[str] = "leace-heads"
    values: Int[Tensor, "image"]
    erasers: tuple[Eraser, ...] | None = field(default=None, kw_only=True, metadata=LEARNT)

    def learn(self, reference: Any) -> dict[str, Any]:
        """The erasures."""
        return {"erasers": tuple(fit_eraser(contribution(reference, head), self.values) for head in self.edited)}

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The contribution without the attribute."""
        assert self.erasers is not None
        return self.erasers[self.edited.index(head)](x)
