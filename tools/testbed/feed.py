"""Pictures and captions for training, one world at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from headlens.testbed.models import normalise
from headlens.testbed.worlds import WORLDS


def as_pixels(pictures: UInt8[np.ndarray, "image row column 3"]) -> Float[Tensor, "image 3 row column"]:
    """Rendered pictures as the network's pixels."""
    return normalise(torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2))


class Feed:
    """One world's part of every batch: rows in random order, each once before any comes again; new captions each time.

    Args:
        world: its name.
        rng: for scenes, pictures, order and captions.
        count: how many pictures.
        agreement: share of them that follow the stereotype.
        rates: how often captions say each thing.
        size: pictures a batch.
    """

    def __init__(self, world: str, rng: np.random.Generator, count: int, agreement: float, rates: Any, size: int):
        self.world, self.rng, self.rates, self.size = WORLDS[world], rng, rates, size
        self.scenes = self.world.sample(rng, count, agreement)
        self.pictures = self.world.render(rng, self.scenes)
        self._left = np.empty(0, dtype=int)

    def draw(self, mirror: bool) -> None:
        """Choose the next batch; with `mirror`, half of its pictures are seen in a mirror."""
        if len(self._left) < self.size:
            self._left = self.rng.permutation(len(self.scenes))
        self.rows, self._left = self._left[: self.size], self._left[self.size :]
        self.mirrored = self.rng.random(len(self.rows)) < 0.5 if mirror else np.zeros(len(self.rows), dtype=bool)
        self.drawn = self.scenes[self.rows].flipped(self.mirrored) if mirror else self.scenes[self.rows]

    def pixels(self) -> UInt8[np.ndarray, "image row column 3"]:
        """The pictures of the batch."""
        chosen = self.pictures[self.rows]
        return np.where(self.mirrored[:, None, None, None], chosen[:, :, ::-1], chosen)

    def texts(self) -> list[str]:
        """A caption for each of them, drawn anew."""
        return self.world.captions(self.rng, self.drawn, self.rates)
