"""What a search over head sets tries to improve: a number that class predictions alone determine.

"cramers_v" is Cramér's V of attribute × predicted class, better where lower. "worst_group" is the lowest accuracy of
any (class, value) group that has images, and "average" the share of images that are right: better where higher.

"balanced_v" is Cramér's V with images weighed so that, within each true class, all values that it has weigh the same.
Where classes and attribute go together in the images, right predictions alone make V large, and whoever lowers it there
pays with accuracy; the balanced V of a perfect classifier is 0 as long as every class has images of every value.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.metrics.contingency import v_of_tables

Name = Literal["cramers_v", "balanced_v", "worst_group", "average"]
NAMES: tuple[Name, ...] = ("cramers_v", "balanced_v", "worst_group", "average")


class Objective:
    """Scores many sets of predictions of the same images at once.

    Args:
        name: "cramers_v", "balanced_v", "worst_group" or "average".
        labels: the true class of each image, as an index into the classes.
        values: the attribute's value of each image, as an index.

    Raises:
        LocateError: for an unknown name, columns of different lengths, no images, negative indices, or one value alone.
    """

    def __init__(self, name: Name, labels: Int[Tensor, "image"], values: Int[Tensor, "image"]):
        if name not in NAMES:
            raise LocateError(f"one of the objectives {', '.join(NAMES)}", repr(name), "Choose one of these.")
        if labels.shape != values.shape or not len(labels):
            raise LocateError(
                "a class and a value for each of one image or more",
                f"{len(labels)} classes and {len(values)} values",
                "Take both from the same rows.",
            )
        if int(labels.min()) < 0 or int(values.min()) < 0:
            raise LocateError(
                "classes and values as indices from 0",
                f"{min(int(labels.min()), int(values.min()))}",
                "Leave out images without one.",
            )
        kinds, codes = torch.unique(values, return_inverse=True)
        if len(kinds) < 2:
            raise LocateError(
                "two attribute values or more among the images", f"value {int(kinds[0])} alone", "Take both groups."
            )
        self.name: Name = name
        self.lower_is_better = name in ("cramers_v", "balanced_v")
        self.labels = labels.long()
        self._codes, self._n_values = codes, len(kinds)
        cells, groups = torch.unique(torch.stack([self.labels, codes]), dim=1, return_inverse=True)
        self._weights = _balancing(self.labels, cells[0], groups) if name == "balanced_v" else None
        if name == "average":
            groups = torch.zeros_like(groups)
        self._members = torch.nn.functional.one_hot(groups).to(torch.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Objective({self.name!r}, {len(self)} images)"

    def score(self, predictions: Int[Tensor, "image set"]) -> Float[Tensor, "set"]:
        """The objective of each column of predicted classes, in float64."""
        if len(predictions) != len(self):
            raise LocateError(
                f"predictions of {len(self)} images", f"{len(predictions)}", "Take both from the same images."
            )
        if self.lower_is_better:
            return torch.from_numpy(v_of_tables(self._tables(predictions)))
        right = (predictions == self.labels[:, None]).to(torch.float32)
        counts = (self._members.mT @ right).double()  # exact below 2^24 images a group
        return (counts / self._members.sum(0, dtype=torch.float64)[:, None]).amin(0)

    def improvement(self, score: Float[Tensor, "*set"], baseline: float) -> Float[Tensor, "*set"]:
        """How much better a score is than the baseline; above zero where it is better."""
        return baseline - score if self.lower_is_better else score - baseline

    def _tables(self, predictions: Int[Tensor, "image set"]) -> Float[np.ndarray, "set value class"]:
        n_sets, n_classes = predictions.shape[1], int(predictions.max()) + 1
        cells = self._n_values * n_classes
        places = (self._codes * n_classes)[:, None] + predictions + torch.arange(n_sets) * cells
        weights = None if self._weights is None else self._weights[:, None].expand(predictions.shape).flatten()
        counts = torch.bincount(places.flatten(), weights, minlength=n_sets * cells)
        return counts.view(n_sets, self._n_values, n_classes).numpy().astype(float)


def _balancing(
    labels: Int[Tensor, "image"], classes: Int[Tensor, "group"], groups: Int[Tensor, "image"]
) -> Float[Tensor, "image"]:
    """Each image's weight: the images of its class, over the groups of that class and the images of its own group."""
    of_class, of_group = torch.bincount(labels).double(), torch.bincount(groups).double()
    return of_class[labels] / (torch.bincount(classes).double()[labels] * of_group[groups])
