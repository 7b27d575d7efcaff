"""From an original of any family to the hooked tower, and back."""

from __future__ import annotations

import copy as copying
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.altered import unaltered
from headlens.models.families import huggingface, open_clip_vit, resnet, timm_eva, timm_vit
from headlens.models.families.layout import Family, Layout, class_name, refusal, to_hooked, to_theirs
from headlens.models.tower import Tower
from headlens.registry import Registry

T = TypeVar("T", bound=Tower)

#: Every adapter.
FAMILIES: Registry[Family] = Registry(
    "family of vision towers",
    {
        one.name: one
        for one in (open_clip_vit.FAMILY, timm_vit.FAMILY, timm_eva.FAMILY, resnet.FAMILY, huggingface.FAMILY)
    },
)

_NORM = re.compile(r"(?:^|\.)ln_?\w*\.[wb]$")
_CAST = {"class_token", "registers", "W_pos", "rope"}
_LIMITS = {torch.float64: 1e-9, torch.float32: 1e-3}


def family_of(tower: Any) -> Family | None:
    """The adapter that recognises a tower, if any does."""
    return next((family for family in FAMILIES.values() if family.recognises(tower)), None)


def convert(kind: type[T], tower: nn.Module, copy: bool = True) -> T:
    """A hooked tower with the weights of an original of any family, in evaluation mode.

    Args:
        kind: the class to build.
        tower: open_clip's `visual` or a tower of timm or transformers.
        copy: own the weights; without it they share the original's memory.

    Raises:
        ModelError: for a family or a setting that is not understood, weights that are not finite, and a tower that
            computes something else than its conversion does, each by name.
    """
    tower = unaltered(tower)
    family = family_of(tower)
    if family is None:
        name = class_name(getattr(tower, "trunk", tower))
        why = refusal(name)
        raise ModelError(
            f"The vision tower is a {name}, which " + ("no adapter reads." if why is None else f"has no heads: {why}."),
            "docs/models.md lists the families that are understood.",
        )
    layout = family.read(tower)
    table = {layout.rename(name): tensor.detach() for name, tensor in tower.state_dict().items()}
    table = {name: tensor for name, tensor in table.items() if not name.startswith(layout.elsewhere or ("\0",))}
    open_clip_vit.check_finite(table, "visual.")
    if copy:
        table = {name: tensor.clone() for name, tensor in table.items()}
    hooked = _build(kind, family, layout, table, copying.deepcopy(layout.stem) if copy else layout.stem)
    if family is not open_clip_vit.FAMILY:  # which is compared with a new one of its settings, module by module
        _check_same(tower, family, hooked)
    return hooked.eval()


def _build(kind: type[T], family: Family, layout: Layout, table: dict[str, Tensor], stem: nn.Module | None) -> T:
    with torch.device("meta"):
        hooked = kind(layout.cfg)
    like = dict(hooked.state_dict())
    hooked.stem = stem
    weights = to_hooked(table, layout.cfg, family.places(layout.cfg), like)
    if layout.rope is not None:
        weights |= {name: layout.rope for name in like if name.endswith(".rope")}
    if stem is not None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("stem.")} | {
            f"stem.{name}": tensor for name, tensor in stem.state_dict().items()
        }
    floating = {name for name, tensor in like.items() if tensor.is_floating_point()}
    if odd := [name for name, tensor in weights.items() if name in floating and not tensor.is_floating_point()]:
        raise ModelError(
            f"The vision tower has {str(weights[odd[0]].dtype).removeprefix('torch.')} numbers for {odd[0]}.",
            "It was quantised: load it in float32, bfloat16 or float16.",
        )
    _refuse_mixed(weights)
    hooked.load_state_dict(weights, assign=True)
    return hooked


def _refuse_mixed(weights: Mapping[str, Tensor]) -> None:
    """Refuse maps of several types. Norms may be wider than half-precision maps, and tokens and positions are cast."""
    kinds = {name: tensor.dtype for name, tensor in weights.items() if not name.startswith("stem.")}
    kinds = {name: kind for name, kind in kinds.items() if name.rpartition(".")[2] not in _CAST}
    numbers: Counter[torch.dtype] = Counter()
    for name, kind in kinds.items():
        numbers[kind] += weights[name].numel()
    most = numbers.most_common(1)[0][0]
    norms_too = {most, torch.float32} if most.itemsize == 2 else {most}
    odd = [name for name, kind in kinds.items() if kind not in (norms_too if _NORM.search(name) else {most})]
    if odd:
        there, mostly = (str(kind).removeprefix("torch.") for kind in (kinds[odd[0]], most))
        raise ModelError(
            f"The vision tower has weights of several types, which cannot be multiplied: {there} numbers for {odd[0]}"
            f"{f' and {len(odd) - 1} more' * (len(odd) > 1)}, where most are {mostly}.",
            "Give them one type, for example with model.float().",
        )


@torch.no_grad()
def _check_same(tower: nn.Module, family: Family, hooked: Tower) -> None:
    """Refuse a tower that computes something else than its conversion: what was changed in it would be lost."""
    if hooked.device.type == "meta":
        return
    noise = torch.randn(1, 3, *hooked.cfg.image_size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(hooked.device, hooked.dtype)
    was_training = tower.training
    try:
        expected = family.run(tower.eval(), noise).double()
    except RuntimeError as error:
        raise ModelError(
            f"The vision tower ({class_name(getattr(tower, 'trunk', tower))}) does not run in its own library: "
            f"{str(error).splitlines()[0].rstrip('.')}.",
            "Where weights of several types were mixed, model.float() makes them one.",
        ) from error
    got = hooked(noise).double()
    tower.train(was_training)  # last, because the stem may be shared
    difference = float((got - expected).norm() / expected.norm())
    if not difference <= _LIMITS.get(hooked.dtype, 5e-2):
        raise ModelError(
            f"The vision tower ({class_name(getattr(tower, 'trunk', tower))}) computes something else than its "
            f"settings and weights say (relative difference {difference:.1e}).",
            "Pass it as its library builds it; what was changed in it would be lost in the conversion.",
        )


def to_original(vision: Tower, wanted: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tower's weights under the names of the original, as its `load_state_dict` takes them.

    Args:
        vision: the tower.
        wanted: the names that the original has, for families with several layouts; `original.state_dict()`.

    Raises:
        ModelError: for a weight that the original has no tensor for.
    """
    family = FAMILIES[vision.cfg.family]
    mine = {name: tensor.detach() for name, tensor in vision.state_dict().items()}
    places = list(family.places(vision.cfg))
    stem = {"timm_vit": "trunk.patch_embed.", "timm_eva": "trunk.patch_embed."}.get(family.name, "")
    names = {place.theirs for place in places} if wanted is None else set(wanted)
    out = to_theirs(mine, vision.cfg, places, names)
    return {
        (stem + name.removeprefix("stem.") if name.startswith("stem.") else name): tensor
        for name, tensor in out.items()
        if wanted is None or not name.startswith("stem.") or stem + name.removeprefix("stem.") in names
    }


def original_output(tower: Any, images: Tensor) -> Tensor:
    """What an original of any family returns for images: its embedding."""
    family = family_of(tower)
    output = family.run(tower, images) if family is not None else tower(images)
    return cast(Tensor, output[0] if isinstance(output, tuple) else output)
