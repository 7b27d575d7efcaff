"""Write a model as a folder of open_clip: its configuration, weights, tokenizer, and a card."""

from __future__ import annotations

import copy
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headlens.errors import HeadlensError, ModelError, OutputError
from headlens.models import transformers_clip
from headlens.models.altered import first_difference
from headlens.models.families.conversion import family_of, to_original
from headlens.models.families.open_clip_vit import build_visual, vision_config
from headlens.models.open_clip_import import open_clip

CONFIG, WEIGHTS, CARD = "open_clip_config.json", "open_clip_model.safetensors", "README.md"
_WRITTEN = "Written by headlens"


def save_open_clip(clip: Any, folder: Path, card: str = "") -> Path:
    """See `HookedCLIP.save`; `clip` is one, which this file does not import because that one imports it."""
    if clip.text is None:
        raise ModelError(
            f"{clip.name} is a vision tower alone, and open_clip loads whole models.",
            "Load a checkpoint that holds the text tower too.",
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _is_ours(folder))):
        what = "holds other files" if folder.is_dir() else "is a file"
        raise OutputError(f"{folder} {what}.", "Name a new folder, or an empty one.")
    if isinstance(clip.text, transformers_clip.TextTower):
        _write_card(clip, folder, card)
        transformers_clip.save(clip, folder)
        return folder
    preprocessing = clip.description.preprocessing
    if preprocessing is None:
        raise ModelError(
            f"The preprocessing of {clip.name} is not one that open_clip's configuration can describe.",
            "Use a transform of open_clip (shortest, longest or squash, then a normalisation): "
            "clip.preprocess = open_clip.image_transform(size, is_train=False, mean=…, std=…).",
        )
    config = copy.deepcopy(clip.open_clip_config) or _config_of(clip)
    # open_clip brings its own tokenizer; files of others have to be in the folder.
    bundled = type(clip.tokenizer) is open_clip().SimpleTokenizer
    if not bundled and not hasattr(clip.tokenizer, "save_pretrained"):
        raise ModelError(
            f"The tokenizer of {clip.name} ({type(clip.tokenizer).__name__}) cannot be written to a folder.",
            "Use open_clip's (clip.tokenizer = open_clip.get_tokenizer(name)), or one with a method save_pretrained.",
        )
    config["text_cfg"] |= {} if bundled else {"hf_tokenizer_name": folder.name}
    names = _check_config(clip, config)
    text = {name: tensor.detach() for name, tensor in clip.text.state_dict().items()}
    vision = {f"visual.{name}": tensor for name, tensor in to_original(clip.vision, names).items()}
    _write_card(clip, folder, card)
    if not bundled:
        clip.tokenizer.save_pretrained(str(folder))
    save_file(_owned(vision | text), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing.as_open_clip()}, indent=2) + "\n",
        encoding="utf-8",
    )
    # safetensors writes for its owner alone; a model is for those who may read the folder's other files, too.
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)
    return folder


def _is_ours(folder: Path) -> bool:
    card = folder / CARD
    return card.is_file() and _WRITTEN in card.read_text(encoding="utf-8")


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of their own, as safetensors asks: no two share memory."""
    return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _text_config(text: Any, projected: Any) -> dict[str, Any]:
    transformer = open_clip().transformer
    block = text.transformer.resblocks[0]
    config: dict[str, Any] = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.transformer.width,
        "heads": block.attn.num_heads,
        "layers": text.transformer.layers,
        "mlp_ratio": (block.mlp.c_fc.out_features + 0.5) / text.transformer.width,
        "pool_type": getattr(text, "text_pool_type", getattr(text, "pool_type", "argmax")),
        "eos_id": getattr(text, "text_eos_id", getattr(text, "eos_id", 2)),
        "no_causal_mask": text.attn_mask is None,
        "proj_type": "none" if projected is None else "linear",
        "proj_bias": isinstance(projected, nn.Linear) and projected.bias is not None,
        "norm_kwargs": {"eps": text.ln_final.eps},
    }
    if isinstance(block.ls_1, transformer.LayerScale):
        config["ls_init_value"] = 1.0
    if isinstance(block.mlp.gelu, nn.GELU) and block.mlp.gelu.approximate == "tanh":
        config["act_kwargs"] = {"approximate": "tanh"}
    return config


def _config_of(clip: Any) -> dict[str, Any]:
    """open_clip's configuration of a model that came as an object. What it cannot say is found by `_check_config`."""
    kinds, cfg = open_clip().model, clip.vision.cfg
    text: Any = clip.text if type(clip.text) is kinds.CLIP else getattr(clip.text, "text", None)
    if type(clip.text) not in (kinds.CLIP, kinds.CustomTextCLIP) or not hasattr(text, "transformer"):
        raise ModelError(
            f"{clip.name} came as an object of {type(clip.text).__name__}, whose configuration cannot be read off it.",
            "Load it by its name or folder with hl.load, and save the model that this returns.",
        )
    if cfg.family != "open_clip":
        raise ModelError(
            f"{clip.name} came as an object, and its vision tower is of the family {cfg.family}, which open_clip's "
            "configuration names by an architecture of timm.",
            "Load it by its name or folder with hl.load, and save the model that this returns.",
        )
    config = {
        "embed_dim": cfg.d_embed,
        "quick_gelu": cfg.act == "quick_gelu",
        "vision_cfg": vision_config(cfg),
        "text_cfg": _text_config(text, text.text_projection),
    }
    if type(clip.text) is kinds.CustomTextCLIP:
        config["custom_text"] = True
    if clip.text.logit_bias is not None:
        config["init_logit_bias"] = 0.0
    if clip.text.logit_scale.ndim:
        config["nonscalar_logit_scale"] = True
    return config


def _check_config(clip: Any, config: dict[str, Any]) -> set[str]:
    """Refuse to write a folder from which open_clip would build another model than this one.

    Returns:
        The names of the vision tower's tensors there.
    """
    kinds = open_clip().model
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    if "hf_model_name" in config["text_cfg"] or "multimodal_cfg" in config:
        # Built from files of other libraries; such models only come by name, with their own configuration.
        with torch.device("meta"):
            return set(build_visual(config).state_dict())
    custom = config.get("custom_text", False)
    try:
        with torch.device("meta"):
            reference = (kinds.CustomTextCLIP if custom else kinds.CLIP)(**copy.deepcopy(arguments))
        transformer = open_clip().transformer
        norms = frozenset({transformer.LayerNorm, transformer.LayerNormFp32, nn.LayerNorm})
        family, names = family_of(reference.visual), set(reference.visual.state_dict())
        have = None if family is None else family.read(reference.visual).cfg
        settings = [one.name for one in fields(clip.vision.cfg) if one.compare and one.name != "norm_in_float32"]
        different = [name for name in settings if getattr(have, name, None) != getattr(clip.vision.cfg, name)]
        if different:
            raise ModelError(f"The vision tower's {', '.join(different)} cannot be said there.", "")
        del reference.visual
        if what := first_difference(clip.text, reference, (norms,)):
            raise ModelError(f"Its text side has {what}.", "")
    except (HeadlensError, TypeError, ValueError, RuntimeError) as error:
        what = error.problem if isinstance(error, HeadlensError) else str(error)
        raise ModelError(
            f"open_clip's configuration cannot describe {clip.name}: {what}",
            "Save its state dict instead, and build the model in Python.",
        ) from error
    return names


def _write_card(clip: Any, folder: Path, more: str) -> None:
    """First of all files: it says whose the folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(_card(clip, more), encoding="utf-8")


def _card(clip: Any, more: str) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in clip.description.facts().items())
    library, loads = "open_clip", "open_clip.create_model_and_transforms('local-dir:…')"
    if isinstance(clip.text, transformers_clip.TextTower):
        library, loads = "transformers", "transformers.AutoModel.from_pretrained('…')"
    text = (
        f"---\nlibrary_name: {library}\npipeline_tag: zero-shot-image-classification\ntags:\n- clip\n---\n"
        f"# {clip.name}\n\n{_WRITTEN}; `{loads}` loads it.\n\n"
        f"| what | value |\n| --- | --- |\n{rows}\n"
    )
    return f"{text}\n{more.strip()}\n" if more.strip() else text
