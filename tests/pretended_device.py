"""A device "cuda" without a GPU: numbers lie in the CPU's memory, and rules are those of a device of its own.

Inside `pretended()` a tensor that is made on "cuda" or sent there is a `Pretended`, which says that it is there. As on
a GPU, an operation that is given tensors of both devices is an error (except for single numbers, copies and indices),
and so are `.numpy()` and a CPU generator for numbers of the device. What is computed is what the CPU computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
_ACROSS = {"copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_"}


class Pretended(torch.Tensor):
    """A tensor that says it is on the device, around one on the CPU."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Pretended:
        out = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        out.inner = inner
        return out

    def __init__(self, inner: torch.Tensor):
        pass

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict) -> Any:
        copied = Pretended(self.inner.clone().detach())
        copied = torch.nn.Parameter(copied, self.requires_grad) if getattr(self, "_is_param", False) else copied
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.partition("::")[2]
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    mine = [one for one in tensors if isinstance(one, Pretended)]
    others = [one for one in tensors if not isinstance(one, Pretended) and one.ndim]
    if mine and others and name not in _ACROSS:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some on {DEVICE} and cpu")
    wanted = kwargs.get("device")
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    there = bool(mine) if wanted is None else torch.device(wanted).type == "cuda"
    if name in ("copy_", "index_put_", "_index_put_impl_"):
        there = isinstance(args[0], Pretended)
    if there and getattr(kwargs.get("generator"), "device", DEVICE).type == "cpu":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' in {name}")
    out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    if not there:
        return out
    out = tree_map(lambda one: Pretended(one) if isinstance(one, torch.Tensor) else one, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if mine else out


class _Factories(TorchDispatchMode):
    """What makes a tensor on the device, or sends one there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What asks for the device's own kernels or guards before it can be dispatched: fused attention, indexing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention and isinstance(args[0], Pretended):
            return _attention(*args, **kwargs)
        if func is torch.Tensor.pin_memory:  # which belongs to the real device's memory
            return args[0]
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            if "not linked with support for cuda" not in str(error):
                raise
        return _outright(func, args, kwargs)


def _outright(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What asks for the device's guard before it is dispatched (an index, a value that is read), by the same rules."""
    name = getattr(func, "__name__", str(func))
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    if name != "__getitem__" and any(one.ndim and not isinstance(one, Pretended) for one in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some on {DEVICE} and cpu")
    out = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    return tree_map(lambda one: Pretended(one) if isinstance(one, torch.Tensor) else one, out)


def _unwrapped(one: Any) -> Any:
    return one.inner if isinstance(one, Pretended) else one


def _attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False) -> Any:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    assert not dropout_p and not is_causal
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ v


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Inside, "cuda" is a device that is there; without gradients, for which torch wants the real one."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `Module.to` then makes new parameters
    try:
        with (
            patch("torch.cuda._lazy_init", lambda: None),
            patch.object(torch.inference_mode, "__enter__", lambda self: None),  # its tensors cannot be wrapped
            patch.object(torch.inference_mode, "__exit__", lambda self, *error: None),
            torch.no_grad(),
            _Functions(),
            _Factories(),
        ):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
