"""Contrastive attribution: the heads that decide wrongly classified images and not rightly classified ones.

Follows Yeo et al. 2025, *Debiasing CLIP: Interpreting and Correcting Bias in Attention Heads* (arXiv 2505.17425):

1. Take the images of the groups where attribute and class conflict (G_N), and give each image's credit to a head (see
   `headlens.locate.decisions`).
2. V_C[l,h] is the mean credit over the rightly classified images of G_N, V_W[l,h] over the wrongly classified ones.
3. γ = 1 / |{heads with V_C > 0 or V_W > 0}|.
4. Spurious heads, Z_SY: V_W − V_C > γ. Salient heads, Z_Y: V_C − V_W > γ. Largest difference first.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.decisions import Credit, check_inputs, head_credit, head_scores, weigh
from headlens.locate.location import Location


def contrastive(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"],
    *,
    credit: Credit = "top",
) -> Location:
    """Locate the spurious and the salient heads by contrasting wrong with right images where the bias conflicts.

    With p the predicted class and o the runner-up (right images) or the true class (wrong images), a head's score is
    a_lh = head_logits[p] − head_logits[o]; V is the share of images whose largest score over all heads is (l, h);
    Z_SY = {V_W − V_C > γ}, Z_Y = {V_C − V_W > γ}, γ = 1 / |{V_C > 0 or V_W > 0}|.

    Args:
        head_logits: every head's contribution along each class embedding, `store.project(classifier)`.
        logits: the whole embedding along each class embedding, `store.embedding @ classifier.T`.
        labels: the true class of each image, numbered as the classifier's rows.
        conflicting: which images belong to G_N; see `headlens.locate.conflicting_groups`.
        credit: "top" for the published rule; "soft" (ours) puts the mean score in place of the share, and the mean over
            heads of max(|V_C|, |V_W|), in units of the logits, in place of γ.

    Returns:
        The location. Its lists are empty where no head exceeds γ: that is an answer, not an error.

    Raises:
        LocateError: for shapes that disagree, numbers that are not finite, labels outside the classes, one class
            only, an empty G_N, or a G_N without wrong (or without right) predictions, where nothing is contrasted.

    Limits: the rule sees direct effects alone, credits one head an image, and a head that is needed for right and
    wrong images alike is named by neither list. Small sets of wrong images make V_W coarse: see `significance`.
    """
    check_inputs(head_logits, logits, labels)
    if conflicting.shape != labels.shape:
        raise LocateError(
            "one mark for each image in `conflicting`",
            f"{tuple(conflicting.shape)} for {labels.shape[0]} images",
            "Take it from headlens.locate.conflicting_groups on the same rows.",
        )
    conflicting = conflicting.to(logits.device)
    if not bool(conflicting.any()):
        raise LocateError(
            "images in the conflicting groups",
            f"none among {labels.shape[0]}",
            "Name groups that occur in this split, or take a split where attribute and class do conflict.",
        )
    weighed = weigh(logits[conflicting], labels.to(logits.device)[conflicting])
    scores = head_scores(head_logits[conflicting], weighed)
    return contrastive_from_credit(head_credit(scores, credit), weighed.right, credit=credit)


def contrastive_full(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"] | None = None,
    *,
    credit: Credit = "top",
) -> Location:
    """The *full* variant of `contrastive`: every image in place of those of G_N; `conflicting` is not looked at."""
    everything = torch.ones(labels.shape[0], dtype=torch.bool, device=logits.device)
    found = contrastive(head_logits, logits, labels, everything, credit=credit)
    return replace(found, method=found.method.replace("contrastive", "contrastive-full"))


def contrastive_from_credit(
    credits: Float[Tensor, "image layer head"], right: Bool[Tensor, "image"], *, credit: Credit = "top"
) -> Location:
    """Steps 2 to 4, from each image's credit and whether it was classified rightly. See `contrastive`."""
    n_correct, n_wrong = int(right.sum()), int((~right).sum())
    if n_wrong == 0:
        raise LocateError(
            "wrong predictions in the conflicting groups",
            f"none among {n_correct} images",
            "There is nothing to contrast: the model does not fall for this bias here. Name harder groups, or take a "
            "larger split.",
        )
    if n_correct == 0:
        raise LocateError(
            "right predictions in the conflicting groups",
            f"none among {n_wrong} images",
            "There is nothing to contrast the wrong ones with: check the order of the classes and the prompts, or "
            "use headlens.locate.contrastive_full.",
        )
    dtype = credits.dtype if credits.dtype == torch.float64 else torch.float32
    sum_correct = credits[right].sum(dim=0, dtype=torch.float64)
    sum_wrong = credits[~right].sum(dim=0, dtype=torch.float64)
    correct, wrong = sum_correct / n_correct, sum_wrong / n_wrong
    if credit == "top":
        threshold, spurious, salient = _select_shares(sum_correct, sum_wrong, n_correct, n_wrong)
    else:
        threshold = float(torch.maximum(correct.abs(), wrong.abs()).mean())
        spurious = _largest_first(wrong - correct, threshold)
        salient = _largest_first(correct - wrong, threshold)
    return Location(
        correct=correct.to(dtype),
        wrong=wrong.to(dtype),
        threshold=threshold,
        spurious=spurious,
        salient=salient,
        n_correct=n_correct,
        n_wrong=n_wrong,
        method="contrastive" if credit == "top" else "contrastive-soft",
    )


def _select_shares(
    correct: Float[Tensor, "layer head"], wrong: Float[Tensor, "layer head"], n_correct: int, n_wrong: int
) -> tuple[float, list[HeadId], list[HeadId]]:
    # Shares are ratios of counts and a difference may equal γ exactly: rounding must not decide a strict inequality.
    active = [HeadId(int(i), int(j)) for i, j in ((correct > 0) | (wrong > 0)).nonzero().tolist()]
    threshold = Fraction(1, len(active))
    gap = {h: Fraction(int(wrong[h]), n_wrong) - Fraction(int(correct[h]), n_correct) for h in active}
    spurious = sorted((h for h in active if gap[h] > threshold), key=lambda h: (-gap[h], h))
    salient = sorted((h for h in active if -gap[h] > threshold), key=lambda h: (gap[h], h))
    return float(threshold), spurious, salient


def _largest_first(values: Float[Tensor, "layer head"], threshold: float) -> list[HeadId]:
    chosen = [HeadId(int(i), int(j)) for i, j in (values > threshold).nonzero().tolist()]
    return sorted(chosen, key=lambda h: (-float(values[h]), h))
