"""Erasing an attribute linearly from whole embeddings, or from the contributions of chosen heads.

The values of the attribute are those of the reference split's images: labelled, or inferred zero-shot. See
`headlens.correct.leace` for the formula and its source.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.correct.base import Correction
from headlens.correct.head_correction import HeadCorrection, parse_heads
from headlens.correct.leace import Eraser, fit_eraser
from headlens.correct.targets import (
    check_same_model,
    contribution,
    detached,
    embedding_of,
    fingerprint_of,
    is_view,
)
from headlens.correct.view import CorrectedView
from headlens.errors import CorrectionError
from headlens.heads import HeadId

_PARTS = ("left", "right", "mean")


class EmbeddingErasure(Correction):
    """embedding ← LEACE of the attribute's values out of it. It knows nothing of heads.

    Args:
        values: the attribute's value of every image of the reference split, as an index.

    Raises:
        CorrectionError: on `fit`, as `fit_eraser` does.

    Limits: the erasure is exact over the reference split and linear; other images keep what the split did not show. A
    class that goes with the attribute in the reference split is erased along with it.
    """

    name = "leace"

    def __init__(self, values: Int[Tensor, "image"]):
        self.values = detached(values)
        self.eraser: Eraser | None = None
        self.fingerprint: str | None = None

    def __repr__(self) -> str:
        return f"EmbeddingErasure({len(self.values)} values{'' if self.fitted else ', not fitted'})"

    @property
    def fitted(self) -> bool:
        """Whether the erasure is known."""
        return self.eraser is not None

    def fit(self, reference: Any) -> EmbeddingErasure:
        """A fitted copy, from embeddings or a view."""
        fitted = copy.copy(self)
        fitted.eraser = fit_eraser(embedding_of(reference), self.values)
        fitted.fingerprint = fingerprint_of(reference)
        return fitted

    def apply(self, target: Any) -> Any:
        """The corrected embeddings, or a view with them, whose heads stay as they were."""
        if self.eraser is None:
            raise CorrectionError("a fitted correction", f"{self!r}", "Call .fit(reference) first.")
        check_same_model(self.fingerprint, target)
        if isinstance(target, Tensor) and target.ndim == 2:
            return self.eraser(target)
        if is_view(target):
            return CorrectedView(target, embedding=self.eraser)
        raise CorrectionError(
            "embeddings of [image embed], or a store or view",
            f"a {type(target).__name__}" + (f" of {tuple(target.shape)}" if isinstance(target, Tensor) else ""),
            "This erasure is of whole embeddings: pass d.total() of a decomposition, or use HeadErasure.",
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The values and the erasure."""
        arrays = {} if self.eraser is None else {part: getattr(self.eraser, part) for part in _PARTS}
        return {"fingerprint": self.fingerprint}, {"values": self.values, **arrays}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> EmbeddingErasure:
        """The inverse of `state`."""
        one = cls(arrays["values"])
        one.fingerprint = values["fingerprint"]
        one.eraser = Eraser(*(arrays[part] for part in _PARTS)) if "mean" in arrays else None
        return one


class HeadErasure(HeadCorrection):
    """contribution ← LEACE of the attribute's values out of it, for each of `heads`, each by itself.

    Args:
        heads: the heads to erase the attribute from.
        values: the attribute's value of every image of the reference split, as an index.

    Raises:
        CorrectionError: on `fit`, as `fit_eraser` does.

    Limits: as for `EmbeddingErasure`; heads that are each without the attribute can still tell it together.
    """

    name = "leace-heads"

    def __init__(self, heads: Iterable[tuple[int, int]], values: Int[Tensor, "image"]):
        super().__init__(heads)
        self.values = detached(values)
        self.erasers: tuple[Eraser, ...] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the erasures are known."""
        return self.erasers is not None

    def _learnt(self, reference: Any) -> HeadErasure:
        erasers = tuple(fit_eraser(contribution(reference, head), self.values) for head in self.heads)
        return self._copy(reference, erasers=erasers)

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The contribution without the attribute."""
        if self.erasers is None:
            raise CorrectionError("a fitted correction", f"{self!r}", "Call .fit(reference) first.")
        return self.erasers[self.heads.index(head)](x)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Heads, values and the erasures, stacked over heads."""
        arrays = {"values": self.values}
        if self.erasers:
            arrays |= {part: torch.stack([getattr(one, part) for one in self.erasers]) for part in _PARTS}
        return {**self._values(), "fitted": self.fitted}, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> HeadErasure:
        """The inverse of `state`."""
        one = cls(parse_heads(values), arrays["values"])._restore(values)
        if values["fitted"]:
            parts = [arrays[part] for part in _PARTS] if one.heads else []
            one.erasers = tuple(Eraser(*(part[i] for part in parts)) for i in range(len(one.heads)))
        return one
