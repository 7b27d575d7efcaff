"""Image files to model input, in worker threads, in order, and never far ahead of the model.

Threads are enough: Pillow decodes and scales outside of Python's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from headlens.errors import ImageError
from headlens.images import read_image

Box = tuple[float, float, float, float]


def decode(
    files: Iterable[tuple[Path, Box | None]],
    preprocess: Callable[[Image], Float[Tensor, "channel height width"]],
    workers: int,
    ahead: int,
) -> Generator[Float[Tensor, "channel height width"] | ImageError]:
    """For each file its preprocessed image, or the error that reading it raised.

    Args:
        files: paths and boxes.
        preprocess: from an RGB image to the model's input.
        workers: threads.
        ahead: how many images may wait to be taken.
    """

    def one(path: Path, box: Box | None) -> Tensor | ImageError:
        try:
            return preprocess(read_image(path, box))
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="headlens-decode")
    remaining = iter(files)
    waiting: deque[Future[Tensor | ImageError]] = deque()
    try:
        while True:
            for path, box in islice(remaining, ahead - len(waiting)):
                waiting.append(pool.submit(one, path, box))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
