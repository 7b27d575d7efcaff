"""A probe that is trained twice: the second time, the images that the first got wrong count many times.

Follows Liu et al. 2021, *Just Train Twice: Improving Group Robustness without Training Group Information* (arXiv
2107.09044), who stop the first model early and choose their settings by the worst group of a labelled validation split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from headlens.correct.probe_erm import STRENGTH
from headlens.correct.probe_groups import GroupProbe
from headlens.correct.probe_training import Linear, ridge_classifier, worst_group_accuracy
from headlens.errors import CorrectionError


class JustTrainTwice(GroupProbe):
    """ridge_classifier, then again with the images that it gets wrong counted `upweight` times.

    Steps: the first model's C and the upweight are chosen on the half that was not trained on; then both models are
    fitted on the whole split. Where the first model makes no mistake, the second is the same.

    Args:
        labels, n_classes, values, seed: see `GroupProbe`; the values serve to choose settings, never to train.
        first: strengths C of the first model to choose from: small ones stop short of fitting every image, as early
            stopping does in the publication (ours).
        upweights: to choose from, the range around the published 50 (CelebA) and 100 (Waterbirds).
        strength: C of the second model, as for `ErmProbe`.
    """

    name = "jtt-probe"

    def __init__(
        self,
        labels: Int[Tensor, "image"],
        n_classes: int,
        values: Int[Tensor, "image"],
        *,
        first: Sequence[float | int] = (0.01, 0.1, 1.0),
        upweights: Sequence[float | int] = (20, 50, 100),
        strength: float | int = STRENGTH,
        seed: int = 0,
    ):
        super().__init__(labels, n_classes, values, seed)
        self.first, self.upweights, self.strength = tuple(first), tuple(upweights), strength
        if not self.first or not self.upweights:
            raise CorrectionError("at least one strength and one upweight", "none", "Leave the defaults, for example.")

    def _train(self, x: np.ndarray, labels: np.ndarray) -> tuple[Linear, dict[str, float]]:
        def twice(first: float, upweight: float, rows: np.ndarray) -> Linear:
            model = ridge_classifier(x[rows], labels[rows], self.n_classes, first)
            weights = np.where(model.predict(x[rows]) == labels[rows], 1.0, upweight)
            return ridge_classifier(x[rows], labels[rows], self.n_classes, self.strength, weights)

        def score(option: tuple[float, float], train: np.ndarray, held: np.ndarray) -> float:
            predicted = twice(*option, train).predict(x[held])
            return worst_group_accuracy(predicted, labels[held], self.groups[held])

        options = [(float(c), float(upweight)) for c in self.first for upweight in self.upweights]
        first, upweight = self._choose(options, score)
        return twice(first, upweight, np.arange(len(x))), {"first": first, "upweight": upweight}

    def _settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "first": self.first, "upweights": self.upweights, "strength": self.strength}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> JustTrainTwice:
        """The inverse of `state`."""
        settings = {name: values[name] for name in ("first", "upweights", "strength", "seed")}
        one = cls(arrays["labels"], values["n_classes"], arrays["values"], **settings)
        return one._restore(values, arrays)
