"""What a fairness audit found: the association before and after ablating its candidates, and what stands beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from headlens.audit.fairness_verdict import FairnessVerdict
from headlens.heads import HeadId
from headlens.metrics import AssociationChange, RandomComparison, WithinClass, against_random


@dataclass(frozen=True)
class RandomAssociation:
    """Layer-matched random heads in the place of the candidates.

    Attributes:
        sets: the heads of each draw, as many of each layer as there are candidates, never a candidate.
        cramers_v: V of attribute × predicted class with each set ablated.
        accuracy: accuracy with each set ablated.
        observed: V with the candidates ablated.
        baseline: V with no head ablated.
        exhaustive: whether `sets` is every possible set.
        seed: of the draws.
    """

    sets: tuple[tuple[HeadId, ...], ...]
    cramers_v: Float[np.ndarray, "draw"]
    accuracy: Float[np.ndarray, "draw"]
    observed: float
    baseline: float
    exhaustive: bool
    seed: int

    @property
    def comparison(self) -> RandomComparison:
        """How far the candidates lower V, against the random sets: larger is better, p one-sided."""
        return against_random(self.baseline - self.observed, (self.baseline - self.cramers_v).tolist())

    @property
    def beaten(self) -> float:
        """The share of the random sets that lower V by less than the candidates do."""
        return float((self.cramers_v > self.observed).mean())


@dataclass(frozen=True)
class HeadShare:
    """One candidate ablated alone.

    Attributes:
        head: the head.
        cramers_v, accuracy: with this head alone ablated.
        change: of V, against no ablation.
        share: of the change that all candidates together make; None where they make none. Shares need not add up to
            one: heads may repeat each other, or only matter together.
    """

    head: HeadId
    cramers_v: float
    accuracy: float
    change: float
    share: float | None


@dataclass(frozen=True)
class TotalEffect:
    """The same ablation inside the forward pass, where later layers react, beside the direct one on the same images.

    Attributes:
        images: how many scored images were passed again.
        tokens: at which tokens the heads were replaced: "class" or "all".
        direct, total: the association's change by each.
    """

    images: int
    tokens: str
    direct: AssociationChange
    total: AssociationChange


@dataclass(frozen=True)
class ClassEffect:
    """What the ablation does to one class.

    Attributes:
        name: the class.
        images: scored images of it.
        accuracy_before, accuracy_after: share of them that are right.
        v_before, v_after: Cramér's V of attribute × (predicted as this class or not), over all scored images.
        gap_before, gap_after: largest less smallest accuracy on this class over the attribute's values.
        changed: its images whose prediction changed; `corrected` of these became right, `newly_wrong` became wrong.
    """

    name: str
    images: int
    accuracy_before: float
    accuracy_after: float
    v_before: float
    v_after: float
    gap_before: float
    gap_after: float
    changed: int
    corrected: int
    newly_wrong: int


@dataclass(frozen=True, eq=False)
class FairnessResults:
    """One fairness audit, scored.

    Attributes:
        attribute: its name; `values`: its values' names; `inferred`: whether the values were inferred zero-shot.
        classes: the classes' names.
        candidates: the heads that were ablated.
        change: Cramér's V (plain and corrected) and accuracy before and after, with paired intervals.
        within: what the true classes alone would give.
        labels_v: V of attribute × true class, for comparison.
        control: layer-matched random heads; None where none can be drawn.
        shares: each candidate alone.
        total: the effect inside the forward pass; None where the images or the model were not at hand.
        by_class: one entry a class.
        transitions: how many images moved from one predicted class (row) to another (column); zero on the diagonal.
        fate: of the changed predictions: "corrected", "newly wrong", "wrong before and after".
        predictions: predicted classes of the scored images, "before" and "after".
        verdict: what this allows one to say.
    """

    attribute: str
    values: tuple[str, ...]
    inferred: bool
    classes: tuple[str, ...]
    candidates: tuple[HeadId, ...]
    change: AssociationChange
    within: WithinClass
    labels_v: float
    control: RandomAssociation | None
    shares: tuple[HeadShare, ...]
    total: TotalEffect | None
    by_class: tuple[ClassEffect, ...]
    transitions: Int[np.ndarray, "class class_after"]
    fate: dict[str, int]
    predictions: dict[str, np.ndarray]
    verdict: FairnessVerdict

    def table(self) -> pd.DataFrame:
        """One row a measure: `measure`, `before`, `after`, `difference`, and the paired interval's ends."""
        rows = []
        for name in ("cramers_v", "corrected", "accuracy"):
            low, high = self.change.interval[name]
            before, after = getattr(self.change.before, name), getattr(self.change.after, name)
            rows.append((name, before, after, after - before, low, high))
        return pd.DataFrame(rows, columns=["measure", "before", "after", "difference", "low", "high"])

    def class_table(self) -> pd.DataFrame:
        """One row a class, in the fields of `ClassEffect`."""
        return pd.DataFrame([asdict(effect) for effect in self.by_class])

    def share_table(self) -> pd.DataFrame:
        """One row a candidate: `head`, `cramers_v`, `accuracy`, `change`, `share`."""
        rows = [asdict(share) | {"head": str(share.head)} for share in self.shares]
        return pd.DataFrame(rows, columns=["head", "cramers_v", "accuracy", "change", "share"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the predictions, which are arrays."""
        control = self.control
        return {
            "attribute": self.attribute,
            "values": list(self.values),
            "attribute_inferred": self.inferred,
            "classes": list(self.classes),
            "candidates": [list(head) for head in self.candidates],
            "change": asdict(self.change),
            "within_class": asdict(self.within),
            "labels_v": self.labels_v,
            "control": None
            if control is None
            else {
                "sets": [[list(head) for head in heads] for heads in control.sets],
                "cramers_v": control.cramers_v.tolist(),
                "accuracy": control.accuracy.tolist(),
                "observed": control.observed,
                "baseline": control.baseline,
                "exhaustive": control.exhaustive,
                "seed": control.seed,
                "beaten": control.beaten,
                "z": control.comparison.z if np.isfinite(control.comparison.z) else None,
                "p": control.comparison.p,
            },
            "shares": [asdict(share) | {"head": list(share.head)} for share in self.shares],
            "total": None if self.total is None else asdict(self.total),
            "by_class": [_without_nan(asdict(effect)) for effect in self.by_class],
            "transitions": self.transitions.tolist(),
            "fate": self.fate,
            "verdict": self.verdict.to_dict(),
        }

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN: a class without images has no accuracy.
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in record.items()}
