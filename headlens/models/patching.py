"""Activation patching: an activation of one image put into the run on another, head by head and token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.models.vision_transformer import HookedVisionTransformer

Activation = Literal["q", "k", "v", "z"]


@torch.no_grad()
def patch_heads(
    vision: HookedVisionTransformer,
    images: Float[Tensor, "image channel height width"],
    cache: Mapping[Any, Tensor] | Any,
    metric: Callable[[Tensor], Tensor],
    activation: Activation = "z",
    by_position: bool = False,
) -> Float[Tensor, "layer head *token"]:
    """metric(vision(images)) with one head's activation replaced by the cached one, for every head.

    Args:
        vision: the tower.
        images: the run that is patched.
        cache: `run_with_cache` on as many other images.
        metric: embeddings [image embed] -> a number.
        activation: what is replaced: "z", "q", "k" or "v".
        by_position: replace it at one token at a time; else at all of them at once.
    """
    cfg = vision.cfg
    tokens: list[Any] = list(range(cfg.n_tokens)) if by_position else [slice(None)]
    found = torch.zeros(cfg.n_layers, cfg.n_heads, len(tokens))
    for layer in range(cfg.n_layers):
        name = f"blocks.{layer}.attn.hook_{activation}"
        for head in range(cfg.n_heads):
            for place, token in enumerate(tokens):

                def put(x: Tensor, hook: Any, where: Any = token, head: int = head) -> Tensor:
                    x = x.clone()
                    x[:, where, head] = cache[hook.name][:, where, head]
                    return x

                found[layer, head, place] = metric(vision.run_with_hooks(images, fwd_hooks=[(name, put)]))
    return found if by_position else found[..., 0]
