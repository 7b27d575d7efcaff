"""Measures that a data set has beside accuracy by group, each a table of its own with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit import Audit
from headlens.benchmark.by_candidates import ByCandidates
from headlens.correct import Compose, Correction, Probe
from headlens.metrics import Measures
from headlens.prompts import ZeroShotTask


@dataclass(frozen=True)
class Scored:
    """One method's results, as a measure may read them.

    Attributes:
        audit: with results.
        method: the method's name.
        correction: fitted; None for zero-shot.
        predictions: its predicted class of every scored image.
        draws: resamples behind every interval.
    """

    audit: Audit
    method: str
    correction: Correction | None
    predictions: Int[np.ndarray, "image"]
    draws: int

    @property
    def labels(self) -> Int[np.ndarray, "image"]:
        """The true class of every scored image."""
        return self.audit.labels[self.audit.splits.test]

    @property
    def classes(self) -> np.ndarray:
        """The true class by name."""
        return np.asarray(self.audit.task.classes, dtype=object)[self.labels]

    @property
    def values(self) -> np.ndarray:
        """The attribute's value of every scored image, by name."""
        codes = self.audit.values[self.audit.splits.test]
        return np.asarray(self.audit.attribute.value_names, dtype=object)[codes]

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class by name."""
        return np.asarray(self.audit.task.classes, dtype=object)[self.predictions]

    @property
    def baseline(self) -> np.ndarray | None:
        """Zero-shot's predicted class by name; None for zero-shot itself."""
        assert self.audit.results is not None
        if self.correction is None:
            return None
        return np.asarray(self.audit.task.classes, dtype=object)[self.audit.results.predictions["zero-shot"]]

    def scores(self, texts: ZeroShotTask) -> Float[Tensor, "image text"] | None:
        """The corrected embeddings along other texts; None for a method that has no place for them."""
        rows = texts.classifier(self.audit.texts).to(self.audit.test.embedding)
        if self.correction is None:
            return self.audit.test.embedding @ rows.T
        return None if is_probe(self.correction) else self.correction.logits(self.audit.test, rows)


def is_probe(correction: Correction) -> bool:
    """Whether the correction ends in a classifier that was trained for the task's own classes."""
    if isinstance(correction, Compose):
        return bool(correction.corrections) and is_probe(correction.corrections[-1])
    if isinstance(correction, ByCandidates):
        return any(map(is_probe, correction.parts.values()))
    return isinstance(correction, Probe)


@dataclass(frozen=True)
class Extra:
    """A further measure.

    Attributes:
        title: the heading of its table.
        columns: which measures are shown, and their headings.
        note: what it is, in a sentence.
        measure: makes the numbers of one method; None where they do not exist.
        percent: whether the numbers are shares, to be shown in per cent.
    """

    title: str
    columns: Mapping[str, str]
    note: str
    measure: Callable[[Scored], Measures | None]
    percent: bool = True


@dataclass(frozen=True)
class ExtraTable:
    """A further measure of all methods.

    Attributes:
        title, note: of the measure.
        columns: the measures that are shown, and their headings.
        percent: whether the numbers are shares.
        rows: one a method.
    """

    title: str
    note: str
    columns: dict[str, str]
    percent: bool
    rows: tuple[Measures, ...]

    def frame(self) -> pd.DataFrame:
        """One row a method and measure: `method`, `measure`, `value`, `low`, `high`, and the change from zero-shot."""
        parts = [one.table().assign(method=one.method) for one in self.rows]
        frame = pd.concat(parts, ignore_index=True)
        return frame[["method", *[column for column in frame.columns if column != "method"]]]

    def cells(self) -> pd.DataFrame:
        """As people read it: value, interval, and the change from zero-shot with its own."""
        rows = []
        for one in self.rows:
            cells = {"method": one.method}
            for name, heading in self.columns.items():
                cells[heading] = self._written(one.values[name], one.interval[name], False)
                if name in one.difference:
                    change = self._written(one.difference[name], one.difference_interval[name], True)
                    cells[f"{heading}, change"] = change
            rows.append(cells)
        frame = pd.DataFrame(rows)
        # Zero-shot has no change from itself: its row alone would put the changes last.
        order = [name for heading in self.columns.values() for name in (heading, f"{heading}, change")]
        return frame[["method", *(name for name in order if name in frame.columns)]].fillna("–")

    def _written(self, value: float, ends: tuple[float, float], sign: bool) -> str:
        unit = 100 if self.percent else 1
        form = ("{:+" if sign else "{:") + (".1f}" if self.percent else ".3f}")
        return f"{form.format(unit * value)} [{form.format(unit * ends[0])}, {form.format(unit * ends[1])}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "note": self.note,
            "columns": dict(self.columns),
            "percent": self.percent,
            "rows": [one.to_dict() for one in self.rows],
        }


def measure_all(extras: Sequence[Extra], audit: Audit, draws: int) -> tuple[ExtraTable, ...]:
    """The extra measures of everything that an audit scored."""
    assert audit.results is not None
    tables = []
    for extra in extras:
        rows = []
        for method, predictions in audit.results.predictions.items():
            found = extra.measure(Scored(audit, method, audit.corrections.get(method), predictions, draws))
            if found is not None:
                rows.append(found)
        tables.append(ExtraTable(extra.title, extra.note, dict(extra.columns), extra.percent, tuple(rows)))
    return tuple(tables)
