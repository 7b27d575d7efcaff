"""Corrections that change some heads and leave the others alone: ablations and injection."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from jaxtyping import Float
from torch import Tensor

from headlens.correct.base import Correction
from headlens.correct.targets import check_same_model, fingerprint_of, is_decomposition, tower_of
from headlens.correct.view import CorrectedView
from headlens.errors import CorrectionError, LocateError
from headlens.heads import HeadId, as_heads

Own = TypeVar("Own", bound="HeadCorrection")


class HeadCorrection(Correction):
    """A correction that gives each of some heads a new contribution, from its old one alone.

    Args:
        heads: the heads it changes; none at all leaves everything as it is.

    Raises:
        CorrectionError: for a head named twice or below zero.
    """

    def __init__(self, heads: Iterable[tuple[int, int]]):
        top = 1 << 30  # the tower is not known yet; `apply` and `fit` check against it
        try:
            self.heads = as_heads(heads, top, top)
        except LocateError as error:
            raise error.as_type(CorrectionError) from error
        self.fingerprint: str | None = None

    def __repr__(self) -> str:
        state = "" if self.fitted else ", not fitted"
        return f"{type(self).__name__}([{', '.join(map(str, self.heads))}]{state})"

    @abstractmethod
    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "_ embed"]:
        """The new contribution of a head, given its old one; one row where it is the same for every image."""

    def fit(self: Own, reference: Any) -> Own:
        """A fitted copy. A correction without anything to learn checks that the heads exist in the reference."""
        self._check(reference)
        return self._learnt(reference)

    def _learnt(self: Own, reference: Any) -> Own:
        return self._copy(reference)

    def _copy(self: Own, reference: Any, **values: Any) -> Own:
        fitted = copy.copy(self)
        fitted.fingerprint = fingerprint_of(reference)
        for name, value in values.items():
            setattr(fitted, name, value)
        return fitted

    def apply(self, target: Any) -> Any:
        """The target with its heads edited; see the module for its forms."""
        if not self.fitted:
            raise CorrectionError(
                "a fitted correction", f"{self!r}", "Call .fit(reference) first, and keep what it returns."
            )
        self._check(target)
        if isinstance(target, Tensor):
            edited = target.clone()
            for head in self.heads:
                edited[:, head.layer, head.head] = self.edit(head, target[:, head.layer, head.head])
            return edited
        if is_decomposition(target):
            return replace(target, heads=self.apply(target.heads))
        return CorrectedView(target, self.heads, self.edit)

    def _check(self, target: Any) -> None:
        n_layers, n_heads = tower_of(target)
        try:
            as_heads(self.heads, n_layers, n_heads)
        except LocateError as error:
            raise error.as_type(CorrectionError) from error
        check_same_model(self.fingerprint, target)

    def _values(self) -> dict[str, Any]:
        return {"heads": [str(h) for h in self.heads], "fingerprint": self.fingerprint}

    def _restore(self: Own, values: dict[str, Any]) -> Own:
        self.fingerprint = values["fingerprint"]
        return self


def parse_heads(values: dict[str, Any]) -> list[HeadId]:
    """The heads of a saved correction."""
    return [HeadId.of(text) for text in values["heads"]]
