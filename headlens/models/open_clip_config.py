"""Read the settings of an open_clip vision tower, and refuse by name what is not understood.

Refused, rather than converted into something that only looks right: CoCa's parallel and cascaded pools, pooling of no
kind, normalised or cosine attention, further norms inside a block, unknown nonlinearities.
Patch dropout acts in training alone, and `output_tokens` only adds a second output: both are dropped.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from headlens.errors import ModelError
from headlens.models.config import Activation, PoolConfig, VisionConfig
from headlens.models.families.layout import refusal
from headlens.models.open_clip_import import open_clip

_REMEDY = "docs/models.md lists the families and settings that are understood."


def _refuse(what: str) -> NoReturn:
    raise ModelError("a vision tower all of whose settings are understood", what, _REMEDY)


def _class_name(module: object) -> str:
    return type(module).__name__


def check_model_config(config: dict[str, Any], name: str) -> None:
    """Refuse an architecture by open_clip's own description of it, before anything is downloaded.

    Raises:
        ModelError: for a tower that has no decomposition by heads.
    """
    kind = config["vision_cfg"].get("timm_model_name", "")
    if (why := refusal(kind)) is not None:
        raise ModelError(
            f"{name} has no decomposition by heads: its vision tower is timm's {kind}, and {why}.",
            "Choose a vision transformer or a ResNet of OpenAI's; docs/models.md lists them.",
        )


def _check_block(block: Any, where: str) -> None:
    transformer = open_clip().transformer
    if type(block) not in (transformer.ResidualAttentionBlock, transformer.CustomResidualAttentionBlock):
        _refuse(f"a block of type {_class_name(block)} at {where}")
    attn = block.attn
    if type(block) is transformer.ResidualAttentionBlock:
        if hasattr(block, "ln_1_kv"):
            _refuse(f"cross-attention in {where}")
        if type(attn) is not nn.MultiheadAttention:
            _refuse(f"attention of type {_class_name(attn)} in {where}")
        if attn.bias_k is not None or attn.add_zero_attn or attn.in_proj_weight is None:
            _refuse(f"extra keys or separate projections in {where}.attn")
    else:
        # A custom block is a plain one as long as none of its additions is switched on.
        extras = {
            "qk_norm": attn.ln_q,
            "scale_attn_inner": attn.ln_inner,
            "scale_attn": block.ln_attn,
            "scale_fc": block.mlp.ln,
        }
        for setting, module in extras.items():
            if type(module) is not nn.Identity:
                _refuse(f"{setting} in {where}")
        if attn.logit_scale is not None:
            _refuse(f"scaled_cosine_attn in {where}")
        if attn.head_scale is not None:
            _refuse(f"scale_heads in {where}")
    for name in ("c_fc", "c_proj"):
        if type(getattr(block.mlp, name)) is not nn.Linear:
            _refuse(f"{_class_name(getattr(block.mlp, name))} as {where}.mlp.{name}")
    for name in ("ls_1", "ls_2"):
        if type(getattr(block, name)) not in (nn.Identity, transformer.LayerScale):
            _refuse(f"{_class_name(getattr(block, name))} as {where}.{name}")


def _activation(module: nn.Module) -> Activation:
    if type(module) is open_clip().transformer.QuickGELU:
        return "quick_gelu"
    if type(module) is nn.GELU:
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    _refuse(f"the nonlinearity {_class_name(module)}")


def _norms(visual: Any) -> list[nn.Module]:
    transformer = open_clip().transformer
    norms = [n for block in visual.transformer.resblocks for n in (block.ln_1, block.ln_2)] + [visual.ln_post]
    if type(visual.ln_pre) is not nn.Identity:
        norms.append(visual.ln_pre)
    for norm in norms:
        if type(norm) not in (transformer.LayerNorm, transformer.LayerNormFp32, nn.LayerNorm):
            _refuse(f"the norm {_class_name(norm)}")
    return norms


def _single(values: set[Any], what: str) -> Any:
    if len(values) != 1:
        _refuse(f"{what} that differ within the tower: {sorted(map(str, values))}")
    return values.pop()


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


def read_config(visual: Any) -> VisionConfig:
    """The settings of an open_clip tower.

    Raises:
        ModelError: naming the first setting that is not understood.
    """
    transformer = open_clip().transformer
    if type(visual) is not transformer.VisionTransformer:
        _refuse(f"a tower of type {_class_name(visual)}")
    pool = visual.attn_pool
    if pool is not None:
        if visual.attn_pool_contrastive is not None:
            _refuse(f"attentional_pool={visual.attn_pool_type!r}, two pools")
        if visual.pool_type != "tok" or type(pool.attn) is not nn.MultiheadAttention:
            _refuse(f"an attentional pool of {_class_name(pool.attn)}, read by {visual.pool_type!r}")
    if visual.pool_type not in ("tok", "avg"):
        _refuse(f"pool_type {visual.pool_type!r}")
    if visual.proj is None:
        _refuse("a tower without its projection")
    if type(visual.patch_dropout) not in (nn.Identity, transformer.PatchDropout):
        _refuse(f"{_class_name(visual.patch_dropout)} as patch_dropout")
    if type(visual.conv1) is not nn.Conv2d or visual.conv1.bias is not None:
        _refuse("a patch projection with a bias, or of another type")
    blocks = list(visual.transformer.resblocks)
    if not blocks:
        _refuse("a tower without blocks")
    for index, block in enumerate(blocks):
        _check_block(block, f"transformer.resblocks.{index}")
    norms = _norms(visual) + ([] if pool is None else [pool.ln_q, pool.ln_k])
    heads = _single({block.attn.num_heads for block in blocks}, "head counts")
    d_model, d_embed = visual.conv1.out_channels, visual.proj.shape[1]
    scaled = {type(ls) is transformer.LayerScale for block in blocks for ls in (block.ls_1, block.ls_2)}
    return VisionConfig(
        n_layers=len(blocks),
        n_heads=heads,
        d_model=d_model,
        d_head=d_model // heads,
        d_mlp=_single({block.mlp.c_fc.out_features for block in blocks}, "MLP widths"),
        d_embed=d_embed,
        image_size=tuple(visual.image_size),
        patch_size=tuple(visual.patch_size),
        pool=visual.pool_type if pool is None else "attention",
        ln_after_pool=visual.final_ln_after_pool and pool is None,
        attention_pool=None if pool is None else _pool_config(pool),
        ln_pre=type(visual.ln_pre) is not nn.Identity,
        layer_scale=_single(scaled, "LayerScale settings"),
        act=_single({_activation(block.mlp.gelu) for block in blocks}, "nonlinearities"),
        eps=_single({norm.eps for norm in norms}, "LayerNorm constants"),
        norm_in_float32=_single({type(n) is transformer.LayerNormFp32 for n in norms}, "LayerNorm types"),
    )
