"""Contrastive attribution: the heads that decide incorrectly classified images and not correctly classified ones.

Follows Yeo et al. 2025, *Debiasing CLIP: Interpreting and Correcting Bias in Attention Heads* (arXiv 2505.17425):

1. Per image, p is the predicted class and o the class it is compared with: the runner-up where p is correct, the true
   class where p is incorrect. A head's margin is a_lh = contribution_lh · (t_p − t_o).
2. Each image's credit goes to its top head, the argmax of a_lh over all heads of all layers; or, softly (ours), every
   head is credited with its margin itself.
3. Among the images of the groups where attribute and class conflict (G_N), V_C[l,h] is the mean credit over the
   correctly classified ones, V_W[l,h] over the incorrectly classified ones. γ = 1 / |{heads with V_C > 0 or V_W > 0}|.
4. Spurious heads, Z_SY: V_W − V_C > γ. Salient heads, Z_Y: V_C − V_W > γ. Largest difference first. Under soft credit
   a test stands in place of γ: a head's difference is at least 2 % of Σ|V_W − V_C|, and Welch's z of it passes
   Benjamini and Hochberg's (1995) procedure at q = .05.

The heads of an attribute, Z_S, and the salient heads of a single class come from V_C alone: {V_C > γ}, for the
attribute's own zero-shot task or for the images of one class.

Every rule needs two classes an image, not all of them: the functions on `HeadMargins` take [image layer head], and
those on head logits take [image layer head class] and make the margins from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import coo_array
from scipy.stats import false_discovery_control, norm
from torch import Tensor

from headlens.errors import LocateError, NothingLocatedError
from headlens.heads import HeadId, HeadLike, HeadScores
from headlens.locate.located import Located
from headlens.registry import Registry
from headlens.tables import Column, Kind

Credit = Literal["top", "soft"]
Draws = Float[Tensor, "draw image"]
"""How often each image is in each of some resamples; see `resamples`."""
Tested = tuple[Float[np.ndarray, "sample head"], Float[np.ndarray, "sample head"], Bool[np.ndarray, "sample"]]
"""Of every sample: each head's effect and its z, and whether there was enough to test."""
LEAST = 3  # images on either side of a difference, for a variance that means something
Q, SHARE = 0.05, 0.02
"""False-discovery rate, and the least part of Σ|e| that a named head makes, of the rules that test every head."""


# ---- decisions and margins ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Decisions:
    """What each image's prediction is decided between.

    Attributes:
        predicted: p, the class with the largest logit (the first one where several are equal).
        other: o, the runner-up where the prediction is correct and the true class where it is not.
        correct: whether p is the true class.
        clusters: which images show one person or scene, for the standard errors of the rules that test every head;
            None where each stands for itself.
    """

    predicted: Int[Tensor, "image"]
    other: Int[Tensor, "image"]
    correct: Bool[Tensor, "image"]
    clusters: Int[Tensor, "image"] | None = None

    def __len__(self) -> int:
        return len(self.predicted)

    def __getitem__(self, rows: Tensor) -> Decisions:
        """The decisions of some images."""
        clusters = None if self.clusters is None else self.clusters[rows]
        return Decisions(self.predicted[rows], self.other[rows], self.correct[rows], clusters)

    @property
    def labels(self) -> Int[Tensor, "image"]:
        """The true class of each image."""
        return torch.where(self.correct, self.predicted, self.other)


def decide(logits: Float[Tensor, "image class"], labels: Int[Tensor, "image"]) -> Decisions:
    """Each image's predicted class and the class that it is compared with; see the module's first step.

    Raises:
        LocateError: for no image, one class only, numbers that are not finite, or labels outside the classes.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise LocateError(
            f"Logits of shape {list(logits.shape)} and {len(labels)} labels are not one row and one label an image.",
            "Select the same rows of both, at least one.",
        )
    if logits.shape[1] < 2:
        raise LocateError(
            "There is only one class.", "A decision needs two classes or more: a predicted one and another."
        )
    check_finite(logits, "logits")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise LocateError(
            f"Label {low if low < 0 else high} is none of the {logits.shape[1]} classes.",
            f"Number the labels from 0 to {logits.shape[1] - 1}, in the order of the classes.",
        )
    labels = labels.to(logits.device, torch.int64)
    predicted = logits.argmax(dim=1)
    correct = predicted == labels
    runner_up = logits.scatter(1, predicted[:, None], -torch.inf).argmax(dim=1)
    return Decisions(predicted, torch.where(correct, runner_up, labels), correct)


def head_margins(
    head_logits: Float[Tensor, "image layer head class"], decisions: Decisions
) -> Float[Tensor, "image layer head"]:
    """a_lh, the difference of a head's logits of the predicted class and of the one it is compared with."""
    if head_logits.ndim != 4 or len(head_logits) != len(decisions):
        raise LocateError(
            f"Head logits of shape {list(head_logits.shape)} are not [image layer head class] of "
            f"{len(decisions)} images.",
            "Take them from store.project(classifier), of the same images as the logits.",
        )
    _, n_layers, n_heads, _ = head_logits.shape

    def of(classes: Int[Tensor, "image"]) -> Float[Tensor, "image layer head"]:
        index = rearrange(classes, "image -> image 1 1 1").expand(-1, n_layers, n_heads, 1)
        return head_logits.gather(3, index).squeeze(3)

    return of(decisions.predicted) - of(decisions.other)


def head_credit(
    margins: Float[Tensor, "image layer head"], credit: Credit = "top"
) -> Float[Tensor, "image layer head"]:
    """What each head gets for each image: one for the top head and zero for the others, or the margins themselves.

    Where several heads share the largest margin, the first one in reading order (layer, then head) is the top head.
    """
    if credit == "soft":
        return margins
    if credit != "top":
        raise LocateError(f"There is no credit {credit!r}.", "Choose 'top' or 'soft'.")
    flat = rearrange(margins, "image layer head -> image (layer head)")
    top = torch.zeros_like(flat).scatter_(1, flat.argmax(dim=1, keepdim=True), 1.0)
    return top.view(margins.shape)


def margins_of(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
) -> tuple[Float[Tensor, "image layer head"], Decisions]:
    """Both at once, from the logits of all classes, after holding the three arrays to each other.

    Raises:
        LocateError: where their shapes disagree or there is no head, and as `decide` does.
    """
    if head_logits.ndim != 4 or logits.ndim != 2 or labels.ndim != 1:
        raise LocateError(
            f"Shapes {list(head_logits.shape)}, {list(logits.shape)} and {list(labels.shape)} are not head logits of "
            "[image layer head class], logits of [image class] and labels of [image].",
            "Take head logits from store.project(classifier) and logits from store.embedding @ classifier.T.",
        )
    if (head_logits.shape[0], head_logits.shape[3]) != tuple(logits.shape) or len(labels) != len(logits):
        raise LocateError(
            f"Head logits {list(head_logits.shape)}, logits {list(logits.shape)} and {len(labels)} labels differ in "
            "images or classes.",
            "Select the same rows of all three, and use one classifier for both logits.",
        )
    if not head_logits.numel():
        raise LocateError(
            f"Head logits of shape {list(head_logits.shape)} are empty.", "Select at least one image and one head."
        )
    decisions = decide(logits, labels)
    check_finite(head_logits, "head logits")
    return head_margins(head_logits, decisions), decisions


def check_finite(values: Tensor, name: str) -> None:
    """Raise `LocateError` for values of images that are NaN or infinite."""
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        first = int(bad.flatten(1).any(1).nonzero()[0])
        raise LocateError(
            f"{int(bad.sum())} of the {name} are NaN or infinite, the first at image {first}.",
            "Look at that image's file and at the model's weights, then extract again.",
        )


# ---- the published rule ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Location(Located):
    """Heads named by contrast, with the numbers and the rule that named them.

    Attributes:
        correct: V_C, each head's share of (or mean credit over) the correctly classified images.
        wrong: V_W, the same over the incorrectly classified images; zero where a locator reads correct ones alone.
        threshold: γ; a head is named where its difference exceeds it, strictly. Under soft credit, what its difference
            has to reach beside being significant.
        n_correct: how many images V_C counts.
        n_wrong: how many images V_W counts.
    """

    correct: Float[Tensor, "layer head"]
    wrong: Float[Tensor, "layer head"]
    threshold: float
    n_correct: int
    n_wrong: int

    @property
    def difference(self) -> Float[Tensor, "layer head"]:
        """V_W − V_C: above zero where a head decides incorrect images more often than correct ones."""
        return self.wrong - self.correct

    @property
    def heads(self) -> tuple[HeadId, ...]:
        """The salient heads; for an attribute's own task these are the attribute's heads, Z_S."""
        return self.salient

    def scores(self) -> HeadScores:
        """V_W − V_C as `HeadScores`, with the spurious heads selected."""
        return HeadScores("V_W − V_C", self.difference, self.threshold, self.spurious)

    def table(self) -> pd.DataFrame:
        """One row for each head with a credit, largest difference first: `head`, `V_C`, `V_W`, `difference`, `role`."""
        roles = dict.fromkeys(self.spurious, "spurious") | dict.fromkeys(self.salient, "salient")
        rows = []
        for head, difference in self.scores():
            correct, wrong = float(self.correct[head]), float(self.wrong[head])
            if correct != 0 or wrong != 0:
                rows.append((str(head), correct, wrong, difference, roles.get(head, "")))
        frame = pd.DataFrame(rows, columns=["head", "V_C", "V_W", "difference", "role"])
        frame = frame.sort_values("difference", ascending=False, kind="stable", ignore_index=True)
        return self._with_stability(frame)

    def _columns(self) -> Mapping[str, Kind | Column]:
        soft = self.method.endswith("-soft")  # whose credits are mean scores, not shares of the images
        share: Kind = "number" if soft else "percent"
        return {
            "head": "head",
            "V_C": share,
            "V_W": share,
            "difference": "change" if soft else "points",
            "role": "text",
        }


def contrastive(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"],
    *,
    credit: Credit = "top",
) -> Location:
    """Locate the spurious and the salient heads by contrasting incorrect with correct images where the bias conflicts.

    With p the predicted class and o the runner-up (correct images) or the true class (incorrect images), a head's
    margin is a_lh = head_logits[p] − head_logits[o]; V is the share of images whose largest margin over all heads is
    (l, h); Z_SY = {V_W − V_C > γ}, Z_Y = {V_C − V_W > γ}, γ = 1 / |{V_C > 0 or V_W > 0}|.

    Args:
        head_logits: every head's contribution along each class embedding, `store.project(classifier)`.
        logits: the whole embedding along each class embedding, `store.embedding @ classifier.T`.
        labels: the true class of each image, numbered as the classifier's rows.
        conflicting: which images belong to G_N; see `headlens.locate.conflicting_groups`.
        credit: "top" for the published rule; "soft" (ours) puts the mean margin in place of the share, in units of
            the logits, and a test in place of γ; see the module.

    Returns:
        The location. It names no head where none exceeds γ: that is an answer, not an error.

    Raises:
        LocateError: for shapes that disagree, numbers that are not finite, labels outside the classes, one class
            only, an empty G_N, or a G_N without incorrect (or without correct) predictions: nothing is contrasted.
            Under soft credit also for fewer than 3 of either.

    Limits: the rule sees direct effects alone, credits one head an image, and a head that is needed for correct and
    incorrect images alike is named by neither list. Small sets of incorrect images make V_W coarse: see
    `significance`.
    """
    return contrastive_from_margins(*margins_of(head_logits, logits, labels), conflicting, credit=credit)


def contrastive_from_margins(
    margins: Float[Tensor, "image layer head"],
    decisions: Decisions,
    conflicting: Bool[Tensor, "image"],
    *,
    credit: Credit = "top",
    draws: Draws | None = None,
) -> Location:
    """The same from each image's margins, `head_margins` or a projection on t_p − t_o. See `contrastive`."""
    rows = check_conflicting(conflicting, decisions)
    chosen, drawn = decisions[rows], None if draws is None else draws[:, rows.cpu()]
    credits = head_credit(margins[rows], credit)
    return contrastive_from_credit(credits, chosen.correct, credit=credit, clusters=chosen.clusters, draws=drawn)


def contrastive_full(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
    conflicting: Bool[Tensor, "image"] | None = None,
    *,
    credit: Credit = "top",
) -> Location:
    """The *full* variant of `contrastive`: every image, not those of G_N alone; `conflicting` is not read."""
    return _full(*margins_of(head_logits, logits, labels), conflicting, credit=credit)


def _full(
    margins: Float[Tensor, "image layer head"],
    decisions: Decisions,
    conflicting: Bool[Tensor, "image"] | None = None,
    *,
    credit: Credit = "top",
    draws: Draws | None = None,
) -> Location:
    everything = torch.ones_like(decisions.correct)
    found = contrastive_from_margins(margins, decisions, everything, credit=credit, draws=draws)
    return replace(found, method=found.method.replace("contrastive", "contrastive-full"))


def check_conflicting(conflicting: Bool[Tensor, "image"], decisions: Decisions) -> Bool[Tensor, "image"]:
    """G_N on the decisions' device.

    Raises:
        LocateError: unless it marks one image or more, of as many as there are decisions.
    """
    if conflicting.shape != decisions.correct.shape:
        raise LocateError(
            f"`conflicting` has {list(conflicting.shape)} entries, not one for each of {len(decisions)} images.",
            "Take it from headlens.locate.conflicting_groups on the same rows.",
        )
    if not bool(conflicting.any()):
        raise NothingLocatedError(
            f"None of the {len(decisions)} images is in the conflicting groups.",
            "Name groups that occur in this split, or take a split where attribute and class do conflict.",
        )
    return conflicting.to(decisions.correct.device)


def contrastive_from_credit(
    credits: Float[Tensor, "image layer head"],
    correct: Bool[Tensor, "image"],
    *,
    credit: Credit = "top",
    clusters: Int[Tensor, "image"] | None = None,
    draws: Draws | None = None,
) -> Location:
    """Steps 3 and 4, from each image's credit and whether it was classified correctly. See `contrastive`, for the
    clusters `Decisions`, and for the draws `resamples`."""
    n_correct, n_wrong = int(correct.sum()), int((~correct).sum())
    if n_wrong == 0:
        raise NothingLocatedError(
            f"All {n_correct} images of the conflicting groups are classified correctly: there is nothing to contrast.",
            "The model does not fall for this bias here. Name harder groups, or take a larger split.",
        )
    if n_correct == 0:
        raise NothingLocatedError(
            f"All {n_wrong} images of the conflicting groups are classified incorrectly: there is nothing to contrast.",
            "Check the order of the classes and the prompts, or compare all images: the locator contrastive-full.",
        )
    dtype = credits.dtype if credits.dtype == torch.float64 else torch.float32
    # Ones and zeros add up exactly in float32; margins are added up in float64.
    work = credits.to(torch.float32 if credit == "top" else torch.float64)
    samples = with_draws(draws, len(correct)).to(work)
    sides = torch.stack([correct, ~correct]).to(work)
    sums = einsum(samples, sides, work, "sample image, side image, image layer head -> sample side layer head").double()
    if credit == "top":
        threshold, named, strength = _select_shares(sums, samples.double() @ sides.T.double())
    else:
        flat = rearrange(credits.detach().cpu().double(), "image layer head -> image (layer head)").numpy()
        difference, z, _ = contrast(flat, correct.cpu().numpy(), as_codes(clusters), samples.cpu().numpy())
        least = SHARE * np.abs(difference).sum(1, keepdims=True)
        threshold = float(least[0, 0])
        named, strength = (
            torch.from_numpy(values).view(len(samples), *credits.shape[1:])
            for values in ((significant(z) | significant(-z)) & (np.abs(difference) >= least), difference)
        )
    return Location(
        "contrastive" if credit == "top" else "contrastive-soft",
        *named_heads(named & (strength > 0), strength, named & (strength < 0), -strength),
        correct=(sums[0, 0] / n_correct).to(dtype),
        wrong=(sums[0, 1] / n_wrong).to(dtype),
        threshold=threshold,
        n_correct=n_correct,
        n_wrong=n_wrong,
    )


def _select_shares(
    sums: Float[Tensor, "sample side layer head"], sizes: Float[Tensor, "sample side"]
) -> tuple[float, Bool[Tensor, "sample layer head"], Int[Tensor, "sample layer head"]]:
    # Shares are ratios of counts and a difference may equal γ exactly: rounding must not decide a strict inequality.
    # So differences are whole numbers, of parts of 1 / (n_wrong n_correct).
    (n_correct, n_wrong), (correct, wrong) = (
        rearrange(values.long(), "sample side ... -> side sample ...") for values in (sizes[..., None, None], sums)
    )
    gap = wrong * n_correct - correct * n_wrong
    active = ((correct > 0) | (wrong > 0)).sum((1, 2), keepdim=True)
    return 1 / int(active[0]), gap.abs() * active > n_wrong * n_correct, gap


# ---- the same over resamples ----------------------------------------------------------------------------------------


def resamples(decisions: Decisions, n_bootstrap: int = 50, seed: int = 0) -> Draws:
    """How often each image is in bootstraps of the images, those of one cluster being drawn together.

    Given as `draws`, a locator's `stability` is how often each head is named over them: as spurious, and as salient.
    A resample in which it would refuse names no head.

    Limits: a rule that names any head by chance may name it in most resamples, because these share the chance of the
    sample that they are drawn from: stable is not true.
    """
    generator, clusters = np.random.default_rng([seed, 2]), as_codes(decisions.clusters)
    unit = np.arange(len(decisions)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    n = int(unit.max()) + 1
    drawn = [np.bincount(generator.integers(n, size=n), minlength=n)[unit] for _ in range(n_bootstrap)]
    return torch.from_numpy(np.stack(drawn).astype(float))


def with_draws(draws: Draws | None, n_images: int) -> Float[Tensor, "sample image"]:
    """The images themselves, each once, and below them the resamples: what a rule is computed over, all at once."""
    once = torch.ones(1, n_images, dtype=torch.float64)
    return once if draws is None else torch.cat([once, draws])


def named_heads(
    spurious: Bool[Tensor, "sample layer head"],
    by: Shaped[Tensor, "sample layer head"],
    salient: Bool[Tensor, "sample layer head"],
    by_other: Shaped[Tensor, "sample layer head"],
) -> tuple[tuple[HeadId, ...], tuple[HeadId, ...], tuple[str, ...], Float[Tensor, "role layer head"] | None]:
    """The heads named in the first sample, each list by strength, and in what share of the further ones each is: the
    first fields of `Located` after its method."""
    first = []
    for named, strength in ((spurious[0], by[0]), (salient[0], by_other[0])):
        heads = [HeadId(int(i), int(j)) for i, j in named.nonzero().tolist()]
        first.append(tuple(sorted(heads, key=lambda head: -float(strength[head]))))
    further = torch.stack([spurious[1:], salient[1:]]).double().mean(1) if len(spurious) > 1 else None
    return first[0], first[1], (), further


# ---- tests of every head --------------------------------------------------------------------------------------------


def contrast(
    margins: Float[np.ndarray, "image head"],
    correct: Bool[np.ndarray, "image"],
    clusters: Int[np.ndarray, "image"] | None,
    samples: Float[np.ndarray, "sample image"],
) -> Tested:
    """`difference_of_means` over incorrect images minus that over correct ones.

    Raises:
        LocateError: for fewer than 3 of either.
    """
    found = difference_of_means(margins, ~correct, correct, np.zeros(len(correct), dtype=int), clusters, samples)
    if not found[2][0]:
        raise LocateError(
            f"The conflicting groups have {int((~correct).sum())} incorrectly and {int(correct.sum())} correctly "
            "classified images.",
            f"A test needs {LEAST} of each: take a larger split, or the locator 'contrastive'.",
        )
    return found


def difference_of_means(
    margins: Float[np.ndarray, "image head"],
    first: Bool[np.ndarray, "image"],
    second: Bool[np.ndarray, "image"],
    strata: Int[np.ndarray, "image"],
    clusters: Int[np.ndarray, "image"] | None,
    samples: Float[np.ndarray, "sample image"],
) -> Tested:
    """The mean over some images minus that over others within strata, e = Σ_c w_c e_c / Σ_c w_c, in every sample.

    w_c = 1 / (1/n_1c + 1/n_2c), with variance Σ_c w_c² (s_1c²/n_1c + s_2c²/n_2c) / (Σ_c w_c)², Welch's in one stratum.
    With clusters it is that of their sums, m / (m − 1) Σ_k u_k² for m clusters: u_k adds up, over the cluster's images,
    ±w_c (x − mean) / sqrt(n (n − 1)), whose squares add up to the former. Strata with fewer than 3 images on either
    side count for nothing.

    Returns:
        Each head's effect and its z (0 where nothing varies), and in which samples any stratum counts.
    """
    x = margins - margins.mean(0)
    effect, variance = np.zeros((2, len(samples), x.shape[1]))
    total, cells = np.zeros(len(samples)), []
    for stratum in np.unique(strata):
        sides = [np.flatnonzero((strata == stratum) & side) for side in (first, second)]
        sizes = np.stack([samples[:, rows].sum(1) for rows in sides])
        counts = (sizes >= LEAST).all(0)
        sizes = np.maximum(sizes, LEAST)
        weight = counts / (1 / sizes).sum(0)
        total += weight
        for rows, n, sign in zip(sides, sizes, (1.0, -1.0), strict=True):
            mean = samples[:, rows] @ x[rows] / n[:, None]
            scale = sign * weight / np.sqrt(n * (n - 1))
            effect += sign * weight[:, None] * mean
            variance += scale[:, None] ** 2 * (samples[:, rows] @ x[rows] ** 2 - n[:, None] * mean**2)
            cells.append((rows, scale, mean))
    if clusters is not None:
        codes = np.unique(clusters, return_inverse=True)[1]
        together = coo_array((np.ones(len(codes)), (codes, np.arange(len(codes))))).tocsr()
        for number, times in enumerate(samples):
            parts = np.zeros_like(x)
            for rows, scale, mean in cells:
                parts[rows] = scale[number] * (x[rows] - mean[number])
            drawn = np.zeros(together.shape[0])
            drawn[codes] = times
            variance[number] = drawn.sum() / max(drawn.sum() - 1, 1) * (drawn @ (together @ parts) ** 2)
    total = np.maximum(total, np.finfo(float).tiny)[:, None]
    effect, error = effect / total, np.sqrt(np.maximum(variance, 0)) / total
    varies = error > 1e-12 * np.abs(margins).max(0)  # what is less is the rounding of numbers that are all alike
    return effect, np.divide(effect, error, out=np.zeros_like(effect), where=varies), total[:, 0] >= 1


def as_codes(clusters: Int[Tensor, "image"] | None) -> Int[np.ndarray, "image"] | None:
    """Clusters of `Decisions` as an array."""
    return None if clusters is None else clusters.cpu().numpy()


def significant(z: Float[np.ndarray, "sample head"], q: float = Q) -> Bool[np.ndarray, "sample head"]:
    """Which heads' one-sided z pass Benjamini and Hochberg's procedure."""
    return np.asarray(false_discovery_control(norm.sf(z), axis=-1) <= q)


# ---- heads of an attribute, and of each class -----------------------------------------------------------------------


def attribute_heads(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
) -> Location:
    """Locate the heads that decide the correctly classified images of a task, such as an attribute's values.

    V is the share of the correctly classified images whose top head is (l, h), and Z_S = {V > 1 / |{V > 0}|}.

    Args:
        head_logits: every head's contribution along each value's prototype, `store.project(prototypes)`.
        logits: the whole embedding along each prototype.
        labels: each image's value; where the data do not say, pass the zero-shot prediction and report that.

    Returns:
        A location with V in `correct`, zero in `wrong`, and Z_S in `salient` (also `heads`), largest share first.

    Raises:
        LocateError: as `contrastive` does for its arrays, and where no image is classified correctly.
    """
    return attribute_heads_from_margins(*margins_of(head_logits, logits, labels))


def attribute_heads_from_margins(margins: Float[Tensor, "image layer head"], decisions: Decisions) -> Location:
    """The same from each image's margins. See `attribute_heads`."""
    n_correct = int(decisions.correct.sum())
    if n_correct == 0:
        raise LocateError(
            f"None of {len(decisions)} images is classified correctly.",
            "Check the prompts, and that labels are numbered in the order of the values.",
        )
    credits = head_credit(margins)[decisions.correct]
    counts = credits.sum(dim=0, dtype=torch.float64)
    active = [HeadId(int(i), int(j)) for i, j in (counts > 0).nonzero().tolist()]
    threshold = Fraction(1, len(active))
    chosen = [h for h in active if Fraction(int(counts[h]), n_correct) > threshold]
    share = (counts / n_correct).to(credits.dtype)
    return Location(
        "attribute",
        (),
        tuple(sorted(chosen, key=lambda h: (-int(counts[h]), h))),
        correct=share,
        wrong=torch.zeros_like(share),
        threshold=float(threshold),
        n_correct=n_correct,
        n_wrong=0,
    )


def salient_by_class(
    margins: Float[Tensor, "image layer head"],
    decisions: Decisions,
    spurious: Iterable[HeadLike] = (),
    otherwise: Iterable[HeadLike] = (),
) -> dict[int, list[HeadId]]:
    """Z_Y of every class that has an image, largest share first (LTC on CounterAnimal, where classes are many).

    Over the correctly classified images of class y, V[l,h] is the share whose top head is (l, h);
    Z_Y = {V > 1 / |{heads with V > 0}|} without the spurious heads, which hold for all classes.

    Args:
        margins: each image's margins, `head_margins`.
        decisions: `decide(logits, labels)` of the same images.
        spurious: Z_SY, which no class keeps.
        otherwise: the heads of a class without a correctly classified image, or with spurious ones alone.

    Limits: with few images a class, V is coarse: of three correct images one is already a third. Where one head
    decides every correct image, V = 1 does not exceed 1 / 1, and the class has no head of its own: the rule as
    published.
    """
    barred = {HeadId.of(head) for head in spurious}
    fallback = [head for head in map(HeadId.of, otherwise) if head not in barred]
    labels = decisions.labels
    found: dict[int, list[HeadId]] = {}
    for label in labels.unique().tolist():
        rows = labels == label
        own: tuple[HeadId, ...] = ()
        if bool(decisions.correct[rows].any()):
            own = attribute_heads_from_margins(margins[rows], decisions[rows]).salient
        found[label] = [head for head in own if head not in barred] or list(fallback)
    return found


def rivals(logits: Float[Tensor, "image class"], labels: Int[Tensor, "image"]) -> dict[int, int]:
    """The class that images of each class are mostly mistaken for: what is injected distinguishes these two.

    Ours, where the paper is silent: a class that is never mistaken has the class that is mostly its runner-up, and ties
    go to the class that is counted first.
    """
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
    most of whose images are mistaken for it, and −1 where none is. No label outside these images is read."""
    n_classes = logits.shape[1]
    labels = labels.to(logits.device)
    mistaken = torch.zeros(n_classes, n_classes, dtype=torch.long, device=logits.device)
    mistaken.index_put_((logits.argmax(dim=1), labels), torch.ones_like(labels), accumulate=True)
    found = torch.where(mistaken.any(dim=1), mistaken.argmax(dim=1), -1)
    there = labels.unique()
    found[there] = there
    return found.cpu()


# ---- the registry ---------------------------------------------------------------------------------------------------

Locator = Callable[..., Located]
"""From margins, decisions and the conflicting groups to heads; with `draws`, also to their stability."""


LOCATORS: Registry[Locator] = Registry(
    "locator",
    {
        "contrastive": contrastive_from_margins,
        "contrastive-full": _full,
        "contrastive-soft": partial(contrastive_from_margins, credit="soft"),
    },
)
"""The locators that read class scores alone, by name. Adding one is adding a file and a line here."""
