"""The worlds that a testbed model can be trained on, each as the functions that draw it and speak of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headlens.registry import Registry
from headlens.testbed import birds, figures
from headlens.testbed.birds import world as birds_world
from headlens.testbed.drawing import Drawing
from headlens.testbed.figures import world as figures_world


@dataclass(frozen=True)
class World:
    """One world.

    Attributes:
        name: as in `images(world=…)`.
        sample: (generator, count, agreement) -> scenes; agreement is the share of pictures that follow the stereotype.
        render: (generator, scenes) -> pictures.
        captions: (generator, scenes, rates) -> a caption a scene.
        vocabulary: every word of its captions and prompts.
        facts: (scenes, row) -> what the manifest says of a picture.
        columns: the manifest's columns between `path` and `id`.
        splits: images of each split, and their agreement.
    """

    name: str
    sample: Callable[[np.random.Generator, int, float], Any]
    render: Drawing
    captions: Callable[[np.random.Generator, Any, Any], list[str]]
    vocabulary: Callable[[], tuple[str, ...]]
    facts: Callable[[Any, int], dict[str, str]]
    columns: tuple[str, ...]
    splits: dict[str, tuple[int, float]]


def _bird_facts(scenes: birds.Scenes, row: int) -> dict[str, str]:
    return {
        "label": birds_world.CLASSES[scenes.label[row]],
        "background": birds_world.BACKGROUNDS[scenes.background[row]],
        "species": birds_world.SPECIES[scenes.species[row]].name,
        "place": birds_world.PLACES[scenes.place[row]].name,
    }


def _figure_facts(scenes: figures.Figures, row: int) -> dict[str, str]:
    return {
        "label": figures_world.OCCUPATIONS[scenes.label[row]].name,
        "presentation": figures_world.PRESENTATIONS[scenes.presentation[row]],
        "age": figures_world.AGES[scenes.age[row]],
        "place": figures_world.SCENERIES[scenes.place[row]].name,
    }


WORLDS = Registry(
    "world",
    {
        one.name: one
        for one in (
            World(
                "birds",
                birds.sample_scenes,
                birds.render,
                birds.captions,
                birds.vocabulary,
                _bird_facts,
                ("label", "background", "split", "species", "place"),
                {"val": (1200, 0.75), "test": (1600, 0.5)},
            ),
            World(
                "figures",
                figures.sample_figures,
                figures.render_figures,
                figures.figure_captions,
                figures.figure_vocabulary,
                _figure_facts,
                ("label", "presentation", "age", "split", "place"),
                {"val": (960, 0.75), "test": (1920, 0.5)},
            ),
        )
    },
)
"""In both worlds "val" is correlated, as found images are, and "test" is balanced over the groups."""


def joint_vocabulary(names: tuple[str, ...]) -> tuple[str, ...]:
    """Every word of some worlds, in alphabetical order: the vocabulary of a model that is trained on them."""
    return tuple(sorted({word for name in names for word in WORLDS[name].vocabulary()}))
