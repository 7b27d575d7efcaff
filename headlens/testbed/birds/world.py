"""The world that the testbed's images and captions come from: birds, places, weather, and the words for them.

Two classes of six species, on two kinds of background with five places each. Every species has a colour of its own;
every waterbird has a long neck, a flat bill and webbed feet, every landbird a short neck, a pointed beak and talons.
All of that is really drawn, so that a sentence about it is true of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from headlens.testbed.drawing import Colour


@dataclass(frozen=True)
class Species:
    """One species: its names, its colours, and its shape in units of the bird's size.

    Attributes:
        name: singular; `plural` beside it.
        label: index into `CLASSES`.
        words: the words for its body colour.
        body: colour of the body, `head` of the head.
        shape: body half length, body half height, neck, beak, tail angle (radians), tail length, legs.
    """

    name: str
    plural: str
    label: int
    words: tuple[str, ...]
    body: Colour
    head: Colour
    shape: tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True)
class Place:
    """One place: its name, the kind of background it belongs to, phrases for it, and its ground colour."""

    name: str
    background: int
    phrases: tuple[str, ...]
    ground: Colour


CLASSES = ("landbird", "waterbird")
PLURALS = ("landbirds", "waterbirds")
BACKGROUNDS = ("land", "water")

SPECIES = (
    Species("sparrow", "sparrows", 0, ("brown", "tan"), (0.50, 0.32, 0.16), (0.75, 0.60, 0.40), (0.52, 0.42, 0.10, 0.20, 0.9, 0.50, 0.25)),
    Species("robin", "robins", 0, ("red", "crimson"), (0.85, 0.14, 0.10), (0.45, 0.28, 0.16), (0.50, 0.50, 0.05, 0.18, 0.5, 0.45, 0.35)),
    Species("crow", "crows", 0, ("black", "dark"), (0.06, 0.06, 0.08), (0.06, 0.06, 0.08), (0.62, 0.40, 0.12, 0.30, 0.3, 0.65, 0.30)),
    Species("finch", "finches", 0, ("yellow", "golden"), (0.95, 0.82, 0.15), (0.85, 0.35, 0.10), (0.48, 0.38, 0.08, 0.14, 1.2, 0.60, 0.20)),
    Species("parrot", "parrots", 0, ("green", "emerald"), (0.15, 0.80, 0.20), (0.90, 0.75, 0.15), (0.55, 0.46, 0.08, 0.16, -0.6, 0.85, 0.18)),
    Species("oriole", "orioles", 0, ("orange", "amber"), (0.97, 0.52, 0.08), (0.08, 0.07, 0.07), (0.56, 0.36, 0.10, 0.24, 0.1, 0.70, 0.30)),
    Species("gull", "gulls", 1, ("gray", "grey"), (0.62, 0.64, 0.68), (0.95, 0.95, 0.95), (0.66, 0.32, 0.35, 0.42, 0.0, 0.35, 0.15)),
    Species("duck", "ducks", 1, ("teal", "turquoise"), (0.05, 0.52, 0.50), (0.50, 0.36, 0.20), (0.62, 0.38, 0.42, 0.48, 0.6, 0.20, 0.12)),
    Species("heron", "herons", 1, ("blue", "azure"), (0.22, 0.38, 0.92), (0.90, 0.90, 0.95), (0.55, 0.30, 0.80, 0.60, -0.2, 0.25, 0.75)),
    Species("swan", "swans", 1, ("white", "pale"), (0.95, 0.95, 0.93), (0.95, 0.95, 0.93), (0.70, 0.40, 0.70, 0.40, 0.7, 0.25, 0.12)),
    Species("flamingo", "flamingos", 1, ("pink", "rosy"), (0.98, 0.58, 0.72), (0.98, 0.72, 0.80), (0.50, 0.32, 0.75, 0.42, 0.1, 0.22, 0.85)),
    Species("gallinule", "gallinules", 1, ("purple", "violet"), (0.48, 0.18, 0.68), (0.85, 0.15, 0.15), (0.60, 0.36, 0.38, 0.44, 0.4, 0.30, 0.40)),
)  # fmt: skip

PLACES = (
    Place("forest", 0, ("a forest", "a forest", "the woods", "tall trees"), (0.16, 0.34, 0.14)),
    Place("bamboo", 0, ("a bamboo forest", "a bamboo grove", "green bamboo"), (0.42, 0.58, 0.22)),
    Place("meadow", 0, ("a meadow", "a meadow", "a grassy field"), (0.50, 0.60, 0.24)),
    Place("desert", 0, ("a desert", "a desert", "sandy dunes"), (0.82, 0.68, 0.42)),
    Place("mountain", 0, ("a mountain", "a mountain", "rocky hills"), (0.46, 0.42, 0.38)),
    Place("ocean", 1, ("the ocean", "the ocean", "the open sea"), (0.08, 0.24, 0.50)),
    Place("lake", 1, ("a lake", "a lake", "a calm lake"), (0.28, 0.48, 0.62)),
    Place("river", 1, ("a river", "a river", "a flowing stream"), (0.20, 0.45, 0.50)),
    Place("pond", 1, ("a pond", "a pond", "a pond with lilies"), (0.12, 0.33, 0.38)),
    Place("marsh", 1, ("a marsh", "a marsh", "wet reeds"), (0.30, 0.38, 0.46)),
)

GENERIC_PLACES = (("land", "the land", "dry land", "the ground"), ("water", "the water", "open water", "the waves"))

FEATURES = (
    ("talons", "a short neck", "a pointed beak", "sharp claws"),
    ("webbed feet", "a long neck", "a flat bill", "broad feet"),
)
PLURAL_FEATURES = (
    ("talons", "short necks", "pointed beaks", "sharp claws"),
    ("webbed feet", "long necks", "flat bills", "broad feet"),
)

SIZES = ("small", "medium", "large")
SIZE_WORDS = (("small", "small", "little", "tiny"), (), ("large", "large", "big", "huge"))

WEATHERS = ("plain", "sunny", "cloudy", "night")
WEATHER_PHRASES = (
    (),
    ("on a sunny day", "in bright sunshine", "under the sun"),
    ("on a cloudy day", "under gray clouds", "under an overcast sky"),
    ("at night", "in the darkness", "under the moon"),
)

COUNT_WORDS = (("a", "a", "a", "one", "a single"), ("two", "two", "a pair of"), ("three", "three", "a group of three"))
FACINGS = ("left", "right")
HEIGHTS = ("top", "middle", "bottom")
