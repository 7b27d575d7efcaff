"""Load a model by name: embedded, from a hub, or from a file."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

import torch
from torch import nn

from headlens.errors import ModelError
from headlens.models.checkpoints import check_readable, guess_architecture
from headlens.models.clip import HookedCLIP
from headlens.models.open_clip_config import check_model_config
from headlens.models.open_clip_import import open_clip

#: Models that come with headlens, by the first part of their name: module and function that build them.
EMBEDDED: dict[str, tuple[str, str]] = {"testbed": ("headlens.testbed", "load_open_clip")}

RANDOM = "random"
_SCHEMES = ("hf-hub:", "local-dir:")
_LOCAL_WAY = (
    "Without a network, fetch the checkpoint elsewhere and pass its file: "
    'load("ViT-B-16", pretrained="/path/to/open_clip_model.safetensors"), or a folder that holds '
    'open_clip_config.json and the weights: load("local-dir:/path/to/folder").'
)


def _check_device(device: str | torch.device) -> None:
    """Before anything is fetched or read: a device that torch cannot put a number on is not here."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ModelError(
            f"a device that is here: {', '.join(here)}",
            f"{str(device)!r} ({shorten(str(error), 120)})",
            "Name one of these; a GPU also needs a torch that was built for it.",
        ) from error


def load(
    name: str,
    pretrained: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
) -> HookedCLIP:
    """Load a model through open_clip and open its vision tower to hooks.

    Args:
        name: "testbed" and its variants, which come with headlens; an architecture of open_clip ("ViT-B-16");
            "hf-hub:organisation/model"; "local-dir:folder" or just a folder, with open_clip_config.json in it; or a
            checkpoint file, where its shapes belong to one architecture alone.
        pretrained: a tag of open_clip ("laion2b_s34b_b88k") or a checkpoint file; "random" for untrained weights.
            Only for a name that is an architecture.
        device: where to put the model.
        precision: open_clip's: "fp32", "fp16", "bf16", "pure_fp16", "pure_bf16".

    Raises:
        ModelError: for an unknown name (near ones are listed) or tag (all are listed), a download that fails, a file
            that cannot be read without executing it, weights of another architecture or that are not finite, a vision
            tower that cannot be converted, and a device that is not here.
    """
    _check_device(device)
    prefix = name.split("-")[0]
    if prefix in EMBEDDED and not Path(name).exists():
        module, function = EMBEDDED[prefix]
        model, preprocess, tokenizer = getattr(importlib.import_module(module), function)(name)
        return HookedCLIP.from_open_clip(model, preprocess, tokenizer, name=name, copy=False).to(device)

    if Path(name).is_dir():
        name = f"local-dir:{name}"
    elif Path(name).is_file() and pretrained is None:
        name, pretrained = guess_architecture(Path(name)), name
    if name.startswith(_SCHEMES):
        if pretrained is not None:
            raise ModelError(
                f"no `pretrained` beside {name}",
                repr(pretrained),
                "A hub or a folder holds its own weights: leave `pretrained` out.",
            )
    else:
        name = name.replace("/", "-")
        _check_architecture(name)
        check_model_config(open_clip().get_model_config(name), name)
        pretrained = _check_pretrained(name, pretrained)
    model, preprocess, tokenizer = _create(name, pretrained, precision)
    label = name if pretrained in (None, RANDOM) else f"{name} ({pretrained})"
    return HookedCLIP.from_open_clip(model, preprocess, tokenizer, name=label, copy=False).to(device)


def _check_architecture(name: str) -> None:
    known = [*EMBEDDED, *open_clip().list_models()]
    if name not in known:
        lowered = {one.lower(): one for one in known}
        near = [lowered[x] for x in difflib.get_close_matches(name.lower(), lowered, n=4, cutoff=0.5)]
        raise ModelError(
            "the name of a model, a folder or a checkpoint file",
            repr(name),
            (f"Near it are {', '.join(near)}. " if near else "")
            + "open_clip.list_models() lists every architecture; hubs are named as hf-hub:organisation/model.",
        )


def _check_pretrained(name: str, pretrained: str | os.PathLike[str] | None) -> str:
    tags = open_clip().list_pretrained_tags_by_model(name)
    listed = f"Known tags of {name} are {', '.join(tags)}" if tags else f"open_clip knows no weights for {name}"
    if pretrained is None:
        raise ModelError(
            f"weights for {name}", "pretrained=None", f"{listed}; a checkpoint file can be passed in place of a tag."
        )
    pretrained = os.fspath(pretrained)
    if pretrained == RANDOM or open_clip().pretrained.is_pretrained_cfg(name, pretrained):
        return pretrained
    if not Path(pretrained).is_file():
        raise ModelError(f"a tag or a checkpoint file of {name}", repr(pretrained), f"{listed}.")
    check_readable(Path(pretrained))
    return pretrained


def _create(name: str, pretrained: str | os.PathLike[str] | None, precision: str) -> tuple[nn.Module, Any, Any]:
    untrained = pretrained == RANDOM
    try:
        with _data_only(), _quiet_root_logger():
            model, _, preprocess = open_clip().create_model_and_transforms(
                name,
                None if untrained else pretrained,
                precision=precision,
                weights_only=True,
                require_pretrained=not untrained,
            )
            tokenizer = open_clip().get_tokenizer(name)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        _explain(error, name, pretrained)
    return model, preprocess, tokenizer


def _explain(error: Exception, name: str, pretrained: object) -> NoReturn:
    """Raise what open_clip met as an error that says what to do."""
    said = str(error)
    first = said.strip().splitlines()[0] if said.strip() else type(error).__name__
    if "Error(s) in loading state_dict" in said:
        lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]
        raise ModelError(
            f"weights of the architecture {name}",
            f"a checkpoint that does not fit it ({shorten(' '.join(lines), 300, placeholder=' …')})",
            "Name the architecture that the checkpoint was trained with.",
        ) from error
    if name.startswith("local-dir:"):
        raise ModelError(
            "a folder with open_clip_config.json and the weights",
            f"{name.removeprefix('local-dir:')} ({shorten(first, 300, placeholder=' …')})",
            "A folder is written by open_clip.push_to_hf_hub or downloaded from a hub as a whole.",
        ) from error
    raise ModelError(
        f"the weights of {name}" + (f" ({pretrained})" if pretrained else "") + " to be at hand or to download",
        shorten(first, 300, placeholder=" …"),
        _LOCAL_WAY,
    ) from error


@contextmanager
def _data_only() -> Iterator[None]:
    """Make torch refuse to execute anything while a checkpoint is read, whatever a caller in between asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before, no = os.environ.get(name), os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
        if no is not None:
            os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = no


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep open_clip's `logging.info` from installing a handler on a root logger that has none."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
