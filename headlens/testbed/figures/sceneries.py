"""Draw the places behind the figures, many pictures at a time."""

from __future__ import annotations

import numpy as np

from headlens.testbed.backgrounds import TURN, Pictures, grid, smooth_noise, uniform
from headlens.testbed.figures.scenes import Figures
from headlens.testbed.figures.world import SCENERIES
from headlens.testbed.world import Colour

_SPINES = np.array([(0.55, 0.30, 0.28), (0.36, 0.44, 0.58), (0.66, 0.58, 0.40), (0.38, 0.50, 0.38)], np.float32)
_FLOOR = 0.82  # where the wall ends and the ground begins


def _paint(picture: np.ndarray, where: np.ndarray, colour: Colour | np.ndarray) -> np.ndarray:
    return np.where(where[..., None], np.asarray(colour, dtype=np.float32), picture)


def _flat(picture: np.ndarray, colour: Colour) -> np.ndarray:
    return np.broadcast_to(np.asarray(colour, np.float32), picture.shape)


def draw_sceneries(rng: np.random.Generator, figures: Figures, side: int) -> Pictures:
    """A wall or sky and a ground, with what is peculiar to each place; pale, so that the figures stand out."""
    count, (x, y) = len(figures), grid(side)
    wide = smooth_noise(rng, count, 6, side)
    phase, stripes = uniform(rng, count, 0, 1), uniform(rng, count, 4.5, 6.5)
    horizon = uniform(rng, count, _FLOOR - 0.05, _FLOOR + 0.05)
    shade = (1 + 0.10 * rng.standard_normal((count, 1, 1, 1))).clip(0.75, 1.2).astype(np.float32)
    tint = 0.03 * rng.standard_normal((count, 1, 1, 3)).astype(np.float32)
    picture = np.zeros((count, side, side, 3), np.float32)
    for number, scenery in enumerate(SCENERIES):
        rows = np.flatnonzero(figures.place == number)
        if len(rows) == 0:
            continue
        p, w, a, s, h = picture[rows], wide[rows], phase[rows], stripes[rows], horizon[rows]
        below = np.broadcast_to(y, w.shape) > h
        if scenery.name == "kitchen":
            across, down = (x * s + a) % 1, (y * s + a) % 1
            p = _paint(_flat(p, (0.80, 0.84, 0.86)), (across < 0.1) | (down < 0.1), (0.58, 0.62, 0.66))
            p = _paint(p, below, (0.50, 0.46, 0.44))
        elif scenery.name == "library":
            shelf, book = np.floor(y * 4 + a), np.floor(x * 2.8 * s + 3 * a)
            colour = _SPINES[((book * 7 + shelf * 3) % len(_SPINES)).astype(int)]
            p = 0.92 * colour + 0 * p
            p = _paint(p, (y * 4 + a) % 1 < 0.14, (0.30, 0.19, 0.10))
            p = _paint(p, below, (0.42, 0.30, 0.20))
        elif scenery.name == "room":
            p = _paint(_flat(p, (0.88, 0.78, 0.62)), below, (0.62, 0.42, 0.28))
            left = np.where(a < 0.5, 0.06 + 0.1 * a, 0.60 + 0.1 * a)
            pane = (x > left) & (x < left + 0.28) & (y > 0.10) & (y < 0.42)
            bar = (np.abs(x - left - 0.14) < 0.02) | (np.abs(y - 0.26) < 0.02)
            p = _paint(_paint(p, pane, (0.60, 0.80, 0.96)), pane & bar, (0.98, 0.97, 0.92))
        elif scenery.name == "street":
            tall = 0.16 + 0.22 * ((np.floor(x * 4 + a * 4) * 0.37 + a) % 1)
            house, lit = y > tall, ((x * 14) % 1 < 0.45) & ((y * 11) % 1 < 0.45)
            p = _paint(_flat(p, (0.66, 0.74, 0.84)), house, (0.50, 0.50, 0.54))
            p = _paint(_paint(p, house & lit, (0.80, 0.76, 0.52)), below, (0.34, 0.34, 0.36))
        elif scenery.name == "park":
            p = _paint(_flat(p, (0.68, 0.84, 0.94)), y + 0 * a > h - 0.22 + 0.03 * w, (0.50, 0.70, 0.34))
            stem = np.where(a < 0.5, 0.10 + 0.12 * a, 0.80 + 0.12 * a)
            p = _paint(p, (np.abs(x - stem) < 0.03) & (y > 0.3) & (y < h), (0.40, 0.26, 0.14))
            p = _paint(p, np.hypot(x - stem, (y - 0.24) * 0.9) < 0.15 + 0.02 * w, (0.24, 0.48, 0.20))
        elif scenery.name == "beach":
            wave = 0.05 * np.sin(TURN * (y * 16 + a + 0.06 * w))
            p = (
                _paint(_flat(p, (0.72, 0.88, 0.96)), (y > 0.42) & ~below, (0.30, 0.56, 0.78))
                + wave[..., None] * (y > 0.42)[..., None]
            )
            p = _paint(p, below, (0.92, 0.84, 0.62))
        picture[rows] = p
    return ((picture + tint) * shade * (1 + 0.05 * wide)[..., None]).astype(np.float32)
