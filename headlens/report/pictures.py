"""The pictures of a report that need the model and the pixels again: per-token maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from headlens import plots
from headlens.errors import ImageError
from headlens.explain import token_maps, top_images
from headlens.heads import HeadId
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.models import HookedCLIP
from headlens.report.encoded import concept_vector

if TYPE_CHECKING:
    from headlens.audit import Audit

_MOST_HEADS = 6


def token_figure(audit: Audit, count: int) -> go.Figure | None:
    """Per-token maps of the located heads on a few images that zero-shot gets wrong.

    None where there is nothing to draw: no model at hand, no located head, no mistake, or image files that are gone.
    """
    location, results = audit.location, audit.results
    heads = [*location.spurious, *location.salient][:_MOST_HEADS] if location else []
    if results is None or not heads:
        return None
    rows = _examples(audit, count)
    position = {row: i for i, row in enumerate(audit.splits.test)}
    predicted = results.predictions["zero-shot"][[position[row] for row in rows]]
    true = audit.labels[rows]
    directions = audit.classifier[predicted] - audit.classifier[true]
    spurious = set(location.spurious) if location else set()
    names = [f"{head} {'spurious' if head in spurious else 'salient'}" for head in heads]
    titles = [
        f"{audit.groups[row]}, taken for {audit.task.classes[wrong]}"
        for row, wrong in zip(rows, predicted, strict=True)
    ]
    return _maps(audit, rows, dict(zip(names, heads, strict=True)), directions, titles)


def concept_figure(audit: Audit, count: int) -> go.Figure | None:
    """Per-token maps of the first candidates along the first one's concept vector, on images from both of its ends.

    None where there is nothing to draw: no model at hand, no concept test, or image files that are gone.
    """
    heads = [HeadId(*head) for head in audit.location.spurious[:_MOST_HEADS]] if audit.location else []
    direction, up, down = concept_vector(audit, heads[0]) if heads else (None, "", "")
    if direction is None or count < 1:
        return None
    top = top_images(audit.test, heads[0], direction, min((count + 1) // 2, len(audit.test)))
    places = [*top.highest, *top.lowest][:count]
    ends = [up] * len(top.highest) + [down] * len(top.lowest)
    rows = audit.splits.test[places]
    titles = [f"{audit.groups[row]}, {end}" for row, end in zip(rows, ends[:count], strict=True)]
    return _maps(audit, rows, {str(head): head for head in heads}, direction.expand(len(rows), -1), titles)


def _maps(
    audit: Audit,
    rows: Int[np.ndarray, "image"],
    heads: dict[str, HeadId],
    directions: Float[Tensor, "image embed"],
    titles: list[str],
) -> go.Figure | None:
    """Maps of heads, by the names of their rows, on some rows of the store; None without the model or an image."""
    manifest = audit.store.manifest.iloc[rows]
    try:
        pictures = [read_image(path, box) for path, box in image_files(manifest)]
    except ImageError:
        return None
    if audit.clip is None or not pictures:
        return None
    vision = audit.clip.vision
    pixels = torch.stack([audit.clip.preprocess(picture) for picture in pictures]).to(vision.device)
    maps = token_maps(vision, pixels, list(heads.values()), directions.to(vision.device)).cpu()
    return plots.tokens(
        [_as_seen(audit.clip, image) for image in pixels],
        {name: maps[:, i] for i, name in enumerate(heads)},
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
