"""timm, imported the way that open_clip needs: see `headlens.models.open_clip_import`."""

from headlens.models.open_clip_import import open_clip

open_clip()  # imports timm, also where torchvision's operators do not fit the installed torch

import timm  # noqa: E402
from timm.layers import AttentionPoolLatent, AttentionRope, GluMlp, Mlp, PatchEmbed, SwiGLU  # noqa: E402
from timm.models import eva, vision_transformer  # noqa: E402
from timm.models.vitamin import GeGluMlp  # noqa: E402

__all__ = [
    "AttentionPoolLatent",
    "AttentionRope",
    "GeGluMlp",
    "GluMlp",
    "Mlp",
    "PatchEmbed",
    "SwiGLU",
    "eva",
    "timm",
    "vision_transformer",
]
