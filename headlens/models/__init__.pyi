from .checkpoints import tensors_of
from .clip import HookedCLIP
from .config import VisionConfig
from .corrected import CorrectedCLIP
from .description import LoadOptions, ModelDescription, Preprocessing
from .families.open_clip_vit import rebuild_open_clip, to_open_clip
from .parity_report import ParityReport, parity
from .vision_transformer import HookedVisionTransformer

__all__ = [
    "CorrectedCLIP",
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
