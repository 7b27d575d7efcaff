"""Many classes: the salient heads of each, the class that each is mostly mistaken for, and which class an image gets.

Follows Yeo et al. 2025 (arXiv 2505.17425) on CounterAnimal, where classes are too many for one list of salient heads:

1. Z_Y of class y: over the rightly classified reference images of y, V[l,h] is the share whose top head is (l, h);
   Z_Y = {V > 1 / |{heads with V > 0}|} less the spurious heads, which hold for all classes.
2. The rival of y is the class that images of y are mostly mistaken for: what is injected tells these two apart.
3. An image whose class is not known gets the heads of the class that zero-shot predicts; where that is none with heads
   of its own, those of the class whose images are mostly mistaken for the predicted one.

Ours, where the paper is silent: a class that is never mistaken has the class that is mostly its runner-up as its rival,
and ties go to the class that is counted first. Nothing reads the label of an image outside the reference.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.attributes import attribute_heads
from headlens.locate.decisions import check_inputs


def salient_by_class(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    spurious: Iterable[tuple[int, int]] = (),
    otherwise: Iterable[tuple[int, int]] = (),
) -> dict[int, list[HeadId]]:
    """Z_Y of every class that has an image, largest share first.

    Args:
        head_logits: every head's contribution along each class embedding, `store.project(classifier)`.
        logits: the whole embedding along each class embedding.
        labels: the true class of each image.
        spurious: Z_SY, which no class keeps.
        otherwise: the heads of a class without a rightly classified image, or with spurious ones alone.

    Raises:
        LocateError: as `contrastive` does for its arrays.

    Limits: with few images a class, V is coarse: of three right images one is already a third. Where one head decides
    every right image, V = 1 does not exceed 1 / 1, and the class has no head of its own: the rule as published.
    """
    check_inputs(head_logits, logits, labels)
    barred = {HeadId(*head) for head in spurious}
    fallback = [head for head in (HeadId(*one) for one in otherwise) if head not in barred]
    labels = labels.to(logits.device)
    found: dict[int, list[HeadId]] = {}
    for label in labels.unique().tolist():
        rows = labels == label
        try:
            own = attribute_heads(head_logits[rows], logits[rows], labels[rows]).salient
        except LocateError:  # no image of the class is told rightly
            own = []
        found[label] = [head for head in own if head not in barred] or list(fallback)
    return found


def rivals(logits: Float[Tensor, "image class"], labels: Int[Tensor, "image"]) -> dict[int, int]:
    """The class that images of each class are mostly mistaken for; where none is, the one that is mostly runner-up."""
    labels = labels.to(logits.device)
    others = logits.scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
    wrong = logits.argmax(dim=1) != labels
    found = {}
    for label in labels.unique().tolist():
        own = labels == label
        mistaken = own & wrong
        counts = torch.bincount(others[mistaken if bool(mistaken.any()) else own], minlength=logits.shape[1])
        found[label] = int(counts.argmax())
    return found


def routes(logits: Float[Tensor, "image class"], labels: Int[Tensor, "image"]) -> Int[Tensor, "class"]:
    """For every predicted class, the class whose heads an image gets: itself where it has images here, else the class
    most of whose images are mistaken for it, and −1 where none is."""
    n_classes = logits.shape[1]
    labels = labels.to(logits.device)
    mistaken = torch.zeros(n_classes, n_classes, dtype=torch.long, device=logits.device)
    mistaken.index_put_((logits.argmax(dim=1), labels), torch.ones_like(labels), accumulate=True)
    found = torch.where(mistaken.any(dim=1), mistaken.argmax(dim=1), -1)
    there = labels.unique()
    found[there] = there
    return found.cpu()
