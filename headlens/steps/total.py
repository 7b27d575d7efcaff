"""Ablation in its total meaning on images of an audit: the heads are replaced inside the forward pass, where later
layers react."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.correct import Tokens, mean_z, total_ablation_hooks
from headlens.errors import ImageError
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.metrics import PairedDifference
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.steps.data import AuditData, predicted
from headlens.tables import points

_BATCH = 32
_REFERENCE_IMAGES = 500  # of which the mean z is taken: a mean of so many moves little with more


@dataclass(frozen=True, eq=False)
class TotalPredictions:
    """Predictions of some scored images, passed through the model again with heads replaced.

    Attributes:
        places: which of the scored images.
        before: their zero-shot classes, from the store.
        after: their classes with the heads replaced.
        tokens: at which tokens.
    """

    places: Int[np.ndarray, "image"]
    before: Int[np.ndarray, "image"]
    after: Int[np.ndarray, "image"]
    tokens: Tokens


def total_predictions(data: AuditData, heads: Sequence[HeadId], images: int, tokens: Tokens) -> TotalPredictions | str:
    """Predictions of up to `images` scored images, before and after, with the heads' z replaced by reference means: at
    all tokens in a tower without a class token.

    Returns:
        The predictions; or in a sentence why there are none.
    """
    if not images:
        return "It was not asked for."
    if not heads:
        return "There is no head to ablate."
    if data.clip is None:
        return "The audit was opened without its model."
    vision, seed = data.clip.vision, data.question.seed
    if getattr(vision.cfg, "class_token", "learnt") == "none":
        tokens = "all"
    chosen = _some(len(data.test), images, seed)
    means_from = data.reference.subset(_some(len(data.reference), _REFERENCE_IMAGES, seed))
    after: list[Tensor] = []
    try:
        means = mean_z(vision, pixels(data.clip, means_from, "Means for the total effect"), heads, tokens)
        hooks = total_ablation_hooks(means, tokens)
        with torch.no_grad():
            for batch in pixels(data.clip, data.test.subset(chosen), "Total effect"):
                after.append(vision.run_with_hooks(batch, fwd_hooks=hooks))
    except ImageError as error:
        return f"An image file is not at hand. {error.problem}"

    logits = data.logits(normalize(torch.cat(after), dim=-1), data.splits.test[chosen])
    return TotalPredictions(chosen, data.zero_shot[chosen], predicted(logits), tokens)


@dataclass(frozen=True)
class TotalGain:
    """Mean ablation of heads inside the forward pass, beside the direct edit of the same heads on the same images.

    Attributes:
        heads: the heads.
        asked, images: how many scored images were to be passed again, and were.
        tokens: at which tokens the heads were replaced: "class", or "all" in a tower without a class token.
        direct, total: the accuracies' change by each, with paired intervals.
    """

    heads: tuple[HeadId, ...]
    asked: int
    images: int
    tokens: Tokens
    direct: PairedDifference
    total: PairedDifference

    @property
    def sentence(self) -> str:
        """Both changes of worst-group accuracy in words."""
        (low, high), where = self.total.interval["worst_group"], {"class": "the class token", "all": "all tokens"}
        return (
            f"Mean ablation of {', '.join(map(str, self.heads))} inside the forward pass, where later layers react "
            f"({self.images} images, at {where[self.tokens]}), changes worst-group accuracy by "
            f"{points(self.total.difference['worst_group'])} points (95 % interval {points(low)} to "
            f"{points(high)}), as a direct edit by {points(self.direct.difference['worst_group'])}."
        )


def total_gain(data: AuditData, heads: Sequence[HeadId], images: int) -> TotalGain | str:
    """What mean ablation of heads does to accuracies inside the forward pass; or in a sentence why it is not known."""
    made = total_predictions(data, heads, images, "class")
    if isinstance(made, str):
        return made
    scored = data.scored_images.some(made.places)
    direct, total = (scored.difference(after, made.before) for after in (data.ablated(heads)[made.places], made.after))
    return TotalGain(tuple(heads), images, len(made.places), made.tokens, direct, total)


def _some(available: int, wanted: int, seed: int) -> Int[np.ndarray, "image"]:
    if available <= wanted:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, 11]).choice(available, wanted, replace=False))


def pixels(clip: HookedCLIP, store: HeadStore, title: str) -> Iterator[Float[Tensor, "image channel height width"]]:
    """The images of a store as the model reads them, in batches."""
    files = list(image_files(store.manifest))
    with progress(title, len(files)) as advance:
        for start in range(0, len(files), _BATCH):
            part = [clip.preprocess(read_image(path, box)) for path, box in files[start : start + _BATCH]]
            yield torch.stack(part).to(clip.vision.device, clip.vision.dtype)
            advance(len(part))
