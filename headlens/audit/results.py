"""What an audit found when it scored its methods: numbers with intervals, controls, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from headlens.audit.controls import RandomHeads
from headlens.audit.verdict import Verdict
from headlens.metrics import Evaluation


@dataclass(frozen=True)
class Results:
    """The scored methods of one audit.

    Attributes:
        evaluations: a method's accuracies and their intervals; "zero-shot" comes first.
        predictions: a method's predicted class of every scored image.
        controls: the random-head controls, by method.
        verdict: what the numbers allow one to say.
    """

    evaluations: dict[str, Evaluation]
    predictions: dict[str, np.ndarray]
    controls: dict[str, RandomHeads]
    verdict: Verdict

    def records(self) -> list[dict[str, Any]]:
        """One record a method, controls last, in the form of `evaluation.json`; all accuracies are fractions."""
        methods = [evaluation.to_dict() for evaluation in self.evaluations.values()]
        return methods + [control.to_record() for control in self.controls.values()]

    def table(self) -> pd.DataFrame:
        """One row a method: average, worst group, gap, each with the ends of its 95 % interval, as fractions."""
        rows = []
        for record in self.records():
            row: dict[str, Any] = {"method": record["method"]}
            for name in ("average", "worst_group", "gap"):
                low, high = record["interval"][name]
                row |= {name: record[name], f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)
