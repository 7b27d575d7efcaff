"""A probe that is the mean of probes on group-balanced draws.

Follows Kirichenko et al. 2023, *Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations* (arXiv
2204.02937); the settings are those of their code for Waterbirds, github.com/PolinaKirichenko/deep_feature_reweighting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from headlens.correct.balance import balanced_rows
from headlens.correct.probe_groups import GroupProbe
from headlens.correct.probe_training import Linear, lasso_classifier, worst_group_accuracy
from headlens.errors import CorrectionError


class LastLayerRetraining(GroupProbe):
    """The mean of `draws` lasso classifiers, each on as many images of every group as the smallest has.

    Steps: embeddings are brought to mean zero and standard deviation one by the reference split; C is chosen by one
    classifier on a balanced draw of one half, scored on the other; then `draws` classifiers are fitted and averaged.

    Args:
        labels, n_classes, values, seed: see `GroupProbe`.
        strengths: C to choose from; those published for Waterbirds.
        draws: how many classifiers are averaged; 20 as published.

    Limits: the publication retrains on the validation split and standardises by the training split; here the reference
    split serves for both, and its halves keep the shares of the groups (ours). More than two classes are separated one
    against the rest (ours).
    """

    name = "last-layer-retraining"

    def __init__(
        self,
        labels: Int[Tensor, "image"],
        n_classes: int,
        values: Int[Tensor, "image"],
        *,
        strengths: Sequence[float | int] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01),
        draws: int = 20,
        seed: int = 0,
    ):
        super().__init__(labels, n_classes, values, seed)
        self.strengths, self.draws = tuple(strengths), int(draws)
        if not self.strengths or self.draws < 1:
            raise CorrectionError("at least one strength and one draw", "none", "Leave the defaults, for example.")

    def _train(self, x: np.ndarray, labels: np.ndarray) -> tuple[Linear, dict[str, float]]:
        centre, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        x = (x - centre) / spread
        groups = self.groups

        def balanced(rows: np.ndarray, strength: float, seed: int) -> Linear:
            rows = rows[balanced_rows(groups[rows], np.random.default_rng([self.seed, seed]))]
            return lasso_classifier(x[rows], labels[rows], self.n_classes, strength, seed)

        def score(strength: float, train: np.ndarray, held: np.ndarray) -> float:
            return worst_group_accuracy(balanced(train, strength, 0).predict(x[held]), labels[held], groups[held])

        strength = float(self._choose(self.strengths, score))
        models = [balanced(np.arange(len(x)), strength, draw) for draw in range(self.draws)]
        weight = np.mean([model.weight for model in models], axis=0) / spread
        bias = np.mean([model.bias for model in models], axis=0) - weight @ centre
        return Linear(weight, bias), {"strength": strength}

    def _settings(self) -> dict[str, Any]:
        return {"seed": self.seed, "strengths": self.strengths, "draws": self.draws}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> LastLayerRetraining:
        """The inverse of `state`."""
        settings = {name: values[name] for name in ("strengths", "draws", "seed")}
        one = cls(arrays["labels"], values["n_classes"], arrays["values"], **settings)
        return one._restore(values, arrays)
