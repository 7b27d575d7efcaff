"""Look into a checkpoint file without executing anything in it."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from headlens.errors import ModelError
from headlens.models.open_clip_import import open_clip

Shapes = dict[str, tuple[int, ...]]


def _read_shapes(path: Path) -> Shapes:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    with warnings.catch_warnings():
        # What torch warns about (old pickles, TorchScript) it refuses right afterwards, or reads safely.
        warnings.simplefilter("ignore")
        loaded = torch.load(path, map_location="meta", weights_only=True)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise ValueError(f"a {type(loaded).__name__} in place of a table of tensors")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError("no tensors")
    return {name.removeprefix("module."): tuple(value.shape) for name, value in tensors.items()}


def check_readable(path: Path) -> Shapes:
    """The shapes of a checkpoint's tensors, read as data.

    Raises:
        ModelError: for a file that is damaged, or that could be read only by executing what is in it (TorchScript
            archives, pickled objects).
    """
    if path.suffix in (".npz", ".npy"):
        return {}
    from safetensors import SafetensorError

    try:
        return _read_shapes(path)
    except (RuntimeError, OSError, ValueError, EOFError, TypeError, pickle.UnpicklingError, SafetensorError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            "a checkpoint that can be read as data alone",
            f"{path} ({said[:200]})",
            "Save its state dict as safetensors; TorchScript archives and pickled models are refused because reading"
            " them would run them.",
        ) from error


def _signature(model_config: dict[str, Any]) -> Shapes | None:
    """The telling shapes of an architecture; None where its tower is not a plain vision transformer."""
    vision, text = model_config["vision_cfg"], model_config["text_cfg"]
    if "timm_model_name" in vision or not isinstance(vision.get("layers"), int) or "hf_model_name" in text:
        return None
    width, patch, image = vision["width"], vision["patch_size"], vision["image_size"]
    rows, columns = (image, image) if isinstance(image, int) else image
    embed = model_config["embed_dim"]
    return {
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.positional_embedding": (1 + (rows // patch) * (columns // patch), width),
        "visual.proj": (width, embed),
        "layers": (vision["layers"], text.get("layers", 12)),
        "token_embedding.weight": (text.get("vocab_size", 49408), text.get("width", 512)),
        "positional_embedding": (text.get("context_length", 77), text.get("width", 512)),
    }


def guess_architecture(path: Path) -> str:
    """The one architecture of open_clip that a checkpoint's shapes belong to.

    Shapes tell neither the nonlinearity nor the number of heads, so that often several architectures remain.

    Raises:
        ModelError: where none or several remain; they are listed.
    """
    # A tower with its own text module keeps the same tensors under another prefix.
    shapes = {name.removeprefix("text."): shape for name, shape in check_readable(path).items()}
    depths = tuple(
        len({name.split(".")[place] for name in shapes if name.startswith(start)})
        for start, place in (("visual.transformer.resblocks.", 3), ("transformer.resblocks.", 2))
    )
    found = shapes | {"layers": depths}
    matching = []
    for name in open_clip().list_models():
        signature = _signature(open_clip().get_model_config(name))
        if signature is not None and all(found.get(key) == shape for key, shape in signature.items()):
            matching.append(name)
    if len(matching) == 1:
        return matching[0]
    raise ModelError(
        "a checkpoint whose shapes belong to one architecture",
        f"{path}, which " + (f"fits {', '.join(matching)}" if matching else "fits none that open_clip lists"),
        'Name the architecture: load("ViT-B-16", pretrained="/path/to/checkpoint.safetensors").',
    )
