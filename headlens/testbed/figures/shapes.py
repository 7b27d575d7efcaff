"""Shapes as signed distances, for pictures drawn many at a time: negative inside, in the unit of the coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Canvas:
    """Pictures and the coordinates in which a figure is drawn on them.

    Attributes:
        picture: the pictures, painted in place.
        u, v: coordinates of every pixel: u to the side of the tool, v downwards; 0 to 1 from head to feet.
        pixels: pixels a unit, for soft edges.
    """

    picture: np.ndarray
    u: np.ndarray
    v: np.ndarray
    pixels: np.ndarray

    def rows(self, where: np.ndarray) -> Canvas:
        """The canvas of some of the pictures; its picture is a copy."""
        return Canvas(self.picture[where], self.u[where], self.v[where], self.pixels[where])

    def band(self, top: float, bottom: float) -> Canvas:
        """The rows of pixels on which any figure has v between `top` and `bottom`, as a view: less to paint on."""
        down = self.v[:, :, 0]
        seen = np.flatnonzero(((down > top) & (down < bottom)).any(axis=0))
        part = slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 0)
        return Canvas(self.picture[:, part], self.u[:, part], self.v[:, part], self.pixels)

    def paint(self, distance: np.ndarray, colour: Any, where: np.ndarray | None = None) -> None:
        """Cover the inside of a shape, with an edge one pixel wide.

        Args:
            distance: signed distance to the shape.
            colour: of all pictures, or a row each.
            where: which pictures show the shape, 1 or 0.
        """
        cover = np.clip(np.float32(0.5) - distance * self.pixels, 0, 1).astype(np.float32, copy=False)
        if where is not None:
            cover *= where[:, None, None].astype(np.float32)
        colour = np.asarray(colour, np.float32)
        colour = colour[:, None, None] if colour.ndim == 2 else colour
        self.picture += cover[..., None] * (colour - self.picture)

    def ellipse(self, x: Any, y: Any, wide: Any, high: Any) -> np.ndarray:
        return (np.hypot((self.u - x) / wide, (self.v - y) / high) - 1) * np.minimum(wide, high)

    def box(self, x: Any, y: Any, wide: Any, high: Any) -> np.ndarray:
        return np.maximum(np.abs(self.u - x) - wide, np.abs(self.v - y) - high)

    def stroke(self, x0: Any, y0: Any, x1: Any, y1: Any, width: Any) -> np.ndarray:
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((self.u - x0) * dx + (self.v - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
        return np.hypot(self.u - x0 - t * dx, self.v - y0 - t * dy) - width
