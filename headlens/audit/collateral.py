"""What a correction costs elsewhere: the scored images are asked other questions, before and after.

Three kinds of task, all zero-shot and all on the scored images, so that before and after are paired:

- other attributes and tasks: those that are given, or else the manifest's further columns of few values in words;
- the audited task's accuracy on each of its classes;
- the audited attribute itself: a correction that takes it out of the embedding lowers this, and is meant to.

And whether the embedding still finds the same images: of each image's k nearest, how many remain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.audit.collateral_results import CollateralResults, OtherTask
from headlens.audit.other_tasks import Asked, ask
from headlens.correct import Correction, MeanAblation
from headlens.metrics import Bootstrap, Measures, collateral, retrieval_recall
from headlens.prompts import Attribute, ZeroShotTask

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

CANDIDATES = "candidates ablated"
"""The name of the fairness audit's ablation among the methods."""

_MOST_COMPARED = 1000

Answers = tuple[Int[np.ndarray, "image"], Int[np.ndarray, "image"], Int[np.ndarray, "image"]]
"""Of some images, the true answer, the answer after, and the answer before."""


def measure_collateral(
    audit: Audit, attributes: Sequence[Attribute], tasks: Mapping[str, ZeroShotTask], k: int, bootstrap: int
) -> CollateralResults:
    """See `Audit.collateral`."""
    asked, notes = ask(audit, attributes, tasks)
    labels = audit.labels[audit.splits.test]
    counts = np.bincount(labels, minlength=len(audit.task.classes))
    by_class = [
        OtherTask(f"class {name}", "class", int(images), None, {}, True)
        for name, images in zip(audit.task.classes, counts, strict=True)
    ]
    places = np.sort(np.random.default_rng(audit.seed).permutation(len(labels))[:_MOST_COMPARED])
    nearest = min(k, (len(places) - 1) // 2)
    methods, neighbours = {}, {}
    for method, (before, after, correction) in _edits(audit).items():
        found: dict[str, Answers] = {}
        if correction.changes_classifier:
            notes.append(f"{method} changes the audited task's classifier alone: every other task stays as it was.")
        else:
            found = {one.task.name: _answers(audit, one, correction) for one in asked}
            if nearest > 0:
                neighbours[method] = _kept(audit, method, correction, places, nearest, bootstrap)
        for number, task in enumerate(by_class):
            if task.images:
                mine = labels == number
                found[task.name] = (labels[mine], after[mine], before[mine])
        methods[method] = collateral(method, found, bootstrap=Bootstrap(bootstrap, seed=audit.seed))
    if not methods:
        notes.append("No correction was made, so that nothing elsewhere can have changed.")
    others = [one.task for one in asked if one.task.kind == "other"]
    itself = [one.task for one in asked if one.task.kind == "attribute"]
    told = (*others, *(task for task in by_class if task.images), *itself)
    return CollateralResults(told, methods, neighbours, nearest, len(places), tuple(notes))


def _edits(audit: Audit) -> dict[str, tuple[Int[np.ndarray, "image"], Int[np.ndarray, "image"], Correction]]:
    """By method, the predictions before and after, and the fitted correction."""
    edits: dict[str, tuple[np.ndarray, np.ndarray, Correction]] = {}
    if (results := audit.results) is not None:
        before = results.predictions["zero-shot"]
        edits = {name: (before, results.predictions[name], one) for name, one in audit.corrections.items()}
    if (fair := audit.fairness_results) is not None and fair.candidates:
        ablation = MeanAblation(fair.candidates).fit(audit.reference)
        edits[CANDIDATES] = (fair.predictions["before"], fair.predictions["after"], ablation)
    return edits


def _answers(audit: Audit, asked: Asked, correction: Correction) -> Answers:
    has = asked.truth >= 0
    return asked.truth[has], asked.answers(audit, correction)[has], asked.answers(audit)[has]


def _kept(
    audit: Audit, method: str, correction: Correction, places: Int[np.ndarray, "image"], k: int, bootstrap: int
) -> Measures:
    """How many of every image's k nearest images stay among its k nearest."""
    before, after = (
        _likeness(embedding[torch.as_tensor(places)])
        for embedding in (audit.test.embedding, correction.apply(audit.test).embedding)
    )
    near = torch.zeros(before.shape, dtype=torch.bool).scatter(0, before.topk(k, dim=0).indices, value=True)
    resampling = Bootstrap(bootstrap, seed=audit.seed)
    return retrieval_recall(after, near, k, method=method, bootstrap=resampling)


def _likeness(embedding: Float[Tensor, "image embed"]) -> Float[Tensor, "image image"]:
    """Cosines between images; an image is no neighbour of its own."""
    unit = normalize(embedding.detach().cpu().float(), dim=-1)
    return (unit @ unit.T).fill_diagonal_(-2.0)
