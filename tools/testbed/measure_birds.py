"""What a trained testbed model does on the birds, measured on its images and written into its card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from headlens.correct import Correction, KnowledgeInjection, MeanAblation, RoboShot, locate_then_correct
from headlens.errors import LocateError
from headlens.extraction import HeadStore
from headlens.locate import Location, conflicting_groups, contrastive, draw_head_sets
from headlens.locate.random_heads import Roles
from headlens.manifest import class_indices
from headlens.metrics import group_accuracy, group_names
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, ZeroShotTask, encode_pairs
from headlens.testbed.birds.world import CLASSES
from tools.testbed.questions import ATTRIBUTE, ATTRIBUTE_PROMPTS, PAIRS, SPURIOUS_PAIRS, TEMPLATES
from tools.testbed.recipes import Recipe


def measure_birds(recipe: Recipe, clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
    """The card's entries about the birds: what was planted, how to ask, and what was measured."""
    return {
        "planted_heads": [list(head) for head in recipe.planted],
        "classes": list(CLASSES),
        "templates": list(TEMPLATES),
        "attribute": {"name": ATTRIBUTE, "values": {value: list(p) for value, p in ATTRIBUTE_PROMPTS.items()}},
        "pairs": [list(pair) for pair in PAIRS],
        "spurious_pairs": [list(pair) for pair in SPURIOUS_PAIRS],
        "measured": _measure(clip, store),
    }


def _measure(clip: HookedCLIP, store: HeadStore) -> dict[str, Any]:
    task, attribute = ZeroShotTask(CLASSES, TEMPLATES), Attribute(ATTRIBUTE, ATTRIBUTE_PROMPTS)
    classifier = task.classifier(clip.encode_text)
    reference, test = store.subset(split="val"), store.subset(split="test")
    location = _locate(reference, classifier)
    pairs = encode_pairs(PAIRS, clip.encode_text)
    spurious_pairs = encode_pairs(SPURIOUS_PAIRS, clip.encode_text)
    roles = {"spurious": location.spurious, "salient": location.salient}

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
        "methods": {name: _score(method, reference, test, classifier) for name, method in methods.items()},
        "attribute_accuracy": _attribute_accuracy(test, attribute.prototypes(clip.encode_text), attribute),
    }
    # As many heads of the same layers, for: the ablated heads; all heads of LTC; its ablated heads, injection kept.
    controls: dict[str, tuple[Roles, tuple[str, ...], Callable[[Roles], Correction]]] = {
        "random_ablation": ({"spurious": location.spurious}, ("spurious",), lambda one: MeanAblation(one["spurious"])),
        "random_ltc": (roles, ("spurious", "salient"), ltc),
        "random_ablation_in_ltc": (roles, ("spurious",), ltc),
    }
    for name, (heads, varied, method) in controls.items():
        sets = draw_head_sets(heads, store.n_layers, store.n_heads, vary=varied, alpha=1).sets
        scores = [_score(method(one), reference, test, classifier)["worst_group"] for one in sets]
        measured[name] = {"sets": len(sets)}
        if scores:
            measured[name] |= {"mean": round(sum(scores) / len(scores), 4), "best": max(scores)}
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


def _score(method: Any, reference: HeadStore, test: HeadStore, classifier: torch.Tensor) -> dict[str, Any]:
    view = test if method is None else method.fit(reference).apply(test)
    predicted = (view.embedding @ classifier.T).argmax(-1)
    names = [CLASSES[i] for i in predicted.tolist()]
    labels = test.manifest["label"].tolist()
    by_group = group_accuracy(labels, names, groups=group_names(labels, test.manifest[ATTRIBUTE].tolist()))
    average = sum(a == b for a, b in zip(names, labels, strict=True)) / len(labels)
    groups = {str(name): round(float(value), 4) for name, value in by_group.items()}
    return {"average": round(average, 4), "worst_group": min(groups.values()), "groups": groups}


def _attribute_accuracy(test: HeadStore, prototypes: torch.Tensor, attribute: Attribute) -> float:
    values = (test.embedding @ prototypes.T).argmax(-1).tolist()
    truth = test.manifest[ATTRIBUTE].tolist()
    return round(sum(attribute.value_names[v] == t for v, t in zip(values, truth, strict=True)) / len(truth), 4)
