"""A probe that is trained on the reference split as it comes.

The settings (C = 0.316, at most 1000 iterations) are those of the linear-probe example in the repository of CLIP's
authors, github.com/openai/CLIP (Radford et al. 2021, arXiv 2103.00020), who advise to choose C anew for other data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from headlens.correct.probe import Probe
from headlens.correct.probe_training import Linear, ridge_classifier

STRENGTH = 0.316


class ErmProbe(Probe):
    """Empirical risk minimisation: logistic regression of the labels on the embeddings.

    Args:
        labels: the class of every image of the reference split, as an index.
        n_classes: how many classes there are.
        strength: C, the inverse of the penalty.
    """

    name = "erm-probe"

    def __init__(self, labels: Int[Tensor, "image"], n_classes: int, strength: float | int = STRENGTH):
        super().__init__(labels, n_classes)
        self.strength = strength

    def _train(self, x: np.ndarray, labels: np.ndarray) -> tuple[Linear, dict[str, float]]:
        return ridge_classifier(x, labels, self.n_classes, self.strength), {}

    def _settings(self) -> dict[str, Any]:
        return {"strength": self.strength}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> ErmProbe:
        """The inverse of `state`."""
        return cls(arrays["labels"], values["n_classes"], values["strength"])._restore(values, arrays)
