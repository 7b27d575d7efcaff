"""transformers' CLIP, SigLIP and SigLIP 2, as vision models or inside the whole model.

SigLIP 2 with a flexible resolution (`Siglip2Model`) takes patches of any grid; here it takes images of its own square
grid, at which its position embeddings are used as they were trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from headlens.models.config import PoolConfig, VisionConfig
from headlens.models.families.layout import (
    Family,
    Layout,
    Place,
    activation,
    class_name,
    linear_places,
    mlp_places,
    norm_places,
    refuse,
    single,
)

_KINDS = ("CLIP", "Siglip", "Siglip2")
_CLASSES = {f"{kind}{rest}" for kind in _KINDS for rest in ("Model", "VisionModel", "VisionTransformer")} | {
    "CLIPVisionModelWithProjection"
}


def vision_of(model: Any) -> Any:
    """The part of a model that holds the vision tower's embeddings and blocks."""
    while hasattr(model, "vision_model"):
        model = model.vision_model
    return model


def _recognises(model: Any) -> bool:
    return class_name(model) in _CLASSES and type(model).__module__.startswith("transformers.")


def _kind(model: Any) -> str:
    return max((kind for kind in _KINDS if class_name(model).startswith(kind)), key=len)


def _read(model: Any) -> Layout:
    vision, clip = vision_of(model), _kind(model) == "CLIP"
    config, blocks = vision.config, list(vision.encoder.layers)
    projection = getattr(model, "visual_projection", None)
    width, heads, patch = config.hidden_size, config.num_attention_heads, config.patch_size
    flexible = isinstance(vision.embeddings.patch_embedding, nn.Linear)
    side = round(config.num_patches**0.5) * patch if flexible else config.image_size
    norms = [module for module in vision.modules() if isinstance(module, nn.LayerNorm)]
    settings: dict[str, Any] = {"pool": "tok", "project": projection is not None}
    if not clip:
        if not getattr(vision, "use_head", True):
            refuse("no pooling head (vision_use_head=False)", "Load the model with its head.")
        pool = PoolConfig(
            n_heads=vision.head.attention.num_heads,
            d_head=width // vision.head.attention.num_heads,
            d_query=width,
            d_out=width,
            d_mlp=config.intermediate_size,
            act=activation(vision.head.mlp.activation_fn),
        )
        settings = {
            "pool": "attention",
            "attention_pool": pool,
            "project": False,
            "class_token": "none",
            "ln_pre": False,
        }
    cfg = VisionConfig(
        n_layers=len(blocks),
        n_heads=heads,
        d_model=width,
        d_head=width // heads,
        d_mlp=config.intermediate_size,
        d_embed=width if projection is None else projection.out_features,
        image_size=(side, side) if isinstance(side, int) else tuple(side),
        patch_size=(patch, patch),
        act=single((activation(block.mlp.activation_fn) for block in blocks), "nonlinearities"),
        eps=single((norm.eps for norm in norms), "norm constants"),
        family=FAMILY.name,
        patch_bias=vision.embeddings.patch_embedding.bias is not None,
        **settings,
    )
    return Layout(
        cfg,
        rename=lambda name: name.removeprefix("vision_model.").removeprefix("vision_model."),
        elsewhere=("text_model.", "text_projection.", "logit_", "embeddings.position_ids"),
    )


def _places(cfg: VisionConfig) -> Iterable[Place]:
    e = "embeddings."
    yield Place("W_E", f"{e}patch_embedding.weight", "patch")
    yield Place("b_E", f"{e}patch_embedding.bias")
    yield Place("class_token", f"{e}class_embedding")
    yield Place("W_pos", f"{e}position_embedding.weight")
    yield from norm_places("ln_pre", "pre_layrnorm")
    yield from norm_places("ln_final", "post_layernorm")
    yield Place("W_P", "visual_projection.weight", "T")
    for layer in range(cfg.n_layers):
        mine, theirs = f"blocks.{layer}.", f"encoder.layers.{layer}."
        for letter in "QKV":
            yield from linear_places(f"{mine}attn", f"{theirs}self_attn.{letter.lower()}_proj.", letter, "heads")
        yield from linear_places(f"{mine}attn", f"{theirs}self_attn.out_proj.", "O", "out")
        yield from norm_places(f"{mine}ln1", f"{theirs}layer_norm1")
        yield from mlp_places(mine, f"{theirs}mlp.", ("fc1", "fc2"), norm=f"{theirs}layer_norm2")
    yield Place("pool.query", "head.probe", "row")
    for k, letter in enumerate("QKV"):
        yield from linear_places("pool.attn", "head.attention.in_proj_", letter, "heads", (k, 3))
    yield from linear_places("pool.attn", "head.attention.out_proj.", "O", "out")
    yield from mlp_places("pool.", "head.mlp.", ("fc1", "fc2"), norm="head.layernorm")


def _run(model: Any, images: Tensor) -> Tensor:
    if _kind(model) == "Siglip2":
        patch = vision_of(model).config.patch_size
        rows, columns = (side // patch for side in images.shape[2:])
        patches = rearrange(images, "i c (row a) (column b) -> i (row column) (a b c)", a=patch, b=patch)
        output = vision_of(model)(
            pixel_values=patches,
            pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=images.device),
            spatial_shapes=torch.tensor([[rows, columns]] * len(images), device=images.device),
        )
    elif hasattr(model, "get_image_features"):
        output = model.get_image_features(pixel_values=images)
    else:
        output = model(pixel_values=images)
    if isinstance(output, Tensor):
        return output
    embeds = getattr(output, "image_embeds", None)
    return output.pooler_output if embeds is None else embeds


FAMILY = Family(
    name="transformers",
    title="transformers' CLIP, SigLIP and SigLIP 2",
    recognises=_recognises,
    read=_read,
    places=_places,
    run=_run,
)
