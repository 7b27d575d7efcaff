"""open_clip's own `VisionTransformer`: CLIP, and CoCa with its attentional pool.

A tower is compared, module by module, with the one that open_clip builds for the settings read off it. What is more
than these (two pools, normalised or cosine attention, further norms, …) is refused by name, as any alteration is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.altered import first_difference
from headlens.models.config import PoolConfig, VisionConfig
from headlens.models.families.layout import (
    Family,
    Layout,
    Place,
    activation,
    class_name,
    expect,
    linear_places,
    mlp_places,
    norm_places,
    refuse,
    single,
    to_theirs,
)
from headlens.models.open_clip_import import open_clip
from headlens.models.tower import Tower


def _pool_config(pool: Any) -> PoolConfig:
    width, heads = pool.attn.embed_dim, pool.attn.num_heads
    return PoolConfig(
        n_heads=heads,
        d_head=width // heads,
        d_query=width,
        d_out=width,
        n_queries=len(pool.query),
        prefix=True,
        ln_query=True,
        ln_post=True,
    )


def _read(visual: Any) -> Layout:
    """The settings of a tower that is, module by module, what open_clip builds for them.

    Patch dropout acts in training alone, and `output_tokens` only adds a second output: neither counts.
    """
    transformer = open_clip().transformer
    kinds = frozenset({transformer.LayerNorm, transformer.LayerNormFp32, nn.LayerNorm})
    pool, blocks = visual.attn_pool, list(visual.transformer.resblocks)
    if pool is not None and visual.attn_pool_contrastive is not None:
        refuse(f"attentional_pool={visual.attn_pool_type!r}, two pools")
    if visual.pool_type not in ("tok", "avg"):
        refuse(f"pool_type {visual.pool_type!r}")
    if not isinstance(visual.proj, nn.Parameter):
        refuse("no projection" if visual.proj is None else f"{class_name(visual.proj)} as projection")
    if not blocks:
        refuse("no blocks")
    first = blocks[0]
    expect(first, (transformer.ResidualAttentionBlock, transformer.CustomResidualAttentionBlock), "its first block")
    norms = {name: one for name, one in visual.named_modules() if name.rpartition(".")[2].startswith("ln_")}
    norms = {name: one for name, one in norms.items() if type(one) is not nn.Identity}
    for name, norm in norms.items():
        expect(norm, tuple(kinds), name)
    cfg = VisionConfig(
        n_layers=len(blocks),
        n_heads=first.attn.num_heads,
        d_model=visual.conv1.out_channels,
        d_head=visual.conv1.out_channels // first.attn.num_heads,
        d_mlp=first.mlp.c_fc.out_features,
        d_embed=visual.proj.shape[1],
        image_size=tuple(visual.image_size),
        patch_size=tuple(visual.patch_size),
        pool=visual.pool_type if pool is None else "attention",
        ln_after_pool=visual.final_ln_after_pool and pool is None,
        attention_pool=None if pool is None else _pool_config(pool),
        ln_pre=type(visual.ln_pre) is not nn.Identity,
        layer_scale=type(first.ls_1) is transformer.LayerScale,
        act=activation(first.mlp.gelu),
        eps=single((norm.eps for norm in norms.values()), "norm constants"),
        # Those of a pool are of the other class in half precision too, and compute the same.
        norm_in_float32=type(visual.ln_post) is transformer.LayerNormFp32,
    )
    reference = _empty_open_clip(cfg, custom=type(first) is transformer.CustomResidualAttentionBlock)
    if what := first_difference(visual, reference, (kinds, frozenset({transformer.PatchDropout, nn.Identity}))):
        refuse(what)
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


def vision_config(cfg: VisionConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg` of a tower of its own."""
    pool = cfg.attention_pool
    config: dict[str, Any] = {
        "image_size": cfg.image_size[0] if cfg.image_size[0] == cfg.image_size[1] else list(cfg.image_size),
        "patch_size": cfg.patch_size[0] if cfg.patch_size[0] == cfg.patch_size[1] else list(cfg.patch_size),
        "layers": cfg.n_layers,
        "width": cfg.d_model,
        "head_width": cfg.d_head,
        "mlp_ratio": (cfg.d_mlp + 0.5) / cfg.d_model,  # the width is found again by rounding down
        "no_ln_pre": not cfg.ln_pre,
        "pool_type": "tok" if pool is not None else cfg.pool,
        "final_ln_after_pool": cfg.ln_after_pool,
        "norm_kwargs": {"eps": cfg.eps},
    }
    if pool is not None:
        config |= {"attentional_pool": True, "attn_pooler_queries": pool.n_queries, "attn_pooler_heads": pool.n_heads}
    if cfg.layer_scale:
        config["ls_init_value"] = 1.0
    if cfg.act == "gelu_tanh":
        config["act_kwargs"] = {"approximate": "tanh"}
    return config


def build_visual(config: Mapping[str, Any], half: bool = False) -> nn.Module:
    """The vision tower that open_clip builds for a `model_cfg`, untrained; with `half`, for half precision."""
    vision, quick = dict(config["vision_cfg"]), bool(config.get("quick_gelu"))
    with torch.random.fork_rng(devices=[]):
        return open_clip().model._build_vision_tower(
            config["embed_dim"], vision, quick, torch.bfloat16 if half else None
        )


def _empty_open_clip(cfg: VisionConfig, custom: bool = False) -> nn.Module:
    """open_clip's tower of these settings, without numbers."""
    vision = vision_config(cfg) | ({"block_type": "custom"} if custom else {})
    config = {"embed_dim": cfg.d_embed, "vision_cfg": vision, "quick_gelu": cfg.act == "quick_gelu"}
    with torch.device("meta"):
        return build_visual(config, half=cfg.norm_in_float32)
