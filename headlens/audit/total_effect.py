"""Ablation in its total meaning on images of an audit: the heads are replaced inside the forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
from headlens.progress import progress

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

_BATCH = 32
_REFERENCE_IMAGES = 500  # of which the mean z is taken: a mean of so many moves little with more


def total_predictions(
    audit: Audit, heads: list[HeadId], images: int, tokens: Tokens
) -> tuple[Int[np.ndarray, "image"], Int[np.ndarray, "image"], Int[np.ndarray, "image"]] | None:
    """Predictions of up to `images` scored images, before and after, with the heads' z replaced by reference means.

    Returns:
        Places in the scored split, predictions before, predictions after; None where image files are gone.
    """
    assert audit.clip is not None
    vision = audit.clip.vision
    chosen = _some(len(audit.splits.test), images, audit.seed)
    means_from = audit.reference.subset(_some(len(audit.reference), _REFERENCE_IMAGES, audit.seed))
    try:
        means = mean_z(vision, _pixels(audit, means_from, "Means for the total effect"), heads, tokens)
        hooks = total_ablation_hooks(means, tokens)
        before, after = [], []
        with torch.no_grad():
            for pixels in _pixels(audit, audit.test.subset(chosen), "Total effect"):
                before.append(vision(pixels))
                after.append(vision.run_with_hooks(pixels, fwd_hooks=hooks))
    except ImageError:
        return None
    classes = audit.classifier.to(before[0])

    def predictions(parts: list[Tensor]) -> np.ndarray:
        logits = normalize(torch.cat(parts), dim=-1) @ classes.T
        return audit.among(logits, audit.splits.test[chosen]).argmax(dim=-1).cpu().numpy()

    return chosen, predictions(before), predictions(after)


def _some(available: int, wanted: int, seed: int) -> Int[np.ndarray, "image"]:
    if available <= wanted:
        return np.arange(available)
    return np.sort(np.random.default_rng([seed, 11]).choice(available, wanted, replace=False))


def _pixels(audit: Audit, store: HeadStore, title: str) -> Iterator[Float[Tensor, "image channel height width"]]:
    assert audit.clip is not None
    files = list(image_files(store.manifest))
    vision = audit.clip.vision
    with progress(title, len(files)) as advance:
        for start in range(0, len(files), _BATCH):
            part = [audit.clip.preprocess(read_image(path, box)) for path, box in files[start : start + _BATCH]]
            yield torch.stack(part).to(vision.device, vision.dtype)
            advance(len(part))
