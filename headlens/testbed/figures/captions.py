"""Sentences that are true of a figure, and the list of all words that they can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from headlens.testbed.figures import world
from headlens.testbed.figures.scenes import Figures

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
