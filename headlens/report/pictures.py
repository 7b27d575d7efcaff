"""The pictures of a report that need the pixels again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image

from headlens import plots
from headlens.errors import ImageError
from headlens.explain import token_maps
from headlens.images import read_image
from headlens.manifest import boxes, resolve_paths
from headlens.models import HookedCLIP

if TYPE_CHECKING:
    from headlens.audit import Audit

_MOST_HEADS = 6


def token_figure(audit: Audit, count: int) -> go.Figure | None:
    """Per-token maps of the located heads on a few images that zero-shot gets wrong.

    None where there is nothing to draw: no model at hand, no located head, no mistake, or image files that are gone.
    """
    location, results = audit.location, audit.results
    heads = [*location.spurious, *location.salient][:_MOST_HEADS] if location else []
    if audit.clip is None or results is None or not heads:
        return None
    rows = _examples(audit, count)
    manifest = audit.store.manifest.iloc[rows]
    try:
        pictures = [read_image(path, box) for path, box in zip(resolve_paths(manifest), boxes(manifest), strict=True)]
    except ImageError:
        return None
    if not pictures:
        return None
    vision = audit.clip.vision
    pixels = torch.stack([audit.clip.preprocess(picture) for picture in pictures]).to(vision.device)
    position = {row: i for i, row in enumerate(audit.splits.test)}
    predicted = results.predictions["zero-shot"][[position[row] for row in rows]]
    true = audit.labels[rows]
    directions = audit.classifier[predicted] - audit.classifier[true]
    maps = token_maps(vision, pixels, heads, directions.to(vision.device)).cpu()
    spurious = set(location.spurious) if location else set()
    names = [f"{head} {'spurious' if head in spurious else 'salient'}" for head in heads]
    titles = [
        f"{audit.groups[row]}, taken for {audit.task.classes[wrong]}"
        for row, wrong in zip(rows, predicted, strict=True)
    ]
    return plots.tokens(
        [_as_seen(audit.clip, image) for image in pixels],
        {name: maps[:, i] for i, name in enumerate(names)},
        titles,
    )


def _examples(audit: Audit, count: int) -> np.ndarray:
    """Rows of the store: mistakes of zero-shot that the judged method corrects first, spread over the groups."""
    assert audit.results is not None
    rows = audit.splits.test
    truth = audit.labels[rows]
    wrong = audit.results.predictions["zero-shot"] != truth
    mended = audit.results.predictions[audit.results.verdict.method] == truth
    names = [audit.groups[row] for row in rows]
    seen: dict[str, int] = {}
    order = []
    for i in np.flatnonzero(wrong):
        rank = seen.get(names[i], 0)
        seen[names[i]] = rank + 1
        order.append((not mended[i], rank, i))
    return rows[[i for _, _, i in sorted(order)[:count]]]


def _as_seen(clip: HookedCLIP, image: torch.Tensor) -> np.ndarray:
    """The pixels that the model saw, cropped as it saw them, in the colours that a person would see.

    A preprocessing ends in an affine map of each channel; what it makes of black and of white tells how to undo it.
    """
    black, white = (clip.preprocess(Image.new("RGB", (64, 64), colour)).to(image) for colour in ("black", "white"))
    low, high = black.amin(dim=(1, 2), keepdim=True), white.amax(dim=(1, 2), keepdim=True)
    pixels = ((image - low) / (high - low)).clamp(0, 1)
    return (255 * pixels).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
