"""Ablation in its direct meaning: a head's contribution to the embedding is replaced, and later layers are left alone.

- Mean: by its mean over a *reference split*, saved with the correction, so that an image's result depends on that image
  alone. `reference="self"` takes the mean of the very images that are corrected, which published tables do; one
  image's result then depends on the others, and the correction says so (`transductive`).
- Zero: by nothing.
- Prototype: by the mean over chosen images of the reference split, such as one group's.

Sources: Gandelsman et al. 2024 (arXiv 2310.05916) and Yeo et al. 2025 (arXiv 2505.17425).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headlens.correct.head_correction import HeadCorrection, parse_heads
from headlens.correct.targets import check_width, contribution, detached
from headlens.errors import CorrectionError
from headlens.heads import HeadId


class MeanAblation(HeadCorrection):
    """contribution ← its mean over the reference split, for each of `heads`.

    Args:
        heads: the heads to ablate.
        reference: "split" needs `.fit(reference)`; "self" takes the mean of whatever `apply` is given.

    Limits: the mean keeps what the reference split's composition puts into it (a split in which one value of the
    attribute is common has that value in its mean); what later layers made of the head stays.
    """

    name = "mean-ablation"

    def __init__(self, heads: Iterable[tuple[int, int]], reference: Literal["split", "self"] = "split"):
        super().__init__(heads)
        if reference not in ("split", "self"):
            raise CorrectionError("reference 'split' or 'self'", repr(reference), "Pass the split itself to .fit().")
        self.reference = reference
        self.means: Float[Tensor, "head embed"] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the means are known, or are to be the target's own."""
        return self.means is not None or self.reference == "self"

    @property
    def transductive(self) -> bool:
        """True under reference="self"."""
        return self.reference == "self"

    def _learnt(self, reference: Any) -> MeanAblation:
        if self.reference == "self":
            return self._copy(reference)
        return self._copy(reference, means=means_of(reference, self.heads))

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "_ embed"]:
        """The mean, in one row."""
        if self.reference == "self":
            return x.mean(dim=0, keepdim=True)
        return stored_mean(self.means, self.heads.index(head), x)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Heads, reference and means."""
        arrays = {} if self.means is None else {"means": self.means}
        return {**self._values(), "reference": self.reference}, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> MeanAblation:
        """The inverse of `state`."""
        one = cls(parse_heads(values), values["reference"])._restore(values)
        one.means = checked_means(arrays.get("means"), one.heads)
        return one


class ZeroAblation(HeadCorrection):
    """contribution ← 0, for each of `heads`. It needs no fit. Limit: zero may be far from any value a head takes."""

    name = "zero-ablation"

    @property
    def fitted(self) -> bool:
        """Always."""
        return True

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "_ embed"]:
        """One row of zeros."""
        return torch.zeros_like(x[:1]) if len(x) else x

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The heads."""
        return self._values(), {}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ZeroAblation:
        """The inverse of `state`."""
        return cls(parse_heads(values))._restore(values)


class PrototypeAblation(HeadCorrection):
    """contribution ← its mean over the chosen images of the reference split, for each of `heads`.

    Args:
        heads: the heads to ablate.
        members: marks the images of the reference split that the prototype is made of; `fit` takes them too. It is not
            saved: what is kept is the prototype.
    """

    name = "prototype-ablation"

    def __init__(self, heads: Iterable[tuple[int, int]], members: Bool[Tensor, "image"] | None = None):
        super().__init__(heads)
        self.members = members
        self.means: Float[Tensor, "head embed"] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the prototypes are known."""
        return self.means is not None

    def fit(self, reference: Any, members: Tensor | None = None) -> PrototypeAblation:
        """A fitted copy; `members` replaces those it was made with, and without any the whole split counts.

        Raises:
            CorrectionError: where `members` is not a mark for each image, or marks none.
        """
        self._check(reference)
        chosen = self.members if members is None else members
        return self._copy(reference, means=means_of(reference, self.heads, chosen))

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "_ embed"]:
        """The prototype, in one row."""
        return stored_mean(self.means, self.heads.index(head), x)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Heads and prototypes."""
        return self._values(), {} if self.means is None else {"means": self.means}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> PrototypeAblation:
        """The inverse of `state`."""
        one = cls(parse_heads(values))._restore(values)
        one.means = checked_means(arrays.get("means"), one.heads)
        return one


def means_of(reference: Any, heads: tuple[HeadId, ...], members: Tensor | None = None) -> Float[Tensor, "head embed"]:
    """The mean contribution of each head over a reference split, or over the images of it that `members` marks.

    Raises:
        CorrectionError: for no image, a mean that is not finite, or `members` of another length.
    """
    means = []
    for head in heads:
        x = contribution(reference, head)
        if members is not None:
            if members.dtype != torch.bool or members.shape != x.shape[:1]:
                raise CorrectionError(
                    f"one True or False for each of {len(x)} images",
                    f"{members.dtype} of shape {tuple(members.shape)}",
                    "Pass a mask over the reference split's images.",
                )
            x = x[members.to(x.device)]
        if len(x) == 0:
            raise CorrectionError("a reference split with images", "none", "Choose another split or other members.")
        mean = x.mean(dim=0)
        if not bool(torch.isfinite(mean).all()):
            raise CorrectionError("finite contributions", f"NaN or infinite ones in head {head}", "Extract again.")
        means.append(detached(mean))
    return torch.stack(means) if means else torch.zeros(0, 0)


def stored_mean(
    means: Float[Tensor, "head embed"] | None, index: int, x: Float[Tensor, "image embed"]
) -> Float[Tensor, "1 embed"]:
    """One row of the means, where x is."""
    if means is None:
        raise CorrectionError("a fitted correction", "one without means", "Call .fit(reference) first.")
    check_width("means", means.shape[1], x)
    return means[index].to(x.device, x.dtype)[None]


def checked_means(means: Tensor | None, heads: tuple[HeadId, ...]) -> Tensor | None:
    """The means of a saved correction. Raises `CorrectionError` where they are not one row a head."""
    if means is not None and (means.ndim != 2 or means.shape[0] != len(heads)):
        raise CorrectionError(f"means of {len(heads)} heads", f"shape {tuple(means.shape)}", "Save it again.")
    return means
