"""What is in each picture of the birds' world, before a pixel of it is drawn, and sentences that are true of it.

A caption says some of what is in the picture, drawn anew each time it is asked for: how many birds, their size, colour,
species or class, one more detail (a feature of the class, the weather, where they look, how high they are), the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from headlens.testbed.birds import world
from headlens.testbed.birds.world import PLACES, SPECIES, WEATHERS

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


# ---- captions --------------------------------------------------------------------------------------------------------

PREFIXES = ("a photo of", "a photo of", "an image of", "a picture of", "this is", "", "")
PLURAL_PREFIXES = ("a photo of", "a photo of", "an image of", "a picture of", "these are", "", "")
GRAINY_PREFIXES = ("a grainy photo of", "a noisy photo of")
CLEAR_PREFIXES = ("a clear photo of", "a sharp photo of")
PLACE_PREPOSITIONS = ("in", "on", "near", "by")


@dataclass(frozen=True)
class CaptionRates:
    """How often each thing is said."""

    place: float = 0.6
    generic_place: float = 0.35
    species: float = 0.45
    label: float = 0.75
    colour: float = 0.12
    size: float = 0.20
    detail: float = 0.40
    quality: float = 0.06


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _detail(rng: np.random.Generator, scenes: Scenes, i: int) -> str:
    kind, many = rng.random(), scenes.count[i] > 0
    if kind < 0.55:
        features = world.PLURAL_FEATURES if many else world.FEATURES
        return "with " + _pick(rng, features[scenes.label[i]])
    if kind < 0.80:
        phrases = world.WEATHER_PHRASES[scenes.weather[i]]
        return _pick(rng, phrases) if phrases else ""
    if kind < 0.90:
        return _pick(rng, ("facing", "looking")) + " " + world.FACINGS[scenes.facing[i]]
    return "at the " + world.HEIGHTS[scenes.height[i]]


def caption(rng: np.random.Generator, scenes: Scenes, i: int, rates: CaptionRates) -> str:
    """One caption for scene `i`."""
    many = scenes.count[i] > 0
    words = []
    if rng.random() < rates.size and (sizes := world.SIZE_WORDS[scenes.size[i]]):
        words.append(_pick(rng, sizes))
    species = world.SPECIES[scenes.species[i]]
    if rng.random() < rates.colour:
        words.append(_pick(rng, species.words))
    says_species, says_label = rng.random() < rates.species, rng.random() < rates.label
    if says_species:
        words.append(species.plural if many and not says_label else species.name)
    if says_label:
        words.append((world.PLURALS if many else world.CLASSES)[scenes.label[i]])
    if not says_species and not says_label:
        words.append("birds" if many else "bird")
    number = _pick(rng, world.COUNT_WORDS[scenes.count[i]])
    if number == "a" and words[0][0] in "aeiou":
        number = "an"
    prefixes: Sequence[str] = PLURAL_PREFIXES if many else PREFIXES
    if rng.random() < rates.quality:
        prefixes = GRAINY_PREFIXES if scenes.grainy[i] else CLEAR_PREFIXES
    parts = [_pick(rng, prefixes), number, *words]
    if rng.random() < rates.detail:
        parts.append(_detail(rng, scenes, i))
    if rng.random() < rates.place:
        generic = rng.random() < rates.generic_place
        place = world.PLACES[scenes.place[i]]
        parts.append(_pick(rng, PLACE_PREPOSITIONS))
        parts.append(_pick(rng, world.GENERIC_PLACES[place.background] if generic else place.phrases))
    return " ".join(part for part in parts if part)


def captions(rng: np.random.Generator, scenes: Scenes, rates: CaptionRates | None = None) -> list[str]:
    """One caption for every scene; the same generator state gives the same sentences."""
    rates = rates or CaptionRates()
    return [caption(rng, scenes, i, rates) for i in range(len(scenes))]


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, in alphabetical order."""
    sentences = [*PREFIXES, *PLURAL_PREFIXES, *GRAINY_PREFIXES, *CLEAR_PREFIXES, *PLACE_PREPOSITIONS]
    sentences += [*world.CLASSES, *world.PLURALS, "bird birds an with facing looking at the"]
    for species in world.SPECIES:
        sentences += [species.name, species.plural, *species.words]
    for place in world.PLACES:
        sentences += place.phrases
    tables = (world.GENERIC_PLACES, world.FEATURES, world.PLURAL_FEATURES, world.SIZE_WORDS, world.WEATHER_PHRASES)
    for table in (*tables, world.COUNT_WORDS, (world.FACINGS,), (world.HEIGHTS,)):
        for phrases in table:
            sentences += phrases
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))
