"""What a trained testbed model does on the figures, measured on its images and written into its card."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from headlens.correct import MeanAblation
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.locate import draw_head_sets
from headlens.metrics import cramers_v, group_accuracy, group_names
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, ZeroShotTask
from headlens.testbed.figures.scenes import sample_figures
from headlens.testbed.figures.world import OCCUPATIONS
from tools.testbed.figures_questions import (
    AGE,
    AGE_PROMPTS,
    PAIRS,
    PRESENTATION,
    PRESENTATION_PROMPTS,
    SPURIOUS_PAIRS,
)
from tools.testbed.questions import TEMPLATES
from tools.testbed.recipes import FigureRecipe, Recipe

_CLASSES = tuple(occupation.name for occupation in OCCUPATIONS)
_ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {PRESENTATION: PRESENTATION_PROMPTS, AGE: AGE_PROMPTS}


def measure_figures(recipe: Recipe, clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
    """The card's entries about the figures: what was planted, how to ask, and what was measured."""
    planted = recipe.figures
    assert planted is not None, "a recipe without figures is not measured on them"
    attribute, control = (
        {"name": name, "values": {value: list(texts) for value, texts in _ATTRIBUTES[name].items()}}
        for name in (PRESENTATION, AGE)
    )
    return {
        "planted_heads": [list(head) for head in planted.planted],
        "control_heads": [list(head) for head in planted.control],
        "classes": list(_CLASSES),
        "leanings": {one.name: leaning(one.leaning) for one in OCCUPATIONS},
        "templates": list(TEMPLATES),
        "attribute": attribute,
        "control": control,
        "pairs": [list(pair) for pair in PAIRS],
        "spurious_pairs": [list(pair) for pair in SPURIOUS_PAIRS],
        "training_v": _training_v(planted),
        "measured": _measure(clip, store, planted.planted),
    }


def leaning(value: int | None) -> str:
    """The presentation that an occupation leans to, in a word."""
    return "neither" if value is None else tuple(PRESENTATION_PROMPTS)[value]


def _training_v(planted: FigureRecipe) -> list[float]:
    """Cramér's V of presentation and occupation in the pictures of each phase."""
    told = []
    for count, agreement in zip(planted.pictures, planted.agreement, strict=True):
        figures = sample_figures(np.random.default_rng(0), count, agreement)
        labels = [_CLASSES[label] for label in figures.label]
        told.append(round(cramers_v([str(value) for value in figures.presentation], labels), 4))
    return told


def _measure(clip: HookedCLIP, store: HeadStore, planted: Iterable[HeadId]) -> dict[str, Any]:
    reference, test = store.subset(split="val"), store.subset(split="test")
    classifier = ZeroShotTask(_CLASSES, TEMPLATES).classifier(clip.encode_text)
    heads = list(planted)

    def ablated(chosen: Iterable[HeadId]) -> dict[str, Any]:
        return _score((MeanAblation(list(chosen)).fit(reference).apply(test).embedding @ classifier.T), test)

    after = ablated(heads)
    sets = draw_head_sets(heads, store.n_layers, store.n_heads, alpha=1).sets  # of these layers, however few
    controls = [ablated(chosen["spurious"]) for chosen in sets]
    values = [score["v"][PRESENTATION] for score in controls]
    return {
        "images": {"val": len(reference), "test": len(test)},
        "methods": {"zero-shot": _score(test.embedding @ classifier.T, test), "ablation": after},
        "random_ablation": {
            "sets": len(controls),
            "average": _mean(score["average"] for score in controls),
            "v": _mean(values),
            "lowest_v": min(values),
            "beaten": _mean(value > after["v"][PRESENTATION] for value in values),
        },
        "single": {f"{layer}.{head}": ablated([HeadId(layer, head)])["v"][PRESENTATION] for layer, head in heads},
        "attribute_accuracy": _attribute_accuracy(clip, test, PRESENTATION),
        "control_accuracy": _attribute_accuracy(clip, test, AGE),
    }


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


def _score(logits: torch.Tensor, test: HeadStore) -> dict[str, Any]:
    names = [_CLASSES[i] for i in logits.argmax(-1).tolist()]
    labels = test.manifest["label"].tolist()
    by_group = group_accuracy(labels, names, groups=group_names(labels, test.manifest[PRESENTATION].tolist()))
    groups = {str(name): round(float(value), 4) for name, value in by_group.items()}
    average = sum(a == b for a, b in zip(names, labels, strict=True)) / len(labels)
    score: dict[str, Any] = {"average": round(average, 4), "worst_group": min(groups.values()), "groups": groups}
    for key, corrected in (("v", False), ("corrected_v", True)):
        score[key] = {
            name: round(cramers_v(test.manifest[name].tolist(), names, corrected=corrected), 4) for name in _ATTRIBUTES
        }
    return score


def _attribute_accuracy(clip: HookedCLIP, test: HeadStore, name: str) -> float:
    attribute = Attribute(name, _ATTRIBUTES[name])
    values = (test.embedding @ attribute.prototypes(clip.encode_text).T).argmax(-1).tolist()
    return _mean(attribute.value_names[v] == t for v, t in zip(values, test.manifest[name].tolist(), strict=True))
