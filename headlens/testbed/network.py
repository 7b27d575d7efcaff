"""The testbed's network: an `open_clip.CLIP` small enough to train on two cores, and its preprocessing."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from headlens.models.open_clip_import import open_clip
from headlens.testbed.captions import vocabulary
from headlens.testbed.render import SIDE
from headlens.testbed.tokenizer import WordTokenizer

N_LAYERS, N_HEADS, D_HEAD, D_EMBED = 4, 8, 16, 64
PATCH = 8
_CONTEXT = 20
_MEAN, _STD = 0.45, 0.25


def tokenizer() -> WordTokenizer:
    """The tokenizer of every testbed model."""
    return WordTokenizer(vocabulary(), _CONTEXT)


def build() -> nn.Module:
    """An untrained model, from torch's global seed."""
    vision = {
        "layers": N_LAYERS, "width": N_HEADS * D_HEAD, "head_width": D_HEAD, "patch_size": PATCH, "image_size": SIDE,
        "mlp_ratio": 2.0,
    }  # fmt: skip
    text = {
        "context_length": _CONTEXT, "vocab_size": tokenizer().vocab_size, "width": 96, "heads": 4, "layers": 2,
        "mlp_ratio": 2.0,
    }  # fmt: skip
    return open_clip().CLIP(D_EMBED, vision, text)


def preprocess(image: Image.Image) -> Float[Tensor, "channel height width"]:
    """A picture of any size as the network's pixels: RGB, resized, centred."""
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return normalise(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def normalise(pixels: UInt8[Tensor, "*batch channel height width"]) -> Float[Tensor, "*batch channel height width"]:
    """(pixels / 255 − 0.45) / 0.25, the same for every channel."""
    return (pixels.to(torch.float32) / 255 - _MEAN) / _STD
