"""Sentences that are true of a scene, and the list of all words that they can hold.

A caption says some of what is in the picture, drawn anew each time it is asked for: how many birds, their size, colour,
species or class, one more detail (a feature of the class, the weather, where they look, how high they are), the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from headlens.testbed import world
from headlens.testbed.scenes import Scenes

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
