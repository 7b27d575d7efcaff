"""The facts of the figures: occupations, how presentation and age are drawn, places, and the words for all of it.

A figure is a drawing. Its "presentation" is how the drawing is meant to be perceived, by cues that are clichés on
purpose (hair length, outline of the clothes, a beard); nothing here says anything about people. Every occupation has a
colour, a hat and a tool of its own, because classes that differ in shape alone are not learnt by a network this small.
"""

from __future__ import annotations

from dataclasses import dataclass

from headlens.testbed.drawing import Colour


@dataclass(frozen=True)
class Occupation:
    """One occupation.

    Attributes:
        name: as it is said.
        leaning: the presentation that it goes together with where scenes are stereotyped: an index into
            `PRESENTATIONS`, or None.
        words: words for the colour of its outfit.
        outfit: nouns for the outfit.
        hat: phrases for what is on the head.
        tool: phrases for what is in the hand.
        colour: of the outfit.
    """

    name: str
    leaning: int | None
    words: tuple[str, ...]
    outfit: tuple[str, ...]
    hat: tuple[str, ...]
    tool: tuple[str, ...]
    colour: Colour


PRESENTATIONS = ("feminine", "masculine")
AGES = ("young", "old")

OCCUPATIONS = (
    Occupation(
        "nurse", 0, ("turquoise", "teal"), ("uniform", "scrubs"),
        ("a white cap", "a red cross"), ("a syringe", "a needle"), (0.10, 0.72, 0.70),
    ),
    Occupation(
        "teacher", 0, ("brown", "tan"), ("jacket", "suit"),
        ("glasses", "round glasses"), ("a book", "an open book"), (0.52, 0.33, 0.16),
    ),
    Occupation(
        "cook", None, ("white", "pale"), ("apron", "jacket"),
        ("a tall hat", "a tall white hat"), ("a pan", "a frying pan"), (0.95, 0.95, 0.93),
    ),
    Occupation(
        "farmer", None, ("green", "emerald"), ("overalls", "clothes"),
        ("a straw hat", "a wide hat"), ("a fork", "a pitchfork"), (0.16, 0.58, 0.18),
    ),
    Occupation(
        "painter", None, ("purple", "violet"), ("smock", "clothes"),
        ("a beret", "a soft hat"), ("a brush", "a palette"), (0.52, 0.20, 0.70),
    ),
    Occupation(
        "police officer", None, ("blue", "navy"), ("uniform", "jacket"),
        ("a flat cap", "a badge"), ("a baton", "a black baton"), (0.13, 0.20, 0.62),
    ),
    Occupation(
        "builder", 1, ("orange", "amber"), ("vest", "overalls"),
        ("a hard hat", "a yellow helmet"), ("a hammer", "a tool"), (0.97, 0.52, 0.08),
    ),
    Occupation(
        "firefighter", 1, ("red", "crimson"), ("coat", "uniform"),
        ("a red helmet", "a helmet"), ("a hose", "a spray"), (0.82, 0.10, 0.10),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Scenery:
    """A place behind a figure: its name, phrases for it with their preposition, and whether it is indoors."""

    name: str
    phrases: tuple[str, ...]
    indoors: bool


SCENERIES = (
    Scenery("kitchen", ("in a kitchen", "in a kitchen with tiles", "indoors in a kitchen"), True),
    Scenery("library", ("in a library", "near book shelves", "indoors in a library"), True),
    Scenery("room", ("in a room", "near a window", "indoors in a room"), True),
    Scenery("street", ("on a street", "in a city street", "near tall buildings"), False),
    Scenery("park", ("in a park", "near a tree", "outdoors in a park"), False),
    Scenery("beach", ("on a beach", "near the sea", "outdoors on the sand"), False),
)

PRESENTATION_NOUNS = (("woman", "woman", "lady"), ("man", "man", "gentleman"))
PRESENTATION_WORDS = (("female", "feminine"), ("male", "masculine"))
AGE_WORDS = (("young", "young", "youthful"), ("old", "old", "elderly"))
HAIR_LENGTHS = ("short", "long")
HAIR_COLOURS: tuple[tuple[str, Colour], ...] = (
    ("black", (0.08, 0.07, 0.08)),
    ("brown", (0.36, 0.20, 0.09)),
    ("blond", (0.90, 0.74, 0.32)),
    ("gray", (0.74, 0.74, 0.76)),
)
GRAY = 3
"""The hair colour that only old figures have, and nearly all of them."""

SKINS: tuple[Colour, ...] = (
    (0.97, 0.84, 0.73),
    (0.88, 0.68, 0.51),
    (0.70, 0.48, 0.32),
    (0.48, 0.31, 0.20),
    (0.31, 0.19, 0.13),
)
"""Skin tones, drawn independently of everything else and never said."""

SIDES = ("left", "middle", "right")
