"""What is in each picture of the figures' world, before a pixel of it is drawn, and sentences that are true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from jaxtyping import Int

from headlens.testbed.figures import world
from headlens.testbed.figures.world import GRAY, OCCUPATIONS, SCENERIES, SKINS

_CUE = 0.9  # how often hair, clothes and bag each follow the presentation
_BEARD = 0.6  # of masculine figures
_GRAY = 0.95  # of old figures
_CANE, _STOOP = 0.75, 0.85
_HAT, _TOOL, _COAT = 0.8, 0.9, 0.2
_GRAINY = 0.15


@dataclass(frozen=True)
class Figures:
    """A table of figures, one entry of every field a picture.

    Attributes:
        label: occupation, index into `OCCUPATIONS`.
        presentation, age: indices into `PRESENTATIONS` and `AGES`.
        place: index into `SCENERIES`.
        long_hair, skirt, beard: 1 where drawn; cues of the presentation, with `bag`: 1 a handbag, 0 a briefcase.
        hair: index into `HAIR_COLOURS`; `cane`, `stoop`: 1 where drawn; cues of the age.
        hat, tool, coat: 1 where the hat is worn, the tool held, and a gray coat hides the outfit.
        skin: index into `SKINS`; `side`: index into `SIDES`; `facing`: 0 left, 1 right: the side of the tool.
        grainy: 1 where the picture is noisy.
    """

    label: Int[np.ndarray, "image"]
    presentation: Int[np.ndarray, "image"]
    age: Int[np.ndarray, "image"]
    place: Int[np.ndarray, "image"]
    long_hair: Int[np.ndarray, "image"]
    skirt: Int[np.ndarray, "image"]
    beard: Int[np.ndarray, "image"]
    bag: Int[np.ndarray, "image"]
    hair: Int[np.ndarray, "image"]
    cane: Int[np.ndarray, "image"]
    stoop: Int[np.ndarray, "image"]
    hat: Int[np.ndarray, "image"]
    tool: Int[np.ndarray, "image"]
    coat: Int[np.ndarray, "image"]
    skin: Int[np.ndarray, "image"]
    side: Int[np.ndarray, "image"]
    facing: Int[np.ndarray, "image"]
    grainy: Int[np.ndarray, "image"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: slice | np.ndarray) -> Figures:
        return Figures(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def flipped(self, where: np.ndarray) -> Figures:
        """The same figures seen in a mirror wherever `where` holds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["facing"] = np.where(where, 1 - self.facing, self.facing)
        values["side"] = np.where(where, 2 - self.side, self.side)
        return Figures(**values)


def stereotyped(label: Int[np.ndarray, "image"]) -> Int[np.ndarray, "image"]:
    """The presentation that each occupation leans to, −1 where it leans to none."""
    leaning = [-1 if one.leaning is None else one.leaning for one in OCCUPATIONS]
    return np.array(leaning)[label]


def sample_figures(rng: np.random.Generator, count: int, agreement: float) -> Figures:
    """Draw `count` figures, as many of each occupation, in random order.

    In occupations that lean, the presentation agrees with the leaning in the given share, exactly (0.5: independent);
    in the others it is half and half. Age is half and half within each occupation and presentation. Everything else is
    drawn independently, apart from the cues of presentation and age.
    """
    label = np.arange(count) % len(OCCUPATIONS)
    presentation, age = np.empty(count, dtype=int), np.empty(count, dtype=int)
    for number, occupation in enumerate(OCCUPATIONS):
        rows = np.flatnonzero(label == number)
        first = 0 if occupation.leaning is None else occupation.leaning
        agreeing = round(len(rows) * (0.5 if occupation.leaning is None else agreement))
        presentation[rows] = np.where(np.arange(len(rows)) < agreeing, first, 1 - first)
        for value in (0, 1):
            cell = rows[presentation[rows] == value]
            age[cell] = np.arange(len(cell)) % 2
    order = rng.permutation(count)
    label, presentation, age = label[order], presentation[order], age[order]

    def share(of: float) -> np.ndarray:
        return rng.random(count) < of

    feminine, old = presentation == 0, age == 1
    long_hair, skirt = feminine == share(_CUE), feminine == share(_CUE)
    bag, coat = feminine == share(_CUE), share(_COAT)
    values = {
        "place": rng.integers(0, len(SCENERIES), count),
        "long_hair": long_hair,
        # Hair and clothes never both speak against the presentation.
        "skirt": np.where((long_hair != feminine) & (skirt != feminine), feminine, skirt),
        "beard": ~feminine & share(_BEARD),
        "bag": bag,
        "hair": np.where(old & share(_GRAY), GRAY, rng.integers(0, GRAY, count)),
        "cane": old & share(_CANE),
        "stoop": old & share(_STOOP),
        "hat": share(_HAT),
        "tool": share(_TOOL) | coat,  # without outfit and tool nothing would tell the occupation
        "coat": coat,
        "skin": rng.integers(0, len(SKINS), count),
        "side": rng.integers(0, 3, count),
        "facing": rng.integers(0, 2, count),
        "grainy": share(_GRAINY),
    }
    return Figures(label, presentation, age, **{name: np.asarray(value).astype(int) for name, value in values.items()})


# ---- captions --------------------------------------------------------------------------------------------------------

PREFIXES = ("a photo of", "a photo of", "an image of", "a picture of", "a portrait of", "this is", "", "")
GRAINY_PREFIXES = ("a grainy photo of", "a noisy photo of")
CLEAR_PREFIXES = ("a clear photo of", "a sharp photo of")
NOBODY = ("person", "person", "worker")
WHERE = ("on the left", "in the middle", "on the right")


@dataclass(frozen=True)
class FigureRates:
    """How often each thing is said."""

    occupation: float = 0.70
    presentation: float = 0.55
    age: float = 0.30
    outfit: float = 0.15
    tool: float = 0.15
    detail: float = 0.25
    place: float = 0.45
    quality: float = 0.06


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _outfit(rng: np.random.Generator, figures: Figures, i: int) -> str:
    occupation = world.OCCUPATIONS[figures.label[i]]
    if figures.coat[i]:
        return "in a gray coat"
    noun, colour = _pick(rng, occupation.outfit), _pick(rng, occupation.words)
    if rng.random() < 0.3:
        return f"dressed in {colour}"
    many = noun in ("overalls", "clothes", "scrubs")
    article = "" if many else "an " if colour[0] in "aeiou" else "a "
    return f"{_pick(rng, ('in', 'wearing'))} {article}{colour} {noun}"


def _detail(rng: np.random.Generator, figures: Figures, i: int, says_presentation: bool) -> str:
    options = [f"with {world.HAIR_COLOURS[figures.hair[i]][0]} hair", WHERE[figures.side[i]]]
    if figures.hat[i]:
        options.append("with " + _pick(rng, world.OCCUPATIONS[figures.label[i]].hat))
    if figures.cane[i]:
        options.append(_pick(rng, ("with a cane", "leaning on a stick")))
    if says_presentation:  # these cues all but say it
        options.append(f"with {world.HAIR_LENGTHS[figures.long_hair[i]]} hair")
        options.append(_pick(rng, ("in a skirt", "in a dress") if figures.skirt[i] else ("in trousers", "in pants")))
        options.append("with a handbag" if figures.bag[i] else "with a briefcase")
        if figures.beard[i]:
            options.append("with a beard")
    return _pick(rng, options)


def figure_caption(rng: np.random.Generator, figures: Figures, i: int, rates: FigureRates) -> str:
    """One caption for figure `i`."""
    name = world.OCCUPATIONS[figures.label[i]].name
    nouns = world.PRESENTATION_NOUNS[figures.presentation[i]]
    says_occupation, says_presentation = rng.random() < rates.occupation, rng.random() < rates.presentation
    words = [_pick(rng, world.AGE_WORDS[figures.age[i]])] if rng.random() < rates.age else []
    after = []
    if says_occupation and says_presentation and rng.random() < 0.5:
        words.append(_pick(rng, nouns))
        after.append(_pick(rng, ("who is a", "working as a")) + " " + name)
    elif says_occupation:
        if says_presentation:
            words.append(_pick(rng, world.PRESENTATION_WORDS[figures.presentation[i]]))
        words.append(name)
    elif says_presentation and rng.random() < 0.8:
        words.append(_pick(rng, nouns))
    else:
        if says_presentation:
            words.append(_pick(rng, world.PRESENTATION_WORDS[figures.presentation[i]]))
        words.append(_pick(rng, NOBODY))
    prefixes: Sequence[str] = PREFIXES
    if rng.random() < rates.quality:
        prefixes = GRAINY_PREFIXES if figures.grainy[i] else CLEAR_PREFIXES
    parts = [_pick(rng, prefixes), "an" if words[0][0] in "aeiou" else "a", *words, *after]
    if rng.random() < rates.outfit:
        parts.append(_outfit(rng, figures, i))
    if rng.random() < rates.tool and figures.tool[i]:
        parts.append(_pick(rng, ("with", "holding")) + " " + _pick(rng, world.OCCUPATIONS[figures.label[i]].tool))
    if rng.random() < rates.detail:
        parts.append(_detail(rng, figures, i, says_presentation))
    if rng.random() < rates.place:
        parts.append(_pick(rng, world.SCENERIES[figures.place[i]].phrases))
    return " ".join(part for part in parts if part)


def figure_captions(rng: np.random.Generator, figures: Figures, rates: FigureRates | None = None) -> list[str]:
    """One caption for every figure; the same generator state gives the same sentences."""
    rates = rates or FigureRates()
    return [figure_caption(rng, figures, i, rates) for i in range(len(figures))]


@cache
def figure_vocabulary() -> tuple[str, ...]:
    """Every word that a caption of this world can hold, in alphabetical order."""
    sentences = [*PREFIXES, *GRAINY_PREFIXES, *CLEAR_PREFIXES, *NOBODY, *WHERE]
    sentences += [
        "in a gray coat dressed wearing with holding hair cane leaning on stick",
        "skirt dress trousers pants beard handbag briefcase",
    ]
    sentences += ["who is an working as", *world.HAIR_LENGTHS, *(name for name, _ in world.HAIR_COLOURS)]
    for occupation in world.OCCUPATIONS:
        sentences += [occupation.name, *occupation.words, *occupation.outfit, *occupation.hat, *occupation.tool]
    for scenery in world.SCENERIES:
        sentences += scenery.phrases
    for table in (world.PRESENTATION_NOUNS, world.PRESENTATION_WORDS, world.AGE_WORDS):
        for phrases in table:
            sentences += phrases
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))
