"""A shrunk random tower of every family, as its own library builds it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from tower_factory import random_tower

from headlens.models.open_clip_import import open_clip

open_clip()  # first: it lets timm and transformers in, also beside a torchvision that was built for another torch
import timm  # noqa: E402
import transformers  # noqa: E402

WIDTH, HEADS, SIDE, PATCH = 24, 3, 32, 8


def filled(module: nn.Module, seed: int = 1) -> nn.Module:
    """Random numbers in every weight and buffer that learns, also those that start at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            last = name.rpartition(".")[2]
            spread = 0.3 if tensor.ndim < 2 else 0.8 / tensor[0].numel() ** 0.5
            centre = 1.0 if tensor.ndim == 1 and (last == "weight" or "gamma" in last) else 0.0
            tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=generator))
        for name, tensor in module.named_buffers():
            if "running_mean" in name:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            if "running_var" in name:
                tensor.copy_(1 + 0.3 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


def timm_tower(name: str, pool: str, proj: str, embed: int = 11, side: int = SIDE, **settings: Any) -> nn.Module:
    """open_clip's wrapper around a shrunk tower of timm."""
    shrunk = {"depth": 2, "embed_dim": WIDTH, "num_heads": HEADS, "img_size": side, **settings}
    inner, module = timm.create_model, open_clip().timm_model.timm
    try:
        module.create_model = lambda n, **k: inner(n, **{**k, **shrunk})
        return open_clip().timm_model.TimmModel(name, embed_dim=embed, image_size=side, pool=pool, proj=proj)
    finally:
        module.create_model = inner


def vitamin() -> nn.Module:
    """A shrunk ViTamin: its convolutional stages, then blocks with gated MLPs."""
    from timm.models.vitamin import GeGluMlp, VitCfg, _create_vitamin

    trunk = _create_vitamin(
        "vitamin_small_224", embed_cfg=VitCfg(embed_dim=(8, 16, WIDTH), depths=(1, 1, 2), stem_width=8),
        embed_dim=WIDTH, num_heads=HEADS, depth=2, mlp_layer=GeGluMlp, mlp_ratio=2.0, class_token=False,
        global_pool="avg", img_size=64,
    )  # fmt: skip
    inner, module = timm.create_model, open_clip().timm_model.timm
    try:
        module.create_model = lambda *_, **__: trunk
        return open_clip().timm_model.TimmModel("vitamin", embed_dim=11, image_size=64, pool="", proj="linear")
    finally:
        module.create_model = inner


def hugging(kind: str, with_text: bool = False, **settings: Any) -> nn.Module:
    """A shrunk model of transformers."""
    vision = {
        **{"hidden_size": WIDTH, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": HEADS},
        **{"patch_size": PATCH, "projection_dim": 11},
        **({"num_patches": 16} if kind == "Siglip2" else {"image_size": SIDE}),
        **settings,
    }
    if not with_text:
        config = getattr(transformers, f"{kind}VisionConfig")(**vision)
        suffix = "VisionModelWithProjection" if kind == "CLIP" else "VisionModel"
        return getattr(transformers, kind + suffix)(config)
    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 99,
        "eos_token_id": 98,
        "max_position_embeddings": 9,
    }
    if kind != "CLIP":
        text["projection_size"] = WIDTH
    both = {"vision_config": vision, "text_config": text} | ({"projection_dim": 11} if kind == "CLIP" else {})
    return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**both))


def resnet() -> nn.Module:
    return open_clip().modified_resnet.ModifiedResNet([1, 1, 1, 1], 11, 4, image_size=64, width=8)


def coca() -> nn.Module:
    return random_tower(
        3, layers=2, attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=1, embed=11, output_tokens=True
    )


RELEASED: dict[str, Callable[[], nn.Module]] = {
    "CLIP": partial(random_tower, 3, layers=2),
    "CLIP, average": partial(random_tower, 3, layers=2, pool_type="avg"),
    "CoCa": coca,
    "SigLIP": partial(timm_tower, "vit_base_patch16_siglip_224", "map", "none", patch_size=PATCH),
    "SigLIP, projected": partial(timm_tower, "vit_base_patch16_siglip_224", "map", "linear", patch_size=PATCH),
    "SigLIP 2": partial(timm_tower, "vit_so400m_patch14_siglip_378", "map", "none", patch_size=PATCH, mlp_ratio=1.5),
    "EVA-01": partial(timm_tower, "eva_giant_patch14_224", "token", "", patch_size=PATCH),
    "EVA-02": partial(timm_tower, "eva02_base_patch16_clip_224", "token", "", patch_size=PATCH),
    "EVA-02 E": partial(timm_tower, "eva02_enormous_patch14_clip_224", "token", "", patch_size=PATCH),
    "Perception Encoder": partial(
        timm_tower, "vit_pe_core_base_patch16_224", "map", "", patch_size=PATCH, attn_pool_num_heads=2
    ),
    "Perception Encoder L": partial(timm_tower, "vit_pe_core_large_patch14_336", "map", "", patch_size=PATCH),
    "MobileCLIP-B": partial(timm_tower, "vit_base_mci_224", "token", "", embed_dim=768, num_heads=12, depth=1),
    "MobileCLIP2-L-14": partial(timm_tower, "vit_large_patch14_clip_224", "token", "", patch_size=PATCH),
    "ViTamin": vitamin,
    "timm ViT": partial(timm_tower, "vit_medium_patch16_gap_256", "", "linear", patch_size=PATCH),
    "DINOv2": partial(timm_tower, "vit_small_patch14_dinov2", "token", "none", patch_size=PATCH),
    "DINOv2, registers": partial(timm_tower, "vit_base_patch14_reg4_dinov2", "token", "linear", patch_size=PATCH),
    "DINOv2 giant": partial(timm_tower, "vit_giant_patch14_dinov2", "token", "none", patch_size=PATCH),
    "DINOv3": partial(timm_tower, "vit_small_patch16_dinov3", "avg", "none", patch_size=PATCH),
    "q/k norms": partial(timm_tower, "vit_base_patch16_224", "token", "linear", patch_size=PATCH, qk_norm=True),
    "ResNet": resnet,
    "transformers CLIP": partial(hugging, "CLIP"),
    "transformers CLIPModel": partial(hugging, "CLIP", True),
    "transformers SigLIP": partial(hugging, "Siglip"),
    "transformers SiglipModel": partial(hugging, "Siglip", True),
    "transformers SigLIP 2": partial(hugging, "Siglip2"),
    "transformers Siglip2Model": partial(hugging, "Siglip2", True),
}


def tower(name: str) -> nn.Module:
    """The random tower of a family."""
    return filled(RELEASED[name]())
