"""Does the hooked tower compute what the original does, and do its parts add up?

A difference is judged in two precisions: what is rounding shrinks by some 1e8 from float32 to float64, what is a
mistake stays.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.clip import HookedCLIP
from headlens.models.families.conversion import original_output, to_original
from headlens.models.families.open_clip_vit import build_visual, rebuild_open_clip
from headlens.models.vision_transformer import HookedVisionTransformer

LIMITS = {"float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True)
class ParityReport:
    """How far a hooked tower is from its original, and its decomposition from its own output.

    Each table maps "float32" and "float64" to a number. Relative ones are in units of the largest embedding's norm.

    Attributes:
        name: the model.
        absolute: largest absolute difference of any coordinate of any embedding to the original's.
        relative: largest distance to the original's embedding.
        residue: largest distance between the sum of the decomposition's parts and the embedding, relative.
        images: how many images were compared.
    """

    name: str
    absolute: dict[str, float]
    relative: dict[str, float]
    residue: dict[str, float]
    images: int

    @property
    def passed(self) -> bool:
        """Whether every relative number is within 1e-5 in float32 and 1e-12 in float64."""
        return all(table[p] <= LIMITS[p] for table in (self.relative, self.residue) for p in LIMITS)

    def table(self) -> pd.DataFrame:
        """One row a precision: the three numbers, the limit, and whether it is kept."""
        rows = [
            {
                "precision": p,
                "absolute": self.absolute[p],
                "relative": self.relative[p],
                "residue": self.residue[p],
                "limit": limit,
                "passed": max(self.relative[p], self.residue[p]) <= limit,
            }
            for p, limit in LIMITS.items()
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, float_format="{:.1e}".format)


@torch.no_grad()
def parity(
    model: HookedCLIP | HookedVisionTransformer,
    original: nn.Module | None = None,
    images: Float[Tensor, "image 3 height width"] | None = None,
) -> ParityReport:
    """Compare a hooked tower with its library's own, in float32 and float64, on one set of images.

    Args:
        model: the hooked tower, or the model that holds it. It is left as it is; copies are compared.
        original: the library's tower. Without it one is built and given this tower's weights, which checks the
            computation, and the conversion only as far as it is invertible.
        images: preprocessed pixels; two images of seeded noise without it.

    Raises:
        ModelError: for images of another size, and without an `original` for a tower of timm or transformers that came
            as an object.
    """
    from headlens.states.decomposition import decompose

    vision = model.vision if isinstance(model, HookedCLIP) else model
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 3, *vision.cfg.image_size, generator=generator)
    absolute, relative, residue = {}, {}, {}
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        mine = copy.deepcopy(vision).to(dtype)
        theirs = _rebuilt(model) if original is None else copy.deepcopy(original)
        theirs = theirs.to(vision.device, dtype).eval()
        if vision.cfg.rope is not None:  # a table of rotations that is widened is another than one made in float64
            mine = HookedVisionTransformer.from_open_clip(theirs, copy=False)
        pixels = images.to(vision.device, dtype)
        got = mine(pixels)
        expected = original_output(theirs, pixels)
        scale = expected.norm(dim=-1).max()
        absolute[precision] = float((got - expected).abs().max())
        relative[precision] = float((got - expected).norm(dim=-1).max() / scale)
        residue[precision] = float((decompose(mine, pixels).total() - got).norm(dim=-1).max() / scale)
    name = model.name if isinstance(model, HookedCLIP) else "vision tower"
    return ParityReport(name, absolute, relative, residue, len(images))


def _rebuilt(model: HookedCLIP | HookedVisionTransformer) -> nn.Module:
    """The library's own tower with this tower's settings and a copy of its weights."""
    vision = model.vision if isinstance(model, HookedCLIP) else model
    config = model.open_clip_config if isinstance(model, HookedCLIP) else None
    if vision.cfg.family == "open_clip":
        return rebuild_open_clip(vision)
    if config is None:
        raise ModelError(
            f"The vision tower is of the family {vision.cfg.family}: its settings alone do not say how to build it.",
            "Pass the tower that it was converted from: parity(vision, original=model).",
        )
    visual = build_visual(config)
    visual.load_state_dict(to_original(vision, visual.state_dict()), strict=False)
    return visual.eval()
