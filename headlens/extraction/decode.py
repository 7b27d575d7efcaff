"""Image files to model input, in worker threads, in order, and never far ahead of the model.

Threads are enough: Pillow decodes and scales outside of Python's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from headlens.errors import ImageError
from headlens.images import read_image
from headlens.manifest import Box

Item = tuple[str, Float[Tensor, "channel height width"] | ImageError]


def read_input(
    path: str | os.PathLike[str],
    box: Sequence[float | int] | None,
    preprocess: Callable[[Image], Float[Tensor, "channel height width"]],
) -> Float[Tensor, "channel height width"]:
    """An image file as a model's input. A failure of the preprocessing is the image's, as one of the decoding is.

    Raises:
        ImageError: as `read_image`, and for an image that the preprocessing fails on.
        ManifestError: as `read_image`.
    """
    image = read_image(path, box)
    try:
        return preprocess(image)
    except Exception as error:
        raise ImageError(
            f"The model's preprocessing fails on the image {str(path)!r}, {image.width} × {image.height} pixels: "
            f"{str(error) or type(error).__name__}.",
            "Replace the file, or leave its row out.",
        ) from error


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
            return str(path), read_input(path, box, preprocess)
        except ImageError as error:
            return str(path), error

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
