"""The testbed's network: an `open_clip.CLIP` small enough to train on two cores, and its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from headlens.models.description import Preprocessing
from headlens.models.open_clip_import import open_clip
from headlens.testbed.render import SIDE
from headlens.testbed.tokenizer import WordTokenizer
from headlens.testbed.worlds import joint_vocabulary

PATCH = 8
_MEAN, _STD = 0.45, 0.25
PREPROCESSING = Preprocessing((SIDE, SIDE), (_MEAN,) * 3, (_STD,) * 3, "squash", "bicubic")


@dataclass(frozen=True)
class Size:
    """The size of a model: of the vision tower, of the joint space, of the text tower (`context` in tokens)."""

    n_layers: int = 4
    n_heads: int = 8
    d_head: int = 16
    d_embed: int = 64
    text_width: int = 96
    context: int = 20


def tokenizer(worlds: tuple[str, ...] = ("birds",), size: Size | None = None) -> WordTokenizer:
    """The tokenizer of a model that is trained on these worlds."""
    return WordTokenizer(joint_vocabulary(worlds), (size or Size()).context)


def config(worlds: tuple[str, ...] = ("birds",), size: Size | None = None) -> dict[str, Any]:
    """The architecture as open_clip's `model_cfg`."""
    size = size or Size()
    vision = {
        "layers": size.n_layers, "width": size.n_heads * size.d_head, "head_width": size.d_head, "patch_size": PATCH,
        "image_size": SIDE, "mlp_ratio": 2.0,
    }  # fmt: skip
    text = {
        "context_length": size.context, "vocab_size": tokenizer(worlds, size).vocab_size, "width": size.text_width,
        "heads": 4, "layers": 2, "mlp_ratio": 2.0,
    }  # fmt: skip
    return {"embed_dim": size.d_embed, "vision_cfg": vision, "text_cfg": text}


def build(worlds: tuple[str, ...] = ("birds",), size: Size | None = None) -> nn.Module:
    """An untrained model, from torch's global seed."""
    return open_clip().CLIP(**config(worlds, size))


def preprocess(image: Image.Image) -> Float[Tensor, "channel height width"]:
    """A picture of any size as the network's pixels: RGB, resized, centred."""
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return normalise(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def normalise(pixels: UInt8[Tensor, "*batch channel height width"]) -> Float[Tensor, "*batch channel height width"]:
    """(pixels / 255 − 0.45) / 0.25, the same for every channel."""
    return (pixels.to(torch.float32) / 255 - _MEAN) / _STD
