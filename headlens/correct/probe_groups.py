"""What probes share that are told the groups: a choice of settings by the worst group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int
from torch import Tensor

from headlens.correct.balance import halves_by_group
from headlens.correct.probe import Probe
from headlens.correct.targets import detached
from headlens.errors import CorrectionError

Option = TypeVar("Option")


class GroupProbe(Probe):
    """A probe whose settings are chosen by the worst group's accuracy on one half of the reference split.

    A group with a single image is trained on and does not take part in the choice.

    Args:
        labels: the class of every image of the reference split, as an index.
        n_classes: how many classes there are.
        values: the attribute's value of every image, as an index; with the class it makes the group.
        seed: of the halving and of every draw.
    """

    def __init__(self, labels: Int[Tensor, "image"], n_classes: int, values: Int[Tensor, "image"], seed: int = 0):
        super().__init__(labels, n_classes)
        if values.shape != labels.shape:
            raise CorrectionError(
                f"a value for each of {len(labels)} labels", f"{len(values)}", "Pass both of one reference split."
            )
        if len(values) and int(values.min()) < 0:
            raise CorrectionError(
                "values of zero or more", f"{int(values.min())}", "Leave images without a value out of the split."
            )
        self.values, self.seed = detached(values), int(seed)

    @property
    def groups(self) -> np.ndarray:
        """The (class, value) group of every image of the reference split, as a number."""
        labels, values = self.labels.numpy(), self.values.numpy()
        return np.asarray(labels * (values.max(initial=0) + 1) + values)

    def _choose(self, options: Sequence[Option], score: Callable[[Option, np.ndarray, np.ndarray], float]) -> Option:
        """The option with the best score(option, rows to train on, rows to score); the first of equals."""
        if len(options) == 1:
            return options[0]
        train, held = halves_by_group(self.groups, np.random.default_rng(self.seed))
        if not len(held):  # not one group has two images
            return options[0]
        scores = [score(option, train, held) for option in options]
        return options[int(np.argmax(scores))]

    def _arrays(self) -> dict[str, Tensor]:
        return {"labels": self.labels, "values": self.values}
