"""The suites that are registered from the start. Adding one is one entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headlens.audit import Audit
from headlens.benchmark.collateral import Question, attribute_left, celeba_questions, elsewhere, retrieval
from headlens.benchmark.suite import Suite, register_suite
from headlens.benchmark.suite_measures import (
    averages,
    common_counter,
    disparities,
    neutral_ranking,
    occupation_skew,
    occupations,
)
from headlens.datasets import Dataset, read
from headlens.datasets.layout import rooted
from headlens.manifest import manifest_root
from headlens.prompts import Attribute, ZeroShotTask, load_pairs

_PEOPLE = Attribute("gender_presentation", {"female": "a photo of a woman", "male": "a photo of a man"})
_RACES = {"Latino_Hispanic": "Latino or Hispanic"}
_WORST = 10
_REFERENCE_FACES = 5000

NEUTRAL = (
    "kind", "honest", "clever", "lazy", "brave", "rude", "calm", "ambitious", "careless", "gentle", "stubborn",
    "generous", "suspicious", "reliable", "wealthy", "poor", "powerful", "weak", "educated", "dishonest", "caring",
    "violent", "successful", "quiet", "confident",
)  # fmt: skip
"""Words for people that name no value of an attribute: what faces are ranked by."""


def _reader(name: str, **options: Any) -> Callable[[Path], Dataset]:
    return lambda root: read(name, root, **options)


@register_suite("testbed")
def _testbed() -> Suite:
    from headlens import testbed
    from headlens.testbed.birds import world

    species = [name for one in world.SPECIES for name in (one.name, one.plural)]
    features = [phrase for each in (*world.FEATURES, *world.PLURAL_FEATURES) for phrase in each]
    places = [one.name for one in world.PLACES] + [phrase for each in world.GENERIC_PLACES for phrase in each]
    surroundings = {
        one.name: [
            f"a photo of a {bird} in {phrase}" for bird in world.CLASSES for phrase in dict.fromkeys(one.phrases)
        ]
        for one in world.PLACES
    }
    card = testbed.card("testbed")
    return Suite(
        "testbed",
        lambda root: Dataset(testbed.images(root), tuple(card["classes"])),
        tuple(card["templates"]),
        Attribute(card["attribute"]["name"], card["attribute"]["values"]),
        [tuple(pair) for pair in card["pairs"]],
        [tuple(pair) for pair in card["spurious_pairs"]],
        model="testbed",
        extras=(
            averages(),
            disparities(),
            elsewhere([Question("species"), Question("place", prompts=surroundings)]),
            attribute_left(),
            retrieval(),
        ),
        caption_kinds={
            "class": [*world.CLASSES, *world.PLURALS, *species],
            "features": features,
            "attribute": places,
        },
    )


@register_suite("waterbirds")
def _waterbirds() -> Suite:
    return Suite(
        "waterbirds",
        _reader("waterbirds"),
        ("A photo of {}",),
        Attribute("background", {"land": "a photo of a land background", "water": "a photo of a water background"}),
        load_pairs("waterbirds"),
        load_pairs("waterbirds", "spurious"),
        load_pairs("waterbirds", "crossed"),
        extras=(
            averages(),
            disparities(),
            elsewhere([Question("species", "a photo of a {}, a kind of bird"), Question("place", "a photo of a {}")]),
            attribute_left(),
            retrieval(),
        ),
    )


@register_suite("celeba")
def _celeba() -> Suite:
    return Suite(
        "celeba",
        _reader("celeba", classes=("dark hair", "blond hair"), attributes="all"),
        ("A photo of a celebrity with {}",),
        _PEOPLE,
        load_pairs("celeba-hair"),
        load_pairs("celeba-hair", "spurious"),
        load_pairs("celeba-hair", "crossed"),
        extras=(averages(), disparities(), elsewhere(celeba_questions()), attribute_left(), retrieval()),
        notes=("Every hair colour that is not blond is asked for as dark hair.",),
    )


@register_suite("counteranimal")
def _counteranimal() -> Suite:
    return _animals("counteranimal", {})


@register_suite("counteranimal-imagenet")
def _counteranimal_imagenet() -> Suite:
    """The published task: the animals among all 1,000 classes of ImageNet."""
    from headlens.models.open_clip_import import open_clip

    names: list[str] = []
    for name in open_clip().IMAGENET_CLASSNAMES:  # two things, none an animal, have the name of another
        names.append(name if name not in names else f"another {name}")
    return _animals("counteranimal-imagenet", {"class_names": names})


def _animals(name: str, options: dict[str, Any]) -> Suite:
    return Suite(
        name,
        _reader("counteranimal", **options),
        ("A photo of a {}",),
        Attribute(
            "background",
            {
                "common": "an animal in the surroundings where it is mostly photographed",
                "counter": "an animal in unusual surroundings",
            },
        ),
        load_pairs("animals", "against"),
        load_pairs("animals", "spurious"),
        load_pairs("animals", "crossed"),
        conflicting=_counter_groups,
        salient_on="common",
        extras=(common_counter(), elsewhere([Question("scene", "a photo with {} in the background")]), retrieval()),
        notes=(
            "Salient heads are located for each class on the correctly classified common images of the reference "
            "split, less the spurious ones. Text pairs name a class and the one that its common images are mostly "
            "mistaken for. An image gets heads and pairs of the class that zero-shot takes it for.",
            "Spurious heads are located on the counter images of all classes at once, unless they are transferred: "
            "the publication takes those of Waterbirds (heads_from).",
        ),
    )


def _counter_groups(audit: Audit) -> list[tuple[str, str]]:
    """Every class on counter images, of the classes that have some in the reference split."""
    rows = audit.splits.reference
    value = audit.attribute.value_names.index("counter")
    there = np.unique(audit.data.labels[rows][audit.data.values[rows] == value])
    return [(audit.task.classes[label], "counter") for label in there]


@register_suite("genderbias-vl")
def _genderbias_vl() -> Suite:
    return Suite(
        "genderbias-vl",
        _reader("genderbias-vl"),
        ("A photo of a {}",),
        _PEOPLE,
        load_pairs("occupations"),
        load_pairs("occupations", "spurious"),
        load_pairs("occupations", "crossed"),
        conflicting=_disadvantaged,
        extras=(
            occupations(_WORST),
            occupation_skew(),
            elsewhere([Question("label", "a photo of a {}", heading="all occupations at once")]),
            attribute_left(),
            retrieval(),
        ),
        notes=(
            f"Heads are located on the disadvantaged gender presentation of the {_WORST} occupations of the reference "
            "split with the largest gaps; each image is classified between its own two occupations, and gets the text "
            "pairs of these two.",
        ),
    )


def _disadvantaged(audit: Audit) -> list[tuple[str, str]] | None:
    """The value on which each of the most biased occupations of the reference split is recognised worse."""
    rows = audit.splits.reference
    labels, values = audit.data.labels[rows], audit.data.values[rows]
    right = audit.evidence.logits.argmax(dim=-1).numpy() == labels
    gaps = []
    for label in np.unique(labels):
        members = [(labels == label) & (values == value) for value in range(2)]
        if all(one.any() for one in members):
            first, second = (float(right[one].mean()) for one in members)
            if first != second:
                worse = audit.attribute.value_names[int(second < first)]
                gaps.append((-abs(first - second), audit.task.classes[label], worse))
    return [(name, value) for _, name, value in sorted(gaps)[:_WORST]] or None


@register_suite("fairface")
def _fairface() -> Suite:
    neutral = ZeroShotTask(NEUTRAL, "A photo of a {} person")
    return Suite(
        "fairface",
        _faces,
        ("A photo of a person aged {}",),
        _PEOPLE,
        spurious=[("a photo of a woman", "a photo of a man")],
        reference="train",
        test="val",
        extras=(
            neutral_ranking(neutral),
            elsewhere([Question("perceived_race", "a photo of a {} person", _RACES)]),
            attribute_left(),
            retrieval(),
        ),
        notes=(
            f"Of the split train {_REFERENCE_FACES} faces at most are drawn (seed 0) to locate and to fit on; all of "
            "the split val is scored.",
            "The task that heads are located on is telling age groups apart, unless they are transferred: the "
            "publication takes those of GenderBias-VL (heads_from). The neutral prompts are our own.",
        ),
    )


def _faces(root: Path) -> Dataset:
    data = read("fairface", root)
    train = np.flatnonzero((data.manifest["split"] == "train").to_numpy())
    drawn = np.random.default_rng(0).permutation(train)[:_REFERENCE_FACES]
    kept = np.sort(np.concatenate([drawn, np.flatnonzero((data.manifest["split"] == "val").to_numpy())]))
    return Dataset(rooted(data.manifest.iloc[kept], Path(manifest_root(data.manifest))), data.classes, data.notes)
