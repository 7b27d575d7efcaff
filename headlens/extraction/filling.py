"""The work that every engine does alike: images of a manifest to arrays of head states, piece by piece.

Images are decoded in worker threads while the model works on the batch before. Batches never cross a piece's edge, so
that what a piece holds does not depend on where an earlier run stopped, or on which machine it was made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ImageError, ModelError
from headlens.extraction.batch import Fitting, batch_size_for
from headlens.extraction.decode import Item, decode
from headlens.extraction.layout import Skip
from headlens.extraction.numbers import nothing, to_disk
from headlens.extraction.plan import Model, Plan, autocast_of
from headlens.manifest import Box, image_files

_MOST = 512  # images that come in one piece of a block


@dataclass(frozen=True)
class Way:
    """How images go through the model; none of it changes results but by rounding.

    Attributes:
        batch_size: images in one step of the model; None until `sized`.
        skip: leave out images that cannot be read, each with the reason; otherwise the first one ends the work.
        workers: threads that read images.
        autocast: the type that the model computes in, if not its own. Threads and machines do not inherit it.
    """

    batch_size: int | None
    skip: bool
    workers: int
    autocast: torch.dtype | None = None

    @classmethod
    def chosen(cls, clip: Model, batch_size: int | None, on_error: str, workers: int | None) -> Way:
        """Fill in one thread a core, 16 at most, and the autocast that is on."""
        return cls(batch_size, on_error == "skip", workers or min(16, os.cpu_count() or 1), autocast_of(clip))

    def size_for(self, clip: Model, plan: Plan) -> int:
        """The batch size: the one that was given, or that the plan was begun with, or one that is found now."""
        most = min(plan.block, plan.rows, _MOST)
        return self.batch_size or plan.batch_size or batch_size_for(clip, most, self.autocast)

    def sized(self, clip: Model, plan: Plan) -> Way:
        """With the batch size settled."""
        return replace(self, batch_size=self.size_for(clip, plan))


@dataclass(frozen=True)
class Piece:
    """Head states of some rows of a manifest, as they are kept; NaN where an image could not be read."""

    rows: range
    arrays: dict[str, np.ndarray]
    skipped: list[Skip]


def fill(
    clip: Model,
    frame: pd.DataFrame,
    plan: Plan,
    names: Sequence[str],
    pieces: Sequence[range],
    way: Way,
    advance: Callable[[int], None],
    first: int = 0,
) -> Generator[Piece]:
    """The pieces, in order.

    Args:
        clip: the model.
        frame: the manifest, or the part of it that begins at row `first` and holds the pieces' rows.
        plan: sizes and types.
        names: the arrays that are wanted.
        pieces: rows of the whole manifest.
        way: see `Way`.
        advance: is told of every image.
        first: the row that `frame` begins with.

    Raises:
        ImageError: for an image that cannot be read, unless such are skipped.
        ModelError: for head states that are not numbers, with the images that they came from.
    """
    fitting = Fitting(way.size_for(clip, plan))
    images = decode(_files(frame, pieces, first), clip.preprocess, way.workers, 2 * fitting.size + way.workers)
    try:
        for rows in pieces:
            yield _piece(clip, plan, names, rows, images, way, fitting, advance)
    finally:
        images.close()


def _files(frame: pd.DataFrame, pieces: Iterable[range], first: int) -> Iterator[tuple[Path | str, Box | None]]:
    for rows in pieces:
        yield from image_files(frame.iloc[rows.start - first : rows.stop - first])


def _piece(
    clip: Model,
    plan: Plan,
    names: Sequence[str],
    rows: range,
    images: Generator[Item],
    way: Way,
    fitting: Fitting,
    advance: Callable[[int], None],
) -> Piece:
    arrays = {
        name: np.full(plan.shape_of(name, len(rows)), nothing(plan.type_of(name)), plan.dtype_of(name))
        for name in names
    }
    skipped: list[Skip] = []
    readable: dict[int, str] = {}
    batch: list[Tensor] = []
    for row in rows:
        path, image = next(images)
        if isinstance(image, ImageError):
            if not way.skip:
                raise ImageError(
                    image.problem,
                    f"{image.remedy} Or leave such images out, each recorded with its reason: on_error='skip'.",
                )
            skipped.append(Skip(row, path, image.problem))
        else:
            readable[row] = path
            batch.append(image)
        if batch and (len(batch) >= fitting.size or row == rows[-1]):
            for part, states in _fitted(clip, batch, names, way, fitting):
                _put(arrays, states, np.array(list(readable)[part]) - rows.start, plan, list(readable.values())[part])
            readable, batch = {}, []
        advance(1)
    return Piece(rows, arrays, skipped)


def _fitted(
    clip: Model, batch: list[Tensor], names: Sequence[str], way: Way, fitting: Fitting
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """States of a batch in the largest parts that memory holds, each with its place in the batch."""
    start = 0
    while start < len(batch):
        part = slice(start, min(start + fitting.size, len(batch)))
        try:
            states = _states(clip, torch.stack(batch[part]), names, way)
        except torch.OutOfMemoryError:
            fitting.halve(part.stop - part.start)
            continue
        yield part, states
        start = part.stop


@torch.inference_mode()
def _states(
    clip: Model, images: Float[Tensor, "image channel height width"], names: Sequence[str], way: Way
) -> dict[str, Tensor]:
    device = clip.device
    if device.type == "cuda":  # a copy from pinned memory is faster, and is not waited for
        images = images.pin_memory().to(device, non_blocking=True)
    with torch.autocast(device.type, way.autocast, enabled=way.autocast is not None):
        states = clip.vision.head_states(images.to(device))
    return {name: getattr(states, name).cpu() for name in names}


def _put(
    arrays: dict[str, np.ndarray], states: dict[str, Tensor], where: np.ndarray, plan: Plan, paths: list[str]
) -> None:
    """States to where they belong, once they are known to be numbers."""
    finite = np.ones(len(where), dtype=bool)
    for name, values in states.items():
        arrays[name][where], good = to_disk(values, plan.type_of(name))
        finite &= good
    if not finite.all():
        culprits = [path for path, good in zip(paths, finite, strict=True) if not good]
        raise ModelError(
            f"finite head states in {plan.dtype}",
            f"NaN or infinite values for {len(culprits)} of {len(finite)} images of a batch: {', '.join(culprits[:3])}",
            "Where it is every image, the weights are broken; where it is some, use precision='fp32' for the model "
            "and dtype='float32' for the store.",
        )
