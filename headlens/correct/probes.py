"""Probes: linear classifiers that are trained on the reference split's embeddings and take the zero-shot one's place.

They see the reference split's labels, which zero-shot methods do not; a table that compares the two has to say so. They
are not transductive: an image's scores depend on it alone.

- `ErmProbe`: logistic regression on the split as it comes. The settings (C = 0.316, at most 1000 iterations) are those
  of the linear-probe example in the repository of CLIP's authors, github.com/openai/CLIP (Radford et al. 2021, arXiv
  2103.00020), who advise to choose C anew for other data.
- `JustTrainTwice`: a second time with the images that the first got wrong counted many times (Liu et al. 2021, *Just
  Train Twice: Improving Group Robustness without Training Group Information*, arXiv 2107.09044, who stop the first
  model early and choose their settings by the worst group of a labelled validation split).
- `LastLayerRetraining`: the mean of probes on group-balanced draws (Kirichenko et al. 2023, *Last Layer Re-Training is
  Sufficient for Robustness to Spurious Correlations*, arXiv 2204.02937; settings of their code for Waterbirds,
  github.com/PolinaKirichenko/deep_feature_reweighting).

With scikit-learn, minimising C Σ_i weight_i · loss_i + penalty(W) with an intercept:

- `ridge_classifier`: the loss over all classes at once, penalty ½‖W‖² on W alone (solver lbfgs).
- `lasso_classifier`: one class against the rest, class by class, penalty ‖(w, b)‖₁ (solver liblinear, which also
  shrinks the intercept; equal for two classes to one logistic regression).
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from headlens.correct.base import LEARNT, ClassifierCorrection
from headlens.correct.views import check_width, embedding_of
from headlens.errors import CorrectionError

Option = TypeVar("Option")

STRENGTH = 0.316

# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear classifier: scores = x · weightᵀ + bias.

    Attributes:
        weight: one row a class, [class, embed].
        bias: one number a class.
    """

    weight: Float[np.ndarray, "class embed"]
    bias: Float[np.ndarray, "class"]

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
    from sklearn.linear_model import LogisticRegression

    _check_classes(labels, n_classes)
    model = LogisticRegression(C=strength, max_iter=1000, random_state=0).fit(x, labels, sample_weight=weights)
    return _two_rows(model.coef_, model.intercept_)


def lasso_classifier(x: np.ndarray, labels: np.ndarray, n_classes: int, strength: float, seed: int = 0) -> Linear:
    """Logistic regressions of each class against the rest with C = `strength` and an L1 penalty.

    Raises:
        CorrectionError: for a class without an image.
    """
    from sklearn.linear_model import LogisticRegression

    _check_classes(labels, n_classes)
    # scikit-learn 1.8 renamed the choice of penalty.
    named = getattr(inspect.signature(LogisticRegression).parameters.get("penalty"), "default", None) == "l2"
    lasso: dict[str, Any] = {"penalty": "l1"} if named else {"l1_ratio": 1.0}
    rows, biases = [], []
    for number in [1] if n_classes == 2 else range(n_classes):
        model = LogisticRegression(C=strength, solver="liblinear", max_iter=1000, random_state=seed, **lasso)
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


def balanced_rows(groups: Shaped[np.ndarray, "image"], generator: np.random.Generator) -> Int[np.ndarray, "row"]:
    """As many rows of every group that occurs as the smallest has, drawn without replacement, in ascending order.

    Args:
        groups: the group of each image.
        generator: draws where a group has more.

    Raises:
        CorrectionError: for no image at all.
    """
    names, sizes = np.unique(groups, return_counts=True)
    if not len(names):
        raise CorrectionError("The reference split has no images.", "Choose another split.")
    count = int(sizes.min())
    drawn = [generator.permutation(np.flatnonzero(groups == name))[:count] for name in names]
    return np.sort(np.concatenate(drawn))


def halves_by_group(
    groups: Shaped[np.ndarray, "image"], generator: np.random.Generator
) -> tuple[Int[np.ndarray, "row"], Int[np.ndarray, "other_row"]]:
    """Two halves of the rows, each with half of every group.

    The first half has the larger part of an odd group, and so the only image of a group of one, which the second half
    lacks.
    """
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    for name in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups == name))
        middle = (len(rows) + 1) // 2
        first.append(rows[:middle])
        second.append(rows[middle:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


# ---- probes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Probe(ClassifierCorrection):
    """logits = embedding · weightᵀ + bias, both learnt from the reference split.

    The classifier that `logits` is given serves to check the number of classes alone.

    Attributes:
        labels: the class of every image of the reference split, as an index.
        n_classes: how many classes there are.
        linear: learnt, in double precision.
        chosen: the settings that were chosen on the way, learnt.
    """

    labels: Int[Tensor, "image"]
    n_classes: int
    linear: Linear | None = field(default=None, kw_only=True, metadata=LEARNT)
    chosen: dict[str, float] = field(default_factory=dict, kw_only=True, metadata=LEARNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_classes < 2:
            raise CorrectionError("two classes or more", f"{self.n_classes}", "Pass the number of the task's classes.")
        if self.linear is not None and len(self.linear.weight) != self.n_classes:
            raise CorrectionError(
                f"a row for each of {self.n_classes} classes", f"{len(self.linear.weight)}", "Fit it again."
            )

    def __repr__(self) -> str:
        chosen = "".join(f", {name} {value:g}" for name, value in self.chosen.items())
        return super().__repr__().removesuffix(")") + f"{chosen})"

    @abstractmethod
    def train(
        self, x: Float[np.ndarray, "image embed"], labels: Int[np.ndarray, "image"]
    ) -> tuple[Linear, dict[str, float]]:
        """The classifier, and the settings that were chosen on the way."""

    def learn(self, reference: Any) -> dict[str, Any]:
        """The classifier.

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
            raise CorrectionError("Embeddings are NaN or infinite.", "Extract again.")
        linear, chosen = self.train(embedding.detach().cpu().double().numpy(), self.labels.numpy())
        return {"linear": linear, "chosen": chosen}

    def scores(
        self, embedding: Float[Tensor, "image embed"], classifier: Float[Tensor, "class embed"]
    ) -> Float[Tensor, "image class"]:
        """The probe's scores."""
        assert self.linear is not None
        if len(classifier) != self.n_classes:
            raise CorrectionError(
                f"a classifier of {self.n_classes} classes",
                f"{len(classifier)}",
                "Fit the probe on this task's labels.",
            )
        check_width("probe", self.linear.weight.shape[1], embedding)
        weight, bias = (torch.from_numpy(part).to(embedding) for part in (self.linear.weight, self.linear.bias))
        return embedding @ weight.T + bias


@dataclass(frozen=True, eq=False, repr=False)
class ErmProbe(Probe):
    """Empirical risk minimisation: logistic regression of the labels on the embeddings.

    Attributes:
        labels, n_classes: see `Probe`.
        strength: C, the inverse of the penalty.
    """

    name: ClassVar[str] = "erm-probe"
    strength: float | int = STRENGTH

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(strength=float(self.strength))

    def train(
        self, x: Float[np.ndarray, "image embed"], labels: Int[np.ndarray, "image"]
    ) -> tuple[Linear, dict[str, float]]:
        """One logistic regression; nothing is chosen."""
        return ridge_classifier(x, labels, self.n_classes, self.strength), {}


@dataclass(frozen=True, eq=False, repr=False)
class GroupProbe(Probe):
    """A probe whose settings are chosen by the worst group's accuracy on one half of the reference split.

    A group with a single image is trained on and does not take part in the choice.

    Attributes:
        labels, n_classes: see `Probe`.
        values: the attribute's value of every image, as an index; with the class it makes the group.
        seed: of the halving and of every draw.
    """

    values: Int[Tensor, "image"]
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.values.shape != self.labels.shape:
            raise CorrectionError(
                f"a value for each of {len(self.labels)} labels", f"{len(self.values)}", "Pass both of one split."
            )
        if len(self.values) and int(self.values.min()) < 0:
            raise CorrectionError(
                "values of zero or more", f"{int(self.values.min())}", "Leave images without a value out of the split."
            )

    @property
    def groups(self) -> Int[np.ndarray, "image"]:
        """The (class, value) group of every image of the reference split, as a number."""
        labels, values = self.labels.numpy(), self.values.numpy()
        return np.asarray(labels * (values.max(initial=0) + 1) + values)

    def choose(self, options: Sequence[Option], score: Callable[[Option, np.ndarray, np.ndarray], float]) -> Option:
        """The option with the best score(option, rows to train on, rows to score); the first of equals."""
        if len(options) == 1:
            return options[0]
        train, held = halves_by_group(self.groups, np.random.default_rng(self.seed))
        if not len(held):  # not one group has two images
            return options[0]
        scores = [score(option, train, held) for option in options]
        return options[int(np.argmax(scores))]


@dataclass(frozen=True, eq=False, repr=False)
class JustTrainTwice(GroupProbe):
    """ridge_classifier, then again with the images that it gets wrong counted `upweight` times.

    Steps: the first model's C and the upweight are chosen on the half that was not trained on; then both models are
    fitted on the whole split. Where the first model makes no mistake, the second is the same.

    Attributes:
        labels, n_classes, values, seed: see `GroupProbe`; the values serve to choose settings, never to train.
        first: strengths C of the first model to choose from: small ones stop short of fitting every image, as early
            stopping does in the publication (ours).
        upweights: to choose from, the range around the published 50 (CelebA) and 100 (Waterbirds).
        strength: C of the second model, as for `ErmProbe`.
    """

    name: ClassVar[str] = "jtt-probe"
    first: Sequence[float | int] = field(default=(0.01, 0.1, 1.0), kw_only=True)
    upweights: Sequence[float | int] = field(default=(20.0, 50.0, 100.0), kw_only=True)
    strength: float | int = field(default=STRENGTH, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        first, upweights = (tuple(map(float, options)) for options in (self.first, self.upweights))
        self._hold(first=first, upweights=upweights, strength=float(self.strength))
        if not self.first or not self.upweights:
            raise CorrectionError("at least one strength and one upweight", "none", "Leave the defaults, for example.")

    def train(
        self, x: Float[np.ndarray, "image embed"], labels: Int[np.ndarray, "image"]
    ) -> tuple[Linear, dict[str, float]]:
        """The second model, and what was chosen for the two."""

        def twice(first: float, upweight: float, rows: np.ndarray) -> Linear:
            model = ridge_classifier(x[rows], labels[rows], self.n_classes, first)
            weights = np.where(model.predict(x[rows]) == labels[rows], 1.0, upweight)
            return ridge_classifier(x[rows], labels[rows], self.n_classes, self.strength, weights)

        def score(option: tuple[float, float], train: np.ndarray, held: np.ndarray) -> float:
            predicted = twice(*option, train).predict(x[held])
            return worst_group_accuracy(predicted, labels[held], self.groups[held])

        options = [(c, upweight) for c in self.first for upweight in self.upweights]
        first, upweight = self.choose(options, score)
        return twice(first, upweight, np.arange(len(x))), {"first": first, "upweight": upweight}


@dataclass(frozen=True, eq=False, repr=False)
class LastLayerRetraining(GroupProbe):
    """The mean of `draws` lasso classifiers, each on as many images of every group as the smallest has.

    Steps: embeddings are brought to mean zero and standard deviation one by the reference split; C is chosen by one
    classifier on a balanced draw of one half, scored on the other; then `draws` classifiers are fitted and averaged.

    Attributes:
        labels, n_classes, values, seed: see `GroupProbe`.
        strengths: C to choose from; those published for Waterbirds.
        draws: how many classifiers are averaged; 20 as published.

    Limits: the publication retrains on the validation split and standardises by the training split; here the reference
    split serves for both, and its halves keep the shares of the groups (ours). More than two classes are separated one
    against the rest (ours).
    """

    name: ClassVar[str] = "last-layer-retraining"
    strengths: Sequence[float | int] = field(default=(1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01), kw_only=True)
    draws: int = field(default=20, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._hold(strengths=tuple(map(float, self.strengths)))
        if not self.strengths or self.draws < 1:
            raise CorrectionError("at least one strength and one draw", "none", "Leave the defaults, for example.")

    def train(
        self, x: Float[np.ndarray, "image embed"], labels: Int[np.ndarray, "image"]
    ) -> tuple[Linear, dict[str, float]]:
        """The mean classifier, and the strength that was chosen."""
        centre, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        x = (x - centre) / spread
        groups = self.groups

        def balanced(rows: np.ndarray, strength: float, seed: int) -> Linear:
            rows = rows[balanced_rows(groups[rows], np.random.default_rng([self.seed, seed]))]
            return lasso_classifier(x[rows], labels[rows], self.n_classes, strength, seed)

        def score(strength: float, train: np.ndarray, held: np.ndarray) -> float:
            return worst_group_accuracy(balanced(train, strength, 0).predict(x[held]), labels[held], groups[held])

        strength = self.choose(self.strengths, score)
        models = [balanced(np.arange(len(x)), strength, draw) for draw in range(self.draws)]
        weight = np.mean([model.weight for model in models], axis=0) / spread
        bias = np.mean([model.bias for model in models], axis=0) - weight @ centre
        return Linear(weight, bias), {"strength": strength}
