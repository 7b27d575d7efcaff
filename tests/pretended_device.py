"""A device "cuda" without a GPU: numbers lie in the CPU's memory, and rules are those of a device of its own.

Inside `pretended()` a tensor that is made on "cuda" or sent there is a `Pretended`, which says that it is there. As on
a GPU, an operation that is given tensors of both devices is an error (except for single numbers, copies and indices),
and so are `.numpy()` and a CPU generator for numbers of the device. What is computed is what the CPU computes, and so
are gradients.
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
            layout=inner.layout, device=inner.device, requires_grad=False,
        )  # fmt: skip
        out.inner = inner
        return out

    def __init__(self, inner: torch.Tensor):
        pass

    # For Python alone: to torch itself it lies on the CPU, or gradients would ask for the real device.
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

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


class _Moved(torch.autograd.Function):
    """A copy on the other device, whose gradient goes back to the first."""

    @staticmethod
    def forward(ctx: Any, one: torch.Tensor) -> torch.Tensor:
        return one.inner.clone() if isinstance(one, Pretended) else Pretended(one.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Moved.apply(gradient)


class _Functions(TorchFunctionMode):
    """What sends a tensor to another device: torch itself takes both for the CPU, and would leave it where it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.pin_memory:  # which belongs to the real device's memory
            return args[0]
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            return _sent(args[0], torch.device(func.__name__))
        if func in (torch.Tensor.to, torch.as_tensor):
            one, *rest = args
            if rest and isinstance(rest[0], torch.Tensor):
                rest = [rest[0].device, rest[0].dtype, *rest[1:]]
            if rest and isinstance(rest[0], str | int | torch.device):
                kwargs["device"] = rest.pop(0)
            rest = [each for each in rest if isinstance(each, torch.dtype)]  # without non_blocking and copy
            target = kwargs.pop("device", None)
            if isinstance(one, torch.Tensor):
                one = one if target is None else _sent(one, torch.device(target))
                return one.to(*rest, **kwargs) if rest or kwargs else one
            return torch.as_tensor(one, *rest, **kwargs | ({} if target is None else {"device": target}))
        return func(*args, **kwargs)


def _sent(one: torch.Tensor, device: torch.device) -> torch.Tensor:
    return one if isinstance(one, Pretended) == (device.type == "cuda") else _Moved.apply(one)


def _unwrapped(one: Any) -> Any:
    return one.inner if isinstance(one, Pretended) else one


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Inside, "cuda" is a device that is there."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `Module.to` then makes new parameters
    try:
        with (
            patch("torch.cuda._lazy_init", lambda: None),
            patch.object(torch.inference_mode, "__enter__", lambda self: None),  # its tensors cannot be wrapped
            patch.object(torch.inference_mode, "__exit__", lambda self, *error: None),
            _Functions(),
            _Factories(),
        ):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
