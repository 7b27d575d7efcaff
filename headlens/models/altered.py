"""What was done to a model since its library built it: taken off where that is exact, and refused by name elsewhere.

A conversion reads weights and settings. What changes the result without being one of these (a hook, a replaced method,
another stride, an adapter inside a block) would be lost without a word. Steps:

1. `unaltered` takes off wrappers (DataParallel, torch.compile) and merges what computes a weight from others (LoRA,
   parametrisations, pruning, weight norm) into it, on a copy, which is then compared with the original on noise.
2. The same refuses hooks and methods that are not the library's own.
3. `first_difference` compares a tower, module by module, with a new one of the same settings.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from headlens.errors import ModelError

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_WRAPPERS = {"_orig_mod", "_checkpoint_wrapped_module"}  # of torch.compile and activation checkpointing
_LIBRARIES = ("open_clip.", "timm.", "torch.nn.", "transformers.")
# Numbers, texts and flags of a module that decide nothing in evaluation.
_HARMLESS = {
    *("training", "output_tokens", "grad_checkpointing", "inplace", "prob", "p", "dropout", "exclude_first_token"),
    "layers",  # which the blocks themselves show
    *("elementwise_affine", "image_mean", "image_std"),
}


def unaltered(model: Any) -> Any:
    """The model without wrappers and with merged weights; the model itself, not a copy, where nothing is to be done.

    Args:
        model: a module, or a whole image-text model.

    Raises:
        ModelError: naming the first hook, replaced method or layer that cannot be merged exactly.
    """
    model = _without_wrapper(model)
    if not isinstance(model, nn.Module):
        return model
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "The model is a TorchScript module, whose steps cannot be read.",
            "Pass the file that it was loaded from to hl.load, as pretrained=, beside the name of its architecture.",
        )
    if _to_merge(model):
        original, model = model, _copied(model)
        model.eval()
        model = _merged(model)
        _check_merged(original, model)
    for name, module in model.named_modules():
        _refuse_hooks(name, module)
        _refuse_replaced(name, module)
    for name, tensor in model.named_parameters():
        kind = type(tensor.data).__name__
        if kind not in ("Tensor", "FakeTensor") or tensor.layout is not torch.strided:
            raise ModelError(
                f"The weight {name} is a {kind} ({tensor.layout}), not a plain tensor.",
                "Dequantise or gather it first, and pass the model with plain weights.",
            )
    return model


def check_finite(weights: Mapping[str, Tensor], prefix: str = "") -> None:
    """Raise `ModelError`, naming the tensor, for a weight that is not a finite number, or has no numbers yet."""
    for name, tensor in weights.items():
        if tensor.is_meta:
            raise ModelError(
                f"{prefix}{name} is on the device 'meta', where tensors have no numbers.",
                "Load the model's weights first, onto a device of its own.",
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ModelError(
                "weights that are finite numbers",
                f"{bad} of {tensor.numel()} values of {prefix}{name} that are NaN or infinite",
                "The checkpoint is damaged, or its training diverged: load another one.",
            )


def first_difference(module: nn.Module, reference: nn.Module, same: Collection[frozenset[type]] = ()) -> str | None:
    """What a model has that a new one of its settings has not: the classes of modules, tensors, numbers and flags.

    A bias that is missing is no difference: it equals zeros.

    Args:
        module: the model.
        reference: what its library builds for the same settings; its weights may be on "meta".
        same: sets of classes that compute the same.

    Returns:
        A clause, "a further module head (Linear)"; None where there is no difference.
    """
    # A block that serves twice counts twice.
    theirs, ours = (dict(one.named_modules(remove_duplicate=False)) for one in (reference, module))
    for name, one in ours.items():
        if name not in theirs:
            return f"a further module {name} ({_class(one)})"
        other, at = theirs[name], f"at {name}" if name else "of its own"
        if type(one) is not type(other) and not any({type(one), type(other)} <= kinds for kinds in same):
            return f"{_class(one)} {at}, where {_class(other)} belongs"
        for key in sorted(one._parameters.keys() | one._buffers.keys()):
            tensor, belongs = getattr(one, key), getattr(other, key, None)
            where = f"{name}.{key}".lstrip(".")
            if tensor is None:
                continue
            if belongs is None:
                return f"a further tensor {where}"
            if tensor.shape != belongs.shape:
                return f"{list(tensor.shape)} as shape of {where}, where {list(belongs.shape)} belongs"
        mine, own = _plain_values(one), _plain_values(other)
        for key in sorted(mine.keys() & own.keys()):
            if mine[key] != own[key]:
                return f"{key}={mine[key]!r} {at}, where {own[key]!r} belongs"
    return next((f"no module {name}" for name in theirs if name not in ours), None)


def _plain_values(module: nn.Module) -> dict[str, Any]:
    kinds = (bool, int, float, str, tuple)
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, kinds) and not key.startswith("__") and key not in _HARMLESS
    }


def _class(module: object) -> str:
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith(_LIBRARIES) else f"{kind.__module__}.{kind.__name__}"


def _without_wrapper(model: Any) -> Any:
    while True:
        if isinstance(model, _PARALLEL):
            model = model.module
        elif wrapper := [one for one in _WRAPPERS if one in getattr(model, "_modules", {})]:
            model = model._modules[wrapper[0]]
        elif type(model).__name__ in ("FullyShardedDataParallel", "DeepSpeedEngine"):
            raise ModelError(
                f"The model is split over processes by {type(model).__name__}.",
                "Gather its state dict, save it, and load that file: hl.load(name, pretrained='weights.pt').",
            )
        else:
            return model


def _merging_hooks(module: nn.Module) -> list[Any]:
    """Hooks of torch's own that compute a weight before every call, and know how to be removed for good."""
    named = ("WeightNorm", "SpectralNorm")
    return [
        hook
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, prune.BasePruningMethod) or type(hook).__name__ in named
    ]


def _is_lora(module: nn.Module) -> bool:
    return "base_layer" in module._modules or (isinstance(module, nn.Linear) and hasattr(module, "lora_A"))


def _to_merge(model: nn.Module) -> bool:
    return hasattr(model, "merge_and_unload") or any(
        parametrize.is_parametrized(one) or _merging_hooks(one) or _is_lora(one) or _without_wrapper(one) is not one
        for one in model.modules()
    )


def _copied(model: nn.Module) -> nn.Module:
    # Weight norm leaves computed tensors in modules, which refuse to be copied while they carry a graph.
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, cast(dict[int, Any], computed))


def _merged(model: nn.Module) -> nn.Module:
    if hasattr(model, "merge_and_unload"):
        model = _without_wrapper(cast(Any, model).merge_and_unload())
    with torch.no_grad():
        for name, module in list(model.named_modules()):
            for hook in _merging_hooks(module):
                if isinstance(hook, prune.BasePruningMethod):
                    prune.remove(module, hook._tensor_name)
                elif type(hook).__name__ == "WeightNorm":
                    nn.utils.remove_weight_norm(module, hook.name)
                else:
                    nn.utils.remove_spectral_norm(module, hook.name)
            if parametrize.is_parametrized(module):
                # Not by remove_parametrizations: it edits a class that the original shares.
                computed = {name: getattr(module, name) for name in cast(nn.ModuleDict, module.parametrizations)}
                module.__class__ = type(module).__bases__[0]
                del module.parametrizations
                for tensor, value in computed.items():
                    module.register_parameter(tensor, nn.Parameter(value.detach().clone()))
            for child_name, child in list(module.named_children()):
                plain = _without_wrapper(child)
                if _is_lora(plain):
                    plain = _without_lora(plain, f"{name}.{child_name}".lstrip("."), module)
                if plain is not child:
                    setattr(module, child_name, plain)
    return model


def _without_lora(layer: Any, name: str, parent: nn.Module) -> nn.Module:
    """The layer below an adapter, with the adapter added to its weight."""
    if isinstance(parent, nn.MultiheadAttention):
        raise ModelError(
            f"The model has an adapter at {name} ({_class(layer)}), which torch's attention passes by.",
            "torch.nn.MultiheadAttention reads the weight below it; take the adapter off, or wrap the whole attention.",
        )
    if isinstance(layer, nn.Linear):  # it adds its own product to its weight when it is put into evaluation mode
        if getattr(layer, "merged", False):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            return plain.eval()
    elif hasattr(layer, "merge") and hasattr(layer, "get_base_layer"):
        if not getattr(layer, "merged", False):
            layer.merge()
        return cast(nn.Module, layer.get_base_layer())
    raise ModelError(
        f"The model has an adapter at {name} ({_class(layer)}) that cannot be merged from outside.",
        "Merge it first (with peft: model = model.merge_and_unload()).",
    )


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Where modules are in evaluation mode; behind it, in the mode that they were in."""
    before = [one.training for one in modules]
    for one in modules:
        one.eval()
    try:
        yield
    finally:
        for one, mode in zip(modules, before, strict=True):
            one.train(mode)


@torch.no_grad()
def difference_on_noise(
    run: Callable[[Tensor], Any], original: Callable[[Tensor], Any], size: tuple[int, int], like: Tensor
) -> float:
    """‖f − g‖ / ‖g‖ for the embeddings f and g that two towers give one image of noise; infinite for other shapes.

    Args:
        run: gives f, alone or first of several outputs.
        original: gives g.
        size: height and width of the image.
        like: a tensor of its type and on its device.
    """
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)
    outputs = [one(noise) for one in (run, original)]
    f, g = (one[0].double() if isinstance(one, tuple) else one.double() for one in outputs)
    return float((f - g).norm() / g.norm()) if f.shape == g.shape else math.inf


def _check_merged(original: nn.Module, merged: nn.Module) -> None:
    """Refuse a merge after which the vision tower computes something else."""
    before, after = (_without_wrapper(getattr(one, "visual", one)) for one in (original, merged))
    size, weight = getattr(after, "image_size", None), next(after.parameters(), None)
    if size is None or weight is None or type(weight.data) is not Tensor:
        return
    with evaluating(before, after):
        difference = difference_on_noise(after, before, (size, size) if isinstance(size, int) else size, weight)
    if not difference <= (1e-4 if weight.dtype in (torch.float32, torch.float64) else 5e-2):
        raise ModelError(
            f"Merging the adapters and parametrisations of the model changes what it computes (by {difference:.1e}).",
            "Merge them with the library that made them, and pass the merged model.",
        )


def _refuse_hooks(name: str, module: nn.Module) -> None:
    for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        what = getattr(hook, "__qualname__", type(hook).__name__)
        raise ModelError(
            f"The model has a hook on {name or 'itself'} ({what}), which the conversion would lose.",
            "Remove it first (the handle that register_forward_hook returned has .remove()); hooks on the hooked tower "
            "are set with run_with_hooks.",
        )


def _refuse_replaced(name: str, module: nn.Module) -> None:
    for key, value in vars(module).items():
        own = getattr(type(module), key, None)
        if inspect.isfunction(own) and callable(value) and getattr(value, "__func__", None) is not own:
            raise _replaced(f"{name}.{key}".lstrip("."), module)
    for key in _foreign_methods(type(module)):
        raise _replaced(f"{type(module).__name__}.{key}", module)


def _replaced(what: str, module: nn.Module) -> ModelError:
    return ModelError(
        f"The method {what} was replaced by one that is not of {type(module).__module__.partition('.')[0]}.",
        "Undo that: the conversion reads weights and settings, and would lose what the new method does.",
    )


def _foreign_methods(kind: type) -> Iterator[str]:
    """Methods of a library's class whose code stands outside that library and torch."""
    for one in kind.__mro__:
        if one is nn.Module or not one.__module__.startswith(_LIBRARIES):
            continue
        homes = tuple(
            str(Path(str(sys.modules[top].__file__)).parent) for top in (one.__module__.split(".")[0], "torch")
        )
        for key, value in vars(one).items():
            # Methods that Python itself writes, such as a dataclass's, have no file.
            if inspect.isfunction(value) and not value.__code__.co_filename.startswith((*homes, "<")):
                yield key
