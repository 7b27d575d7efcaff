"""The calibrated locator: heads that pull conflicting images to the wrong class *because of* the attribute.

The published rule (`headlens.locate.contrastive`) credits one head an image and finds whatever causes errors. Here
every head is tested twice, and named only where both tests name it (ours):

- *Contrast*, within the conflicting images G_N, with a head's margin a_i (towards the predicted class p, away from the
  class o it is compared with): e = mean a over incorrect images − mean a over correct ones; z after Welch.
- *Alignment*, over all images, with m_i the head's margin of the true class over the best other class by the whole
  model (m_i = a_i where the prediction is correct, −a_i where it is not): within each true class c, the mean of m over
  aligned images minus that over conflicting ones; e = Σ_c w_c e_c / Σ_c w_c with w_c = 1 / (1/n_a + 1/n_c), and
  variance Σ_c w_c² (s_a²/n_a + s_c²/n_c) / (Σ_c w_c)². This is what ties a head to the *attribute*.
  Where several images show one person or scene (`Decisions.clusters`), both variances are those of the clusters' sums.

A head's p is the larger of its two one-sided ones (an intersection-union test, Berger 1982); Benjamini and Hochberg's
(1995) procedure over all heads follows. A named head also makes at least `minimum_share` of Σ|e| in both tests.

Salient heads pass the contrast in the other direction (they favour correct images), with the same q and share; the
alignment does not enter: they are what decides the class, whatever the attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control, norm
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId, HeadScores
from headlens.locate.contrastive import (
    LEAST,
    SHARE,
    Decisions,
    Draws,
    Q,
    as_codes,
    check_conflicting,
    contrast,
    difference_of_means,
    margins_of,
    named_heads,
    significant,
    with_draws,
)
from headlens.locate.located import Located


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Calibrated(Located):
    """Heads named by both tests, with the numbers behind them.

    Attributes:
        contrast: e of the first test, in units of the logits.
        alignment: e of the second test.
        p: the larger of the two one-sided p-values.
        adjusted: p after Benjamini and Hochberg.
        q: a head is named where adjusted ≤ q,
        minimum_share: and its share of Σ|e| is at least this in both tests.
    """

    contrast: Float[Tensor, "layer head"]
    alignment: Float[Tensor, "layer head"]
    p: Float[Tensor, "layer head"]
    adjusted: Float[Tensor, "layer head"]
    q: float
    minimum_share: float

    def scores(self) -> HeadScores:
        """The second test's effect, with the spurious heads selected."""
        return HeadScores("margin on aligned − conflicting images", self.alignment, None, self.spurious)

    def table(self) -> pd.DataFrame:
        """One row a head, smallest p first: `head`, `contrast`, `alignment`, `p`, `adjusted`, `role`."""
        roles = dict.fromkeys(self.spurious, "spurious") | dict.fromkeys(self.salient, "salient")
        n_layers, n_heads = self.p.shape
        heads = [HeadId(i, j) for i in range(n_layers) for j in range(n_heads)]
        columns = {name: getattr(self, name).flatten().tolist() for name in ("contrast", "alignment", "p", "adjusted")}
        frame = pd.DataFrame({"head": list(map(str, heads)), **columns, "role": [roles.get(h, "") for h in heads]})
        return self._with_stability(frame.sort_values("p", kind="stable", ignore_index=True))


def calibrated(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"],
    *,
    q: float = Q,
    minimum_share: float = SHARE,
) -> Calibrated:
    """`calibrated_from_margins` of what `contrastive` takes: every head's and the whole embedding's class scores.

    Args:
        head_logits: `store.project(classifier)`.
        logits: `store.embedding @ classifier.T`.
        labels: the true class of each image, numbered as the classifier's rows.
        conflicting, q, minimum_share: see there.

    Raises:
        LocateError: as there, and as `margins_of`.
    """
    margins = margins_of(head_logits, logits, labels)
    return calibrated_from_margins(*margins, conflicting, q=q, minimum_share=minimum_share)


def calibrated_from_margins(
    margins: Float[Tensor, "image layer head"],
    decisions: Decisions,
    conflicting: Bool[Tensor, "image"],
    *,
    q: float = Q,
    minimum_share: float = SHARE,
    draws: Draws | None = None,
) -> Calibrated:
    """Name the heads that pass both tests of this module.

    Args:
        margins: each head's margin of the predicted class over the one it is compared with, `margins_of`.
        decisions: what each image was decided between.
        conflicting: which images belong to G_N, by the data and not by the model's errors: groups that were chosen
            because the model errs there bias the second test.
        q: the false-discovery rate.
        minimum_share: of Σ|e| that a named head makes in either test.
        draws: resamples behind the stability of the heads, `resamples`.

    Returns:
        The heads. None is named where none passes: that is an answer, not an error.

    Raises:
        LocateError: for shapes that disagree, or fewer than 3 correct and 3 incorrect conflicting images, or no class
            with 3 aligned and 3 conflicting images: there is nothing to test.

    Limits: direct effects alone; z-tests, so that p is approximate below about 20 images a side. Where class and
    attribute go together exactly, no class has both aligned and conflicting images.
    """
    rows = check_conflicting(conflicting, decisions)
    flat = rearrange(margins.detach().cpu().double(), "image layer head -> image (layer head)").numpy()
    mask, correct = rows.cpu().numpy(), decisions.correct.cpu().numpy()
    clusters, samples = as_codes(decisions.clusters), with_draws(draws, len(decisions)).numpy()
    within = None if clusters is None else clusters[mask]
    contrasted, z_contrast, contrasts = contrast(flat[mask], correct[mask], within, samples[:, mask])
    toward_truth = np.where(correct[:, None], flat, -flat)
    labels = decisions.labels.cpu().numpy()
    alignment, z_alignment, aligns = difference_of_means(toward_truth, ~mask, mask, labels, clusters, samples)
    if not aligns[0]:
        raise LocateError(
            f"No class has {LEAST} images in which the attribute conflicts and {LEAST} in which it does not.",
            "Take a split in which class and attribute go together less, or the locator 'contrastive'.",
        )
    p = norm.sf(np.minimum(z_contrast, z_alignment))
    adjusted = np.asarray(false_discovery_control(p, axis=-1))
    parts, tested = [_share(effect) for effect in (contrasted, alignment)], (contrasts & aligns)[:, None]
    spurious = tested & (adjusted <= q) & (np.minimum(*parts) >= minimum_share)
    salient = tested & significant(-z_contrast, q) & (parts[0] <= -minimum_share)
    by_head = [
        torch.from_numpy(values).unflatten(-1, margins.shape[1:])
        for values in (spurious, alignment, salient, -contrasted, p, adjusted)
    ]
    return Calibrated(
        "calibrated",
        *named_heads(*by_head[:4]),
        contrast=-by_head[3][0],
        alignment=by_head[1][0],
        p=by_head[4][0],
        adjusted=by_head[5][0],
        q=q,
        minimum_share=minimum_share,
    )


def _share(effect: Float[np.ndarray, "sample head"]) -> Float[np.ndarray, "sample head"]:
    return effect / np.maximum(np.abs(effect).sum(-1, keepdims=True), 1e-300)
