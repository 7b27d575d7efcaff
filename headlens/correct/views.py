"""What corrections are fitted on and applied to, and the views that they return.

A target has one of three forms:

- a `HeadView`: a store of head states, or the view that another correction returned;
- a dense tensor of head contributions, [image layer head embed];
- a decomposition: an object that holds such a tensor as `heads`, beside `mlps`, `stem` and `constant`.

A view may answer more than it must: `logits(classifier)`, `project_head(layer, head, directions)` and
`head_norms(layer, head)`, where it knows a shorter way than through whole contributions, as a store does, whose heads
are d numbers an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import CorrectionError
from headlens.heads import HeadId


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


# ---- what every form of target answers -------------------------------------------------------------------------------


def is_decomposition(target: Any) -> bool:
    """Whether `heads` is an array that the target holds, rather than a way of asking for one head."""
    return isinstance(getattr(target, "heads", None), Tensor)


def is_view(target: Any) -> bool:
    """Whether the target is a `HeadView`. Its embedding is not looked at: a corrected view would compute it."""
    return callable(getattr(target, "heads", None)) and hasattr(target, "n_layers") and hasattr(target, "n_heads")


def tower_of(target: Any) -> tuple[int, int]:
    """Layers and heads of a target in any of its forms. Raises `CorrectionError` for anything else."""
    array = target.heads if is_decomposition(target) else target
    if isinstance(array, Tensor):
        if array.ndim != 4:
            raise CorrectionError(
                "head contributions of [image layer head embed]",
                f"shape {tuple(array.shape)}",
                "Sum a per-token decomposition over its tokens first.",
            )
        return array.shape[1], array.shape[2]
    if is_view(target):
        return target.n_layers, target.n_heads
    raise CorrectionError(
        f"A correction of heads cannot be applied to a {type(target).__name__}.",
        "Pass a store, a corrected view, a decomposition or a tensor of [image layer head embed]. "
        "Extract head states first: headlens.extract or headlens.decompose.",
    )


def contribution(target: Any, head: HeadId) -> Float[Tensor, "image embed"]:
    """One head's contribution to a target in any of its forms."""
    array = target.heads if is_decomposition(target) else target
    if isinstance(array, Tensor):
        return array[:, head.layer, head.head]
    part: Tensor = target.heads(head.layer, head.head)
    return part


def embedding_of(target: Any) -> Float[Tensor, "image embed"]:
    """The embeddings of a target: itself where it is a matrix, a view's, or the sum of a decomposition's parts.

    Raises:
        CorrectionError: for head contributions alone, which are not the whole embedding, and for anything else.
    """
    if isinstance(target, Tensor) and target.ndim == 2:
        return target
    found = None
    if is_decomposition(target) and callable(getattr(target, "total", None)):
        found = target.total()
    elif is_view(target):
        found = target.embedding
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise CorrectionError(
            "whole embeddings: [image embed], a store, a corrected view or a decomposition",
            described(target),
            "Head contributions alone lack the MLPs and the stem: pass the store or the decomposition.",
        )
    return found


def logits_of(target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
    """The embeddings of a target · the classifier's rows. Raises as `embedding_of`, and for another width."""
    if is_view(target) and callable(getattr(target, "logits", None)):
        known: Tensor = target.logits(classifier)
        return known
    return along(embedding_of(target), classifier)


def project_head(
    target: Any, head: HeadId, directions: Float[Tensor, "direction embed"]
) -> Float[Tensor, "image direction"]:
    """One head's contribution · each direction."""
    if callable(getattr(target, "project_head", None)):
        known: Tensor = target.project_head(head.layer, head.head, directions)
        return known
    return along(contribution(target, head), directions)


def head_norms(target: Any, head: HeadId) -> Float[Tensor, "image"]:
    """The norm of one head's contribution to every image, in float64."""
    if callable(getattr(target, "head_norms", None)):
        known: Tensor = target.head_norms(head.layer, head.head)
        return known
    return torch.linalg.vector_norm(contribution(target, head), dim=-1, dtype=torch.float64)


def along(x: Float[Tensor, "image embed"], directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "image _"]:
    """x · each direction, in the precision of x. Raises `CorrectionError` for another width."""
    check_width("classifier", directions.shape[-1], x)
    return x @ directions.T.to(x)


def check_width(what: str, width: int, x: Float[Tensor, "image embed"]) -> None:
    """Raises `CorrectionError` where a contribution has another width than what it is corrected with."""
    if x.shape[-1] != width:
        raise CorrectionError(
            f"vectors of width {width}, as the {what}", f"width {x.shape[-1]}", "Use one model throughout."
        )


def detached(x: Tensor) -> Tensor:
    """A copy of the values alone, on the CPU, as corrections keep and save them."""
    with torch.inference_mode(False):  # an inference tensor could not take part in a gradient later
        return x.detach().clone().to("cpu")


def fingerprint_of(target: Any) -> str | None:
    """The model that a target belongs to, where it says."""
    return getattr(target, "fingerprint", None)


def described(target: Any) -> str:
    """What a target is, for messages."""
    shape = f" of {tuple(target.shape)}" if isinstance(target, Tensor) else ""
    return f"a {type(target).__name__}{shape}"


# ---- views -----------------------------------------------------------------------------------------------------------


class View:
    """A view over another one, which answers as the one underneath; what differs overrides.

    Args:
        base: the view underneath.
    """

    def __init__(self, base: Any):
        self.base = base

    def __len__(self) -> int:
        return int(self.base.embedding.shape[0])

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
        return fingerprint_of(self.base)

    @property
    def manifest(self) -> Any:
        """The table of images of the view underneath; an AttributeError where it has none."""
        return self.base.manifest

    @property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The embeddings."""
        return embedding_of(self.base)

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head."""
        return contribution(self.base, HeadId(layer, head))

    def logits(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The embeddings · the classifier's rows."""
        return logits_of(self.base, classifier)

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """The contribution of one head · each direction."""
        return project_head(self.base, HeadId(layer, head), directions)

    def head_norms(self, layer: int, head: int) -> Float[Tensor, "image"]:
        """The norm of one head's contribution to every image."""
        return head_norms(self.base, HeadId(layer, head))

    def project(self, directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "image layer head direction"]:
        """Every head's contribution · each direction."""
        rows = [
            torch.stack([self.project_head(layer, head, directions) for head in range(self.n_heads)], dim=1)
            for layer in range(self.n_layers)
        ]
        return torch.stack(rows, dim=1)


class KnownLogits(View):
    """A view that computes the class scores of one classifier, and each head's part of them, only once.

    With it a set of ablated heads costs one addition a head, so that hundreds of sets can be tried: pass it to
    `Correction.logits` instead of the view underneath. Any other classifier is passed on.

    Args:
        base: the view underneath.
        classifier: the class embeddings, as they will be passed to `logits`.
        heads: parts that are known already, [image class] each, by head.
        max_bytes: how much of the heads' parts is kept; more is computed again each time.
    """

    def __init__(
        self,
        base: Any,
        classifier: Float[Tensor, "class embed"],
        heads: Mapping[tuple[int, int], Tensor] | None = None,
        max_bytes: int = 1 << 30,
    ):
        super().__init__(base)
        self.classifier, self.max_bytes = classifier, max_bytes
        self._parts: dict[tuple[int, int], Tensor] = dict(heads or {})

    @cached_property
    def _total(self) -> Tensor:
        return logits_of(self.base, self.classifier)

    def logits(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The embeddings · the classifier's rows."""
        return self._total if self._knows(classifier) else super().logits(classifier)

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """The contribution of one head · each direction."""
        if not self._knows(directions):
            return super().project_head(layer, head, directions)
        if (layer, head) in self._parts:
            return self._parts[layer, head]
        part = super().project_head(layer, head, directions)
        if (len(self._parts) + 1) * part.nbytes <= self.max_bytes:
            self._parts[layer, head] = part
        return part

    def subset(self, rows: Any) -> Any:
        """Some images of the view underneath, where it can be taken apart."""
        return self.base.subset(rows)

    def with_constants(self, constants: str) -> Any:
        """The view underneath in another convention; what is known of this one does not hold there."""
        return self.base.with_constants(constants)

    def _knows(self, classifier: Tensor) -> bool:
        return classifier is self.classifier or (
            classifier.shape == self.classifier.shape and bool((classifier == self.classifier).all())
        )


class Piece(NamedTuple):
    """Some images of a `RoutedView`.

    Attributes:
        rows: their places in the whole.
        view: a view that has them.
        own: their places in that view; None for all of it, in its order.
    """

    rows: np.ndarray
    view: Any
    own: np.ndarray | None = None


class RoutedView(View):
    """Images of which each is as a view of its own shows it.

    Args:
        base: the view underneath.
        pieces: views that together have every image once.
    """

    def __init__(self, base: Any, pieces: Sequence[Piece]):
        super().__init__(base)
        self.pieces = tuple(pieces)

    def __len__(self) -> int:
        return sum(len(piece.rows) for piece in self.pieces)

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The embeddings, computed once."""
        return put_together(self.pieces, [embedding_of(piece.view) for piece in self.pieces])

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head."""
        return put_together(self.pieces, [contribution(piece.view, HeadId(layer, head)) for piece in self.pieces])

    def logits(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The embeddings · the classifier's rows."""
        return put_together(self.pieces, [logits_of(piece.view, classifier) for piece in self.pieces])

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """The contribution of one head · each direction."""
        parts = [project_head(piece.view, HeadId(layer, head), directions) for piece in self.pieces]
        return put_together(self.pieces, parts)

    def head_norms(self, layer: int, head: int) -> Float[Tensor, "image"]:
        """The norm of one head's contribution to every image."""
        return put_together(self.pieces, [head_norms(piece.view, HeadId(layer, head)) for piece in self.pieces])


def put_together(pieces: Sequence[Piece], values: Sequence[Float[Tensor, "_ ..."]]) -> Float[Tensor, "image ..."]:
    """One array in the order of the whole, from what each piece's view has."""
    whole = values[0].new_empty((sum(len(piece.rows) for piece in pieces), *values[0].shape[1:]))
    for piece, own in zip(pieces, values, strict=True):
        whole[torch.as_tensor(piece.rows)] = own if piece.own is None else own[torch.as_tensor(piece.own)]
    return whole
