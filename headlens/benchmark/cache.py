"""The cache of an interrupted benchmark: fitted corrections, and what random heads predicted.

Head states are kept in the store. What takes minutes beyond them, on tens of thousands of images, are probes and a
hundred draws of random heads; each is written as soon as it is there, under a name that is a digest of all that decides
it: model, images, task, attribute, splits, labels, seed, version, and the correction before it was fitted. A method
that rests on code from a notebook cell is fitted anew each time, since its code may have changed. The folder can be
removed at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError

from headlens._version import __version__
from headlens.benchmark.per_image import of_headlens
from headlens.correct import Correction, load_correction
from headlens.errors import CorrectionError
from headlens.serialization import digest, read_arrays, write_arrays
from headlens.steps.data import AuditData

_PREDICTED = "predicted"


class Cache:
    """A folder of finished pieces of one audit's benchmark.

    Args:
        data: the arrays of the audit's question.
        folder: where; None keeps nothing.
    """

    def __init__(self, data: AuditData, folder: str | Path | None):
        self.data, self.folder = data, None if folder is None else Path(folder)

    def fit(self, correction: Correction) -> Correction:
        """The correction, fitted on the reference split: now, or before."""
        place = self._place("fitted", correction)
        if place is not None and place.is_dir():
            try:
                return load_correction(place)
            except CorrectionError:
                pass  # a run that was killed while it wrote
        fitted = correction.fit(self.data.reference)
        if place is not None:
            fitted.save(place, overwrite=True)
        return fitted

    def predictions(
        self, correction: Correction, predict: Callable[[], Int[np.ndarray, "image"]]
    ) -> Int[np.ndarray, "image"]:
        """The class that an unfitted correction leads to, of every scored image: predicted now, or before."""
        place = self._place("predictions", correction)
        if place is None:
            return predict()
        place = place.with_suffix(".safetensors")
        try:
            found = read_arrays(place)[_PREDICTED].numpy().astype(np.int64)
            if found.shape == (len(self.data.splits.test),):
                return found
        except (OSError, SafetensorError, KeyError):
            pass
        predicted = predict()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(place, {_PREDICTED: predicted.astype(np.int32)})
        return predicted

    def _place(self, kind: str, correction: Correction) -> Path | None:
        if self.folder is None or not of_headlens(correction):
            return None
        return self.folder / kind / digest((self._context, correction))[:24]

    @cached_property
    def _context(self) -> str:
        data = self.data
        found = hashlib.sha256(f"{__version__} {data.question.identity} {data.store.plan.dtype}".encode())
        for rows in (data.splits.reference, data.splits.test, data.labels, data.values):
            found.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
        found.update(data.classifier.detach().cpu().to(torch.float64).contiguous().numpy().tobytes())
        if data.allowed is not None:
            found.update(data.allowed.numpy().tobytes())
        return found.hexdigest()
