"""The images that have most and least of a head."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.correct import HeadView
from headlens.errors import ExplainError
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.locate.textspan import check_finite


@dataclass(frozen=True)
class TopImages:
    """Both ends of the images, sorted by a head.

    Attributes:
        head: the head.
        highest: rows of the view with the largest scores, largest first.
        highest_scores: their scores.
        lowest: rows with the smallest scores, smallest first.
        lowest_scores: their scores.
        by: "norm" or "direction".
    """

    head: HeadId
    highest: tuple[int, ...]
    highest_scores: tuple[float, ...]
    lowest: tuple[int, ...]
    lowest_scores: tuple[float, ...]
    by: str

    @property
    def ends(self) -> tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]:
        """The rows and scores of the highest images, and those of the lowest."""
        return (self.highest, self.highest_scores), (self.lowest, self.lowest_scores)

    def table(self) -> pd.DataFrame:
        """One row an image: `end`, `row`, `score`."""
        rows = [
            (name, *pair)
            for name, end in zip(("highest", "lowest"), self.ends, strict=True)
            for pair in zip(*end, strict=True)
        ]
        return pd.DataFrame(rows, columns=["end", "row", "score"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)


def top_images(
    view: HeadView,
    head: HeadLike,
    direction: Float[Tensor, "embed"] | None = None,
    count: int = 8,
) -> TopImages:
    """The images with the most and the least of one head.

    With x the head's contribution and x̄ its mean over the view, the score is ‖x − x̄‖ or, with a text direction t,
    (x − x̄)·t/‖t‖. By norm, the lowest are the images that the head says nothing particular of.

    Args:
        view: a store, a part of one, or a corrected view.
        head: as (layer, head).
        direction: a text embedding, or a difference of two.
        count: images at each end; where there are fewer than twice as many, some stand at both.

    Raises:
        LocateError: for a head outside the tower.
        ExplainError: for a count outside 1 … the images, or a direction of another width, zero, or not finite.
    """
    (one,) = as_heads([head], view.n_layers, view.n_heads)
    rows = view.heads(one.layer, one.head).double()
    if not 1 <= count <= len(rows):
        raise ExplainError(f"a count from 1 to the {len(rows)} images", str(count), "Ask for fewer.")
    centred = rows - rows.mean(0)
    if direction is None:
        scores = centred.norm(dim=1)
    else:
        if direction.shape != rows.shape[1:]:
            raise ExplainError(
                f"a direction of the joint space's width, {rows.shape[1]}",
                f"shape {list(direction.shape)}",
                "Pass one text embedding, as a vector.",
            )
        check_finite(direction, "directions")
        length = direction.detach().double().norm()
        if float(length) == 0:
            raise ExplainError("a direction", "zero", "Take the difference of two texts that differ.")
        scores = centred @ (direction.detach().to(rows) / length.to(rows))
    # Stable: of equal images the first is named first, at either end.
    down, up = (torch.argsort(scores, descending=down, stable=True)[:count].tolist() for down in (True, False))
    return TopImages(
        one,
        tuple(down),
        tuple(float(scores[i]) for i in down),
        tuple(up),
        tuple(float(scores[i]) for i in up),
        "norm" if direction is None else "direction",
    )
