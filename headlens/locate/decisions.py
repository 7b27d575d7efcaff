"""What each image's decision is weighed against, and how much every head has to do with it.

Follows Yeo et al. 2025 (arXiv 2505.17425), section on locating heads:

1. p is the predicted class, the largest logit. o is the class that p is weighed against: the runner-up where p is
   right, the true class where p is wrong.
2. A head's score for an image is a_lh = contribution_lh · (t_p − t_o), the difference of its logits of p and o.
3. The image's credit goes to its top head, the argmax of a_lh over all heads of all layers; or, softly (ours), every
   head is credited with its score itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.errors import LocateError

Credit = Literal["top", "soft"]


@dataclass(frozen=True, eq=False)
class Weighed:
    """Each image's decision.

    Attributes:
        predicted: p, the class with the largest logit (the first one where several are equal).
        other: o, the runner-up where the prediction is right and the true class where it is wrong.
        right: whether p is the true class.
    """

    predicted: Int[Tensor, "image"]
    other: Int[Tensor, "image"]
    right: Bool[Tensor, "image"]


def check_inputs(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
) -> None:
    """Hold the three arrays to each other.

    Raises:
        LocateError: where their shapes disagree, there is no image or only one class, a number is not finite, or a
            label is not among the classes.
    """
    if head_logits.ndim != 4 or logits.ndim != 2 or labels.ndim != 1:
        raise LocateError(
            "head logits of [image layer head class], logits of [image class] and labels of [image]",
            f"shapes {tuple(head_logits.shape)}, {tuple(logits.shape)} and {tuple(labels.shape)}",
            "Take head logits from store.project(classifier) and logits from store.embedding @ classifier.T.",
        )
    shape = (head_logits.shape[0], head_logits.shape[3])
    if shape != tuple(logits.shape) or labels.shape[0] != logits.shape[0]:
        raise LocateError(
            "the same images and classes in head logits, logits and labels",
            f"{shape[0]}, {logits.shape[0]} and {labels.shape[0]} images, and {shape[1]} and {logits.shape[1]} classes",
            "Select the same rows of all three, and use one classifier for both logits.",
        )
    if logits.shape[0] == 0 or head_logits.shape[1] == 0 or head_logits.shape[2] == 0:
        raise LocateError(
            "at least one image and one head", f"shape {tuple(head_logits.shape)}", "Check the selection."
        )
    if logits.shape[1] < 2:
        raise LocateError("two classes or more", "one class", "A decision needs a class that it is weighed against.")
    for name, values in (("logits", logits), ("head logits", head_logits)):
        bad = ~torch.isfinite(values)
        if bool(bad.any()):
            first = int(bad.flatten(1).any(1).nonzero()[0])
            raise LocateError(
                f"finite {name}",
                f"{int(bad.sum())} that are NaN or infinite, the first at image {first}",
                "Look at that image's file and at the model's weights, then extract again.",
            )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise LocateError(
            f"labels from 0 to {logits.shape[1] - 1}, one number for each class",
            f"label {low if low < 0 else high}",
            "Number the labels in the order of the classes.",
        )


def weigh(logits: Float[Tensor, "image class"], labels: Int[Tensor, "image"]) -> Weighed:
    """Each image's predicted class and the class it is weighed against; see the module's first step."""
    labels = labels.to(logits.device, torch.int64)
    predicted = logits.argmax(dim=1)
    right = predicted == labels
    runner_up = logits.scatter(1, predicted[:, None], -torch.inf).argmax(dim=1)
    return Weighed(predicted, torch.where(right, runner_up, labels), right)


def head_scores(
    head_logits: Float[Tensor, "image layer head class"], weighed: Weighed
) -> Float[Tensor, "image layer head"]:
    """a_lh, the difference of a head's logits of the predicted class and of the one it is weighed against."""
    _, n_layers, n_heads, _ = head_logits.shape

    def of(classes: Int[Tensor, "image"]) -> Float[Tensor, "image layer head"]:
        index = rearrange(classes, "image -> image 1 1 1").expand(-1, n_layers, n_heads, 1)
        return head_logits.gather(3, index).squeeze(3)

    return of(weighed.predicted) - of(weighed.other)


def head_credit(scores: Float[Tensor, "image layer head"], credit: Credit = "top") -> Float[Tensor, "image layer head"]:
    """What each head gets for each image: one for the top head and zero for the others, or the scores themselves.

    Where several heads share the largest score, the first one in reading order (layer, then head) is the top head.
    """
    if credit == "soft":
        return scores
    if credit != "top":
        raise LocateError("credit 'top' or 'soft'", repr(credit), "See headlens.locate.contrastive.")
    flat = rearrange(scores, "image layer head -> image (layer head)")
    top = torch.zeros_like(flat).scatter_(1, flat.argmax(dim=1, keepdim=True), 1.0)
    return top.view(scores.shape)
