"""RoboShot (Adila et al. 2024, arXiv 2309.04344): spurious directions out of the whole embedding, true ones into it.

1. x ← reject(x, spurious pairs), where there are any.
2. x ← inject(x, true pairs), where there are any.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from headlens.correct import directions
from headlens.correct.base import Correction
from headlens.correct.targets import check_width, detached, is_view
from headlens.correct.view import CorrectedView
from headlens.errors import CorrectionError


class RoboShot(Correction):
    """embedding ← inject(reject(embedding, reject pairs), accept pairs). It needs no fit, and knows nothing of heads.

    `apply` takes embeddings, [image embed], or a view, whose embedding is replaced while its heads stay as they were
    (so that it is no longer their sum).

    Args:
        reject: pairs that the bias tells apart, not normalised; None leaves step 1 out.
        accept: pairs that true features tell apart, not normalised; None leaves step 2 out.

    Raises:
        CorrectionError: where both are missing, and as `inject` does.
    """

    name = "roboshot"

    def __init__(
        self,
        reject: Float[Tensor, "pair 2 embed"] | None = None,
        accept: Float[Tensor, "other_pair 2 embed"] | None = None,
    ):
        if reject is None and accept is None:
            raise CorrectionError("pairs to reject or to accept, or both", "neither", "Pass encoded pairs of texts.")
        for pairs in (reject, accept):
            if pairs is not None:
                directions.basis_of_pairs(pairs)
        self.reject = None if reject is None else detached(reject)
        self.accept = None if accept is None else detached(accept)

    def __repr__(self) -> str:
        counts = (0 if p is None else len(p) for p in (self.reject, self.accept))
        return "RoboShot({} pairs to reject, {} to accept)".format(*counts)

    @property
    def fitted(self) -> bool:
        """Always."""
        return True

    def fit(self, reference: Any) -> RoboShot:
        """Itself: there is nothing to learn."""
        return self

    def apply(self, target: Any) -> Any:
        """The corrected embeddings, or a view with them."""
        if isinstance(target, Tensor) and target.ndim == 2:
            return self._moved(target)
        if is_view(target):
            return CorrectedView(target, embedding=self._moved)
        raise CorrectionError(
            "embeddings of [image embed], or a store or view",
            f"a {type(target).__name__}" + (f" of {tuple(target.shape)}" if isinstance(target, Tensor) else ""),
            "RoboShot moves whole embeddings and not single heads: pass d.total() of a decomposition.",
        )

    def _moved(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        for pairs, move in ((self.reject, directions.reject), (self.accept, directions.inject)):
            if pairs is not None:
                check_width("pairs", pairs.shape[-1], x)
                x = move(x, pairs)
        return x

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The pairs."""
        return {}, {k: p for k, p in (("reject", self.reject), ("accept", self.accept)) if p is not None}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> RoboShot:
        """The inverse of `state`."""
        return cls(arrays.get("reject"), arrays.get("accept"))
