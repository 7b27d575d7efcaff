"""Write docs/models.md: every architecture of open_clip, its tags, and the classes of transformers.

    python docs/make_models.py
    python docs/make_models.py --full    # the table of full-size towers alone, which takes minutes and 12 GB of memory

Each tower is built by its own library with its own settings, shrunk (two layers, a narrow residual stream, few heads, a
small image) so that all of them fit on a small machine, and filled with random numbers, also where weights start at
zero or one. It is converted and compared with its original in float32 and float64, and its decomposition with its
embedding. The towers of `FULL` are measured as they are, one of each family.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import headlens as hl
from headlens.errors import ModelError
from headlens.models.families.conversion import original_output
from headlens.models.open_clip_import import open_clip
from headlens.models.open_clip_load import check_model_config

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import filled, hugging

PAGE = Path(__file__).with_name("models.md")
# What shrinks a tower of timm, by how its name begins; the first that fits counts.
SHRUNK: dict[str, dict[str, Any]] = {
    "vit_base_mci": {"depth": 2, "img_size": 64},
    "vitamin": {"depth": 2, "img_size": 64},
    "vit_pe_core_tiny": {"depth": 2, "img_size": 64, "embed_dim": 48, "num_heads": 3, "attn_pool_num_heads": 2},
    "": {"depth": 2, "embed_dim": 48, "num_heads": 4},
}
# One tower of a family as open_clip and timm build it, without anything shrunk.
FULL = (
    *("ViT-B-16", "RN50", "coca_ViT-B-32", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "EVA01-g-14"),
    *(
        "EVA02-B-16",
        "PE-Core-B-16",
        "MobileCLIP-B",
        "ViTamin-S",
        "vit_base_patch14_dinov2.lvd142m",
        "vit_base_patch16_dinov3",
    ),
    *("CLIPVisionModelWithProjection", "SiglipVisionModel", "Siglip2VisionModel"),
)
TITLES = {
    "SigLIP2": "SigLIP 2",
    "SigLIP": "SigLIP",
    "siglip": "SigLIP",
    "EVA01": "EVA-01",
    "EVA02": "EVA-02",
    "PE-Core": "Perception Encoder",
    "MobileCLIP": "MobileCLIP",
    "ViTamin": "ViTamin",
    "RN": "ResNet, by its pool's heads",
    "coca": "CoCa",
}


def shrunk(config: dict[str, Any]) -> nn.Module:
    """The tower of a configuration of open_clip with its own settings, small."""
    vision = dict(config["vision_cfg"])
    build = open_clip().model._build_vision_tower
    name = vision.get("timm_model_name")
    if name is not None:
        return _shrunk_timm(name, vision)
    if isinstance(vision["layers"], list):
        small = vision | {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}
    else:
        heads, patch = vision["width"] // vision.get("head_width", 64), vision["patch_size"]
        size = 3 * patch + vision["image_size"] % patch  # pixels that do not fill a patch stay, if there are any
        small = vision | {"layers": 2, "head_width": 2, "width": 2 * heads, "image_size": size, "attn_pooler_heads": 1}
    return build(13, small, config.get("quick_gelu", False))


def _shrunk_timm(name: str, vision: dict[str, Any]) -> nn.Module:
    module = open_clip().timm_model.timm
    settings = next(dict(settings) for start, settings in SHRUNK.items() if name.startswith(start))
    patch = 14 if "patch14" in name else 32 if "patch32" in name else 16
    settings.setdefault("img_size", 3 * patch)
    inner = module.create_model
    try:
        module.create_model = lambda kind, **options: inner(kind, **{**options, **settings})
        return open_clip().timm_model.TimmModel(
            name,
            embed_dim=13,
            image_size=settings["img_size"],
            pool=vision.get("timm_pool", "avg"),
            proj=vision.get("timm_proj", "linear"),
            proj_bias=vision.get("timm_proj_bias", False),
        )
    finally:
        module.create_model = inner


@torch.no_grad()
def measured(original: nn.Module, images: int = 2) -> tuple[hl.HookedVisionTransformer, float, float, float]:
    """The hooked tower, its relative distance to the original in float32 and float64, and the residue in float64."""
    numbers = []
    vision = None
    for dtype in (torch.float32, torch.float64):
        del vision  # with the narrower numbers that it shares with the original
        original = original.to(dtype)
        vision = hl.HookedVisionTransformer.from_open_clip(original, copy=False)
        shape = (images, 3, *vision.cfg.image_size)
        pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        expected, got = original_output(original, pixels), vision(pixels)
        scale = expected.norm(dim=-1).max()
        numbers.append(float((got - expected).norm(dim=-1).max() / scale))
    residue = 0.0
    for constants in ("separate", "spread"):
        for per_token in (False, True):
            total = hl.decompose(vision, pixels, per_token, constants).total()
            residue = max(residue, float((total - got).norm(dim=-1).max() / scale))
    return vision, *numbers, residue


def title(name: str, family: str) -> str:
    """What people call the towers of an architecture."""
    found = next((spoken for start, spoken in TITLES.items() if start in name), None)
    return found or ("CLIP" if family == "open_clip" else "timm's ViT")


def rows_of_open_clip() -> Iterator[tuple[str, int, bool]]:
    """A line of the table for every architecture, with its number of tags and whether it is accepted."""
    for name in sorted(open_clip().list_models(), key=str.lower):
        config, tags = open_clip().get_model_config(name), open_clip().list_pretrained_tags_by_model(name)
        try:
            check_model_config(config, name)
            vision, single, double, residue = measured(filled(shrunk(config)))
        except ModelError as error:
            why = error.problem.partition(", and ")[2] or error.problem
            kind = config["vision_cfg"].get("timm_model_name", "")
            yield f"| {name} | {len(tags)} | {kind} | refused: {why.rstrip('.')} | | | |", len(tags), False
            continue
        assert max(double, residue) <= 1e-12 and single <= 1e-5, (name, single, double, residue)
        told = title(name, vision.cfg.family)
        yield (
            f"| {name} | {len(tags)} | {told} | accepted | {single:.0e} | {double:.0e} | {residue:.0e} |",
            len(tags),
            True,
        )


def whole(name: str) -> nn.Module:
    """A full-size tower, by its architecture in open_clip, its name in timm, or its class in transformers."""
    if hasattr(transformers, name):
        kind = getattr(transformers, name)
        return kind(kind.config_class())
    if name in open_clip().list_models():
        config = open_clip().get_model_config(name)
        vision = config["vision_cfg"]
        return open_clip().model._build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    return open_clip().timm_model.timm.create_model(name, pretrained=False, num_classes=0)


def rows_of_full_size() -> Iterator[str]:
    """A line for every tower of `FULL`; each is let go before the next is built."""
    for name in FULL:
        vision, single, double, residue = measured(filled(whole(name)), images=1)
        assert max(double, residue) <= 1e-12 and single <= 1e-4, (name, single, double, residue)
        numbers = sum(one.numel() for one in vision.parameters()) / 1e6
        shape = f"{vision.cfg.n_layers} × {vision.cfg.n_heads}"
        yield f"| {name} | {numbers:.0f} | {shape} | {single:.0e} | {double:.0e} | {residue:.0e} |"


def rows_of_transformers() -> Iterator[str]:
    """A line for every class."""
    for kind, with_text in ((kind, text) for kind in ("CLIP", "Siglip", "Siglip2") for text in (True, False)):
        original = filled(hugging(kind, with_text))
        _, single, double, residue = measured(original)
        assert max(double, residue) <= 1e-12 and single <= 1e-5, kind
        yield f"| {type(original).__name__} | accepted | {single:.0e} | {double:.0e} | {residue:.0e} |"


def between(text: str, mark: str, lines: list[str]) -> str:
    """A page with the lines between `mark` and the next end mark replaced."""
    start, _, rest = text.partition(mark)
    return start + mark + "\n" + "\n".join(lines) + "\n<!-- end -->" + (rest.partition("<!-- end -->")[2] or "\n")


def full_size(text: str) -> str:
    """The page with its table of full-size towers measured anew."""
    head = ["| tower | million numbers | layers × heads | float32 | float64 | residue |"]
    return between(text, "<!-- full size -->", [*head, "| --- | --- | --- | --- | --- | --- |", *rows_of_full_size()])


def page(text: str) -> str:
    """The page with its tables of shrunk towers measured anew."""
    found = list(rows_of_open_clip())
    tags, accepted = sum(n for _, n, _ in found), sum(n for _, n, good in found if good)
    table = [
        f"{accepted} of {tags} (architecture, tag) pairs of open_clip {open_clip().__version__} are accepted, "
        f"and {sum(good for *_, good in found)} of its {len(found)} architectures.",
        "",
        "| architecture | tags | family | | float32 | float64 | residue |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(line for line, *_ in found),
        "",
        "| class of transformers | | float32 | float64 | residue |",
        "| --- | --- | --- | --- | --- |",
        *rows_of_transformers(),
    ]
    return between(text, "<!-- table -->", table)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about what they build
        write = full_size if "--full" in sys.argv else page
        PAGE.write_text(write(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
