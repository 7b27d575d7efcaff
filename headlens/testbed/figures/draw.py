"""Draw the figures' world: places; on them head, hair, clothes, limbs. Marks of the occupations are in `outfits.py`."""

from __future__ import annotations

import numpy as np

from headlens.testbed.drawing import TURN, Colour, Drawing, Pictures, grid, painted, smooth_noise, uniform
from headlens.testbed.figures.outfits import HAND, HATS, MARKS, TOOLS, draw_part
from headlens.testbed.figures.scenes import Figures
from headlens.testbed.figures.shapes import Canvas
from headlens.testbed.figures.world import HAIR_COLOURS, OCCUPATIONS, SCENERIES, SKINS

_SPINES = np.array([(0.55, 0.30, 0.28), (0.36, 0.44, 0.58), (0.66, 0.58, 0.40), (0.38, 0.50, 0.38)], np.float32)
_FLOOR = 0.82  # where the wall ends and the ground begins
_CENTRES = ((0.36, 0.40), (0.47, 0.53), (0.60, 0.64))  # apart, so that the word for a side is never in doubt
_COAT, _SHOE = (0.50, 0.50, 0.52), (0.12, 0.10, 0.10)
_PINK, _CLASP = (0.98, 0.42, 0.70), (0.93, 0.80, 0.42)


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
            p = painted(_flat(p, (0.80, 0.84, 0.86)), (across < 0.1) | (down < 0.1), (0.58, 0.62, 0.66))
            p = painted(p, below, (0.50, 0.46, 0.44))
        elif scenery.name == "library":
            shelf, book = np.floor(y * 4 + a), np.floor(x * 2.8 * s + 3 * a)
            colour = _SPINES[((book * 7 + shelf * 3) % len(_SPINES)).astype(int)]
            p = 0.92 * colour + 0 * p
            p = painted(p, (y * 4 + a) % 1 < 0.14, (0.30, 0.19, 0.10))
            p = painted(p, below, (0.42, 0.30, 0.20))
        elif scenery.name == "room":
            p = painted(_flat(p, (0.88, 0.78, 0.62)), below, (0.62, 0.42, 0.28))
            left = np.where(a < 0.5, 0.06 + 0.1 * a, 0.60 + 0.1 * a)
            pane = (x > left) & (x < left + 0.28) & (y > 0.10) & (y < 0.42)
            bar = (np.abs(x - left - 0.14) < 0.02) | (np.abs(y - 0.26) < 0.02)
            p = painted(painted(p, pane, (0.60, 0.80, 0.96)), pane & bar, (0.98, 0.97, 0.92))
        elif scenery.name == "street":
            tall = 0.16 + 0.22 * ((np.floor(x * 4 + a * 4) * 0.37 + a) % 1)
            house, lit = y > tall, ((x * 14) % 1 < 0.45) & ((y * 11) % 1 < 0.45)
            p = painted(_flat(p, (0.66, 0.74, 0.84)), house, (0.50, 0.50, 0.54))
            p = painted(painted(p, house & lit, (0.80, 0.76, 0.52)), below, (0.34, 0.34, 0.36))
        elif scenery.name == "park":
            p = painted(_flat(p, (0.68, 0.84, 0.94)), y + 0 * a > h - 0.22 + 0.03 * w, (0.50, 0.70, 0.34))
            stem = np.where(a < 0.5, 0.10 + 0.12 * a, 0.80 + 0.12 * a)
            p = painted(p, (np.abs(x - stem) < 0.03) & (y > 0.3) & (y < h), (0.40, 0.26, 0.14))
            p = painted(p, np.hypot(x - stem, (y - 0.24) * 0.9) < 0.15 + 0.02 * w, (0.24, 0.48, 0.20))
        elif scenery.name == "beach":
            wave = 0.05 * np.sin(TURN * (y * 16 + a + 0.06 * w))
            p = (
                painted(_flat(p, (0.72, 0.88, 0.96)), (y > 0.42) & ~below, (0.30, 0.56, 0.78))
                + wave[..., None] * (y > 0.42)[..., None]
            )
            p = painted(p, below, (0.92, 0.84, 0.62))
        picture[rows] = p
    return ((picture + tint) * shade * (1 + 0.05 * wide)[..., None]).astype(np.float32)


def _canvas(rng: np.random.Generator, picture: Pictures, figures: Figures) -> Canvas:
    """Coordinates of each figure: its size and place; mirrored where it faces left; bent forward where it stoops."""
    count, side = picture.shape[:2]
    x, y = grid(side)
    high = uniform(rng, count, 0.78, 0.86) * np.where(figures.stoop == 1, 0.95, 1.0)[:, None, None].astype(np.float32)
    low, most = np.array(_CENTRES, np.float32)[figures.side].T
    centre = rng.uniform(low, most).astype(np.float32)[:, None, None]
    feet = uniform(rng, count, 0.94, 0.98)
    mirror = np.where(figures.facing == 1, 1, -1).astype(np.float32)[:, None, None]
    u, v = mirror * (x - centre) / high, 1 - (feet - y) / high
    bend = 0.42 * figures.stoop[:, None, None].astype(np.float32) * np.clip(0.45 - v, 0, 1)
    return Canvas(picture, (u - bend).astype(np.float32), v.astype(np.float32), (high * side).astype(np.float32))


def draw_figures(rng: np.random.Generator, picture: Pictures, figures: Figures) -> Pictures:
    """The figures on their places."""
    canvas, count = _canvas(rng, picture, figures), len(figures)
    light = 1 + 0.10 * rng.standard_normal((count, 1))
    outfit = np.array([one.colour for one in OCCUPATIONS])[figures.label]
    outfit = np.where(figures.coat[:, None] == 1, np.array(_COAT), outfit) * light
    outfit = outfit + 0.03 * rng.standard_normal((count, 3))
    skin = np.array(SKINS)[figures.skin] * (1 + 0.05 * rng.standard_normal((count, 1)))
    hair = np.array([colour for _, colour in HAIR_COLOURS])[figures.hair] * (1 + 0.08 * rng.standard_normal((count, 1)))
    long_hair, skirt = figures.long_hair, figures.skirt
    trousers = 1 - skirt

    # Behind: long hair; then legs, arms, the body.
    head, trunk, legs = canvas.band(-0.02, 0.42), canvas.band(0.20, 0.82), canvas.band(0.55, 1.02)
    falling = np.minimum(head.ellipse(-0.01, 0.15, 0.135, 0.13), head.box(-0.02, 0.25, 0.125, 0.12))
    head.paint(falling, hair, long_hair)
    for leg in (-0.055, 0.055):
        legs.paint(legs.stroke(leg, 0.60, leg * 1.1, 0.96, 0.046), outfit * 0.72, trousers)
        legs.paint(legs.stroke(leg, 0.70, leg, 0.96, 0.026), skin, skirt)
        legs.paint(legs.ellipse(leg * 1.1 + 0.015, 0.975, 0.055, 0.025), _SHOE)
    shoulder = np.where(skirt == 1, 0.10, 0.15).astype(np.float32)[:, None, None]
    for x0, x1, y1 in ((-1.0, -0.20, 0.56), (1.0, *HAND)):
        trunk.paint(trunk.stroke(x0 * (shoulder - 0.03), 0.31, x1, y1, 0.033), outfit * 0.86)
        trunk.paint(trunk.ellipse(x1, y1, 0.034, 0.034), skin)
    # A straight outline with broad shoulders, or a waist and a skirt that widens to its hem.
    side, down = np.abs(trunk.u), trunk.v
    straight = np.maximum(side - (0.155 - 0.12 * np.clip(down - 0.30, 0, 0.4)), np.abs(down - 0.445) - 0.175)
    waist = 0.105 - 0.16 * np.clip(down - 0.32, 0, 0.15) + 0.52 * np.clip(down - 0.50, 0, 1)
    flared = np.maximum(side - waist, np.abs(down - 0.52) - 0.25)
    trunk.paint(straight, outfit, trousers)
    trunk.paint(flared, outfit, skirt)
    draw_part(canvas, figures, MARKS, 1 - figures.coat)
    # The head: neck, face, eyes; hair on top, at the sides where it is long, round the chin for a beard.
    head.paint(head.box(0.0, 0.26, 0.035, 0.03), skin * 0.9)
    head.paint(head.ellipse(0.01, 0.15, 0.10, 0.115), skin)
    head.paint(np.maximum(head.ellipse(0.01, 0.15, 0.105, 0.12), 0.195 - head.v), hair, figures.beard)
    fringe = np.maximum(head.ellipse(0.0, 0.14, 0.115, 0.12), head.v - 0.105 - 0.2 * (head.u < -0.06))
    head.paint(fringe, hair)
    locks = np.minimum(head.box(-0.10, 0.24, 0.035, 0.13), head.box(0.105, 0.24, 0.025, 0.13))
    head.paint(locks, hair, long_hair)
    for eye in (-0.02, 0.055):
        head.paint(head.ellipse(eye, 0.15, 0.013, 0.016), _SHOE)
    draw_part(canvas, figures, HATS, figures.hat)
    draw_part(canvas, figures, TOOLS, figures.tool)
    # In the other hand: a pink handbag or a black briefcase.
    bags = canvas.band(0.50, 0.80)
    bags.paint(bags.stroke(-0.20, 0.56, -0.20, 0.64, 0.012), _SHOE)
    bags.paint(np.maximum(bags.ellipse(-0.21, 0.70, 0.10, 0.085), 0.635 - bags.v), _PINK, figures.bag)
    bags.paint(bags.box(-0.21, 0.69, 0.10, 0.06), _SHOE, 1 - figures.bag)
    bags.paint(bags.box(-0.21, 0.67, 0.02, 0.012), _CLASP)
    # Beside it, a stick with a crook, from the hand to the ground.
    low = canvas.band(0.45, 1.02)
    cane = np.minimum(low.stroke(-0.24, 0.52, -0.36, 0.98, 0.017), low.stroke(-0.24, 0.52, -0.17, 0.50, 0.017))
    low.paint(cane, (0.42, 0.20, 0.06), figures.cane)
    return canvas.picture


render_figures = Drawing(draw_sceneries, draw_figures, lambda picture, _: picture, noise=(0.02, 0.07), chunk=128)
"""Draw every figure; the same generator state gives the same pictures."""
