"""What is in each picture, before a pixel of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from headlens.testbed.world import PLACES, SPECIES, WEATHERS

_WEATHER_SHARES = (0.46, 0.18, 0.18, 0.18)
_SIZE_SHARES = (0.35, 0.30, 0.35)
_COUNT_SHARES = (0.60, 0.25, 0.15)
_GRAINY_SHARE = 0.15
HEIGHT_RANGES = ((0.28, 0.40), (0.46, 0.58), (0.64, 0.76))  # apart, so that the word for a height is never in doubt


@dataclass(frozen=True)
class Scenes:
    """A table of scenes, one entry of every field a picture.

    Attributes:
        label: class, `background`: kind of background; equal where the two agree.
        species: index into `SPECIES`; `place`: index into `PLACES`.
        count: birds less one; `size`, `weather`, `facing`, `height`: indices into the world's tuples.
        grainy: 1 where the picture is noisy.
    """

    label: Int[np.ndarray, "image"]
    background: Int[np.ndarray, "image"]
    species: Int[np.ndarray, "image"]
    place: Int[np.ndarray, "image"]
    count: Int[np.ndarray, "image"]
    size: Int[np.ndarray, "image"]
    weather: Int[np.ndarray, "image"]
    facing: Int[np.ndarray, "image"]
    height: Int[np.ndarray, "image"]
    grainy: Int[np.ndarray, "image"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice | np.ndarray) -> Scenes:
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def flipped(self, where: np.ndarray) -> Scenes:
        """The same scenes seen in a mirror wherever `where` holds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["facing"] = np.where(where, 1 - self.facing, self.facing)
        return Scenes(**values)


def group_counts(count: int, agreement: float) -> Float[np.ndarray, "label background"]:
    """How many of `count` pictures fall in each (class, background), half of them in each class."""
    agree = round(count * agreement / 2)
    half = count // 2
    return np.array([[agree, half - agree], [count - half - agree, agree]], dtype=float)


def sample_scenes(rng: np.random.Generator, count: int, agreement: float) -> Scenes:
    """Draw `count` scenes whose class and background agree in the given share, exactly, in random order.

    Everything else (species, place within its kind, number, size, weather, ...) is drawn independently of both.
    """
    sizes = group_counts(count, agreement).astype(int).ravel()
    group = rng.permutation(np.repeat(np.arange(4), sizes))
    label, background = group // 2, group % 2
    per_class, per_background = len(SPECIES) // 2, len(PLACES) // 2
    return Scenes(
        label=label,
        background=background,
        species=label * per_class + rng.integers(0, per_class, count),
        place=background * per_background + rng.integers(0, per_background, count),
        count=rng.choice(3, count, p=_COUNT_SHARES),
        size=rng.choice(3, count, p=_SIZE_SHARES),
        weather=rng.choice(len(WEATHERS), count, p=_WEATHER_SHARES),
        facing=rng.integers(0, 2, count),
        height=rng.integers(0, 3, count),
        grainy=(rng.random(count) < _GRAINY_SHARE).astype(np.int64),
    )
