"""The hooked tower, its conversions, and how models are loaded and checked."""

from headlens.models.clip import HookedCLIP
from headlens.models.config import VisionConfig
from headlens.models.load import load
from headlens.models.open_clip_weights import rebuild_open_clip, to_open_clip
from headlens.models.parity import ParityReport, parity
from headlens.models.vision_transformer import HookedVisionTransformer

__all__ = [
    "HookedCLIP",
    "HookedVisionTransformer",
    "ParityReport",
    "VisionConfig",
    "load",
    "parity",
    "rebuild_open_clip",
    "to_open_clip",
]
