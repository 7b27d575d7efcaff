"""The hooked tower, its conversions, and how models are read, described, saved and checked."""

from headlens.models.clip import HookedCLIP
from headlens.models.config import VisionConfig
from headlens.models.description import LoadOptions, ModelDescription, Preprocessing
from headlens.models.open_clip_weights import rebuild_open_clip, to_open_clip
from headlens.models.parity import ParityReport, parity
from headlens.models.state_dicts import tensors_of
from headlens.models.vision_transformer import HookedVisionTransformer

__all__ = [
    "HookedCLIP",
    "HookedVisionTransformer",
    "LoadOptions",
    "ModelDescription",
    "ParityReport",
    "Preprocessing",
    "VisionConfig",
    "parity",
    "rebuild_open_clip",
    "tensors_of",
    "to_open_clip",
]
