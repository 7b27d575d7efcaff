"""Images of a manifest to arrays of head states, batch by batch: the work that is the same on every device and machine.

Steps: decode images in worker threads, in order and never far ahead of the model (threads are enough: Pillow works
outside of Python's lock); put them through the model in batches; keep what comes out in the store's types. Batches
never cross a piece's edge, so that what a piece holds does not depend on where an earlier run stopped, or on which
machine it was made.

How many images go through the model at once is found by trial on a GPU, and halved where memory runs out. The result
does not depend on it but by rounding. On a processor a fixed size is as good as any: time an image is the same from
some 16 images on, within a few per cent (measured on ViT-B-32 and on the testbed's model).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from headlens.errors import ImageError, ModelError
from headlens.extraction.plan import Model, Plan, to_disk
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import Skip
from headlens.images import read_image
from headlens.manifest import Box, image_files
from headlens.progress import Advance

ON_PROCESSOR = 32
_AT_MOST = 512  # images that come in one piece of a block
_FIRST, _GAIN, _REPEATS = 16, 1.05, 3

Item = tuple[str, Float[Tensor, "channel height width"] | ImageError]


@dataclass(frozen=True)
class Job:
    """An extraction, as every worker of it needs it, on any device and machine; only the model is apart.

    Attributes:
        plan: what is kept, in which sizes.
        frame: the manifest, or the part of it that begins at row `first` and holds the blocks that are to be done.
        storage: where the store lies that blocks are written to; None for moments, which are handed back.
        groups: with moments, the columns of the manifest that they are kept by.
        batch_size: images in one step of the model.
        skip: leave out images that cannot be read, each with the reason; otherwise the first one ends the work.
        workers: threads that read images.
        first: the row that `frame` begins with.
    """

    plan: Plan
    frame: pd.DataFrame
    storage: Storage | None
    groups: tuple[str, ...]
    batch_size: int
    skip: bool
    workers: int
    first: int = 0

    def rows(self, rows: range) -> pd.DataFrame:
        """Rows of the whole manifest."""
        return self.frame.iloc[rows.start - self.first : rows.stop - self.first]


@dataclass(frozen=True)
class Piece:
    """Head states of some rows of a manifest, as they are kept; NaN where an image could not be read."""

    rows: range
    arrays: dict[str, np.ndarray]
    skipped: list[Skip]


def fill(job: Job, model: Model, names: Sequence[str], pieces: Sequence[range], advance: Advance) -> Generator[Piece]:
    """The pieces, in order.

    Args:
        job: see `Job`.
        model: on its device.
        names: the arrays that are wanted.
        pieces: rows of the whole manifest.
        advance: called with how many more images are finished.

    Raises:
        ImageError: for an image that cannot be read, unless such are skipped.
        ModelError: for head states that are not numbers, with the images that they came from.
    """
    batches = Batches(model, names, job)
    files = (file for rows in pieces for file in image_files(job.rows(rows)))
    images = decode(files, model.preprocess, job.workers, 2 * job.batch_size + job.workers)
    try:
        for rows in pieces:
            arrays = {name: job.plan.empty(name, len(rows)) for name in names}
            skipped: list[Skip] = []
            waiting: list[tuple[int, str, Tensor]] = []
            for row in rows:
                path, image = next(images)
                if isinstance(image, ImageError):
                    skipped.append(_skip(job, row, path, image))
                    advance(1)
                else:
                    waiting.append((row - rows.start, path, image))
                if waiting and (len(waiting) >= batches.size or row == rows[-1]):
                    batches.run(waiting, arrays, advance)
                    waiting = []
            yield Piece(rows, arrays, skipped)
    finally:
        images.close()


def _skip(job: Job, row: int, path: str, error: ImageError) -> Skip:
    if not job.skip:
        remedy = f"{error.remedy} Or leave such images out, each recorded with its reason: on_error='skip'."
        raise ImageError(error.problem, remedy) from error.__cause__
    return Skip(row, path, error.problem)


class Batches:
    """Runs a model on batches of images. `size` shrinks, for the rest of the work, where memory runs out."""

    def __init__(self, model: Model, names: Sequence[str], job: Job):
        self.model, self.names, self.plan, self.size = model, names, job.plan, job.batch_size

    def run(self, images: list[tuple[int, str, Tensor]], arrays: dict[str, np.ndarray], advance: Advance) -> None:
        """Put images through the model in the largest parts that memory holds, and their states where they belong.

        Args:
            images: place in the arrays, path and pixels of each.
            arrays: filled.
            advance: called with how many more images are finished.
        """
        start = 0
        while start < len(images):
            places, paths, pixels = zip(*images[start : start + self.size], strict=True)
            try:
                states = self._states(list(pixels))
            except torch.OutOfMemoryError:
                self._halve(len(pixels))
                continue
            self._keep(arrays, states, np.array(places), paths)
            advance(len(pixels))
            start += len(pixels)

    @torch.inference_mode()
    def _states(self, pixels: list[Tensor]) -> dict[str, Tensor]:
        if len(sizes := {tuple(image.shape) for image in pixels}) > 1:
            raise ModelError(
                f"The model's preprocessing gives images of several sizes: {', '.join(map(str, sorted(sizes)))}.",
                "Give it a preprocess that crops or pads every picture to one size.",
            )
        images, device = torch.stack(pixels), self.model.device
        if device.type == "cuda":  # a copy from pinned memory is faster, and is not waited for
            images = images.pin_memory().to(device, non_blocking=True)
        with _autocast(device, self.plan):
            states = self.model.vision.head_states(images.to(device))
        shapes = {name: self.plan.shape_of(name, len(images)) for name in self.names}
        return {name: getattr(states, name).cpu().reshape(shape) for name, shape in shapes.items()}

    def _keep(
        self, arrays: dict[str, np.ndarray], states: dict[str, Tensor], places: np.ndarray, paths: Sequence[str]
    ) -> None:
        finite = np.ones(len(places), dtype=bool)
        for name, values in states.items():
            arrays[name][places], good = to_disk(values, self.plan.type_of(name))
            finite &= good
        if not finite.all():
            culprits = [path for path, good in zip(paths, finite, strict=True) if not good]
            raise ModelError(
                f"finite head states in {self.plan.dtype}",
                f"NaN or infinite values for {len(culprits)} of {len(finite)} images of a batch: "
                f"{', '.join(culprits[:3])}",
                "Where it is every image, the weights are broken; where it is some, use precision='fp32' for the model "
                "and dtype='float32' for the store.",
            )

    def _halve(self, images: int) -> None:
        if images == 1:
            raise _too_large()
        self.size = (images + 1) // 2
        warnings.warn(
            f"Memory did not hold a batch of {images} images; the run goes on with batches of {self.size}.",
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def decode(
    files: Iterable[tuple[Path | str, Box | None]],
    preprocess: Callable[[Image], Float[Tensor, "channel height width"]],
    workers: int,
    ahead: int,
) -> Generator[Item]:
    """For each file its name, and its preprocessed image or the error that reading or preprocessing it raised.

    Args:
        files: paths or addresses, and boxes.
        preprocess: from an RGB image to the model's input.
        workers: threads.
        ahead: how many images may wait to be taken.
    """

    def one(path: Path | str, box: Box | None) -> Item:
        try:
            image = read_image(path, box)
        except ImageError as error:
            return str(path), error
        try:
            return str(path), preprocess(image)
        except Exception as error:  # whatever it is: the image is at fault, since others went through
            said = f"{type(error).__name__}: {error}".rstrip(".: ")
            problem = f"The model's preprocessing fails on {str(path)!r} ({image.width} × {image.height}) with {said}."
            failure = ImageError(problem, "Look at the image, scale it to a usual shape, or leave its row out.")
            failure.__cause__ = error
            return str(path), failure

    pool = ThreadPoolExecutor(workers, thread_name_prefix="headlens-decode")
    remaining = iter(files)
    waiting: deque[Future[Item]] = deque()
    try:
        while True:
            for path, box in islice(remaining, ahead - len(waiting)):
                waiting.append(pool.submit(one, path, box))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batch_size_for(model: Model, plan: Plan) -> int:
    """A batch size for a model on its device: found by trial on a GPU."""
    most = min(plan.block, plan.rows, _AT_MOST)
    if model.device.type != "cuda":
        return min(ON_PROCESSOR, most)

    def seconds(size: int) -> float:
        images = torch.zeros(size, 3, *model.vision.cfg.image_size, device=model.device)
        best = float("inf")
        with torch.inference_mode(), _autocast(model.device, plan):
            for _ in range(1 + _REPEATS):  # the first is slower: libraries are loaded, and memory is taken
                torch.cuda.synchronize(model.device)
                start = perf_counter()
                model.vision.head_states(images)
                torch.cuda.synchronize(model.device)
                best = min(best, perf_counter() - start)
        return best

    size = by_trial(seconds, most)
    torch.cuda.empty_cache()
    return size


def by_trial(seconds: Callable[[int], float], most: int) -> int:
    """Double a batch as long as images a second rise by a twentieth, and memory holds it.

    Args:
        seconds: the time that a batch of some size takes; raises `torch.OutOfMemoryError` where memory is too small.
        most: never more than this.
    """
    size, rate = min(_FIRST, most), 0.0
    while True:
        try:
            found = size / seconds(size)
        except torch.OutOfMemoryError:
            if rate:
                return size // 2
            if size == 1:
                raise _too_large() from None
            size, most = size // 2, size // 2
            continue
        if found < rate * _GAIN:
            return size // 2
        if 2 * size > most:
            return size
        size, rate = 2 * size, found


def _autocast(device: torch.device, plan: Plan) -> torch.autocast:
    """The caller's autocast: threads and machines do not inherit it."""
    kind = None if plan.autocast is None else getattr(torch, plan.autocast)
    return torch.autocast(device.type, kind, enabled=kind is not None)


def _too_large() -> ModelError:
    return ModelError(
        "Memory does not hold a single image.",
        "End what else runs on the device, take another device, or load the model with precision='bf16'.",
    )
