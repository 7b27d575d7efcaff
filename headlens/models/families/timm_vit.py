"""timm's `VisionTransformer`, alone or inside open_clip: SigLIP, SigLIP 2, MobileCLIP-B and -L, ViTamin, DINOv2.

Read: class token or none, registers, learnt positions of all tokens or of patches alone, a convolutional stem, q/k
norms, norms inside attention and MLP, LayerScale, gated MLPs, the four ways of pooling that have a decomposition (class
token, average before or after the final norm, attention pool), and one linear projection or none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from headlens.models.config import PoolConfig, VisionConfig
from headlens.models.families.layout import (
    Family,
    Layout,
    Place,
    absent,
    activation,
    class_name,
    expect,
    linear_places,
    mlp_places,
    norm_places,
    refuse,
    single,
)
from headlens.models.open_clip_import import open_clip

open_clip()  # imports timm, also where torchvision's operators do not fit the installed torch

from timm.layers import AttentionPoolLatent, GluMlp, Mlp, PatchEmbed, SwiGLU  # noqa: E402
from timm.models import vision_transformer as timm_models  # noqa: E402
from timm.models.vitamin import GeGluMlp  # noqa: E402


def is_norm(module: Any, where: str) -> bool:
    """Whether a module is a LayerNorm; one that is neither that nor nothing is refused."""
    if isinstance(module, nn.LayerNorm):
        return True
    absent(module, where)
    return False


def trunk_of(tower: Any) -> Any:
    """timm's own tower inside open_clip's."""
    return getattr(tower, "trunk", tower)


def stem_of(tower: Any) -> tuple[dict[str, Any], nn.Module | None]:
    """Settings of what turns pixels into patches, and the module that does where it is not one convolution."""
    embed = trunk_of(tower).patch_embed
    if getattr(embed, "dynamic_img_pad", False):
        refuse("padding to whole patches (dynamic_img_pad)")
    image, grid = embed.img_size, embed.grid_size
    sizes: dict[str, Any] = {
        "image_size": tuple(image),
        "patch_size": tuple(a // b for a, b in zip(image, grid, strict=True)),
    }
    if type(embed) is PatchEmbed and type(embed.proj) is nn.Conv2d:
        absent(embed.norm, "norm of the patches")
        conv = embed.proj
        if conv.kernel_size != conv.stride or any(conv.padding) or conv.groups != 1 or set(conv.dilation) != {1}:
            refuse("a patch projection with overlaps, padding, groups or dilation")
        return sizes | {"patch_size": conv.stride, "patch_bias": conv.bias is not None}, None
    stem = copy.copy(embed)
    return sizes | {"stem": "module"}, stem


def tokens_of(tower: Any) -> dict[str, Any]:
    """Settings of the tokens in front of the patches and of their positions."""
    trunk = trunk_of(tower)
    if not class_name(getattr(trunk, "patch_drop", None)).startswith("PatchDropout"):
        absent(getattr(trunk, "patch_drop", None), "patch_drop")
    positions = "none" if trunk.pos_embed is None else "patches" if trunk.no_embed_class else "all"
    return {
        "class_token": "none" if trunk.cls_token is None else "learnt",
        "n_registers": 0 if trunk.reg_token is None else trunk.reg_token.shape[1],
        "positions": positions,
        "ln_pre": is_norm(trunk.norm_pre, "norm_pre"),
    }


def readout_of(tower: Any) -> dict[str, Any]:
    """Settings of what stands between the last residual and the embedding."""
    trunk = trunk_of(tower)
    pool, before, after = trunk.attn_pool, is_norm(trunk.norm, "norm"), is_norm(trunk.fc_norm, "fc_norm")
    if before == after:
        refuse("two final norms, or none" if before else "no final norm")
    kind = "attention" if pool is not None else {"token": "tok", "avg": "avg"}.get(trunk.global_pool)
    if kind is None:
        refuse(f"global_pool {trunk.global_pool!r}")
    include = getattr(trunk, "pool_include_prefix", False)
    if kind == "avg" and include:
        refuse("an average that includes the class token (pool_include_prefix)")
    if kind == "attention" and after:
        refuse("a norm behind its attention pool (fc_norm)")
    heads = [trunk.head, *(() if tower is trunk else tower.head)]
    heads = [module for module in heads if type(module) not in (nn.Identity, nn.Dropout)]
    if len(heads) > 1 or any(type(module) is not nn.Linear for module in heads):
        refuse(f"{' and '.join(map(class_name, heads))} as projection")
    width = trunk.embed_dim
    settings: dict[str, Any] = {
        "pool": kind,
        "ln_after_pool": after and kind == "avg",
        "project": bool(heads),
        "project_bias": bool(heads) and heads[0].bias is not None,
        "d_embed": heads[0].out_features if heads else width,
    }
    if pool is not None:
        prefix = include or type(trunk) is not timm_models.VisionTransformer
        settings["attention_pool"] = _pool_config(pool, prefix)
    return settings


def _pool_config(pool: Any, prefix: bool) -> PoolConfig:
    expect(pool, AttentionPoolLatent, "attention pool")
    if pool.pos_embed is not None or (pool.pool != "token" and pool.latent_len > 1):
        refuse("positions or several pooled queries in its attention pool")
    expect(pool.q, nn.Linear, "attn_pool.q")
    for where in ("q_norm", "k_norm"):
        absent(getattr(pool, where), f"attn_pool.{where}")
    expect(pool.proj, nn.Linear, "attn_pool.proj")
    if pool.mlp is not None:
        expect(pool.mlp, Mlp, "attn_pool.mlp")
        absent(pool.mlp.norm, "attn_pool.mlp.norm")
        if not is_norm(pool.norm, "attn_pool.norm"):
            refuse("an MLP without a norm in its attention pool")
    return PoolConfig(
        n_heads=pool.num_heads,
        d_head=pool.head_dim,
        d_query=pool.latent_dim,
        d_out=pool.proj.out_features,
        n_queries=pool.latent_len,
        prefix=prefix,
        d_mlp=0 if pool.mlp is None else pool.mlp.fc1.out_features,
        act="gelu" if pool.mlp is None else activation(pool.mlp.act),
    )


def mlp_of(mlp: Any, where: str) -> dict[str, Any]:
    """Settings of a block's MLP."""
    expect(mlp, (Mlp, GluMlp, SwiGLU, GeGluMlp), where)
    if type(mlp) is GeGluMlp:
        return {"gated": True, "mlp_ln_in": True, "mlp_ln_hidden": False, "d_mlp": mlp.w2.in_features,
                "act": activation(mlp.act)}  # fmt: skip
    if type(mlp) is GluMlp and mlp.gate_last:
        refuse(f"a gate behind the other half in {where}")
    return {
        "gated": type(mlp) is not Mlp,
        "mlp_ln_in": False,
        "mlp_ln_hidden": is_norm(mlp.norm, f"{where}.norm"),
        "d_mlp": mlp.fc2.in_features,
        "act": activation(mlp.act),
    }


def norms_of(tower: Any) -> dict[str, Any]:
    """The constant of every norm outside the stem."""
    trunk = trunk_of(tower)
    norms = {
        name: module
        for name, module in trunk.named_modules()
        if isinstance(module, nn.LayerNorm) and not name.startswith("patch_embed")
    }
    for name, module in norms.items():
        if class_name(module) not in ("LayerNorm", "LayerNormFp32"):
            refuse(f"{class_name(module)} as {name}")
    return {
        "eps": single((norm.eps for norm in norms.values()), "norm constants"),
        "norm_in_float32": single((class_name(norm) == "LayerNormFp32" for norm in norms.values()), "norms"),
    }


def attention_of(attn: Any, where: str) -> dict[str, Any]:
    """Settings of a block's attention."""
    if getattr(attn, "gate", None) is not None:
        refuse(f"gated attention at {where}")
    if getattr(attn, "num_kv_heads", attn.num_heads) != attn.num_heads:
        refuse(f"fewer keys than queries (num_kv_heads) at {where}")
    if abs(attn.scale - attn.head_dim**-0.5) > 1e-12:
        refuse(f"another attention scale at {where}")
    return {
        "n_heads": attn.num_heads,
        "d_head": attn.head_dim,
        "qk_norm": single((is_norm(attn.q_norm, where), is_norm(attn.k_norm, where)), "q/k norms"),
        "ln_z": is_norm(attn.norm, f"{where}.norm"),
    }


def layout_of(
    tower: Any, family: str, settings: Callable[[Any, str], dict[str, Any]], rope: Tensor | None = None
) -> Layout:
    """A tower that was read, from the settings of each block, in which all of them have to agree."""
    trunk = trunk_of(tower)
    blocks = [settings(block, f"blocks.{index}") for index, block in enumerate(trunk.blocks)]
    stem_settings, stem = stem_of(tower)
    cfg = VisionConfig(
        n_layers=len(blocks),
        d_model=trunk.embed_dim,
        family=family,
        **stem_settings,
        **tokens_of(tower),
        **readout_of(tower),
        **norms_of(tower),
        **{name: single((one[name] for one in blocks), f"settings {name}") for name in blocks[0]},
    )
    elsewhere = () if rope is None else ("trunk.rope.",)
    return Layout(cfg, stem=stem, rope=rope, rename=_renamer(tower, stem), elsewhere=elsewhere)


def _block(block: Any, where: str) -> dict[str, Any]:
    expect(block, timm_models.Block, where)
    expect(block.attn, timm_models.Attention, f"{where}.attn")
    scales = [block.ls1, block.ls2]
    scaled = [type(scale) is timm_models.LayerScale for scale in scales]
    for scale, there in zip(scales, scaled, strict=True):
        absent(None if there else scale, f"{where}.ls")
    return (
        attention_of(block.attn, f"{where}.attn")
        | mlp_of(block.mlp, f"{where}.mlp")
        | {"layer_scale": single(scaled, "LayerScale settings")}
    )


def _read(tower: Any) -> Layout:
    return layout_of(tower, FAMILY.name, _block)


def _renamer(tower: Any, stem: nn.Module | None) -> Callable[[str], str]:
    """The names that `places` knows, for a trunk alone and for stems that are kept whole."""
    inside = trunk_of(tower) is not tower

    def rename(name: str) -> str:
        name = name if inside else f"trunk.{name}"
        return name.replace("trunk.patch_embed.", "stem.") if stem is not None else name

    return rename


def block_places(mine: str, theirs: str) -> Iterable[Place]:
    """A block, in every layout that timm has for its attention and its MLP."""
    for k, letter in enumerate("QKV"):
        yield from linear_places(f"{mine}attn", f"{theirs}attn.qkv.", letter, "heads", (k, 3))
        yield from linear_places(f"{mine}attn", f"{theirs}attn.{letter.lower()}_proj.", letter, "heads")
        yield Place(f"{mine}attn.b_{letter}", f"{theirs}attn.{letter.lower()}_bias", "heads")
    yield from linear_places(f"{mine}attn", f"{theirs}attn.proj.", "O", "out")
    for here, there in (("ln_q", "q_norm"), ("ln_k", "k_norm"), ("ln_z", "norm")):
        yield from norm_places(f"{mine}attn.{here}", f"{theirs}attn.{there}")
    yield from norm_places(f"{mine}ln1", f"{theirs}norm1")
    yield from norm_places(f"{mine}ln2", f"{theirs}norm2")
    for here, there in (("attn", "ls1.gamma"), ("mlp", "ls2.gamma"), ("attn", "gamma_1"), ("mlp", "gamma_2")):
        yield Place(f"{mine}{here}.scale", theirs + there)


def _mlp_places(cfg: VisionConfig, mine: str, theirs: str) -> Iterable[Place]:
    if not cfg.gated:
        yield from mlp_places(mine, theirs, ("fc1", "fc2"))
        yield from norm_places(f"{mine}mlp.ln_hidden", f"{theirs}norm")
        return
    halves = {"in": (1, 2), "gate": (0, 2)}
    for letter, part in halves.items():
        yield Place(f"{mine}mlp.W_{letter}", f"{theirs}fc1.weight", "T", part)
        yield Place(f"{mine}mlp.b_{letter}", f"{theirs}fc1.bias", "same", part)
    for letter, layer in {"in": "fc1_x", "gate": "fc1_g", "out": "fc2"}.items():
        yield Place(f"{mine}mlp.W_{letter}", f"{theirs}{layer}.weight", "T")
        yield Place(f"{mine}mlp.b_{letter}", f"{theirs}{layer}.bias")
    for letter, layer in {"gate": "w0", "in": "w1", "out": "w2"}.items():
        yield Place(f"{mine}mlp.W_{letter}", f"{theirs}{layer}.weight", "T")
        yield Place(f"{mine}mlp.b_{letter}", f"{theirs}{layer}.bias")
    yield from norm_places(f"{mine}mlp.{'ln_in' if cfg.mlp_ln_in else 'ln_hidden'}", f"{theirs}norm")


def places(cfg: VisionConfig) -> Iterable[Place]:
    """Where timm keeps the weights of its transformers."""
    yield Place("W_E", "trunk.patch_embed.proj.weight")
    yield Place("b_E", "trunk.patch_embed.proj.bias")
    yield Place("class_token", "trunk.cls_token", "token")
    yield Place("registers", "trunk.reg_token", "row")
    yield Place("W_pos", "trunk.pos_embed", "row")
    yield from norm_places("ln_pre", "trunk.norm_pre")
    yield from norm_places("ln_final", "trunk.norm")
    yield from norm_places("ln_final", "trunk.fc_norm")
    for layer in range(cfg.n_layers):
        mine, theirs = f"blocks.{layer}.", f"trunk.blocks.{layer}."
        yield from block_places(mine, theirs)
        yield from _mlp_places(cfg, mine, f"{theirs}mlp.")
    pool = "trunk.attn_pool."
    yield Place("pool.query", f"{pool}latent", "row")
    yield from linear_places("pool.attn", f"{pool}q.", "Q", "heads")
    for k, letter in enumerate("KV"):
        yield from linear_places("pool.attn", f"{pool}kv.", letter, "heads", (k, 2))
    yield from linear_places("pool.attn", f"{pool}proj.", "O", "out")
    yield from mlp_places("pool.", f"{pool}mlp.", ("fc1", "fc2"), norm=f"{pool}norm")
    for head in ("trunk.head.", "head.proj."):
        yield Place("W_P", f"{head}weight", "T")
        yield Place("b_P", f"{head}bias")


FAMILY = Family(
    name="timm_vit",
    title="timm's VisionTransformer (SigLIP, SigLIP 2, MobileCLIP-B and -L, ViTamin, DINOv2)",
    recognises=lambda tower: type(trunk_of(tower)) is timm_models.VisionTransformer,
    read=_read,
    places=places,
    stem="trunk.patch_embed.",
)
