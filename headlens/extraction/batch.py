"""How many images go through the model at once: found by trial on a GPU, and fewer where memory does not hold them.

The result does not depend on it but by rounding. On a processor a fixed size is as good as any: time an image is the
same from some 16 images on, within a few per cent (measured on ViT-B-32 and on the testbed's model).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch

from headlens.errors import ModelError
from headlens.extraction.plan import Model

ON_PROCESSOR = 32
_FIRST, _GAIN, _REPEATS = 16, 1.05, 3


def batch_size_for(clip: Model, most: int, autocast: torch.dtype | None = None) -> int:
    """A batch size for a model on its device.

    Args:
        clip: the model.
        most: images that come in one piece: more than that never go together.
        autocast: the type that the model computes in, if not its own.
    """
    if clip.device.type != "cuda":
        return min(ON_PROCESSOR, most)

    def seconds(size: int) -> float:
        images = torch.zeros(size, 3, *clip.vision.cfg.image_size, device=clip.device)
        best = float("inf")
        with torch.inference_mode(), torch.autocast("cuda", autocast, enabled=autocast is not None):
            for _ in range(1 + _REPEATS):  # the first is slower: libraries are loaded, and memory is taken
                torch.cuda.synchronize(clip.device)
                start = perf_counter()
                clip.vision.head_states(images)
                torch.cuda.synchronize(clip.device)
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


@dataclass
class Fitting:
    """The batch size of a run under way. It shrinks, for the rest of the run, where memory runs out."""

    size: int

    def halve(self, images: int) -> None:
        """After `images` did not fit.

        Raises:
            ModelError: where that was a single one.
        """
        if images == 1:
            raise _too_large()
        self.size = (images + 1) // 2
        warnings.warn(
            f"Memory did not hold a batch of {images} images; the run goes on with batches of {self.size}.",
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _too_large() -> ModelError:
    return ModelError(
        "memory for one image at a time",
        "less than that",
        "End what else runs on the device, take another device, or load the model with precision='bf16'.",
    )
