"""Ablation in its total meaning: the head's output is replaced inside the forward pass, and later layers react.

Works on any `HookedRootModule` whose blocks have `blocks.{l}.attn.hook_z` of [image token head d_head], such as
headlens' own tower: `with vision.hooks(fwd_hooks=total_ablation_hooks(means)): vision(images)`.

Which tokens are replaced is part of the meaning and is always said: "class" replaces the head's output at the class
token (token 0) alone, "all" at every token. In the last layer of a tower that pools the class token the two are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headlens.errors import CorrectionError, LocateError
from headlens.heads import HeadId, HeadLike, as_heads

Tokens = Literal["class", "all"]
Hook = tuple[str, Callable[..., Tensor]]


def hook_name(layer: int) -> str:
    """The hook point where the heads of a layer write z."""
    return f"blocks.{layer}.attn.hook_z"


def total_ablation_hooks(values: Mapping[Any, Float[Tensor, "d_head"]], tokens: Tokens) -> list[Hook]:
    """Forward hooks, as (name, function), that put a constant in place of each head's z.

    Args:
        values: for each (layer, head), what z becomes: its mean (see `mean_z`), or zeros.
        tokens: "class" or "all".

    Raises:
        CorrectionError: for other tokens; when the hooks run, for a head or width that the tower does not have.
    """
    _check_tokens(tokens)
    by_layer: dict[int, dict[int, Tensor]] = {}
    for (layer, head), value in values.items():
        by_layer.setdefault(int(layer), {})[int(head)] = value

    def hook_for(layer: int) -> Callable[..., Tensor]:
        def replace_z(z: Tensor, hook: Any = None) -> Tensor:
            edited = z.clone()
            for head, value in by_layer[layer].items():
                if head >= z.shape[2] or value.shape != z.shape[3:]:
                    raise CorrectionError(
                        f"a head below {z.shape[2]} and a value of width {z.shape[3]} in layer {layer}",
                        f"head {head} and shape {tuple(value.shape)}",
                        "Use the means of this very tower.",
                    )
                where = slice(0, 1) if tokens == "class" else slice(None)
                edited[:, where, head] = value.to(z.device, z.dtype)
            return edited

        return replace_z

    return [(hook_name(layer), hook_for(layer)) for layer in sorted(by_layer)]


def mean_z(
    vision: Any, batches: Iterable[Tensor], heads: Iterable[HeadLike], tokens: Tokens
) -> dict[HeadId, Float[Tensor, "d_head"]]:
    """The mean of each head's z over reference images, in float64.

    Under "class" it is taken at the class token; under "all" over every token too, except in the last layer of a tower
    that pools the class token, where nothing but the class token matters and the mean is taken there.

    Args:
        vision: the hooked tower, with `cfg.n_layers`, `cfg.n_heads` and `cfg.pool`.
        batches: preprocessed images, [image 3 height width] each.
        heads: the heads.
        tokens: "class" or "all".

    Raises:
        CorrectionError: for other tokens, "class" in a tower that has no class token, a head outside the tower, or no
            image.
    """
    _check_tokens(tokens)
    if tokens == "class" and getattr(vision.cfg, "class_token", "learnt") == "none":
        raise CorrectionError(
            "The tower has no class token that a head could be replaced at alone.", "Replace it at all: tokens='all'."
        )
    try:
        wanted = as_heads(heads, vision.cfg.n_layers, vision.cfg.n_heads)
    except LocateError as error:
        raise error.as_type(CorrectionError) from error
    names = {hook_name(head.layer) for head in wanted}
    last = vision.cfg.n_layers - 1 if getattr(vision.cfg, "pool", "tok") == "tok" else None
    totals = {head: torch.zeros(0, dtype=torch.float64) for head in wanted}
    images = 0
    with torch.no_grad():
        for batch in batches:
            _, cache = vision.run_with_cache(batch, names_filter=lambda name: name in names)
            images += len(batch)
            for head in wanted:
                z = cache[hook_name(head.layer)][:, :, head.head].double()
                part = (z[:, 0] if tokens == "class" or head.layer == last else z.mean(dim=1)).sum(dim=0).cpu()
                totals[head] = part if totals[head].numel() == 0 else totals[head] + part
    if images == 0:
        raise CorrectionError("reference images", "none", "Pass at least one batch.")
    return {head: total / images for head, total in totals.items()}


def _check_tokens(tokens: str) -> None:
    if tokens not in ("class", "all"):
        raise CorrectionError("tokens 'class' or 'all'", repr(tokens), "Say which tokens the head is replaced at.")
