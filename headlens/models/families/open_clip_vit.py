"""open_clip's own `VisionTransformer`: CLIP, and CoCa with its attentional pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.altered import refuse_differences
from headlens.models.config import VisionConfig
from headlens.models.families.layout import Family, Layout, Place, linear_places, mlp_places, norm_places, to_theirs
from headlens.models.open_clip_config import read_config
from headlens.models.open_clip_import import open_clip
from headlens.models.tower import Tower


def check_finite(weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Raise `ModelError`, naming the tensor, for a weight that is not a finite number, or has no numbers yet."""
    for name, tensor in weights.items():
        if tensor.is_meta:
            raise ModelError(
                f"{prefix}{name} is on the device 'meta', where tensors have no numbers.",
                "Load the model's weights first, onto a device of its own.",
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ModelError(
                "weights that are finite numbers",
                f"{bad} of {tensor.numel()} values of {prefix}{name} that are NaN or infinite",
                "The checkpoint is damaged, or its training diverged: load another one.",
            )


def _read(visual: Any) -> Layout:
    cfg = read_config(visual)
    reference = _empty_open_clip(cfg, type(visual.transformer.resblocks[0]).__name__)
    transformer = open_clip().transformer
    norms = frozenset({transformer.LayerNorm, transformer.LayerNormFp32, nn.LayerNorm})
    refuse_differences(visual, reference, (norms, frozenset({transformer.PatchDropout, nn.Identity})))
    return Layout(cfg)


def _places(cfg: VisionConfig) -> Iterable[Place]:
    yield Place("W_E", "conv1.weight")
    yield Place("class_token", "class_embedding")
    yield Place("W_pos", "positional_embedding")
    yield Place("W_P", "proj")
    yield from norm_places("ln_pre", "ln_pre")
    for layer in range(cfg.n_layers):
        mine, theirs = f"blocks.{layer}.", f"transformer.resblocks.{layer}."
        for k, letter in enumerate("QKV"):
            yield from linear_places(f"{mine}attn", f"{theirs}attn.in_proj_", letter, "heads", (k, 3))
        yield from linear_places(f"{mine}attn", f"{theirs}attn.out_proj.", "O", "out")
        yield from norm_places(f"{mine}ln1", f"{theirs}ln_1")
        yield from mlp_places(mine, f"{theirs}mlp.", ("c_fc", "c_proj"), norm=f"{theirs}ln_2")
        yield Place(f"{mine}attn.scale", f"{theirs}ls_1.gamma")
        yield Place(f"{mine}mlp.scale", f"{theirs}ls_2.gamma")
    if cfg.attention_pool is None:
        yield from norm_places("ln_final", "ln_post")
        return
    yield from norm_places("ln_final", "attn_pool.ln_k")
    yield from norm_places("pool.ln_query", "attn_pool.ln_q")
    yield from norm_places("pool.ln_post", "ln_post")
    yield Place("pool.query", "attn_pool.query")
    together = cfg.attention_pool.d_query == cfg.d_model  # torch then keeps the three maps in one
    for k, letter in enumerate("QKV"):
        name, part = ("in_proj_weight", (k, 3)) if together else (f"{letter.lower()}_proj_weight", (0, 1))
        yield Place(f"pool.attn.W_{letter}", f"attn_pool.attn.{name}", "heads", part)
        yield Place(f"pool.attn.b_{letter}", "attn_pool.attn.in_proj_bias", "heads", (k, 3))
    yield from linear_places("pool.attn", "attn_pool.attn.out_proj.", "O", "out")


FAMILY = Family(
    name="open_clip",
    title="CLIP as open_clip has it, CoCa",
    recognises=lambda tower: type(tower) is open_clip().transformer.VisionTransformer,
    read=_read,
    places=_places,
)


def to_open_clip(vision: Tower) -> dict[str, Tensor]:
    """The tower's weights under open_clip's names, as `visual.load_state_dict` takes them.

    Bitwise the inverse of the conversion. Tensors are contiguous copies, ready to be written to a file.
    """
    if vision.cfg.family != FAMILY.name:
        raise ModelError(
            f"The vision tower is of the family {vision.cfg.family}, not open_clip's own transformer.",
            "Use headlens.models.families.to_original.",
        )
    mine = {name: tensor.detach() for name, tensor in vision.state_dict().items()}
    places = list(_places(vision.cfg))
    return to_theirs(mine, vision.cfg, places, {place.theirs for place in places})


def rebuild_open_clip(vision: Tower) -> nn.Module:
    """open_clip's own tower with this tower's settings and a copy of its weights, in evaluation mode."""
    visual = _empty_open_clip(vision.cfg)
    visual.load_state_dict(to_open_clip(vision), assign=True)
    return visual.eval()


def _empty_open_clip(cfg: VisionConfig, block: str = "ResidualAttentionBlock") -> nn.Module:
    """open_clip's tower of these settings, without numbers."""
    transformer, pool = open_clip().transformer, cfg.attention_pool
    norm = transformer.LayerNormFp32 if cfg.norm_in_float32 else transformer.LayerNorm
    activations = {
        "gelu": nn.GELU,
        "gelu_tanh": partial(nn.GELU, approximate="tanh"),
        "quick_gelu": transformer.QuickGELU,
    }
    with torch.device("meta"):
        visual: nn.Module = transformer.VisionTransformer(
            image_size=cfg.image_size,
            patch_size=cfg.patch_size,
            width=cfg.d_model,
            layers=cfg.n_layers,
            heads=cfg.n_heads,
            # Half a unit is added because the width is found again by rounding down.
            mlp_ratio=(cfg.d_mlp + 0.5) / cfg.d_model,
            ls_init_value=1.0 if cfg.layer_scale else None,
            output_dim=cfg.d_embed,
            attentional_pool=pool is not None,
            attn_pooler_queries=pool.n_queries if pool is not None else 1,
            attn_pooler_heads=pool.n_heads if pool is not None else 1,
            no_ln_pre=not cfg.ln_pre,
            pool_type="tok" if pool is not None else cfg.pool,
            final_ln_after_pool=cfg.ln_after_pool,
            act_layer=activations[cfg.act],
            norm_layer=partial(norm, eps=cfg.eps),
            block_type="custom" if block.startswith("Custom") else None,
        )
    return visual
