"""Measures that a data set has beside accuracy by group, each a table of its own with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit import Audit
from headlens.correct import Correction, Probe
from headlens.correct.views import embedding_of
from headlens.metrics import SMALL, Bootstrap, Measures
from headlens.metrics.bootstrap import interval, small
from headlens.metrics.clusters import Clusters
from headlens.progress import progress
from headlens.prompts import ZeroShotTask
from headlens.steps.evaluate import ZERO_SHOT
from headlens.tables import Column, Kind, Table

_MOST = 12  # small groups that a note names


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
        return self.audit.data.test_labels

    @property
    def cluster(self) -> Int[np.ndarray, "image"] | None:
        """The person or scene that every scored image shows; None where each stands for itself."""
        return self.audit.data.test_clusters

    @property
    def bootstrap(self) -> Bootstrap:
        """What intervals are made with."""
        return Bootstrap(self.draws, seed=self.audit.question.seed)

    @property
    def classes(self) -> np.ndarray:
        """The true class by name."""
        return np.asarray(self.audit.task.classes, dtype=object)[self.labels]

    @property
    def values(self) -> np.ndarray:
        """The attribute's value of every scored image, by name."""
        return np.asarray(self.audit.attribute.value_names, dtype=object)[self.audit.data.test_values]

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class by name."""
        return np.asarray(self.audit.task.classes, dtype=object)[self.predictions]

    @property
    def baseline(self) -> np.ndarray | None:
        """Zero-shot's predicted class by name; None for zero-shot itself."""
        return None if self.before is None else self.before.predicted

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"] | None:
        """The embeddings as the method leaves them; None where it changes the task's classifier alone."""
        if self.correction is None:
            return self.audit.data.test.embedding
        # A probe on top of a correction is not asked other questions either: it has learnt to answer one.
        if self.correction.changes_classifier:
            return None
        return embedding_of(self.correction.apply(self.audit.data.test))

    def scores(self, texts: ZeroShotTask) -> Float[Tensor, "image text"] | None:
        """The corrected scores of other texts; None for a method that has no place for them."""
        rows = texts.classifier(self.audit.data.texts).to(self.audit.data.test.embedding)
        if self.embedding is not None:
            return self.embedding @ rows.T
        # A calibrated classifier can be made of any texts, a probe not.
        if self.correction is None or is_probe(self.correction):
            return None
        return self.correction.logits(self.audit.data.test, rows)

    @property
    def before(self) -> Scored | None:
        """Zero-shot on the same images; None for zero-shot itself."""
        if self.correction is None:
            return None
        return replace(self, method=ZERO_SHOT, correction=None, predictions=self.audit.data.zero_shot)


def is_probe(correction: Correction) -> bool:
    """Whether the correction ends in a classifier that was trained for the task's own classes."""
    return any(isinstance(one, Probe) for one in correction.walk())


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

    def shown(self, intervals: bool = True) -> Table:
        """As people read it: value and change from zero-shot, with their intervals or without."""
        rows: list[dict[str, Any]] = []
        for one in self.rows:
            row: dict[str, Any] = {"method": one.method}
            for name in (name for name in self.columns if name in one.values):
                row |= _with_ends(name, one.values[name], one.interval[name] if intervals else None)
                if name in one.difference:
                    ends = one.difference_interval[name] if intervals else None
                    row |= _with_ends(f"{name}_change", one.difference[name], ends)
            rows.append(row)
        frame = pd.DataFrame(rows)
        kinds: tuple[Kind, Kind] = ("percent", "points") if self.percent else ("number", "change")
        columns: dict[str, Kind | Column] = {"method": "text"}
        for name, heading in self.columns.items():
            columns |= {name: Column(kinds[0], heading), f"{name}_change": Column(kinds[1], f"{heading}, change")}
        return Table(frame, {name: column for name, column in columns.items() if name in frame})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "note": self.note,
            "columns": dict(self.columns),
            "percent": self.percent,
            "rows": [one.to_dict() for one in self.rows],
        }


def _with_ends(name: str, value: float, ends: tuple[float, float] | None) -> dict[str, float]:
    return {name: value} if ends is None else {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


def only(measures: Measures, name: str, called: str) -> Measures:
    """One of several measures, under another name."""

    def one(of: Mapping[str, Any]) -> dict[str, Any]:
        return {called: of[name]} if name in of else {}

    return replace(
        measures,
        values=one(measures.values),
        interval=one(measures.interval),
        difference=one(measures.difference),
        difference_interval=one(measures.difference_interval),
    )


def joined(parts: Sequence[Measures]) -> Measures:
    """Measures of one method side by side."""
    merged: dict[str, Any] = {
        name: {key: value for part in parts for key, value in getattr(part, name).items()}
        for name in ("values", "interval", "difference", "difference_interval", "sizes")
    }
    return replace(parts[0], **merged, small=small(merged["sizes"]))


def over_units(
    one: Scored,
    name: str,
    found: Float[np.ndarray, "unit method"],
    sized: str,
    cluster: Int[np.ndarray, "unit"] | None = None,
) -> Measures:
    """The mean over images or queries, zero-shot first where there are two methods, with a bootstrap over these units,
    or over their clusters.

    Units with equal numbers are drawn together, as counts of a multinomial distribution.
    """
    cells, of_unit = np.unique(found, axis=0, return_inverse=True)
    drawn = np.concatenate(list(one.bootstrap.cells(of_unit, Clusters.beside(cluster, units=of_unit))))
    means, samples = found.mean(0), drawn @ cells / drawn.sum(1, keepdims=True)
    measures = Measures(
        one.method,
        {name: float(means[-1])},
        {name: interval(samples[:, -1])},
        sizes={sized: len(found)},
        small=small({sized: len(found)}),
        n_bootstrap=one.draws,
    )
    if found.shape[1] == 1:
        return measures
    changes = {name: interval(samples[:, 1] - samples[:, 0])}
    return replace(measures, difference={name: float(means[1] - means[0])}, difference_interval=changes)


def _small(rows: Sequence[Measures]) -> str:
    """A sentence on the groups behind a measure that are too small to say much."""
    names = list(dict.fromkeys(name for one in rows for name in one.small))
    if not names:
        return ""
    shown = ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
    return f" Fewer than {SMALL} each, which says little: {shown}."


def measure_all(extras: Sequence[Extra], audit: Audit, draws: int, methods: Sequence[str]) -> tuple[ExtraTable, ...]:
    """The extra measures of methods that an audit scored, in this order."""
    assert audit.results is not None
    rows: list[list[Measures]] = [[] for _ in extras]
    with progress("Measuring beside", len(methods), unit="methods") as advance:
        for method in methods:
            predictions = audit.results.predictions[method]
            one = Scored(audit, method, audit.corrections.get(method), predictions, draws)
            for own, extra in zip(rows, extras, strict=True):
                if (found := extra.measure(one)) is not None:
                    own.append(found)
            advance(1)
    return tuple(
        ExtraTable(extra.title, extra.note + _small(own), dict(extra.columns), extra.percent, tuple(own))
        for own, extra in zip(rows, extras, strict=True)
        if own  # a manifest may lack what a measure is made of
    )
