"""Resample ablation: a head's contribution is replaced by what it is on some other image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.correct.head_correction import HeadCorrection, parse_heads
from headlens.correct.targets import check_width, contribution, detached
from headlens.errors import CorrectionError
from headlens.heads import HeadId


class ResampleAblation(HeadCorrection):
    """contribution of the i-th image ← that of a random image of the reference split, for each of `heads`.

    `count` reference images are drawn at `fit` (the same for every head, so that heads stay in step) and kept; the i-th
    image of a target gets the (i mod count)-th of them. What is drawn does not depend on the images, but an image's
    result depends on its place among them, which no other correction does: `transductive` is true.

    Args:
        heads: the heads to ablate.
        count: how many reference images are kept.
        seed: the same seed draws the same images.
    """

    name = "resample-ablation"

    def __init__(self, heads: Iterable[tuple[int, int]], count: int = 256, seed: int = 0):
        super().__init__(heads)
        if count < 1:
            raise CorrectionError("a count of at least one", str(count), "256 is the default.")
        self.count, self.seed = count, seed
        self.rows: Float[Tensor, "head row embed"] | None = None

    @property
    def fitted(self) -> bool:
        """Whether reference images were drawn."""
        return self.rows is not None

    @property
    def transductive(self) -> bool:
        """True: the result depends on an image's place."""
        return True

    def _learnt(self, reference: Any) -> ResampleAblation:
        generator = torch.Generator().manual_seed(self.seed)
        rows, drawn = [], None
        for head in self.heads:
            x = contribution(reference, head)
            if len(x) == 0:
                raise CorrectionError("a reference split with images", "none", "Choose another split.")
            drawn = torch.randint(len(x), (self.count,), generator=generator) if drawn is None else drawn
            rows.append(detached(x[drawn.to(x.device)]))
        return self._copy(reference, rows=torch.stack(rows) if rows else torch.zeros(0, self.count, 0))

    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The drawn contributions, repeated as often as needed."""
        if self.rows is None:
            raise CorrectionError("a fitted correction", "one without rows", "Call .fit(reference) first.")
        check_width("reference images", self.rows.shape[-1], x)
        places = torch.arange(len(x)) % self.count
        return self.rows[self.heads.index(head)][places].to(x.device, x.dtype)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Heads, settings and the drawn contributions."""
        values = {**self._values(), "count": self.count, "seed": self.seed}
        return values, {} if self.rows is None else {"rows": self.rows}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ResampleAblation:
        """The inverse of `state`."""
        one = cls(parse_heads(values), values["count"], values["seed"])._restore(values)
        one.rows = arrays.get("rows")
        return one
