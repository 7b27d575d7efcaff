"""What a correction can be fitted on and applied to.

- A `HeadView`: a store of head states, or another correction's result.
- A dense tensor of head contributions, [image layer head embed].
- A decomposition: an object that holds such a tensor as `heads`, beside `mlps`, `stem` and `constant`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import CorrectionError
from headlens.heads import HeadId


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
        "a store, a corrected view, a decomposition or a tensor of [image layer head embed]",
        f"{type(target).__name__}",
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
            f"a {type(target).__name__}" + (f" of {tuple(target.shape)}" if isinstance(target, Tensor) else ""),
            "Head contributions alone lack the MLPs and the stem: pass the store or the decomposition.",
        )
    return found


def check_width(what: str, width: int, x: Float[Tensor, "image embed"]) -> None:
    """Raises `CorrectionError` where a contribution has another width than what it is corrected with."""
    if x.shape[-1] != width:
        raise CorrectionError(
            f"vectors of width {width}, as the {what}", f"width {x.shape[-1]}", "Use one model throughout."
        )


def detached(x: Tensor) -> Tensor:
    """A copy of the values alone, on the CPU, as corrections keep and save them."""
    return x.detach().to("cpu", copy=True) if isinstance(x, Tensor) else torch.as_tensor(x)


def fingerprint_of(target: Any) -> str | None:
    """The model that a target belongs to, where it says."""
    return getattr(target, "fingerprint", None)


def check_same_model(own: str | None, target: Any) -> None:
    """Raises `CorrectionError` where the target says that it belongs to another model than the correction's own."""
    theirs = fingerprint_of(target)
    if own is not None and theirs is not None and theirs != own:
        raise CorrectionError(
            f"head states of the model it was fitted on, {own}",
            f"those of {theirs}",
            "Fit the correction again on this model.",
        )
