"""Ablation in its direct meaning: a head's contribution to the embedding is replaced, and later layers are left alone.

- Mean: by its mean over a *reference split*, saved with the correction, so that an image's result depends on that image
  alone. `reference="self"` takes the mean of the very images that are corrected, which published tables do; one
  image's result then depends on the others, and the correction says so (`transductive`).
- Zero: by nothing.
- Prototype: by the mean over chosen images of the reference split, such as one group's.
- Resample: by what it is on some other image.

Sources: Gandelsman et al. 2024 (arXiv 2310.05916) and Yeo et al. 2025 (arXiv 2505.17425).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headlens.correct.base import LEARNT, HeadCorrection
from headlens.correct.views import along, check_width, contribution
from headlens.errors import CorrectionError
from headlens.heads import HeadId


@dataclass(frozen=True, eq=False, repr=False)
class _ConstantAblation(HeadCorrection):
    """contribution ← one vector for every image, for each of `heads`."""

    means: Float[Tensor, "head embed"] | None = field(default=None, kw_only=True, metadata=LEARNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.means is not None and len(self.means) != len(self.heads):
            raise CorrectionError(f"means of {len(self.heads)} heads", f"{len(self.means)}", "Fit it again.")

    def _members(self) -> Tensor | None:
        return None

    def learn(self, reference: Any) -> dict[str, Any]:
        """The means."""
        return {"means": means_of(reference, self.edited, self._members())}

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "1 embed"]:
        """The mean, in one row."""
        assert self.means is not None
        check_width("means", self.means.shape[1], x)
        return self.means[self.edited.index(head)].to(x.device, x.dtype)[None]

    def edited_logits(
        self, head: HeadId, view: Any, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "1 direction"]:
        """The mean · each direction, in one row: no image is looked at."""
        assert self.means is not None
        return along(self.means[self.edited.index(head)][None].to(directions), directions)


@dataclass(frozen=True, eq=False, repr=False)
class MeanAblation(_ConstantAblation):
    """contribution ← its mean over the reference split, for each of `heads`.

    Attributes:
        heads: the heads to ablate.
        reference: "split" needs `.fit(reference)`; "self" takes the mean of whatever `apply` is given.
        means: learnt, one row a head.

    Limits: the mean keeps what the reference split's composition puts into it (a split in which one value of the
    attribute is common has that value in its mean); what later layers made of the head stays.
    """

    name: ClassVar[str] = "mean-ablation"
    reference: Literal["split", "self"] = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference not in ("split", "self"):
            raise CorrectionError(
                "reference 'split' or 'self'", repr(self.reference), "Pass the split itself to .fit()."
            )

    @property
    def fitted(self) -> bool:
        """Whether the means are known, or are to be the target's own."""
        return self.reference == "self" or super().fitted

    @property
    def transductive(self) -> bool:
        """True under reference="self"."""
        return self.reference == "self"

    def learn(self, reference: Any) -> dict[str, Any]:
        """The means, except under reference="self"."""
        return {} if self.transductive else super().learn(reference)

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "1 embed"]:
        """The mean, in one row."""
        return x.mean(dim=0, keepdim=True) if self.transductive else super().edit(head, x)

    def edited_logits(
        self, head: HeadId, view: Any, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "1 direction"]:
        """The mean · each direction, in one row."""
        if self.transductive:
            return HeadCorrection.edited_logits(self, head, view, directions)
        return super().edited_logits(head, view, directions)


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeAblation(_ConstantAblation):
    """contribution ← its mean over the chosen images of the reference split, for each of `heads`.

    Attributes:
        heads: the heads to ablate.
        members: marks the images of the reference split that the prototype is made of; None for all of them.
        means: learnt, one row a head.
    """

    name: ClassVar[str] = "prototype-ablation"
    members: Bool[Tensor, "image"] | None = None

    def _members(self) -> Tensor | None:
        return self.members


@dataclass(frozen=True, eq=False, repr=False)
class ZeroAblation(HeadCorrection):
    """contribution ← 0, for each of `heads`. It needs no fit. Limit: zero may be far from any value a head takes."""

    name: ClassVar[str] = "zero-ablation"

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "1 embed"]:
        """One row of zeros."""
        return x.new_zeros(1, x.shape[1])

    def edited_logits(
        self, head: HeadId, view: Any, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "1 direction"]:
        """One row of zeros."""
        return directions.new_zeros(1, len(directions))


@dataclass(frozen=True, eq=False, repr=False)
class ResampleAblation(HeadCorrection):
    """contribution of the i-th image ← that of a random image of the reference split, for each of `heads`.

    `count` reference images are drawn at `fit` (the same for every head, so that heads stay in step) and kept; the i-th
    image of a target gets the (i mod count)-th of them. What is drawn does not depend on the images, but an image's
    result depends on its place among them, which no other correction does: `transductive` is true.

    Attributes:
        heads: the heads to ablate.
        count: how many reference images are kept.
        seed: the same seed draws the same images.
        rows: learnt, the drawn contributions.
    """

    name: ClassVar[str] = "resample-ablation"
    count: int = 256
    seed: int = 0
    rows: Float[Tensor, "head row embed"] | None = field(default=None, kw_only=True, metadata=LEARNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise CorrectionError("a count of at least one", str(self.count), "256 is the default.")

    @property
    def transductive(self) -> bool:
        """True: the result depends on an image's place."""
        return True

    def learn(self, reference: Any) -> dict[str, Any]:
        """The drawn contributions."""
        generator = torch.Generator().manual_seed(self.seed)
        rows, drawn = [], None
        for head in self.edited:
            x = contribution(reference, head)
            if len(x) == 0:
                raise CorrectionError("The reference split has no images.", "Choose another split.")
            drawn = torch.randint(len(x), (self.count,), generator=generator) if drawn is None else drawn
            rows.append(x[drawn.to(x.device)])
        return {"rows": torch.stack(rows) if rows else torch.zeros(0, self.count, 0)}

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The drawn contributions, repeated as often as needed."""
        assert self.rows is not None
        check_width("reference images", self.rows.shape[-1], x)
        places = torch.arange(len(x)) % self.count
        return self.rows[self.edited.index(head)][places].to(x.device, x.dtype)


def means_of(reference: Any, heads: Sequence[HeadId], members: Tensor | None = None) -> Float[Tensor, "head embed"]:
    """The mean contribution of each head over a reference split, or over the images of it that `members` marks.

    Raises:
        CorrectionError: for no image, a mean that is not finite, or `members` of another length.
    """
    means = []
    for head in heads:
        if members is None and callable(getattr(reference, "head_mean", None)):
            means.append(_finite(reference.head_mean(head.layer, head.head), head))
            continue
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
            raise CorrectionError("The reference split has no images.", "Choose another split or other members.")
        means.append(_finite(x.mean(dim=0), head))
    return torch.stack(means) if means else torch.zeros(0, 0)


def _finite(mean: Float[Tensor, "embed"], head: HeadId) -> Float[Tensor, "embed"]:
    if not bool(torch.isfinite(mean).all()):
        raise CorrectionError(f"Contributions of head {head} are NaN or infinite.", "Extract again.")
    return mean
