"""Pictures that need the image files or the pixels again: thumbnails, and where in an image heads read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from headlens import plots
from headlens.errors import ImageError, ModelError
from headlens.explain import token_maps
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.models import HookedCLIP
from headlens.plots.pictures import SIDE

if TYPE_CHECKING:
    from headlens.audit.question import Question


def token_figure(
    audit: Question,
    rows: Sequence[int],
    heads: Mapping[str, HeadId],
    directions: Float[Tensor, "image embed"],
    titles: Sequence[str],
    title: str = "",
) -> go.Figure:
    """Per-token maps of heads, by the names of their rows, on some rows of the store.

    Raises:
        ModelError: where the audit was opened without its model.
        ImageError: for an image that cannot be read again.
    """
    if audit.clip is None:
        raise ModelError(
            "the model, to pass an image through it again",
            "an audit that was opened without it",
            "Give it as well: Audit.load(folder, clip=hl.load(...)).",
        )
    manifest = audit.store.manifest.iloc[list(rows)]
    manifest.attrs.update(audit.store.manifest.attrs)
    pictures = [read_image(path, box) for path, box in image_files(manifest)]
    vision = audit.clip.vision
    pixels = torch.stack([audit.clip.preprocess(picture) for picture in pictures]).to(vision.device)
    maps = token_maps(vision, pixels, list(heads.values()), directions.to(vision.device)).cpu()
    by_head = {name: maps[:, i] for i, name in enumerate(heads)}
    return plots.tokens([as_seen(audit.clip, image) for image in pixels], by_head, titles, title)


def as_seen(clip: HookedCLIP, image: Float[Tensor, "channel height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels that the model saw, cropped as it saw them, in the colours that a person would see.

    A preprocessing ends in an affine map of each channel; what it makes of black and of white tells how to undo it.
    """
    black, white = (clip.preprocess(Image.new("RGB", (64, 64), colour)).to(image) for colour in ("black", "white"))
    low, high = black.amin(dim=(1, 2), keepdim=True), white.amax(dim=(1, 2), keepdim=True)
    pixels = ((image - low) / (high - low)).clamp(0, 1)
    return (255 * pixels).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def thumbnails(store: HeadStore, rows: Sequence[int]) -> list[Image.Image | None]:
    """The pictures of some rows, cut to their boxes and made small; None where a file cannot be read."""
    manifest = store.manifest.iloc[list(rows)]
    manifest.attrs.update(store.manifest.attrs)
    pictures: list[Image.Image | None] = []
    for path, box in image_files(manifest):
        try:
            picture = read_image(path, box)
        except ImageError:
            pictures.append(None)
        else:
            picture.thumbnail((SIDE, SIDE))
            pictures.append(picture)
    return pictures
