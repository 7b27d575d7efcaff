"""Which tensor of an original is which weight of the hooked tower, there and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.config import Activation, VisionConfig

Tensors = dict[str, Tensor]

# Towers that stay refused, by how timm's names and classes begin: why they have no decomposition by heads.
_WITHOUT_HEADS = {
    "convnext": "it is built of convolutions: it has no attention heads at all",
    "fastvit": "its stages are convolutions, at most the last has attention, and more convolutions follow that",
    "swin": "its attention layers lie in stages of other widths and token grids, joined by maps that are not "
    "a residual stream, so that a head does not write to the embedding directly",
    "vit_relpos": "its attention adds learnt position biases to its scores, which no adapter reads yet",
}


@dataclass(frozen=True)
class Place:
    """A weight and where the original keeps it.

    Attributes:
        mine: its name in the hooked tower.
        theirs: its name in the original. Several places may name one weight, for layouts of which a tower has one.
        view: how the original's shape becomes the weight's, one of `VIEWS`.
        part: (k, n): the k-th of n equal parts of the original's first axis.
    """

    mine: str
    theirs: str
    view: str = "same"
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Layout:
    """A tower that was read.

    Attributes:
        cfg: its settings.
        stem: its convolutions in front of the blocks, where they are not one.
        rope: sine and cosine that rotate queries and keys, [2 head patch d_head].
        elsewhere: beginnings of the names of tensors that do not belong to the vision tower.
        rename: from the original's names to those that the family's places know.
    """

    cfg: VisionConfig
    stem: nn.Module | None = None
    rope: Tensor | None = None
    elsewhere: tuple[str, ...] = ()
    rename: Callable[[str], str] = str


@dataclass(frozen=True)
class Family:
    """An adapter.

    Attributes:
        name: as `VisionConfig.family` has it.
        title: what people call these towers.
        recognises: whether a module is of this family, whatever its settings.
        read: the settings of a tower, and what of it is kept as it is; refuses what is not understood.
        places: all places that a weight may be kept at, for some settings.
        stem: where the original keeps what is the hooked tower's `stem`.
        run: the original's own embedding of images.
    """

    name: str
    title: str
    recognises: Callable[[Any], bool]
    read: Callable[[Any], Layout]
    places: Callable[[VisionConfig], Iterable[Place]]
    stem: str = ""
    run: Callable[[Any, Tensor], Tensor] = lambda tower, images: first_output(tower(images))


def first_output(output: Any) -> Tensor:
    """The embedding among what a tower returns."""
    return cast(Tensor, output[0] if isinstance(output, tuple) else output)


def refuse(what: str, remedy: str = "docs/models.md lists the families and settings that are understood.") -> NoReturn:
    """Raise `ModelError` for a setting that is not understood."""
    raise ModelError(f"The vision tower has {what}, which headlens does not understand.", remedy)


def single(values: Iterable[Any], what: str) -> Any:
    """The one value that all of a tower's parts have; differing ones are refused by name."""
    found = set(values)
    if len(found) != 1:
        refuse(f"{what} that differ within it ({', '.join(sorted(map(str, found)))})")
    return found.pop()


def class_name(module: object) -> str:
    """The class of a module, for messages."""
    return type(module).__name__


def expect(module: object, kinds: type | tuple[type, ...], where: str) -> None:
    """Refuse a module that is of none of these classes, by name."""
    if type(module) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
        refuse(f"{class_name(module)} as {where}")


def absent(module: object, where: str) -> None:
    """Refuse a module that does something in evaluation."""
    if module is not None and type(module) not in (nn.Identity, nn.Dropout):
        refuse(f"{class_name(module)} as {where}")


_ACTIVATIONS: Mapping[str, Activation] = {
    "GELUTanh": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "QuickGELUActivation": "quick_gelu",
    "SiLU": "silu",
    "Swish": "silu",
    "GELUActivation": "gelu",
    "GELU": "gelu",
}


def activation(module: Any) -> Activation:
    """The nonlinearity that a module is."""
    if type(module) is nn.GELU and module.approximate == "tanh":
        return "gelu_tanh"
    if class_name(module) not in _ACTIVATIONS:
        refuse(f"the nonlinearity {class_name(module)}")
    return _ACTIVATIONS[class_name(module)]


def mlp_places(mine: str, theirs: str, layers: tuple[str, str], norm: str | None = None) -> Iterable[Place]:
    """An MLP of two layers, and a norm in front of it."""
    for layer, letter in zip(layers, ("in", "out"), strict=True):
        yield Place(f"{mine}mlp.W_{letter}", f"{theirs}{layer}.weight", "T")
        yield Place(f"{mine}mlp.b_{letter}", f"{theirs}{layer}.bias")
    if norm is not None:
        yield from norm_places(f"{mine}ln2", norm)


def norm_places(mine: str, theirs: str) -> Iterable[Place]:
    """A LayerNorm."""
    yield Place(f"{mine}.w", f"{theirs}.weight")
    yield Place(f"{mine}.b", f"{theirs}.bias")


def linear_places(mine: str, theirs: str, letter: str, view: str, part: tuple[int, int] = (0, 1)) -> Iterable[Place]:
    """The linear map behind W_Q, W_K, W_V or W_O, and its bias."""
    yield Place(f"{mine}.W_{letter}", f"{theirs}weight", view, part)
    yield Place(f"{mine}.b_{letter}", f"{theirs}bias", "same" if view == "out" else view, part)


def _split(tensor: Tensor, heads: int) -> Tensor:
    if tensor.ndim == 1:
        return rearrange(tensor, "(head d_head) -> head d_head", head=heads)
    return rearrange(tensor, "(head d_head) d_model -> head d_model d_head", head=heads)


def _join(tensor: Tensor) -> Tensor:
    if tensor.ndim == 2:
        return tensor.flatten()
    return rearrange(tensor, "head d_model d_head -> (head d_head) d_model")


#: Views of the original's tensor as the weight, and back; each takes the tensor and the number of heads.
VIEWS: Mapping[str, tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor, int], Tensor]]] = {
    "same": (lambda t, _: t, lambda t, _: t),
    "T": (lambda t, _: t.T, lambda t, _: t.T),
    "heads": (_split, lambda t, _: _join(t)),
    "out": (
        lambda t, heads: rearrange(t, "d_out (head d_head) -> head d_head d_out", head=heads),
        lambda t, _: rearrange(t, "head d_head d_out -> d_out (head d_head)"),
    ),
    "patch": (
        lambda t, _: t if t.ndim == 4 else rearrange(t, "m (a b c) -> m c a b", c=3, a=math.isqrt(t.shape[1] // 3)),
        lambda t, _: t,
    ),
    "row": (lambda t, _: t[0], lambda t, _: t[None]),
    "token": (lambda t, _: t[0, 0], lambda t, _: t[None, None]),
}


def _heads(cfg: VisionConfig, mine: str) -> int:
    return cfg.n_pool_heads if mine.startswith("pool.") else cfg.n_heads


def to_hooked(weights: Tensors, cfg: VisionConfig, places: Iterable[Place], like: Mapping[str, Tensor]) -> Tensors:
    """The original's tensors under the hooked tower's names; every result is a view of what it came from.

    A bias that the original does not have is zeros, positions that only patches have are zeros for other tokens.

    Raises:
        ModelError: for tensors of the original without a place, weights without a tensor, and other shapes.
    """
    out: Tensors = {}
    used = set()
    for place in places:
        if place.theirs not in weights:
            continue
        used.add(place.theirs)
        k, n = place.part
        value = VIEWS[place.view][0](weights[place.theirs].chunk(n)[k], _heads(cfg, place.mine))
        if place.mine == "W_pos" and len(value) < cfg.n_tokens:
            value = torch.cat([value.new_zeros(cfg.n_prefix, cfg.d_model), value])
        out[place.mine] = value
    for name in weights:
        if name.startswith("stem."):
            out[name] = weights[name]
            used.add(name)
    if unknown := sorted(set(weights) - used):
        refuse(f"tensors without a place ({', '.join(unknown[:3])}{', …' * (len(unknown) > 3)})")
    some = next(iter(out.values()))
    for name, tensor in like.items():
        if name in out:
            if out[name].shape != tensor.shape:
                refuse(f"{list(out[name].shape)} as shape of {name}, where {list(tensor.shape)} belongs")
        elif name.rpartition(".")[2].startswith("b") or name == "W_pos":
            out[name] = torch.zeros(tensor.shape, dtype=some.dtype, device=some.device)
        elif name.endswith(".w"):
            out[name] = torch.ones(tensor.shape, dtype=some.dtype, device=some.device)
        elif not name.endswith(".rope"):
            refuse(f"no tensor for {name}")
    return out


def to_theirs(mine: Tensors, cfg: VisionConfig, places: Iterable[Place], wanted: Collection[str]) -> Tensors:
    """The inverse of `to_hooked`: the tensors that the original has, as contiguous copies.

    Raises:
        ModelError: for a weight that the original has no tensor for, such as a bias that is not zero any more.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    written = set()
    for place in places:
        if place.theirs not in wanted or place.mine not in mine:
            continue
        value = mine[place.mine]
        if place.mine == "W_pos" and cfg.positions == "patches":
            value = value[cfg.n_prefix :]
        parts.setdefault(place.theirs, {})[place.part[0]] = VIEWS[place.view][1](value, _heads(cfg, place.mine))
        written.add(place.mine)
    out = {name: torch.cat([found[k] for k in sorted(found)]) if len(found) > 1 else found[min(found)]
           for name, found in parts.items()}  # fmt: skip
    out |= {name: tensor for name, tensor in mine.items() if name.startswith("stem.")}
    for name, tensor in mine.items():
        neutral = 1.0 if name.endswith(".w") else 0.0
        if name not in written | out.keys() and not name.endswith(".rope") and not bool((tensor == neutral).all()):
            raise ModelError(
                f"The original has no tensor for {name}, which is not what it was any more.",
                "Keep that weight as it was; its architecture cannot hold it.",
            )
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in out.items()}


def refusal(kind: str) -> str | None:
    """Why towers of a class have no decomposition by heads; None where nothing is known against it."""
    return next((why for name, why in _WITHOUT_HEADS.items() if kind.lower().startswith(name)), None)
