"""What a trained testbed model does, measured on the images of each of its worlds and written into its card."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headlens.correct import Correction, KnowledgeInjection, MeanAblation, RoboShot, locate_then_correct
from headlens.errors import LocateError
from headlens.extraction import HeadStore, extract
from headlens.heads import HeadId
from headlens.locate import Location, conflicting_groups, contrastive, draw_head_sets
from headlens.locate.random_heads import Roles
from headlens.manifest import class_indices
from headlens.metrics import cramers_v, group_accuracy, group_names
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, ZeroShotTask, encode_pairs
from headlens.testbed.birds.world import CLASSES
from headlens.testbed.figures.scenes import sample_figures
from headlens.testbed.figures.world import OCCUPATIONS
from headlens.testbed.files import images
from headlens.testbed.models import restore
from headlens.testbed.worlds import joint_vocabulary
from tools.testbed import figures_questions
from tools.testbed.figures_questions import AGE, AGE_PROMPTS, PRESENTATION, PRESENTATION_PROMPTS
from tools.testbed.questions import ATTRIBUTE, ATTRIBUTE_PROMPTS, PAIRS, SPURIOUS_PAIRS, TEMPLATES
from tools.testbed.recipes import FigureRecipe, Recipe

_OCCUPATIONS = tuple(occupation.name for occupation in OCCUPATIONS)
_ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {PRESENTATION: PRESENTATION_PROMPTS, AGE: AGE_PROMPTS}


def measure(recipe: Recipe, weights: Path, pictures: Path) -> dict[str, Any]:
    """The entries of a card that depend on the trained weights, and how to ask the model.

    Args:
        recipe: the recipe.
        weights: the folder that holds its weights, in the float16 in which they are shipped.
        pictures: a folder for the images, reused where it holds them.
    """
    clip = HookedCLIP.from_open_clip(
        *restore(weights / f"{recipe.name}.safetensors", recipe.worlds, recipe.size), name=recipe.name, copy=False
    )
    told = {}
    for world in recipe.worlds:
        manifest = images(pictures / world, world=world)
        with tempfile.TemporaryDirectory() as folder:
            store = extract(clip, manifest, Path(folder) / "store.zarr")
            told[world] = _OF_WORLD[world](recipe, clip, store)
    vocabulary = {"vocabulary": len(joint_vocabulary(recipe.worlds))}
    return vocabulary | (told["birds"] if recipe.worlds == ("birds",) else {"worlds": told})


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


def _score(
    logits: torch.Tensor, test: HeadStore, classes: Sequence[str], attribute: str, v_of: Sequence[str] = ()
) -> dict[str, Any]:
    """Accuracies by class and value of an attribute, and Cramér's V of some attributes with the predictions."""
    names = [classes[i] for i in logits.argmax(-1).tolist()]
    labels = test.manifest["label"].tolist()
    by_group = group_accuracy(labels, names, groups=group_names(labels, test.manifest[attribute].tolist()))
    groups = {str(name): round(float(value), 4) for name, value in by_group.items()}
    average = sum(a == b for a, b in zip(names, labels, strict=True)) / len(labels)
    score: dict[str, Any] = {"average": round(average, 4), "worst_group": min(groups.values()), "groups": groups}
    for key, corrected in (("v", False), ("corrected_v", True)) if v_of else ():
        score[key] = {
            name: round(cramers_v(test.manifest[name].tolist(), names, corrected=corrected), 4) for name in v_of
        }
    return score


def _attribute_accuracy(clip: HookedCLIP, test: HeadStore, attribute: Attribute) -> float:
    values = (test.embedding @ attribute.prototypes(clip.encode_text).T).argmax(-1).tolist()
    truth = test.manifest[attribute.name].tolist()
    return _mean(attribute.value_names[v] == t for v, t in zip(values, truth, strict=True))


# ---- the birds ------------------------------------------------------------------------------------------------------


def _birds(recipe: Recipe, clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
    """The card's entries about the birds: what was planted, how to ask, and what was measured."""
    return {
        "planted_heads": [list(head) for head in recipe.planted],
        "classes": list(CLASSES),
        "templates": list(TEMPLATES),
        "attribute": {"name": ATTRIBUTE, "values": {value: list(p) for value, p in ATTRIBUTE_PROMPTS.items()}},
        "pairs": [list(pair) for pair in PAIRS],
        "spurious_pairs": [list(pair) for pair in SPURIOUS_PAIRS],
        "measured": _measure_birds(clip, store),
    }


def _measure_birds(clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
    task, attribute = ZeroShotTask(CLASSES, TEMPLATES), Attribute(ATTRIBUTE, ATTRIBUTE_PROMPTS)
    classifier = task.classifier(clip.encode_text)
    reference, test = store.subset(split="val"), store.subset(split="test")
    location = _locate(reference, classifier)
    pairs = encode_pairs(PAIRS, clip.encode_text)
    spurious_pairs = encode_pairs(SPURIOUS_PAIRS, clip.encode_text)
    roles = {"spurious": location.spurious, "salient": location.salient}

    def scored(method: Correction | None) -> dict[str, Any]:
        view = test if method is None else method.fit(reference).apply(test)
        return _score(view.embedding @ classifier.T, test, CLASSES, ATTRIBUTE)

    def ltc(one: Roles) -> Correction:
        return locate_then_correct(one["spurious"], one["salient"], pairs)

    methods = {
        "zero-shot": None,
        "ablation": MeanAblation(location.spurious),
        "injection": KnowledgeInjection(location.salient, pairs),
        "ltc": ltc(roles),
        "roboshot": RoboShot(spurious_pairs, pairs),
    }
    measured: dict[str, Any] = {
        "images": {"val": len(reference), "test": len(test)},
        "spurious": [list(head) for head in location.spurious],
        "salient": [list(head) for head in location.salient],
        "methods": {name: scored(method) for name, method in methods.items()},
        "attribute_accuracy": _attribute_accuracy(clip, test, attribute),
    }
    # As many heads of the same layers, for: the ablated heads; all heads of LTC; its ablated heads, injection kept.
    controls: dict[str, tuple[Roles, tuple[str, ...], Callable[[Roles], Correction]]] = {
        "random_ablation": ({"spurious": location.spurious}, ("spurious",), lambda one: MeanAblation(one["spurious"])),
        "random_ltc": (roles, ("spurious", "salient"), ltc),
        "random_ablation_in_ltc": (roles, ("spurious",), ltc),
    }
    for name, (heads, varied, method) in controls.items():
        sets = draw_head_sets(heads, store.n_layers, store.n_heads, vary=varied, alpha=1).sets
        scores = [scored(method(one))["worst_group"] for one in sets]
        measured[name] = {"sets": len(sets)}
        if scores:
            measured[name] |= {"mean": _mean(scores), "best": max(scores)}
    return measured


def _locate(reference: HeadStore, classifier: torch.Tensor) -> Location:
    labels = torch.tensor(class_indices(reference.manifest["label"], CLASSES).tolist())
    groups = conflicting_groups(reference.manifest["label"], reference.manifest[ATTRIBUTE])
    logits = reference.embedding @ classifier.T
    try:
        return contrastive(reference.project(classifier), logits, labels, groups.mask)
    except LocateError:
        nothing = torch.zeros(reference.n_layers, reference.n_heads)
        return Location("contrastive", correct=nothing, wrong=nothing, threshold=1.0, n_correct=0, n_wrong=0)


# ---- the figures ----------------------------------------------------------------------------------------------------


def _figures(recipe: Recipe, clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
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
        "classes": list(_OCCUPATIONS),
        "leanings": {one.name: leaning(one.leaning) for one in OCCUPATIONS},
        "templates": list(TEMPLATES),
        "attribute": attribute,
        "control": control,
        "pairs": [list(pair) for pair in figures_questions.PAIRS],
        "spurious_pairs": [list(pair) for pair in figures_questions.SPURIOUS_PAIRS],
        "training_v": _training_v(planted),
        "measured": _measure_figures(clip, store, planted.planted),
    }


def leaning(value: int | None) -> str:
    """The presentation that an occupation leans to, in a word."""
    return "neither" if value is None else tuple(PRESENTATION_PROMPTS)[value]


def _training_v(planted: FigureRecipe) -> list[float]:
    """Cramér's V of presentation and occupation in the pictures of each phase."""
    told = []
    for count, agreement in zip(planted.pictures, planted.agreement, strict=True):
        figures = sample_figures(np.random.default_rng(0), count, agreement)
        labels = [_OCCUPATIONS[label] for label in figures.label]
        told.append(round(cramers_v([str(value) for value in figures.presentation], labels), 4))
    return told


def _measure_figures(clip: HookedCLIP, store: HeadStore, planted: Iterable[HeadId]) -> dict[str, Any]:
    reference, test = store.subset(split="val"), store.subset(split="test")
    classifier = ZeroShotTask(_OCCUPATIONS, TEMPLATES).classifier(clip.encode_text)
    heads = list(planted)

    def scored(view: Any) -> dict[str, Any]:
        return _score(view.embedding @ classifier.T, test, _OCCUPATIONS, PRESENTATION, v_of=tuple(_ATTRIBUTES))

    def ablated(chosen: Iterable[HeadId]) -> dict[str, Any]:
        return scored(MeanAblation(list(chosen)).fit(reference).apply(test))

    after = ablated(heads)
    sets = draw_head_sets(heads, store.n_layers, store.n_heads, alpha=1).sets  # of these layers, however few
    controls = [ablated(chosen["spurious"]) for chosen in sets]
    values = [score["v"][PRESENTATION] for score in controls]
    return {
        "images": {"val": len(reference), "test": len(test)},
        "methods": {"zero-shot": scored(test), "ablation": after},
        "random_ablation": {
            "sets": len(controls),
            "average": _mean(score["average"] for score in controls),
            "v": _mean(values),
            "lowest_v": min(values),
            "beaten": _mean(value > after["v"][PRESENTATION] for value in values),
        },
        "single": {f"{layer}.{head}": ablated([HeadId(layer, head)])["v"][PRESENTATION] for layer, head in heads},
        "attribute_accuracy": _attribute_accuracy(clip, test, Attribute(PRESENTATION, PRESENTATION_PROMPTS)),
        "control_accuracy": _attribute_accuracy(clip, test, Attribute(AGE, AGE_PROMPTS)),
    }


_OF_WORLD = {"birds": _birds, "figures": _figures}
