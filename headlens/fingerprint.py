"""A short name for exactly these weights, these settings and this preprocessing: what a store belongs to.

It is written in two parts, `33972f297b44f2fd-5f1c09ab`. The first names the weights and the preprocessing as their
`repr` shows it; the second names what weights do not show: the settings (nonlinearity, eps, pooling, …) and the values
inside preprocessing steps whose `repr` is silent. Stores of early versions know the first part alone.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import nn

_SIMPLE = (bool, int, float, str, bytes, type(None))
_MODULE = nn.Module().__dict__.keys()
_DECIDING = ("eps", "kernel_size", "stride", "padding", "padding_mode", "dilation", "groups", "approximate")


def fingerprint(module: nn.Module, settings: object, preprocess: object) -> str:
    """Sixteen hexadecimal digits for weights and preprocessing, a dash, and eight for settings and preprocessing.

    Weights are read as float32, so that a tower widened to float64 is still itself, while one that was rounded to half
    precision is another.

    Args:
        module: the tower whose weights are meant.
        settings: a dataclass of its settings. A field that has its default value does not count, so that a field
            which a later version adds leaves the fingerprint of every model without it as it was; nor does one that is
            not compared. None for none.
        preprocess: what turns a picture into pixels; memory addresses in its `repr` are left out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(memoryview(values.numpy()).cast("B") if values.numel() else b"")
    shown, rest = settings_state(module, settings, preprocess)
    digest.update(shown.encode())
    return f"{digest.hexdigest()[:16]}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def settings_state(module: nn.Module, settings: object, preprocess: object) -> tuple[str, str]:
    """What a fingerprint has besides weights: the preprocessing as its `repr` shows it; settings, and what it hides."""
    said = [_settings(settings), _inside(preprocess), *_stem(module)]
    return _without_addresses(repr(preprocess)), json.dumps(said, sort_keys=True, default=str)


def same_model(one: str, other: str) -> bool:
    """Whether two fingerprints are of one model: equal, or one of an early version with the other's first part."""
    return one == other or one == other.partition("-")[0] or other == one.partition("-")[0]


def weights_state(module: nn.Module) -> tuple[object, ...]:
    """Where the weights are, how often torch saw them change, and their sums: equal while they stay what they are.

    The sums catch what torch does not count: changes through `.data`, and any change of an inference tensor.
    """
    tensors = [*module.parameters(), *module.buffers()]
    counted = tuple((t.data_ptr(), None if t.is_inference() else t._version, t.dtype) for t in tensors)
    sums = [t.detach().sum(dtype=torch.float64).cpu() for t in tensors if not t.is_complex()]
    return (*counted, *(torch.stack(sums).tolist() if sums else ()))


def _settings(settings: Any) -> dict[str, object]:
    if settings is None:
        return {}
    return {
        one.name: getattr(settings, one.name)
        for one in fields(settings)
        if one.compare and (one.default is MISSING or getattr(settings, one.name) != one.default)
    }


def _stem(module: nn.Module) -> list[object]:
    """What decides the numbers of a tower's own convolutions, layer by layer; nothing for a tower without them."""
    if (stem := getattr(module, "stem", None)) is None:
        return []
    layers = stem.named_modules()
    return [[[name, type(one).__name__, {key: getattr(one, key, None) for key in _DECIDING}] for name, one in layers]]


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _inside(value: Any, depth: int = 4) -> object:
    """Values that decide what a step does and that its `repr` need not show, as far as they are plain data."""
    if isinstance(value, _SIMPLE):
        return value if not isinstance(value, bytes) else value.hex()
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, list | tuple):
        return [_inside(one, depth - 1) for one in value]
    if isinstance(steps := getattr(value, "transforms", None), list | tuple):
        return [_inside(one, depth - 1) for one in steps]
    if isinstance(value, Mapping):
        return {str(key): _inside(one, depth - 1) for key, one in value.items()}
    if inspect.isfunction(value):
        value = inspect.unwrap(value)  # a decorated step, such as one whose types are checked, is the same step
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return [
            value.__qualname__,
            *(_inside(one, depth - 1) for one in (held, value.__defaults__, value.__kwdefaults__)),
        ]
    if inspect.ismethod(value):
        return [value.__func__.__qualname__, _inside(value.__self__, depth - 1)]
    if type(value).__repr__ is not object.__repr__:
        shown = _without_addresses(repr(value))
        numbers = {k: v for k, v in getattr(value, "__dict__", {}).items() if v and isinstance(v, int | float)}
        silent = {k: v for k, v in numbers.items() if k not in _MODULE and str(v) not in shown}
        return [shown, silent] if silent else shown
    return [type(value).__qualname__, _inside(getattr(value, "__dict__", {}), depth - 1)]
