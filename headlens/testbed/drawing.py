"""What both worlds are drawn with: coordinates, noise, and pictures made many at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

Colour = tuple[float, float, float]
SIDE = 64
"""Pixels of a picture's side."""

Pictures = Float[np.ndarray, "image row column 3"]
Planes = Float[np.ndarray, "image row column"]
TURN = 2 * float(np.pi)


def grid(side: int) -> tuple[Planes, Planes]:
    """Coordinates of the pixel centres in [0, 1]: x to the right, y downwards."""
    y, x = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side, indexing="ij")
    return x[None].astype(np.float32), y[None].astype(np.float32)


def smooth_noise(rng: np.random.Generator, count: int, knots: int, side: int) -> Planes:
    """Normal noise on `knots` × `knots` points, interpolated linearly to `side` × `side`."""
    coarse = rng.standard_normal((count, knots, knots), dtype=np.float32)
    position = np.linspace(0, knots - 1, side)
    left = np.minimum(position.astype(int), knots - 2)
    weight = (position - left).astype(np.float32)
    rows = coarse[:, left] * (1 - weight)[None, :, None] + coarse[:, left + 1] * weight[None, :, None]
    return rows[:, :, left] * (1 - weight) + rows[:, :, left + 1] * weight


def uniform(rng: np.random.Generator, count: int, low: float | int, high: float | int) -> Planes:
    return rng.uniform(low, high, count).astype(np.float32)[:, None, None]


def painted(picture: Pictures, where: Bool[np.ndarray, "image row column"], colour: Colour | np.ndarray) -> Pictures:
    """The pictures with a colour wherever `where` holds."""
    return np.where(where[..., None], np.asarray(colour, dtype=np.float32), picture)


Draw = Callable[[np.random.Generator, Pictures, Any], Pictures]


class Drawing:
    """Drawn scenes: what lies behind, what stands in front of it, light over both, and noise.

    Args:
        behind: (generator, scenes, side) -> pictures of the places.
        front: (generator, pictures, scenes) -> the same with what the classes are about.
        light: (pictures, scenes) -> the same in the scene's light.
        noise: standard deviation of the noise on clear and on grainy pictures.
        chunk: pictures at a time.
    """

    def __init__(
        self,
        behind: Callable[[np.random.Generator, Any, int], Pictures],
        front: Draw,
        light: Callable[[Pictures, Any], Pictures],
        noise: tuple[float, float],
        chunk: int,
    ):
        self.behind, self.front, self.light, self.noise, self.chunk = behind, front, light, noise, chunk

    def __call__(
        self, rng: np.random.Generator, scenes: Any, side: int = SIDE
    ) -> UInt8[np.ndarray, "image row column 3"]:
        """Every scene on `side` × `side` pixels; the same generator state gives the same pictures."""
        return self.with_masks(rng, scenes, side, masks=False)[0]

    def with_masks(
        self, rng: np.random.Generator, scenes: Any, side: int = SIDE, masks: bool = True
    ) -> tuple[UInt8[np.ndarray, "image row column 3"], Bool[np.ndarray, "image row column"]]:
        """The same, and where what stands in front covers more than half of what lies behind."""
        pictures = np.empty((len(scenes), side, side, 3), np.uint8)
        covered = np.zeros((len(scenes), side, side), bool)
        for start in range(0, len(scenes), self.chunk):
            where = slice(start, start + self.chunk)
            part = scenes[where]
            behind = self.behind(rng, part, side)
            if masks:
                # The front drawn on white and on black differs by what shows through. The generator stays as it is.
                white, black = (self.front(deepcopy(rng), np.full_like(behind, shade), part) for shade in (1.0, 0.0))
                covered[where] = (white - black).mean(axis=-1) < 0.5
            drawn = self.light(self.front(rng, behind, part), part)
            noise = np.array(self.noise, np.float32)[part.grainy][:, None, None, None]
            drawn = drawn + noise * rng.standard_normal(drawn.shape, dtype=np.float32)
            pictures[where] = (drawn.clip(0, 1) * 255).astype(np.uint8)
        return pictures, covered
