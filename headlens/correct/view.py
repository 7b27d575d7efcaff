"""Head contributions of a set of images, as they are or as a correction leaves them.

`HeadView` is all that locating and correcting ask of a store. `CorrectedView` is a correction laid over a view: the
edited heads are computed when they are asked for, so that nothing of the size of the store is copied, and it is a view
itself, so that corrections chain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from headlens.errors import CorrectionError
from headlens.heads import HeadId

Edit = Callable[[HeadId, Tensor], Tensor]


@runtime_checkable
class HeadView(Protocol):
    """The contributions of every head of a tower to the embeddings of a set of images."""

    @property
    def n_layers(self) -> int:
        """Layers of the tower."""
        ...

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        ...

    @property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The embeddings that the contributions are parts of."""
        ...

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head."""
        ...


class OverView:
    """What a view over another one takes from it as it is.

    Args:
        base: the view underneath.
    """

    def __init__(self, base: Any):
        self.base = base

    @property
    def n_layers(self) -> int:
        """Layers of the tower."""
        return int(self.base.n_layers)

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        return int(self.base.n_heads)

    @property
    def fingerprint(self) -> str | None:
        """The model that the view underneath belongs to, where it says."""
        return getattr(self.base, "fingerprint", None)

    @property
    def manifest(self) -> Any:
        """The table of images of the view underneath; an AttributeError where it has none."""
        return self.base.manifest


class CorrectedView(OverView):
    """A view with some heads edited: embedding ← embedding + Σ over edited heads of (new − old).

    A direct edit: later layers and the final LayerNorm saw the original, and nothing is normalised again.

    Args:
        base: the view underneath.
        edited: the heads that change.
        edit: gives a head's new contribution from its old one.
        embedding: replaces the embedding after the edits (RoboShot); then it is not the sum of its parts.
    """

    def __init__(
        self,
        base: Any,
        edited: tuple[HeadId, ...] = (),
        edit: Edit | None = None,
        embedding: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__(base)
        self.edited = edited
        self._edit = edit
        self._replace = embedding

    def __len__(self) -> int:
        return int(self.base.embedding.shape[0])

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The corrected embeddings, computed once."""
        total = self.base.embedding
        for head in self.edited:
            old = self.base.heads(head.layer, head.head)
            total = total + (self._new(head, old) - old).to(total.dtype)
        return total if self._replace is None else self._replace(total)

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head, as corrected."""
        old = self.base.heads(layer, head)
        return self._new(HeadId(layer, head), old) if (layer, head) in self.edited else old

    def project(self, directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "image layer head direction"]:
        """Every head's contribution along each direction, as corrected."""
        if hasattr(self.base, "project"):
            scores = self.base.project(directions).clone()
            changed: list[HeadId] = list(self.edited)
        else:
            shape = (len(self), self.n_layers, self.n_heads, directions.shape[0])
            scores = torch.empty(shape, dtype=self.base.embedding.dtype, device=self.base.embedding.device)
            changed = [HeadId(i, j) for i in range(self.n_layers) for j in range(self.n_heads)]
        for one in changed:
            part = self.heads(one.layer, one.head)
            scores[:, one.layer, one.head] = einsum(
                part, directions.to(part.dtype), "image embed, direction embed -> image direction"
            ).to(scores.dtype)
        return scores

    def _new(self, head: HeadId, old: Tensor) -> Tensor:
        if self._edit is None:
            raise CorrectionError("an edit for the edited heads", "none", "Pass edit= along with edited=.")
        new = self._edit(head, old)
        return new.expand_as(old)
