"""From an original of any family to the hooked tower, and back."""

from __future__ import annotations

import copy as copying
import re
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.altered import check_finite, difference_on_noise, evaluating, unaltered
from headlens.models.families import huggingface, open_clip_vit, resnet, timm_eva, timm_vit
from headlens.models.families.layout import Family, Layout, class_name, first_output, refusal, to_hooked, to_theirs
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
_CAST = {"class_token", "registers", "W_pos", "rope", "query"}
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
    layout = _read(family, tower)
    table = {layout.rename(name): tensor.detach() for name, tensor in tower.state_dict().items()}
    table = {name: tensor for name, tensor in table.items() if not name.startswith(layout.elsewhere or ("\0",))}
    check_finite(table, "visual.")
    if copy:
        table = {name: tensor.clone() for name, tensor in table.items()}
    hooked = _build(kind, family, layout, table, copying.deepcopy(layout.stem) if copy else layout.stem)
    if family is not open_clip_vit.FAMILY:  # which is compared with a new one of its settings, module by module
        _check_same(tower, family, hooked)
    return hooked.eval()


def _read(family: Family, tower: nn.Module) -> Layout:
    try:
        return family.read(tower)
    except ModelError:
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"The vision tower is a {class_name(getattr(tower, 'trunk', tower))} that lacks a part of its class, or "
            f"has another in its place: {str(error).rstrip('.')}.",
            "Pass it as its library builds it.",
        ) from error


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
            "Load it in float32, bfloat16 or float16, not quantised.",
        )
    _refuse_mixed(weights)
    hooked.load_state_dict(weights, assign=True)
    hooked.placed()
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
            'Give them one type: model.float(), or hl.load(…, precision="pure_bf16").',
        )


def _check_same(tower: nn.Module, family: Family, hooked: Tower) -> None:
    """Refuse a tower that computes something else than its conversion: what was changed in it would be lost."""
    if hooked.device.type == "meta":
        return
    kind = class_name(getattr(tower, "trunk", tower))
    try:
        with evaluating(tower, hooked):  # both, because they may share a stem
            run = partial(family.run, tower)
            difference = difference_on_noise(hooked, run, hooked.cfg.image_size, hooked.layers[0].attn.W_O)
    except RuntimeError as error:
        raise ModelError(
            f"The vision tower ({kind}) does not run in its own library: {str(error).splitlines()[0].rstrip('.')}.",
            "Where weights of several types were mixed, model.float() makes them one.",
        ) from error
    if not difference <= _LIMITS.get(hooked.dtype, 5e-2):
        raise ModelError(
            f"The vision tower ({kind}) computes something else than its settings and weights say (relative difference "
            f"{difference:.1e}).",
            "Pass it as its library builds it; what was changed in it would be lost in the conversion.",
        )


def to_original(vision: Tower, wanted: Collection[str]) -> dict[str, Tensor]:
    """The tower's weights under the names of the original, as its `load_state_dict` takes them.

    Args:
        vision: the tower.
        wanted: the names that the original has, for families with several layouts; `original.state_dict()`.

    Raises:
        ModelError: for a weight that the original has no tensor for.
    """
    family, wanted = FAMILIES[vision.cfg.family], set(wanted)
    mine = {name: tensor.detach() for name, tensor in vision.state_dict().items()}
    out = {
        family.stem + name.removeprefix("stem.") if name.startswith("stem.") else name: tensor
        for name, tensor in to_theirs(mine, vision.cfg, family.places(vision.cfg), wanted).items()
    }
    return {name: tensor for name, tensor in out.items() if name in wanted}


def original_output(tower: Any, images: Tensor) -> Tensor:
    """What an original of any family returns for images: its embedding."""
    family = family_of(tower)
    return first_output(tower(images)) if family is None else family.run(tower, images)
