"""Frozen results as files: values as JSON, arrays as safetensors, and back into the dataclasses that they were.

`pack` takes a dataclass of plain values, heads, tensors and arrays apart by its annotations, every field, and `unpack`
puts it together again, so that a result or a correction that is added needs no code here. `digest` is a short text that
differs wherever any field does.

Types come from annotations and registries alone: nothing that a file names is ever imported or run. Where several
classes may stand in a field, the file names the class: in a union (`Location | Candidates`) by its own name, in a
family (see `family`) by its name in the family's registry.

JSON has no number that is not a number and no infinite one: the first is null (which reads back as None where that is
allowed, else as NaN), the others are the texts "inf" and "-inf".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from functools import cache
from inspect import isclass
from math import isfinite, isnan, nan
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import cattrs
import numpy as np
import safetensors.torch
import torch
from cattrs.strategies import configure_union_passthrough
from jaxtyping import AbstractArray
from torch import Tensor

from headlens.errors import HeadlensError
from headlens.heads import HeadId, HeadLike

T = TypeVar("T")
Arrays = dict[str, Tensor]

_FAMILIES: dict[type, Mapping[str, type]] = {}


def family(base: type, members: Mapping[str, type]) -> None:
    """Let a field that is annotated `base` hold any class of a registry: it is saved under its name there.

    Args:
        base: what fields are annotated with.
        members: the classes by name, all of them dataclasses; a registry may grow later.
    """
    _FAMILIES[base] = members


def pack(value: Any, kind: Any, arrays: Arrays) -> Any:
    """The JSON form of a value; its arrays go into `arrays`, under numbers that the JSON refers to.

    Args:
        value: a dataclass instance, or a dict, list or tuple of them.
        kind: its annotation, such as `Location | Candidates` or `dict[HeadId, Explanation]`.
        arrays: where arrays are put; one for all values that are saved together.
    """
    return _converter(arrays).unstructure(value, unstructure_as=kind)


def unpack(saved: Any, kind: type[T] | Any, arrays: Mapping[str, Tensor]) -> T:
    """The inverse of `pack`. Raises what `cattrs` raises where the file does not fit the type."""
    return _converter(dict(arrays)).structure(saved, kind)


def reasons(error: BaseException) -> str:
    """What went wrong in `unpack`, from the innermost errors of a group, as a clause without a full stop."""
    if inside := getattr(error, "exceptions", ()):
        return "; ".join(map(reasons, inside))
    said = error.problem if isinstance(error, HeadlensError) else f"{type(error).__name__}: {error}"
    return said.rstrip(".")


def digest(value: object) -> str:
    """A SHA-256 of a value: a dataclass by its class and every field, arrays by data type, shape and bytes.

    Two values differ in it wherever they differ in a field, in the order of a sequence or a mapping, or in one bit of
    an array; 1 and 1.0 are one number, as for `==`, and so are a list and a tuple. Device and layout in memory do not
    count. A value that was saved and loaded keeps its digest.

    Raises:
        HeadlensError: for anything but plain values, paths, arrays, dataclasses and containers of them.
    """
    found = hashlib.sha256()
    for piece in _pieces(value):
        found.update(len(piece).to_bytes(8, "little"))
        found.update(piece)
    return found.hexdigest()


def to_json(record: Any) -> str:
    """A record of plain values as JSON; a number that is not finite becomes null."""
    return json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, record: Any) -> None:
    """Write the same to a file, whole or not at all."""
    write_whole(path, (to_json(record) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, Tensor | np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays as safetensors, whole or not at all.

    The file is a new one that is moved to its name: a reader that has mapped the old one keeps it. Its
    mode is what the user's umask gives, as for any other file.
    """
    write_whole(path, safetensors.torch.save({name: _stored(array) for name, array in arrays.items()}, metadata))


def read_arrays(path: Path) -> Arrays:
    """The arrays of a safetensors file. Raises `OSError` or `safetensors.SafetensorError` for a damaged one."""
    found: Arrays = safetensors.torch.load_file(path)
    return found


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: what is in place is the old or the new one. Text is written in UTF-8.

    Raises:
        OSError: with the file's name, which a full disk does not say.
    """
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))
        partial.replace(path)
    except OSError as error:
        if error.errno is not None:  # else its text is all that it says
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _stored(array: Tensor | np.ndarray) -> Tensor:
    # A copy of its own: safetensors refuses tensors that share memory, and a view would keep its whole base.
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array.copy(order="C"))
    return array.detach().cpu().clone(memory_format=torch.contiguous_format)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


# ---- digest ----------------------------------------------------------------------------------------------------------


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor | np.ndarray):
        array = _stored(value)
        yield f"array {array.dtype} {tuple(array.shape)}".encode()
        yield array.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"dataclass {type(value).__qualname__} {len(fields(value))}".encode()
        for one in fields(value):
            yield one.name.encode()
            yield from _pieces(getattr(value, one.name))
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key, one in value.items():
            yield from _pieces(key)
            yield from _pieces(one)
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for one in value:
            yield from _pieces(one)
    elif isinstance(value, Set):
        yield f"set {len(value)}".encode()
        yield from sorted(digest(one).encode() for one in value)
    else:
        yield _atom(value)


def _atom(value: Any) -> bytes:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return f"constant {value}".encode()
    if isinstance(value, int | float):
        whole = isinstance(value, int) or (isfinite(value) and value.is_integer())
        return f"number {int(value) if whole else value!r}".encode()
    if isinstance(value, str | Path):
        return f"text {value}".encode()
    if isinstance(value, bytes):
        return b"bytes " + value
    raise HeadlensError(
        f"A digest cannot be made of a {type(value).__name__}.",
        "Hold plain values, arrays, dataclasses or containers of them in what is saved.",
    )


# ---- converter -------------------------------------------------------------------------------------------------------


def _converter(arrays: Arrays) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def keep(array: Tensor | np.ndarray) -> str:
        name = str(len(arrays))
        arrays[name] = _stored(array)
        return name

    def again(name: str, kind: Any) -> Any:
        return arrays[name].numpy() if _array_type(kind) is np.ndarray else arrays[name]

    configure_union_passthrough(str | bool | int | float | None, converter)
    converter.register_unstructure_hook_func(lambda kind: _array_type(kind) is not None, keep)
    converter.register_structure_hook_func(lambda kind: _array_type(kind) is not None, again)
    converter.register_unstructure_hook_func(_is_head, lambda head: str(HeadId.of(head)))
    converter.register_structure_hook_func(_is_head, lambda text, _: HeadId.of(text))
    converter.register_unstructure_hook(bool, bool)  # NumPy's own numbers are not JSON
    converter.register_unstructure_hook(int, int)
    converter.register_unstructure_hook(float, _plain)
    converter.register_structure_hook(float, lambda value, _: nan if value is None else float(value))
    # Numbers annotated `float | int` are JSON numbers as they stand; a threshold of None stays None.
    converter.register_structure_hook_func(_is_number, _number)
    converter.register_unstructure_hook_func(
        _is_number, lambda value: _plain(value) if isinstance(value, float) else value
    )
    for concerned, classes in ((_is_class_union, _classes_of_union), (_is_family, _FAMILIES.__getitem__)):
        converter.register_structure_hook_func(concerned, _from_named(converter, classes))
        converter.register_unstructure_hook_factory(concerned, lambda kind, of=classes: _to_named(converter, of(kind)))
    return converter


@cache
def _array_type(kind: Any) -> type | None:
    if kind is Tensor or kind is np.ndarray:
        return kind
    if isclass(kind) and issubclass(kind, AbstractArray):
        return kind.array_type
    return None


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


def _is_head(kind: Any) -> bool:
    return kind is HeadId or kind == HeadLike


def _is_number(kind: Any) -> bool:
    return {int, float} <= set(_members(kind)) <= {int, float, type(None)}


def _plain(value: float) -> float | str | None:
    if isfinite(value):
        return float(value)
    return None if isnan(value) else str(float(value))


def _number(value: Any, kind: Any) -> Any:
    if value is None:
        return None if type(None) in _members(kind) else nan
    return float(value) if isinstance(value, str) else value


def _is_family(kind: Any) -> bool:
    return isclass(kind) and kind in _FAMILIES


def _is_class_union(kind: Any) -> bool:
    members = [m for m in _members(kind) if m is not type(None)]
    return len(members) > 1 and all(is_dataclass(m) for m in members)


def _classes_of_union(kind: Any) -> dict[str, type]:
    return {m.__name__: m for m in _members(kind) if m is not type(None)}


def _to_named(converter: cattrs.Converter, classes: Mapping[str, type]) -> Any:
    def unstructure(value: Any) -> Any:
        if value is None:
            return None
        name = next((name for name, one in classes.items() if one is type(value)), None)
        if name is None:
            raise HeadlensError(
                f"A {type(value).__name__} cannot be saved here.", f"These can: {', '.join(classes)}. Register it."
            )
        return {"type": name} | converter.unstructure(value)

    return unstructure


def _from_named(converter: cattrs.Converter, classes_of: Any) -> Any:
    def structure(saved: Any, kind: Any) -> Any:
        if saved is None:
            return None
        values = dict(saved)
        return converter.structure(values, classes_of(kind)[values.pop("type")])

    return structure
