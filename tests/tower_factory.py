"""Small random towers of open_clip, for the tests of models and decomposition."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from headlens.models.open_clip_import import open_clip


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Give every weight a random value, also those that start at zero or one and would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            spread = 0.3 if tensor.ndim < 2 else 0.8 / tensor[0].numel() ** 0.5
            centre = 1.0 if ("ln_" in name and name.endswith("weight")) or name.endswith("gamma") else 0.0
            tensor.copy_(centre + spread * torch.randn(tensor.shape, generator=generator))
    return module.eval()


def random_tower(
    seed: int = 0,
    *,
    layers: int = 3,
    heads: int = 5,
    d_head: int = 7,
    embed: int = 11,
    patch: tuple[int, int] = (3, 2),
    grid: tuple[int, int] = (2, 3),
    quick_gelu: bool = False,
    eps: float = 1e-5,
    **settings: Any,
) -> nn.Module:
    """open_clip's own tower, every size a prime and no two axes alike."""
    transformer = open_clip().transformer
    tower = transformer.VisionTransformer(
        image_size=(patch[0] * grid[0], patch[1] * grid[1]),
        patch_size=patch,
        width=heads * d_head,
        layers=layers,
        heads=heads,
        mlp_ratio=settings.pop("mlp_ratio", 1.5),
        output_dim=embed,
        act_layer=settings.pop("act_layer", transformer.QuickGELU if quick_gelu else nn.GELU),
        norm_layer=settings.pop("norm_layer", partial(transformer.LayerNorm, eps=eps)),
        **settings,
    )
    return randomize(tower, seed)


def random_images(tower: nn.Module, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Noise of the size that a tower takes."""
    return torch.randn(count, 3, *tower.image_size, generator=torch.Generator().manual_seed(seed))
