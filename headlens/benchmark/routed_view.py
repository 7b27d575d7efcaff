"""Head contributions of a set of images, each as a correction of its own leaves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.correct.view import OverView

Piece = tuple[np.ndarray, Any, np.ndarray | None]
"""Rows of the whole; a corrected view; and which of that view's rows these are, None for all in their order."""


class RoutedView(OverView):
    """A `headlens.correct.HeadView` that is put together from corrected views of its parts.

    Args:
        base: the view underneath.
        pieces: corrected views that cover every row once.
    """

    def __init__(self, base: Any, pieces: Sequence[Piece]):
        super().__init__(base)
        self.pieces = tuple(pieces)

    def __len__(self) -> int:
        return sum(len(rows) for rows, _, _ in self.pieces)

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The corrected embeddings, computed once."""
        return self._together(lambda view: view.embedding)

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head, as corrected."""
        return self._together(lambda view: view.heads(layer, head))

    def _together(self, of: Callable[[Any], Tensor]) -> Tensor:
        return put_together([(rows, of(view), own) for rows, view, own in self.pieces])


def put_together(parts: Sequence[tuple[np.ndarray, Tensor, np.ndarray | None]]) -> Float[Tensor, "image _"]:
    """One array from rows of the whole, an array, and which of its rows these are."""
    length = sum(len(rows) for rows, _, _ in parts)
    first = parts[0][1]
    whole = first.new_empty((length, first.shape[1]))
    for rows, values, own in parts:
        whole[torch.as_tensor(rows)] = values if own is None else values[torch.as_tensor(own)]
    return whole
