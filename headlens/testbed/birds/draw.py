"""Draw the birds' world, many pictures at a time: places and weather; the birds on them.

A bird is an ellipse for a body, strokes for neck, tail, beak and legs, talons or webs for feet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from headlens.testbed.birds.scenes import HEIGHT_RANGES, Scenes
from headlens.testbed.birds.world import PLACES, SPECIES
from headlens.testbed.drawing import TURN, Drawing, Pictures, grid, painted, smooth_noise, uniform

_SCALES = ((0.16, 0.19), (0.20, 0.23), (0.24, 0.28))
_SHRINK = (1.0, 0.80, 0.66)  # two or three birds share the room of one
_LIMBS = np.array([0.95, 0.60, 0.15], np.float32)


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
            p = painted(p, np.sin(TURN * (x * s * 0.6 + 0.06 * w) + a) > 0.55, (0.30, 0.20, 0.11))
        elif place.name == "bamboo":
            p = painted(p, np.sin(TURN * (x * s * 1.5 + 0.03 * w) + a) > 0.5, (0.66, 0.72, 0.30))
        elif place.name == "meadow":
            p = painted(painted(p, f > 1.0, (0.66, 0.50, 0.25)), edge, (0.30, 0.42, 0.22))
        elif place.name == "desert":
            ridge = np.sin(TURN * (y * s * 0.5 + 0.25 * np.sin(TURN * x * 0.7 + a)) + a)
            p = painted(p + (0.06 * ridge)[..., None], edge, (0.90, 0.82, 0.62))
        elif place.name == "mountain":
            slope = np.abs((x * s * 0.35 + a / TURN) % 1 - 0.5)
            p = painted(p, y < 0.12 + 0.7 * slope, (0.64, 0.62, 0.62))
        elif place.name == "ocean":
            wave = np.sin(TURN * (y * s * 1.4 + 0.10 * w + 0.05 * np.sin(9 * x)) + a)
            p = p + (0.10 * wave + 0.15 * (wave > 0.85))[..., None]
        elif place.name == "lake":
            calm = np.sin(TURN * (y * s * 0.6 + 0.05 * w) + a)
            p = painted(p + (0.04 * calm)[..., None], edge, (0.62, 0.72, 0.80))
        elif place.name == "river":
            p = p + (0.10 * np.sin(TURN * ((y + 0.4 * x) * s + 0.15 * w) + a))[..., None]
        elif place.name == "pond":
            p = painted(p, f > 0.95, (0.22, 0.55, 0.35))
        elif place.name == "marsh":
            p = painted(p, (np.sin(TURN * (x * s * 1.7 + 0.12 * w) + a) > 0.86) & (y < 0.8), (0.52, 0.50, 0.30))
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
    picture[sunny] = painted(picture[sunny], disc[sunny], (1.0, 0.95, 0.55))
    picture[cloudy] = painted(picture[cloudy], clouds[cloudy], (0.82, 0.82, 0.84))
    picture[night] = painted(picture[night], disc[night], (1.0, 1.0, 0.95))
    return picture


def draw_light(picture: Pictures, scenes: Scenes) -> Pictures:
    """Light over the finished scene: warm by day, greyish under clouds, dark and blue at night."""
    sunny, cloudy, night = (np.flatnonzero(scenes.weather == kind) for kind in (1, 2, 3))
    picture = picture.copy()
    picture[sunny] = picture[sunny] * np.array([1.12, 1.08, 0.98], np.float32) + 0.03
    picture[cloudy] = 0.75 * picture[cloudy] + 0.25 * picture[cloudy].mean(-1, keepdims=True)
    picture[night] = picture[night] * np.array([0.52, 0.56, 0.74], np.float32)
    return picture


def _mix(picture: Float[np.ndarray, "image #row #column 3"], cover: np.ndarray, colour: np.ndarray) -> Pictures:
    return picture * (1 - cover[..., None]) + cover[..., None] * colour


def draw_birds(rng: np.random.Generator, picture: Pictures, scenes: Scenes) -> Pictures:
    """Draw one to three birds of each scene's species, all facing the same way, side by side."""
    picture = picture.copy()
    opacity = rng.uniform(0.8, 1.0, len(scenes)).astype(np.float32)
    for number in range(3):
        rows = np.flatnonzero(scenes.count >= number)
        if len(rows):
            picture[rows] = _draw_one(rng, picture[rows], scenes[rows], number, opacity[rows])
    return picture


def _draw_one(
    rng: np.random.Generator, picture: Pictures, scenes: Scenes, number: int, opacity: np.ndarray
) -> Pictures:
    count, side = picture.shape[:2]
    x, y = grid(side)
    shape = np.array([species.shape for species in SPECIES], np.float32)[scenes.species]
    shape = shape * (1 + 0.08 * rng.standard_normal(shape.shape).astype(np.float32))
    length, height, neck, beak, angle, tail, legs = (shape[:, j][:, None, None] for j in range(7))
    low, high = np.array(_SCALES, np.float32)[scenes.size].T
    scale = rng.uniform(low, high).astype(np.float32) * np.array(_SHRINK, np.float32)[scenes.count]
    scale = scale[:, None, None]
    room = 1.0 / (scenes.count + 1)
    centre_x = (number + rng.uniform(0.35, 0.65, count)) * room
    centre_x = np.where(scenes.count == 0, rng.uniform(0.25, 0.75, count), centre_x)
    low, high = np.array(HEIGHT_RANGES, np.float32)[scenes.height].T
    centre_y = rng.uniform(low, high)
    mirror = np.where(scenes.facing == 0, -1, 1).astype(np.float32)[:, None, None]
    turn = uniform(rng, count, -0.2, 0.2)
    u = (x - centre_x.astype(np.float32)[:, None, None]) / scale
    v = (y - centre_y.astype(np.float32)[:, None, None]) / scale
    u = u * mirror
    u, v = u * np.cos(turn) + v * np.sin(turn), -u * np.sin(turn) + v * np.cos(turn)

    def inside(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance * scale * side, 0, 1)

    def stroke(x0: Any, y0: Any, x1: Any, y1: Any, width: float) -> np.ndarray:
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
        return np.hypot(u - x0 - t * dx, v - y0 - t * dy) - width

    water = (scenes.label == 1)[:, None, None]
    body = (np.hypot(u / length, v / height) - 1) * np.minimum(length, height)
    head_x, head_y = length * 0.75 + 0.10, -height * 0.55 - neck
    head = np.hypot(u - head_x, v - head_y) - 0.22
    throat = stroke(length * 0.65, -height * 0.3, head_x, head_y, 0.11)
    feathers = stroke(
        -length * 0.8, -height * 0.1, -length * 0.8 - tail * np.cos(angle), -height * 0.1 - tail * np.sin(angle), 0.11
    )
    # a flat bill is thick to its tip, a pointed beak thins out
    tip = np.where(water, 0.08, 0.085 * np.clip(1 - (u - head_x - 0.15) / (beak + 0.05), 0.15, 1))
    bill = stroke(head_x + 0.15, head_y + 0.02, head_x + 0.20 + beak, head_y + 0.06, 0.0) - tip
    ground = height * 0.9 + legs
    limbs = bill
    for foot in (-0.05, 0.15):
        leg = stroke(foot, height * 0.9, foot, ground, 0.045)
        web = np.maximum(
            np.abs(u - foot - 0.09) - 0.17 * np.clip((v - ground + 0.13) / 0.2, 0, 1), np.abs(v - ground) - 0.09
        )
        prongs = [stroke(foot, ground, foot + reach, ground + 0.13, 0.025) for reach in (-0.12, 0.0, 0.12)]
        limbs = np.minimum(limbs, np.minimum(leg, np.where(water, web, np.minimum.reduce(prongs))))

    def plumage(colours: list[tuple[float, float, float]]) -> np.ndarray:
        plain = np.array(colours, np.float32)[scenes.species][:, None, None]
        light = 1 + 0.12 * rng.standard_normal((count, 1, 1, 1)).astype(np.float32)
        return plain * light + 0.05 * rng.standard_normal((count, 1, 1, 3)).astype(np.float32)

    colour = _mix(plumage([s.body for s in SPECIES]), inside(head), plumage([s.head for s in SPECIES]))
    shade = (1 - 0.25 * np.clip(v / (height + 0.1), -1, 1))[..., None]
    cover = opacity[:, None, None]
    picture = _mix(picture, cover * inside(limbs), _LIMBS)
    return _mix(picture, cover * inside(np.minimum.reduce([body, throat, head, feathers])), colour * shade)


render = Drawing(
    behind=lambda rng, scenes, side: draw_sky(rng, draw_places(rng, scenes, side), scenes),
    front=draw_birds,
    light=draw_light,
    noise=(0.03, 0.09),
    chunk=256,
)
"""Draw every scene; the same generator state gives the same pictures."""
