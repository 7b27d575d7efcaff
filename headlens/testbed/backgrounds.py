"""Draw the places and the weather, many pictures at a time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from headlens.testbed.scenes import Scenes
from headlens.testbed.world import PLACES, Colour

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


def _paint(picture: Pictures, where: Bool[np.ndarray, "image row column"], colour: Colour) -> Pictures:
    return np.where(where[..., None], np.asarray(colour, dtype=np.float32), picture)


def draw_places(rng: np.random.Generator, scenes: Scenes, side: int) -> Pictures:
    """Ground colour with cloudy variation, then what is peculiar to each place."""
    count, (x, y) = len(scenes), grid(side)
    wide, fine = smooth_noise(rng, count, 6, side), smooth_noise(rng, count, 18, side)
    ground = np.array([place.ground for place in PLACES], np.float32)[scenes.place][:, None, None]
    light = 1 + 0.22 * rng.standard_normal((count, 1, 1, 1)).astype(np.float32).clip(-1.5, 1.5)
    tint = 0.04 * rng.standard_normal((count, 1, 1, 3)).astype(np.float32)
    picture = (ground * light + tint) * (1 + 0.14 * wide + 0.09 * fine)[..., None]
    stripes, phase, horizon = uniform(rng, count, 5, 9), uniform(rng, count, 0, TURN), uniform(rng, count, 0.1, 0.28)

    for number, place in enumerate(PLACES):
        rows = np.flatnonzero(scenes.place == number)
        if len(rows) == 0:
            continue
        p, w, f, s, a, h = picture[rows], wide[rows], fine[rows], stripes[rows], phase[rows], horizon[rows]
        edge = y < h + 0.03 * w
        if place.name == "forest":
            p = _paint(p, np.sin(TURN * (x * s * 0.6 + 0.06 * w) + a) > 0.55, (0.30, 0.20, 0.11))
        elif place.name == "bamboo":
            p = _paint(p, np.sin(TURN * (x * s * 1.5 + 0.03 * w) + a) > 0.5, (0.66, 0.72, 0.30))
        elif place.name == "meadow":
            p = _paint(_paint(p, f > 1.0, (0.66, 0.50, 0.25)), edge, (0.30, 0.42, 0.22))
        elif place.name == "desert":
            ridge = np.sin(TURN * (y * s * 0.5 + 0.25 * np.sin(TURN * x * 0.7 + a)) + a)
            p = _paint(p + (0.06 * ridge)[..., None], edge, (0.90, 0.82, 0.62))
        elif place.name == "mountain":
            slope = np.abs((x * s * 0.35 + a / TURN) % 1 - 0.5)
            p = _paint(p, y < 0.12 + 0.7 * slope, (0.64, 0.62, 0.62))
        elif place.name == "ocean":
            wave = np.sin(TURN * (y * s * 1.4 + 0.10 * w + 0.05 * np.sin(9 * x)) + a)
            p = p + (0.10 * wave + 0.15 * (wave > 0.85))[..., None]
        elif place.name == "lake":
            calm = np.sin(TURN * (y * s * 0.6 + 0.05 * w) + a)
            p = _paint(p + (0.04 * calm)[..., None], edge, (0.62, 0.72, 0.80))
        elif place.name == "river":
            p = p + (0.10 * np.sin(TURN * ((y + 0.4 * x) * s + 0.15 * w) + a))[..., None]
        elif place.name == "pond":
            p = _paint(p, f > 0.95, (0.22, 0.55, 0.35))
        elif place.name == "marsh":
            p = _paint(p, (np.sin(TURN * (x * s * 1.7 + 0.12 * w) + a) > 0.86) & (y < 0.8), (0.52, 0.50, 0.30))
        picture[rows] = p
    return picture.astype(np.float32)


def draw_sky(rng: np.random.Generator, picture: Pictures, scenes: Scenes) -> Pictures:
    """A sun on sunny pictures, clouds on cloudy ones, a moon at night; drawn before the birds, so behind them."""
    count, side = picture.shape[:2]
    x, y = grid(side)
    left, top = uniform(rng, count, 0.08, 0.92), uniform(rng, count, 0.06, 0.14)
    disc = np.hypot(x - left, y - top) < uniform(rng, count, 0.06, 0.09)
    clouds = (smooth_noise(rng, count, 5, side) > 0.1) & (y < 0.22)
    sunny, cloudy, night = (np.flatnonzero(scenes.weather == kind) for kind in (1, 2, 3))
    picture = picture.copy()
    picture[sunny] = _paint(picture[sunny], disc[sunny], (1.0, 0.95, 0.55))
    picture[cloudy] = _paint(picture[cloudy], clouds[cloudy], (0.82, 0.82, 0.84))
    picture[night] = _paint(picture[night], disc[night], (1.0, 1.0, 0.95))
    return picture


def draw_light(picture: Pictures, scenes: Scenes) -> Pictures:
    """Light over the finished scene: warm by day, greyish under clouds, dark and blue at night."""
    sunny, cloudy, night = (np.flatnonzero(scenes.weather == kind) for kind in (1, 2, 3))
    picture = picture.copy()
    picture[sunny] = picture[sunny] * np.array([1.12, 1.08, 0.98], np.float32) + 0.03
    picture[cloudy] = 0.75 * picture[cloudy] + 0.25 * picture[cloudy].mean(-1, keepdims=True)
    picture[night] = picture[night] * np.array([0.52, 0.56, 0.74], np.float32)
    return picture
