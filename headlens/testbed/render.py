"""From scenes to pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from headlens.testbed.backgrounds import draw_light, draw_places, draw_sky
from headlens.testbed.birds import draw_birds
from headlens.testbed.scenes import Scenes

SIDE = 64
_NOISE = (0.03, 0.09)
_CHUNK = 256


def render(rng: np.random.Generator, scenes: Scenes, side: int = SIDE) -> UInt8[np.ndarray, "image row column 3"]:
    """Draw every scene on `side` × `side` pixels; the same generator state gives the same pictures."""
    pictures = np.empty((len(scenes), side, side, 3), np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        part = scenes[slice(start, start + _CHUNK)]
        drawn = draw_sky(rng, draw_places(rng, part, side), part)
        drawn = draw_light(draw_birds(rng, drawn, part), part)
        noise = np.array(_NOISE, np.float32)[part.grainy][:, None, None, None]
        drawn = drawn + noise * rng.standard_normal(drawn.shape, dtype=np.float32)
        pictures[start : start + _CHUNK] = (drawn.clip(0, 1) * 255).astype(np.uint8)
    return pictures
