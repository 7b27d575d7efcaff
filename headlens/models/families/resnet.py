"""OpenAI's ResNets, by the heads of their attention pool.

Only the pool is made of heads: the convolutions in front of it are the stem, and the tower has one layer, without a
residual stream. Its query is the mean over the last feature map; a head's contribution is what it reads there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from headlens.models.config import VisionConfig
from headlens.models.families.layout import Family, Layout, Place, expect, linear_places
from headlens.models.open_clip_import import open_clip


def _recognises(tower: Any) -> bool:
    return type(tower) is open_clip().modified_resnet.ModifiedResNet


def _read(tower: Any) -> Layout:
    pool = tower.attnpool
    expect(pool, open_clip().modified_resnet.AttentionPool2d, "attnpool")
    size = tower.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    d_model, heads = pool.k_proj.in_features, pool.num_heads
    stem = copy.copy(tower)
    stem._modules = {**tower._modules, "attnpool": nn.Identity()}
    cfg = VisionConfig(
        n_layers=1,
        n_heads=heads,
        d_model=d_model,
        d_head=d_model // heads,
        d_mlp=0,
        d_embed=pool.c_proj.out_features,
        image_size=size,
        patch_size=(32, 32),
        ln_pre=False,
        family=FAMILY.name,
        class_token="mean",
        stem="module",
        residual=False,
        project=False,
    )
    return Layout(cfg, stem=stem, rename=lambda name: name if name.startswith("attnpool.") else f"stem.{name}")


def _places(cfg: VisionConfig) -> Iterable[Place]:
    yield Place("W_pos", "attnpool.positional_embedding")
    for letter in "QKV":
        yield from linear_places("blocks.0.attn", f"attnpool.{letter.lower()}_proj.", letter, "heads")
    yield from linear_places("blocks.0.attn", "attnpool.c_proj.", "O", "out")


FAMILY = Family(
    name="resnet",
    title="OpenAI's ResNets, by the heads of their attention pool",
    recognises=_recognises,
    read=_read,
    places=_places,
)
