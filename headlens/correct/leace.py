"""Least-squares concept erasure: the least change after which no linear map of the result tells the concept's values.

Follows Belrose et al. 2023, *LEACE: Perfect linear concept erasure in closed form* (arXiv 2306.03819), through the
package `concept-erasure`:

    x ← x − W⁺ U Uᵀ W (x − mean(x)),   W = cov(x)^(−1/2),   U an orthonormal basis of the columns of W cov(x, z)

with z the concept's values, one column a value. Afterwards the covariance of x and z over the reference split is zero.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from headlens.correct.targets import check_width
from headlens.errors import CorrectionError


@dataclass(frozen=True)
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
        raise CorrectionError("finite vectors", "NaN or infinite ones", "Extract again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the package compiles on import, the old way
            from concept_erasure import LeaceFitter
    except ImportError as error:
        raise CorrectionError(
            "the package concept-erasure", f"{error}", "Install it: pip install concept-erasure."
        ) from error
    concept = one_hot(values.long().cpu()).double()
    found = LeaceFitter.fit(x.detach().cpu().double(), concept, constrain_cov_trace=False).eraser
    return Eraser(found.proj_left, found.proj_right, found.bias)
