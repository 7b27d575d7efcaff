"""timm's `Eva`, alone or inside open_clip: EVA-01, EVA-02 (also its post-norm giant), Perception Encoder, DINOv3.

Read besides what `timm_vit` reads: rotary positions that one table gives to every layer and head, queries, keys and
values in one map or in three, biases of queries and values alone, post-norm blocks, and an attention pool over all
tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headlens.models.families.layout import Family, Layout, expect, refuse, single
from headlens.models.families.timm_vit import (
    attention_of,
    layout_of,
    mlp_of,
    places,
    trunk_of,
)

# After timm_vit, which lets timm in.
from timm.layers import AttentionRope  # isort: skip
from timm.models import eva  # isort: skip


def _rope(trunk: Any) -> Tensor | None:
    """Sine and cosine of every patch, [2 1 patch d_head]."""
    if trunk.rope is None:
        return None
    if getattr(trunk, "rope_mixed", False):
        refuse("rotations that every layer learns (rope_mixed)")
    grid = trunk.patch_embed.grid_size
    table = trunk.rope.get_embed(shape=list(grid)) if trunk.dynamic_img_size else trunk.rope.get_embed()
    if table.ndim != 2 or len(table) != grid[0] * grid[1]:
        refuse(f"a table of rotations of shape {list(table.shape)}")
    return torch.stack(table.detach().chunk(2, dim=-1))[:, None].clone()


def _read(tower: Any) -> Layout:
    rope = _rope(trunk_of(tower))

    def block_settings(block: Any, where: str) -> dict[str, Any]:
        expect(block, (eva.EvaBlock, eva.EvaBlockPostNorm), where)
        expect(block.attn, (eva.EvaAttention, AttentionRope), f"{where}.attn")
        post = type(block) is eva.EvaBlockPostNorm
        scaled = [not post and getattr(block, name) is not None for name in ("gamma_1", "gamma_2")]
        half = "half" if getattr(block.attn, "rotate_half", False) else "interleaved"
        return (
            attention_of(block.attn, f"{where}.attn")
            | mlp_of(block.mlp, f"{where}.mlp")
            | {
                "layer_scale": single(scaled, "LayerScale settings"),
                "post_norm": post,
                "rope": None if rope is None else half,
            }
        )

    return layout_of(tower, FAMILY.name, block_settings, rope)


FAMILY = Family(
    name="timm_eva",
    title="timm's Eva (EVA-01, EVA-02, Perception Encoder, DINOv3)",
    recognises=lambda tower: type(trunk_of(tower)) is eva.Eva,
    read=_read,
    places=places,
    stem="trunk.patch_embed.",
)
