"""`headlens.load`: any model by its name. Which package builds it is decided here, in one place."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from headlens.errors import ModelError
from headlens.model_names import check_device
from headlens.models import transformers_clip
from headlens.models.clip import HookedCLIP
from headlens.models.description import LoadOptions
from headlens.models.open_clip_import import open_clip
from headlens.models.open_clip_load import SCHEMES, load_open_clip
from headlens.testbed import load_open_clip as load_testbed
from headlens.testbed.models import PREPROCESSING

_TESTBED = "testbed"


def load(
    name: str | os.PathLike[str],
    pretrained: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    *,
    pretrained_tag: str | None = None,
    options: LoadOptions | None = None,
) -> HookedCLIP:
    """Load a model and open its vision tower to hooks. It computes what its weights were trained with.

    `clip.description` says where it came from, which nonlinearity and preprocessing it has and who says so. What was
    switched, and what had to be assumed where the known weights of an architecture differ, is also a warning.

    Args:
        name: "testbed" and its variants, which come with headlens; an architecture of open_clip ("ViT-B-16");
            "hf-hub:organisation/model"; a folder with open_clip_config.json in it, such as `clip.save` writes; a folder
            or a name of transformers ("openai/clip-vit-base-patch32", "google/siglip-base-patch16-224"); or a
            checkpoint file, where its shapes belong to one architecture alone. A folder that merely has an
            architecture's name does not stand for it.
        pretrained: a tag of open_clip ("laion2b_s34b_b88k") or a checkpoint file; "random" for untrained weights,
            drawn with seed 0.
            Only for a name that is an architecture. Files are read as data: safetensors, PyTorch's own, TorchScript
            archives, transformers' CLIP; with the prefixes and nesting that training runs add.
        device: where to put the model.
        precision: open_clip's: "fp32", "fp16", "bf16", "pure_fp16", "pure_bf16".
        pretrained_tag: which tag a checkpoint file stems from. A file does not say which nonlinearity, mean and
            standard deviation it was trained with; open_clip's record of the tag does.
        options: the same, stated value by value; and image size, context length, stretched position embeddings.

    Raises:
        ModelError: for an unknown name (near ones are listed) or tag (all are listed), a download that fails, a file
            that cannot be read without executing it or is not what it should be, weights of another architecture or
            that are not finite, a vision tower that cannot be converted, and a device that is not here.
    """
    check_device(device)
    name, pretrained = _path("name", name), None if pretrained is None else _path("pretrained", pretrained)
    own_folder = pretrained is None and (Path(name) / "open_clip_config.json").is_file()
    for applies, build in (
        (name.split("-")[0] == _TESTBED and not own_folder, _load_testbed),
        (_is_of_transformers(name, pretrained), _load_transformers),
    ):
        if applies:
            if (pretrained, precision, pretrained_tag, options or LoadOptions()) != (None, "fp32", None, LoadOptions()):
                raise ModelError(
                    f"{name} is no architecture of open_clip: it takes no pretrained, precision, pretrained_tag or "
                    "options.",
                    "Leave them out; clip.half() or clip.to(torch.bfloat16) lowers the precision of what was loaded.",
                )
            return build(name).to(device)
    if not name.startswith(SCHEMES) and Path(name).is_dir():
        meant = own_folder or name.replace("/", "-") not in open_clip().list_models()
        name = f"local-dir:{name}" if meant else name
    return load_open_clip(name, pretrained, precision, pretrained_tag, options).to(device)


def _path(what: str, value: str | os.PathLike[str]) -> str:
    if not isinstance(value, str | os.PathLike) or os.fspath(value).strip() in ("", *SCHEMES):
        raise ModelError(
            f"{what} is {value!r}, not a name or a path.",
            'Pass an architecture and its weights, hl.load("ViT-B-16", "openai"), a name, a folder or a file.',
        )
    path = os.fspath(value)
    if "://" in path:
        raise ModelError(
            f"{path} is an address, not a name or a path.",
            "Fetch the file and pass its path; a model of the hub is loaded by its name, hl.load('some/model').",
        )
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if (link := Path(path)).is_symlink() and not link.exists():
        raise ModelError(
            f"{path} is a link to {link.readlink()}, where nothing is.", "Fetch the file that it points to."
        )
    return path


def _is_of_transformers(name: str, pretrained: object) -> bool:
    """Whether a name is a folder of transformers, or one of a hub that no architecture of open_clip has."""
    if pretrained is not None or name.startswith(SCHEMES) or Path(name).is_file():
        return False
    if Path(name).is_dir():
        return transformers_clip.is_folder(Path(name))
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and "-".join(parts) not in open_clip().list_models() and parts[0] != "."


def _load_transformers(name: str) -> HookedCLIP:
    model, processor, source = transformers_clip.load(name)
    clip = HookedCLIP.from_transformers(model, processor, name, copy=False)
    clip.description = replace(
        clip.description,
        source=source,
        call=f"hl.load({json.dumps(name)})",
        nonlinearity_from=f"config.json of the {source}",
        preprocessing_from=f"preprocessor_config.json of the {source}",
    )
    return clip


def _load_testbed(name: str) -> HookedCLIP:
    model, preprocess, tokenizer = load_testbed(name)
    clip = HookedCLIP.from_open_clip(model, preprocess, tokenizer, copy=False)
    clip.description = replace(
        clip.description,
        name=name,
        source="embedded",
        call=f"hl.load({json.dumps(name)})",
        nonlinearity_from="its recipe",
        preprocessing=PREPROCESSING,
        preprocessing_from="its recipe",
    )
    return clip
