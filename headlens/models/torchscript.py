"""Read the tensors of a TorchScript archive, such as OpenAI's own CLIP files, without executing anything in it.

An archive holds `data.pkl`, a program for a small stack machine that rebuilds the modules, and one file for each
tensor's numbers. `pickletools.genops` of the standard library takes that program apart without running it. Here its
instructions are followed on a stack of plain values: no class is looked up, no function of the archive's choice is
called. A module becomes a table of its attributes, a tensor is read from its file, and everything else a name.
"""

from __future__ import annotations

import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from headlens.errors import ModelError

_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PUSHED = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A class or a function of the archive, by name."""

    name: str


@dataclass
class _Object:
    """What a class would have been built into: its attributes."""

    kind: str
    state: Any = None


@dataclass(frozen=True)
class _Storage:
    """The file that holds a tensor's numbers."""

    kind: str
    file: str


BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What Python's reader of archives raises for damaged ones, beside its usual errors."""


def read_torchscript(path: Path) -> tuple[dict[str, Tensor], set[str]]:
    """The tensors of an archive by their dotted names, and the names of the classes of its modules.

    Raises:
        ModelError: for an archive that holds anything but the modules, tensors and plain values of TorchScript.
    """
    names: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            program = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            root = program.removesuffix("data.pkl")
            if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
                raise _unreadable(path, "numbers of another byte order")
            whole = _follow(archive, root, archive.read(program), names)
    except ModelError:
        raise
    except (*BROKEN_ZIP, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    return dict(_tensors(whole)), names


def _unreadable(path: Path, what: object) -> ModelError:
    return ModelError(
        f"{path} is a TorchScript archive that cannot be read as data alone ({what}).",
        "If its source is trusted, write its weights to a file of their own: "
        f"import torch; torch.save(torch.jit.load({str(path)!r}, map_location='cpu').state_dict(), 'weights.pt')",
    )


def _tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    state = value.state if isinstance(value, _Object) else value
    if isinstance(state, Tensor):
        yield prefix, state
    elif isinstance(state, dict):
        for name, one in state.items():
            if isinstance(one, Tensor | _Object):
                yield from _tensors(one, f"{prefix}.{name}" if prefix else str(name))


def _follow(archive: zipfile.ZipFile, root: str, program: bytes, names: set[str]) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(program):
        code = operation.name
        if code in ("PROTO", "FRAME"):
            continue
        if code == "STOP":
            return stack.pop()
        if code == "MARK":
            stack.append(_MARK)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _PUSHED:
            stack.append(argument)
        elif code in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if code == "EMPTY_DICT" else [])
        elif code in ("BINPUT", "LONG_BINPUT"):
            memo[cast(int, argument)] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(memo[cast(int, argument)])
        elif code == "GLOBAL":
            name = ".".join(str(argument).split(" "))
            names.add(name)
            stack.append(_Name(name))
        elif code == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(code[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif code in ("APPENDS", "APPEND"):
            more = _since_mark(stack) if code == "APPENDS" else [stack.pop()]
            stack[-1].extend(more)
        elif code in ("SETITEMS", "SETITEM"):
            flat = _since_mark(stack) if code == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(flat[::2], flat[1::2], strict=True))
        elif code == "BINPERSID":
            _, kind, file, *_ = stack.pop()
            stack.append(_Storage(kind.name, str(file)))
        elif code == "NEWOBJ":
            stack.pop()
            stack.append(_Object(stack.pop().name))
        elif code == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif code == "REDUCE":
            arguments = stack.pop()
            stack.append(_reduced(archive, root, stack.pop().name, arguments))
        else:
            raise ValueError(f"the instruction {code}")
    raise ValueError("a program without an end")


def _since_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1 - stack[::-1].index(_MARK)
    found = stack[start + 1 :]
    del stack[start:]
    return found


def _reduced(archive: zipfile.ZipFile, root: str, name: str, arguments: tuple[Any, ...]) -> Any:
    """What a call in the program stands for. Nothing is called: of all names two kinds mean something here."""
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, size, stride = arguments[:4]
        kind = _TYPES[storage.kind.rpartition(".")[2]]
        numbers = archive.read(f"{root}data/{storage.file}")
        flat = torch.frombuffer(bytearray(numbers), dtype=kind) if numbers else torch.empty(0, dtype=kind)
        return flat.as_strided(tuple(size), tuple(stride), int(offset)).clone()
    return _Object(name, arguments)
