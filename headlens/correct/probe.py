"""Probes: linear classifiers that are trained on the reference split's embeddings and take the zero-shot one's place.

They see the reference split's labels, which zero-shot methods do not; a table that compares the two has to say so. They
are not transductive: an image's scores depend on it alone.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.correct.base import Correction
from headlens.correct.probe_training import Linear
from headlens.correct.targets import check_same_model, check_width, detached, embedding_of, fingerprint_of
from headlens.errors import CorrectionError

Own = TypeVar("Own", bound="Probe")


class Probe(Correction):
    """logits = embedding · weightᵀ + bias, both learnt from the reference split.

    Args:
        labels: the class of every image of the reference split, as an index.
        n_classes: how many classes there are.

    Limits: `apply` returns what it is given; the classifier that `logits` is given serves to check the number of
    classes and the width alone.
    """

    def __init__(self, labels: Int[Tensor, "image"], n_classes: int):
        if n_classes < 2:
            raise CorrectionError("two classes or more", f"{n_classes}", "Pass the number of the task's classes.")
        self.labels, self.n_classes = detached(labels), int(n_classes)
        self.linear: Linear | None = None
        self.chosen: dict[str, float] = {}
        self.fingerprint: str | None = None

    def __repr__(self) -> str:
        state = "".join(f", {name} {value:g}" for name, value in self.chosen.items()) if self.fitted else ", not fitted"
        return f"{type(self).__name__}({len(self.labels)} images, {self.n_classes} classes{state})"

    @abstractmethod
    def _train(self, x: np.ndarray, labels: np.ndarray) -> tuple[Linear, dict[str, float]]:
        """The classifier, and the settings that were chosen on the way."""

    @property
    def fitted(self) -> bool:
        """Whether the probe is trained."""
        return self.linear is not None

    @property
    def changes_classifier(self) -> bool:
        """Always."""
        return True

    def fit(self: Own, reference: Any) -> Own:
        """A trained copy.

        Raises:
            CorrectionError: for a number of labels that is not that of the images, embeddings that are not finite, and
                a class without an image.
        """
        embedding = embedding_of(reference)
        if len(embedding) != len(self.labels):
            raise CorrectionError(
                f"a label for each of {len(embedding)} images",
                f"{len(self.labels)}",
                "Pass the labels of the very reference split that the probe is fitted on.",
            )
        if not bool(torch.isfinite(embedding).all()):
            raise CorrectionError("finite embeddings", "NaN or infinite ones", "Extract again.")
        fitted = copy.copy(self)
        fitted.linear, fitted.chosen = self._train(embedding.detach().cpu().double().numpy(), self.labels.numpy())
        fitted.fingerprint = fingerprint_of(reference)
        return fitted

    def apply(self, target: Any) -> Any:
        """The target as it is."""
        return target

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The probe's scores.

        Raises:
            CorrectionError: where unfitted, for another model, and for a classifier of other classes.
        """
        if self.linear is None:
            raise CorrectionError(
                "a fitted probe", f"{self!r}", "Call .fit(reference) first, and keep what it returns."
            )
        check_same_model(self.fingerprint, target)
        if len(classifier) != self.n_classes:
            raise CorrectionError(
                f"a classifier of {self.n_classes} classes",
                f"{len(classifier)}",
                "Fit the probe on this task's labels.",
            )
        embedding = embedding_of(target)
        check_width("probe", self.linear.weight.shape[1], embedding)
        weight, bias = (torch.from_numpy(part).to(embedding) for part in (self.linear.weight, self.linear.bias))
        return embedding @ weight.T + bias

    def _settings(self) -> dict[str, Any]:
        return {}

    def _arrays(self) -> dict[str, Tensor]:
        return {"labels": self.labels}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Labels, settings, and the classifier in double precision."""
        learnt = {} if self.linear is None else {"weight": self.linear.weight, "bias": self.linear.bias}
        values = {"n_classes": self.n_classes, "fingerprint": self.fingerprint, "chosen": self.chosen}
        return values | self._settings(), self._arrays() | {name: torch.from_numpy(a) for name, a in learnt.items()}

    def _restore(self: Own, values: dict[str, Any], arrays: dict[str, Tensor]) -> Own:
        self.fingerprint, self.chosen = values["fingerprint"], values["chosen"]
        if "weight" in arrays:
            weight, bias = arrays["weight"], arrays["bias"]
            if weight.ndim != 2 or len(weight) != self.n_classes or bias.shape != weight.shape[:1]:
                raise CorrectionError(
                    f"a row for each of {self.n_classes} classes", f"shape {tuple(weight.shape)}", "Save it again."
                )
            self.linear = Linear(weight.numpy(), bias.numpy())
        return self
