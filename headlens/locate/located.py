"""What every locator returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId, HeadScores
from headlens.tables import Column, Kind, Shown, Table, listed

_MOST = 12  # rows that are shown


@dataclass(frozen=True, eq=False, repr=False)
class Located(Shown):
    """Heads that a locator named. Each locator's own result adds the numbers behind them.

    Used as it stands for heads that come from elsewhere: a publication, another data set, a choice by hand.

    Attributes:
        method: the locator's name.
        spurious: the heads to ablate, strongest first.
        salient: the heads to strengthen, strongest first.
        notes: what was assumed, left out or replaced on the way, a sentence each.
        stability: the share of bootstraps of the reference images in which each head is named, as spurious and as
            salient; None where that was not asked. See `headlens.locate.resamples`.
    """

    method: str
    spurious: tuple[HeadId, ...] = ()
    salient: tuple[HeadId, ...] = ()
    notes: tuple[str, ...] = ()
    stability: Float[Tensor, "role layer head"] | None = None

    def __post_init__(self) -> None:
        for name in ("spurious", "salient"):
            object.__setattr__(self, name, tuple(HeadId.of(head) for head in getattr(self, name)))

    def scores(self) -> HeadScores:
        """The score of every head, with the spurious heads selected.

        Raises:
            LocateError: where heads were named without a score.
        """
        raise LocateError(f"{self.method!r} names heads without a score.", "Run a locator that scores every head.")

    def table(self) -> pd.DataFrame:
        """One row a named head: `head`, `role`."""
        roles = [*[(str(h), "spurious") for h in self.spurious], *[(str(h), "salient") for h in self.salient]]
        return self._with_stability(pd.DataFrame(roles, columns=["head", "role"]))

    def _with_stability(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns `named spurious` and `named salient`, shares of bootstraps, where they are known."""
        if self.stability is not None:
            heads = [HeadId.of(head) for head in frame["head"]]
            for role, shares in zip(("spurious", "salient"), self.stability, strict=True):
                frame[f"named {role}"] = [float(shares[head]) for head in heads]
        return frame

    def shown(self, most: int = _MOST) -> Table:
        """The named heads, and the first rows of the table, at most so many."""
        frame = self.table()
        caption = f"{self.method}: spurious {listed(self.spurious)}; salient {listed(self.salient)}"
        if len(frame) > most:
            caption += f"; the first {most} of {len(frame)} rows"
        own = dict(self._columns())
        if own and self.stability is not None:
            own |= {"named spurious": "percent", "named salient": "percent"}
        return Table(frame.head(most), own, caption)

    def _columns(self) -> Mapping[str, Kind | Column]:
        """How the columns of `table()` are written; empty for the way of their types."""
        return {}
