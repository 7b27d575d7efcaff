"""Results as files: values as JSON, arrays as safetensors, and back into the dataclasses that they were.

Every result of an audit is a frozen dataclass of plain values, heads, tensors and arrays. `pack` takes one apart by its
types and `unpack` puts it together again, so that a result that is added needs no code here. Types come from the
annotations alone: nothing that a file names is ever imported or run.

JSON has no number that is none and no infinite one: the first is null (which reads back as None where that is allowed,
else as NaN), the others are the texts "inf" and "-inf".
"""

from __future__ import annotations

from functools import cache
from inspect import isclass
from math import isfinite, isnan, nan
from typing import Any, TypeVar

import cattrs
import numpy as np
import torch
from jaxtyping import AbstractArray
from torch import Tensor

from headlens.heads import HeadId

T = TypeVar("T")
Arrays = dict[str, Tensor]


def pack(result: Any, kind: Any, arrays: Arrays) -> Any:
    """The JSON form of a result; its arrays go into `arrays`, under numbers that the JSON refers to.

    Args:
        result: a dataclass instance, or a dict or tuple of them.
        kind: its annotation, such as `Location | Candidates` or `dict[HeadId, Explanation]`.
        arrays: where arrays are put; one for all results that are saved together.
    """
    return _converter(arrays).unstructure(result, unstructure_as=kind)


def unpack(saved: Any, kind: type[T] | Any, arrays: Arrays) -> T:
    """The inverse of `pack`. Raises what `cattrs` raises where the file does not fit the type."""
    return _converter(arrays).structure(saved, kind)


def _converter(arrays: Arrays) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def keep(array: Tensor | np.ndarray) -> str:
        name = str(len(arrays))
        arrays[name] = torch.as_tensor(array).detach().cpu().contiguous().clone()
        return name

    def again(name: str, kind: Any) -> Any:
        return arrays[name].numpy() if _array_type(kind) is np.ndarray else arrays[name]

    converter.register_unstructure_hook_func(lambda kind: _array_type(kind) is not None, keep)
    converter.register_structure_hook_func(lambda kind: _array_type(kind) is not None, again)
    converter.register_unstructure_hook(HeadId, str)
    converter.register_structure_hook(HeadId, lambda text, _: HeadId.of(text))
    converter.register_unstructure_hook(float, _plain)
    converter.register_structure_hook(float, lambda value, _: nan if value is None else float(value))
    # Numbers annotated `float | int` are JSON numbers as they stand; a threshold of None stays None.
    converter.register_structure_hook_func(_is_number, _number)
    converter.register_structure_hook_func(_is_results_union, _by_name(converter))
    converter.register_unstructure_hook_func(_is_results_union, lambda value: _named(converter, value))
    return converter


@cache
def _array_type(kind: Any) -> type | None:
    if kind is Tensor or kind is np.ndarray:
        return kind
    if isclass(kind) and issubclass(kind, AbstractArray):
        return kind.array_type
    return None


def _members(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__args__", ()) if type(kind).__name__ in ("UnionType", "_UnionGenericAlias", "Union") else ()


def _is_number(kind: Any) -> bool:
    members = _members(kind)
    return bool(members) and set(members) <= {int, float, type(None)} and len(set(members) - {type(None)}) > 1


def _plain(value: float) -> float | str | None:
    if isfinite(value):
        return float(value)
    return None if isnan(value) else str(float(value))


def _number(value: Any, kind: Any) -> Any:
    if value is None:
        return None if type(None) in _members(kind) else nan
    return float(value) if isinstance(value, str) else value


def _is_results_union(kind: Any) -> bool:
    members = [m for m in _members(kind) if m is not type(None)]
    return len(members) > 1 and all(hasattr(m, "__dataclass_fields__") for m in members)


def _named(converter: cattrs.Converter, value: Any) -> Any:
    return None if value is None else {"type": type(value).__name__} | converter.unstructure(value)


def _by_name(converter: cattrs.Converter) -> Any:
    def structure(saved: Any, kind: Any) -> Any:
        if saved is None:
            return None
        fields = dict(saved)
        known = {m.__name__: m for m in _members(kind) if m is not type(None)}
        return converter.structure(fields, known[fields.pop("type")])

    return structure
