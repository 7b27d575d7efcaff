"""Logistic regression on embeddings, with scikit-learn: what the probes are made of.

Both forms minimise C Σ_i weight_i · loss_i + penalty(W) with an intercept:

- `ridge_classifier`: the loss over all classes at once, penalty ½‖W‖² on W alone (solver lbfgs).
- `lasso_classifier`: one class against the rest, class by class, penalty ‖(w, b)‖₁ (solver liblinear, which also
  shrinks the intercept; equal for two classes to one logistic regression).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from headlens.errors import CorrectionError

# scikit-learn 1.8 renamed the choice of penalty.
_LASSO: dict[str, Any] = (
    {"penalty": "l1"}
    if getattr(inspect.signature(LogisticRegression).parameters.get("penalty"), "default", None) == "l2"
    else {"l1_ratio": 1.0}
)


@dataclass(frozen=True)
class Linear:
    """A linear classifier: scores = x · weightᵀ + bias.

    Attributes:
        weight: one row a class, [class, embed].
        bias: one number a class.
    """

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The highest scored class of each row."""
        return np.asarray((x @ self.weight.T + self.bias).argmax(axis=1))


def ridge_classifier(
    x: np.ndarray, labels: np.ndarray, n_classes: int, strength: float, weights: np.ndarray | None = None
) -> Linear:
    """Multinomial logistic regression with C = `strength`; `weights` counts each image that many times.

    Raises:
        CorrectionError: for a class without an image.
    """
    _check_classes(labels, n_classes)
    model = LogisticRegression(C=strength, max_iter=1000, random_state=0).fit(x, labels, sample_weight=weights)
    return _two_rows(model.coef_, model.intercept_)


def lasso_classifier(x: np.ndarray, labels: np.ndarray, n_classes: int, strength: float, seed: int = 0) -> Linear:
    """Logistic regressions of each class against the rest with C = `strength` and an L1 penalty.

    Raises:
        CorrectionError: for a class without an image.
    """
    _check_classes(labels, n_classes)
    rows, biases = [], []
    for number in [1] if n_classes == 2 else range(n_classes):
        model = LogisticRegression(C=strength, solver="liblinear", max_iter=1000, random_state=seed, **_LASSO)
        model.fit(x, labels == number)
        rows.append(model.coef_[0])
        biases.append(model.intercept_[0])
    return _two_rows(np.stack(rows), np.asarray(biases))


def _two_rows(weight: np.ndarray, bias: np.ndarray) -> Linear:
    # For two classes scikit-learn keeps the difference of the two scores alone.
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight, bias)


def _check_classes(labels: np.ndarray, n_classes: int) -> None:
    missing = sorted(set(range(n_classes)) - set(labels.tolist()))
    if missing or len(set(labels.tolist())) != n_classes:
        raise CorrectionError(
            f"images of every one of {n_classes} classes in the reference split",
            f"none of class {missing[0]}" if missing else f"labels up to {int(labels.max())}",
            "A probe learns each class from its images: take a reference split with all of them.",
        )


def worst_group_accuracy(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """The lowest accuracy of any group that occurs."""
    return float(min((predicted == labels)[groups == name].mean() for name in np.unique(groups)))
