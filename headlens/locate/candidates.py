"""The heads that concept tests name, as one result: candidates for an intervention, with the scores behind them.

A candidate has the role of a spurious head: what corrections ablate. Concept tests name no salient heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from headlens.errors import LocateError
from headlens.heads import HeadId, HeadScores
from headlens.locate.concept import ConceptScores
from headlens.locate.concept_span import ConceptSpans


@dataclass(frozen=True, eq=False)
class Candidates:
    """Heads to intervene on.

    Attributes:
        method: the locator's name: "concept", "textspan" or "concept+textspan" (both agree).
        spurious: the candidates, strongest first.
        concept: the concept scores, where that test was made.
        spans: the bias-augmented TextSpan, where that test was made.
        salient: always empty; it stands here so that corrections read every locator's result alike.
    """

    method: str
    spurious: list[HeadId]
    concept: ConceptScores | None = None
    spans: ConceptSpans | None = None
    salient: list[HeadId] = field(default_factory=list)

    def scores(self) -> HeadScores:
        """The scores to draw: each head's part in the concept test, else the share of the attribute in TextSpan.

        Raises:
            LocateError: where neither test was made.
        """
        if self.concept is not None:
            own = self.concept.scores()
        elif self.spans is not None:
            own = self.spans.scores()
        else:
            raise self._untested()
        return HeadScores(own.name, own.values, own.threshold, tuple(self.spurious))

    def table(self) -> pd.DataFrame:
        """One row for each head that a test flags: `head`, the tests' scores, `candidate`."""
        frames = []
        if self.concept is not None:
            frames.append(self.concept.table().set_index("head").rename(columns={"flagged": "by concept"}))
        if self.spans is not None:
            own = self.spans.table().set_index("head")[["place", "share", "flagged"]]
            frames.append(own.rename(columns={"share": "prompts' share", "flagged": "by TextSpan"}))
        if not frames:
            raise self._untested()
        frame = pd.concat(frames, axis=1) if len(frames) > 1 else frames[0]
        for column in ("by concept", "by TextSpan"):
            if column in frame:
                frame[column] = frame[column].eq(True)
        flagged = frame[[c for c in ("by concept", "by TextSpan") if c in frame]].any(axis=1)
        frame = frame[flagged].rename_axis("head").reset_index()
        frame["candidate"] = frame["head"].isin([str(head) for head in self.spurious])
        return frame

    def _untested(self) -> LocateError:
        return LocateError(
            "candidates with the test behind them", f"{self.method!r} with neither", "Pass concept= or spans=."
        )

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)
