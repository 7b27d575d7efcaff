"""How well maps find what masks mark: pixel accuracy, mean intersection over union, mean average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from headlens.errors import MetricError


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over all images together.

    Attributes:
        pixel_accuracy: the share of pixels on the correct side of zero.
        miou: the mean of the intersection over union of foreground and of background, each summed over all images.
        map: the mean over images of the average precision of the foreground's pixels, without a threshold.
        n_images: of which there are scores.
    """

    pixel_accuracy: float
    miou: float
    map: float
    n_images: int

    def table(self) -> pd.DataFrame:
        """One row: `images`, `pixel accuracy`, `mIoU`, `mAP`."""
        row = {"images": self.n_images, "pixel accuracy": self.pixel_accuracy, "mIoU": self.miou, "mAP": self.map}
        return pd.DataFrame([row])


def segmentation_scores(
    maps: Float[np.ndarray, "image height width"], masks: Bool[np.ndarray, "image height width"]
) -> SegmentationScores:
    """Score maps, which claim the foreground where they are above zero, against true masks.

    Accuracy and mIoU are sums over all pixels of all images, as in the protocol of Chefer et al. 2021 (arXiv
    2012.09838). The average precision is the foreground's alone, image by image: theirs pools both classes.

    Raises:
        MetricError: for maps and masks of other shapes, numbers that are not finite, no image, or a mask without a
            pixel of foreground, or of background.
    """
    from sklearn.metrics import average_precision_score

    if maps.shape != masks.shape or maps.size == 0:
        raise MetricError(
            f"masks of the maps' shape, {list(maps.shape)}", f"{list(masks.shape)}", "Resize the masks to the maps."
        )
    if not np.isfinite(maps).all():
        raise MetricError("The maps are not all finite.", "Leave out the images whose maps are not.")
    covered = masks.reshape(len(masks), -1)
    bad = np.flatnonzero(covered.all(1) | ~covered.any(1))
    if len(bad):
        raise MetricError(f"Mask {bad[0]} has one class alone.", "Leave out images without foreground or background.")
    found = maps > 0
    overlaps = [(found == side) & (masks == side) for side in (True, False)]
    unions = [(found == side) | (masks == side) for side in (True, False)]
    return SegmentationScores(
        pixel_accuracy=float((found == masks).mean()),
        miou=float(np.mean([o.sum() / u.sum() for o, u in zip(overlaps, unions, strict=True)])),
        map=float(np.mean([average_precision_score(m.ravel(), s.ravel()) for m, s in zip(masks, maps, strict=True)])),
        n_images=len(masks),
    )
