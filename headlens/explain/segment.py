"""Zero-shot segmentation: where in an image the heads, summed, write along a text.

Per token, head (l, h) contributes C(A_lh[0, n] v_n,lh W_O[l, h]) to the embedding (METHODS of the decomposition:
`hl.decompose(..., per_token=True)`). With t the unit embedding of the image's text and t̄ the mean over all given texts,
the map is m_n = Σ_lh C_lhn · (t − t̄) over patch tokens n, less its mean over n, interpolated to the image's pixels: a
pixel belongs to what the text names where m > 0. That is the protocol of Gandelsman et al. 2024 (arXiv 2310.05916,
section 4.4), who threshold a map at its mean, as Chefer et al. 2021 (arXiv 2012.09838) do.

Two plain ways stand beside it: `attention`, the last layer's attention to the patches, mean over heads, which knows no
text; and `patches`, the cosine of each patch's own last residual, normalised and projected as the embedding is, with
t − t̄. Limits: attention may gather what earlier layers moved between tokens, and a map is as coarse as the patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from headlens.errors import ExplainError
from headlens.heads import HeadId, as_heads
from headlens.metrics.segmentation import SegmentationScores, segmentation_scores
from headlens.models import HookedCLIP, HookedVisionTransformer
from headlens.states.kept_basis import kept_basis

By = Literal["heads", "attention", "patches"]


@dataclass(frozen=True)
class Segmentation:
    """Maps of images, and the masks that they make.

    Attributes:
        maps: by pixel of the model's input, of mean zero over an image's patches; larger where the text fits better.
        texts: the texts that were given.
        of: for each image, which of them it was segmented by.
        by: "heads", "attention" or "patches".
    """

    maps: Float[Tensor, "image height width"]
    texts: tuple[str, ...]
    of: tuple[int, ...]
    by: str

    @property
    def masks(self) -> Bool[Tensor, "image height width"]:
        """Where a map is above its mean."""
        return self.maps > 0

    def scores(self, masks: Bool[np.ndarray, "image height width"]) -> SegmentationScores:
        """Pixel accuracy, mIoU and mAP against true masks of the same pixels, see `segmentation_scores`."""
        return segmentation_scores(self.maps.double().cpu().numpy(), masks)


def segment(
    clip: HookedCLIP,
    images: Float[Tensor, "image channel height width"],
    texts: Sequence[str],
    of: Sequence[int] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    by: str = "heads",
) -> Segmentation:
    """Segment images by the text that names what is in each.

    Args:
        clip: the model.
        images: preprocessed pixels. They go through one by one: all heads' tokens of one image are held at a time.
        texts: prompts of all classes; their mean is subtracted, so that what all texts share marks nothing. A single
            text stands as it is.
        of: for each image the place of its text. By default the one that the model itself finds nearest: where that is
            wrong, so is the map.
        heads: the heads to sum, as (layer, head); all by default. Of use under by="heads" alone.
        by: "heads", the decomposition; "attention" or "patches", the two plain ways to compare it with.

    Raises:
        ExplainError: for no text, places of texts that are not there or not one an image, an unknown `by`, heads for
            another way than "heads", or patches of a tower that reads its embedding through an attention pool.
        LocateError: for a head outside the tower.
        ModelError: for images of another size, or while hooks are set.
    """
    vision, texts = clip.vision, tuple(texts)
    if by not in get_args(By):
        raise ExplainError("by to be heads, attention or patches", repr(by), "Choose one of these.")
    if by != "heads" and heads is not None:
        raise ExplainError(f"by={by!r} sums no heads.", "Leave out heads, or choose by='heads'.")
    if by == "patches" and (vision.pool is not None or not vision.cfg.residual):
        raise ExplainError(
            "The patches of this tower have no embedding of their own: an attention pool reads them.",
            "Choose by='heads' or by='attention'.",
        )
    if not texts:
        raise ExplainError("There is no text to segment by.", "Pass the prompts of all classes.")
    unit = clip.encode_text(list(texts), normalize=True)
    with torch.no_grad():
        places = (vision(images.to(vision.device)) @ unit.mT).argmax(1).tolist() if of is None else list(of)
    if len(places) != len(images) or not all(0 <= place < len(texts) for place in places):
        raise ExplainError(
            f"{len(images)} places from 0 to {len(texts) - 1}", f"{places[:8]}", "Name one text an image, or pass None."
        )
    along = (unit - unit.mean(0) if len(texts) > 1 else unit)[places]
    chosen = as_heads(heads, vision.cfg.n_layers, vision.cfg.n_heads)
    if not chosen:
        raise ExplainError("There is no head to sum.", "Name heads, as [(3, 0)], or None for all.")
    by_patch = torch.stack(list(_maps(vision, images.to(vision.device), along, chosen, by)))
    rows, columns = vision.cfg.grid
    by_patch = by_patch - by_patch.mean(1, keepdim=True)
    coarse = rearrange(by_patch, "image (row column) -> image 1 row column", row=rows, column=columns)
    fine = interpolate(coarse, size=tuple(images.shape[-2:]), mode="bilinear", align_corners=False)
    return Segmentation(fine[:, 0], texts, tuple(places), by)


def masks_as_seen(clip: HookedCLIP, masks: Sequence[Image.Image]) -> Bool[np.ndarray, "image height width"]:
    """Masks, white on black, resized and cropped as the model's preprocessing does to images of the same size.

    A pixel is True where more than half of what was interpolated into it is white.
    """
    black, white = (clip.preprocess(Image.new("RGB", (64, 64), colour)).mean() for colour in ("black", "white"))
    seen = torch.stack([clip.preprocess(mask.convert("RGB")).mean(0) for mask in masks])
    return (seen > (black + white) / 2).cpu().numpy()


def _maps(
    vision: HookedVisionTransformer,
    images: Float[Tensor, "image channel height width"],
    along: Float[Tensor, "image embed"],
    heads: Sequence[HeadId],
    by: str,
) -> Iterator[Float[Tensor, "patch"]]:
    cfg, basis = vision.cfg, kept_basis(vision)
    chosen = torch.zeros(cfg.n_layers, cfg.n_heads, device=vision.device)
    for head in heads:
        chosen[head] = 1
    with torch.no_grad():
        for image, direction in zip(images, along, strict=True):
            if by == "patches":
                last = vision(image[None], stop_at_layer=cfg.n_layers)
                normed = last if vision.ln_final is None else vision.ln_final(last)
                yield normalize(vision.project(normed[0]), dim=-1)[cfg.n_prefix :] @ direction.to(last)
                continue
            parts = vision.residual_parts(image[None], per_token=True)
            assert parts.tokens is not None
            weights, values = (factor[0] for factor in parts.tokens)
            if by == "attention":
                yield weights[-1].mean(0).sum(0)[cfg.n_prefix :]
                continue
            folded = basis.fold(direction[None].to(values)).unflatten(2, (-1, cfg.d_head))[..., 0]
            tokens = einsum(values, folded, "layer h token d_head, layer h pool d_head -> layer h pool token")
            summed = einsum(
                tokens, weights, chosen.to(values), "layer h pool token, layer h pool token, layer h -> token"
            )
            yield summed[cfg.n_prefix :] / parts.embedding.norm()
