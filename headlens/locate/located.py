"""What every locator's result has, whatever its scores are."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pandas as pd

from headlens.heads import HeadId, HeadScores


@runtime_checkable
class Located(Protocol):
    """What every locator returns."""

    @property
    def method(self) -> str:
        """The locator's name."""
        ...

    @property
    def spurious(self) -> list[HeadId]:
        """The heads to ablate, strongest first."""
        ...

    @property
    def salient(self) -> list[HeadId]:
        """The heads to strengthen, strongest first."""
        ...

    def scores(self) -> HeadScores:
        """The score of every head, with the spurious heads selected."""
        ...

    def table(self) -> pd.DataFrame:
        """The scores as a table."""
        ...
