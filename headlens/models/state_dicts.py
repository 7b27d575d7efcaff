"""From tables of tensors, as files hold them, to the one table that a model of open_clip takes.

Steps: find the table of weights among what a training run saved beside it; take away the names of wrappers (`module.`,
`_orig_mod.`, …) and of whatever the model was a part of (`model.`, `base_model.model.`, …); rename transformers'
tensors; compare names and shapes with the model's own. What does not fit is named, and nothing is dropped silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from headlens.errors import ModelError
from headlens.models.open_clip_import import open_clip

Tensors = dict[str, Tensor]

# What data parallelism, compilation, sharding and checkpointing put into names, wherever it stands.
_WRAPPERS = {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# How a format is recognised: names that only it has, behind the prefix of whatever the model was a part of.
_FORMATS = {
    "open_clip": re.compile(r"((?:.+?\.)?)visual\.(?:conv1|class_embedding|proj|trunk|transformer|layer1|ln_post)\b"),
    "transformers": re.compile(r"((?:.+?\.)?)(?:vision_model|text_model)\.(?:embeddings|encoder)\."),
    "Apple's MobileCLIP": re.compile(r"((?:.+?\.)?)image_encoder\.model\."),
    "transformers, vision tower alone": re.compile(r"((?:.+?\.)?)embeddings\.(?:patch_embedding|class_embedding)\b"),
    "open_clip, vision tower alone": re.compile(r"((?:.+?\.)?)(?:conv1\.weight|class_embedding)$"),
}
# What OpenAI's archives and torch's averaged models keep beside the weights, and buffers that older versions of
# open_clip and transformers saved.
_BESIDE = re.compile(r"input_resolution|context_length|vocab_size|n_averaged|(?:.*\.)?(?:position_ids|attn_mask)")
#: What messages call a checkpoint that came as an object.
LOADED = "the checkpoint"
_VISION = re.compile(r"visual\.")
_EXACT = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


@dataclass(frozen=True)
class Weights:
    """The tensors of one model.

    Attributes:
        tensors: by open_clip's names, as far as they could be renamed.
        format: whose names they had: "open_clip", "transformers", …
        origin: the file, for messages.
        notes: what was renamed or left out, as sentences.
    """

    tensors: Tensors
    format: str
    origin: str
    notes: tuple[str, ...] = field(default=())

    @property
    def vision_alone(self) -> bool:
        """Whether there is a vision tower and nothing of a text tower."""
        others = [name for name in self.tensors if not _VISION.match(name) and not name.startswith("logit_")]
        return not others and any(_VISION.match(name) for name in self.tensors)


def tables(value: Any, name: str = "", depth: int = 4) -> Iterator[tuple[str, Tensors]]:
    """Every table of tensors (or NumPy arrays) inside nested tables and lists, with the path to it, outermost first."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or depth == 0:
        return
    value = {key: torch.tensor(one) if _is_numbers(one) else one for key, one in value.items()}
    value = {key: one.to_dense() if isinstance(one, Tensor) and one.is_sparse else one for key, one in value.items()}
    if found := {str(key): one for key, one in value.items() if isinstance(one, Tensor)}:
        yield name, found
    for key, one in value.items():
        if not isinstance(one, Tensor):
            yield from tables(one, f"{name}.{key}" if name else str(key), depth - 1)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fi"


def read_weights(checkpoint: Any, origin: str) -> Weights:
    """The weights of a model, under open_clip's names, from what a file holds.

    Raises:
        ModelError: for no weights, those of several models, and adapters that were not merged.
    """
    table = _unwrapped(one_table(checkpoint, origin), origin)
    _refuse_unmerged(table, origin)
    if hollow := [name for name, tensor in table.items() if tensor.is_meta]:
        raise ModelError(
            f"{origin} holds tensors without numbers, of the device 'meta': {_few(hollow)}.",
            "Load the model's weights before saving its state dict.",
        )
    table = _pruned(table)
    kind, prefix = _recognise(table, origin) or ("", "")
    inside = {name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)}
    inside = {name: tensor for name, tensor in inside.items() if not _BESIDE.fullmatch(name)}
    notes = []
    if outside := [name for name in table if not name.startswith(prefix)]:
        notes.append(f"{_few(outside)} of {origin} stand outside {prefix!r}, where the model is, and were left out.")
    if kind == "open_clip, vision tower alone":
        inside = {f"visual.{name}": tensor for name, tensor in inside.items()}
    if kind.startswith("transformers"):
        inside = _from_transformers(inside)
    return Weights(inside, kind, origin, tuple(notes))


def one_table(checkpoint: Any, origin: str) -> Tensors:
    """The one table of tensors that holds a model.

    Raises:
        ModelError: for no tensors, or those of several models.
    """
    found = list(tables(checkpoint))
    models = [(name, one) for name, one in found if _recognise(_unwrapped(one, origin), origin)]
    if len(models) == 1 or (not models and len(found) == 1):
        return (models or found)[0][1]
    if models:
        raise _several(origin, [name for name, _ in models])
    top = list(checkpoint) if isinstance(checkpoint, Mapping) else [type(checkpoint).__name__]
    entries = f"its entries are {_few([str(name) for name in top])}" if top else "it is empty"
    raise ModelError(
        f"{origin} holds no weights of an image-text model; {entries}.",
        "Save the model's state dict: torch.save(model.state_dict(), 'weights.pt')",
    )


def _several(origin: str, names: list[str]) -> ModelError:
    held = repr(origin) if origin != LOADED else "checkpoint"
    return ModelError(
        f"{origin} holds several models: {', '.join(map(repr, names))}.",
        "Write the one that is meant to a file of its own, for example: import torch; from headlens.models import "
        f"tensors_of; torch.save(tensors_of({held}, {names[0]!r}), 'weights.pt')",
    )


def _few(names: list[str]) -> str:
    listed = ", ".join(names[:4])
    return f"{listed} and {len(names) - 4} more" if len(names) > 4 else listed


def _unwrapped(table: Tensors, origin: str) -> Tensors:
    out = {".".join(one for one in name.split(".") if one not in _WRAPPERS): tensor for name, tensor in table.items()}
    if len(out) < len(table):
        raise ModelError(
            f"{origin} holds tensors twice, with and without the names of a wrapper such as 'module.'.",
            "Save the state dict of the model inside the wrapper: torch.save(model.module.state_dict(), 'weights.pt')",
        )
    return out


def _recognise(table: Tensors, origin: str) -> tuple[str, str] | None:
    """The format, and the prefix that its names have."""
    for kind, pattern in _FORMATS.items():
        prefixes = sorted(
            {match[1] for name in table if (match := pattern.match(name))}, key=lambda prefix: (len(prefix), prefix)
        )
        if len(prefixes) > 1 and prefixes[0] != "":
            raise _several(origin, prefixes)
        if prefixes:
            return kind, prefixes[0]
    return None


def _refuse_unmerged(table: Tensors, origin: str) -> None:
    marks = {
        r"\.(?:lora_[A-Z]|base_layer|lora_magnitude)": (
            "LoRA adapters that were not merged",
            "Merge them before saving: torch.save(model.merge_and_unload().state_dict(), 'weights.pt')",
        ),
        r"(?:^|\.)parametrizations\.|weight_(?:g|v)$": (
            "parametrised weights",
            "Remove the parametrisations before saving: torch.nn.utils.parametrize.remove_parametrizations",
        ),
    }
    for mark, (what, remedy) in marks.items():
        if found := [name for name in table if re.search(mark, name)]:
            raise ModelError(f"{origin} holds {what}: {_few(found)}.", f"{remedy}.")


def _pruned(table: Tensors) -> Tensors:
    """Weights that torch.nn.utils.prune masks, multiplied by their masks as the pruned layer does."""
    masked = {name.removesuffix("_mask") for name in table if name.endswith("_mask")}
    masked = {name for name in masked if f"{name}_orig" in table}
    rest = {n: t for n, t in table.items() if n.removesuffix("_mask").removesuffix("_orig") not in masked}
    return rest | {name: table[f"{name}_orig"] * table[f"{name}_mask"] for name in masked}


_BLOCK_NAMES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TOP_NAMES = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}


def _from_transformers(table: Tensors) -> Tensors:
    """transformers' CLIP under open_clip's names. Names that it does not know stay as they are, to be reported."""
    if not any(name.startswith(("vision_model.", "text_model.")) for name in table):
        table = {name if name.endswith("projection.weight") else f"vision_model.{name}": t for name, t in table.items()}
    out: Tensors = {}
    for name, tensor in table.items():
        layer = re.fullmatch(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in _TOP_NAMES:
            out[_TOP_NAMES[name]] = tensor
        elif name in ("visual_projection.weight", "text_projection.weight"):
            out["visual.proj" if name.startswith("visual") else "text_projection"] = tensor.T
        elif layer is not None:
            block = f"{'visual.' if layer[1] == 'vision' else ''}transformer.resblocks.{layer[2]}."
            if layer[3] in _BLOCK_NAMES:
                out[f"{block}{_BLOCK_NAMES[layer[3]]}.{layer[4]}"] = tensor
            elif layer[3] == "self_attn.q_proj":
                whole = [table.get(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
                if all(one is not None for one in whole):
                    out[f"{block}attn.in_proj_{layer[4]}"] = torch.cat([one for one in whole if one is not None])
            elif layer[3] not in ("self_attn.k_proj", "self_attn.v_proj"):
                out[name] = tensor
        else:
            out[name] = tensor
    return out


def _signature(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """The telling shapes of an architecture; None where its tower is not a plain vision transformer."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision or not isinstance(vision.get("layers"), int) or "hf_model_name" in text:
        return None
    width, patch, image = vision["width"], vision["patch_size"], vision["image_size"]
    rows, columns = (image, image) if isinstance(image, int) else image
    return {
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.positional_embedding": (1 + (rows // patch) * (columns // patch), width),
        "visual.proj": (width, config["embed_dim"]),
        "layers": (vision["layers"], text.get("layers", 12)),
        "token_embedding.weight": (text.get("vocab_size", 49408), text.get("width", 512)),
        "positional_embedding": (text.get("context_length", 77), text.get("width", 512)),
    }


def fitting_architectures(weights: Weights) -> list[str]:
    """The architectures of open_clip that the shapes belong to.

    Shapes show neither the nonlinearity nor the number of heads, so that often several remain.
    """
    # A tower with its own text module keeps the same tensors under another prefix.
    shapes = {name.removeprefix("text."): tuple(tensor.shape) for name, tensor in weights.tensors.items()}
    depths = tuple(
        len({name.split(".")[place] for name in shapes if name.startswith(start)})
        for start, place in (("visual.transformer.resblocks.", 3), ("transformer.resblocks.", 2))
    )
    found: dict[str, tuple[int, ...]] = shapes | {"layers": depths}
    matching = []
    for name in open_clip().list_models():
        signature = _signature(open_clip().get_model_config(name)) or {}
        if weights.vision_alone:
            signature = {key: shape for key, shape in signature.items() if _VISION.match(key)} | (
                {"layers": (signature["layers"][0], 0)} if signature else {}
            )
        if signature and all(found.get(key) == shape for key, shape in signature.items()):
            matching.append(name)
    return matching


@dataclass(frozen=True)
class Stretched:
    """How position embeddings were changed to fit: of the image grid, and of the text tower's places."""

    positions: str = "as trained"
    context: str = "as trained"


def fit(model: Any, weights: Weights, name: str, stretch: bool) -> tuple[Stretched, Weights]:
    """Load weights into a model of open_clip, each in its place.

    Args:
        model: `open_clip.CLIP` or `CustomTextCLIP`. Where the weights are of a vision tower alone, its text tower keeps
            the numbers that it has.
        weights: the tensors.
        name: the architecture, for messages.
        stretch: interpolate position embeddings of another length as open_clip does, instead of refusing them.

    Raises:
        ModelError: for weights of another architecture, or an incomplete table.
    """
    tensors, notes = dict(weights.tensors), list(weights.notes)
    factory = open_clip().factory
    if weights.format.startswith("Apple"):
        tensors = dict(factory.convert_state_dict(model, tensors))
    custom = not hasattr(model, "positional_embedding")
    if custom and "text_projection" in tensors:
        tensors = dict(factory.convert_to_custom_text_state_dict(tensors))
    elif not custom and any(one.startswith("text.") for one in tensors):
        tensors = {one.removeprefix("text."): tensor for one, tensor in tensors.items()}
    own = {one: tuple(tensor.shape) for one, tensor in model.state_dict().items()}
    for one in ("logit_scale", "logit_bias"):
        if one in tensors and one in own and tensors[one].numel() == 1:
            tensors[one] = tensors[one].reshape(own[one])
    if "logit_bias" in own and "logit_bias" not in tensors and not weights.vision_alone:
        tensors["logit_bias"] = torch.zeros(own["logit_bias"])
        notes.append(f"{weights.origin} has no logit_bias, which {name} has: zero is used.")
    for one, tensor in model.state_dict().items():
        if one in tensors and tensor.is_floating_point() and tensors[one].dtype not in _EXACT:
            raise ModelError(
                f"{weights.origin} holds {str(tensors[one].dtype).removeprefix('torch.')} numbers for {one}.",
                "Load a checkpoint in float32, bfloat16 or float16, one that was not quantised.",
            )
    stretched = _stretch(model, tensors, weights.origin, name, stretch)
    wanted = {one: shape for one, shape in own.items() if not weights.vision_alone or _VISION.match(one)}
    if weights.vision_alone:
        tensors = {one: tensor for one, tensor in tensors.items() if _VISION.match(one)}
    _check_fit(tensors, wanted, weights, name)
    model.load_state_dict(tensors, strict=not weights.vision_alone)
    return stretched, replace(weights, notes=tuple(notes))


def _stretch(model: Any, tensors: Tensors, origin: str, name: str, allowed: bool) -> Stretched:
    """Interpolate position embeddings in place, where that is allowed."""
    changes, stretched = {}, {}
    for key, wanted in ((k, tuple(v.shape)) for k, v in model.state_dict().items()):
        if not key.endswith(("positional_embedding", "pos_embed")) or key not in tensors:
            continue
        have = tensors[key]
        if have.ndim != len(wanted) or have.shape[-1] != wanted[-1] or have.shape[-2] == wanted[-2]:
            continue
        rows = have.float().flatten(0, -2)  # half precision is not interpolated everywhere
        if key.startswith("visual."):
            grid, prefix = _grid(model.visual)
            side = math.isqrt(len(rows) - prefix)
            if side * side != len(rows) - prefix:
                continue
            changes["positions"] = f"stretched from {side} × {side} to {grid[0]} × {grid[1]} patches"
            image = rearrange(rows[prefix:], "(row column) width -> 1 width row column", row=side)
            image = F.interpolate(image, grid, mode="bicubic", antialias=True, align_corners=False)
            rows = torch.cat([rows[:prefix], rearrange(image, "1 width row column -> (row column) width")])
        else:
            changes["context"] = f"stretched from {len(rows)} to {wanted[-2]} places"
            rows = F.interpolate(rows.T[None], wanted[-2], mode="linear", align_corners=False)[0].T
        stretched[key] = rows.view(wanted)
    if changes and not allowed:
        what = "; ".join(
            ("its position embeddings would be " if key == "positions" else "its text position embeddings would be ")
            + text
            for key, text in changes.items()
        )
        raise ModelError(
            f"{origin} was trained at another size than {name}: {what}.",
            "Name the architecture of its own size; or, to stretch them as open_clip does, pass "
            "options=hl.LoadOptions(stretch_positions=True).",
        )
    tensors |= stretched
    return Stretched(**changes)


def _grid(visual: Any) -> tuple[tuple[int, int], int]:
    """Rows and columns of a tower's patches, and how many tokens with a position stand in front of them."""
    trunk = getattr(visual, "trunk", None)
    if trunk is not None:  # of timm
        return tuple(trunk.patch_embed.grid_size), 0 if trunk.no_embed_class else trunk.num_prefix_tokens
    if not hasattr(visual, "grid_size"):  # of a ResNet: its last feature map
        side = math.isqrt(len(visual.attnpool.positional_embedding) - 1)
        return (side, side), 1
    return tuple(visual.grid_size), 1


def _check_fit(tensors: Tensors, wanted: Mapping[str, tuple[int, ...]], weights: Weights, name: str) -> None:
    missing = [one for one in wanted if one not in tensors]
    unknown = [one for one in tensors if one not in wanted]
    other = [one for one in wanted if one in tensors and tuple(tensors[one].shape) != wanted[one]]
    if not (missing or unknown or other):
        return
    described = []
    if not any(one in wanted for one in tensors):
        described.append(f"none of its {len(tensors)} tensors has a name of that model's; it has {_few(unknown)}")
    else:
        if missing:
            described.append(f"it lacks {len(missing)} of {len(wanted)} tensors: {_few(missing)}")
        if unknown:
            described.append(f"it has {len(unknown)} that {name} does not have: {_few(unknown)}")
    if other:
        shapes = [f"{one} is {list(tensors[one].shape)} where {name} has {list(wanted[one])}" for one in other]
        described.append(f"{len(other)} of its tensors have another shape: {'; '.join(shapes[:3])}")
    kind = f" (in the format of {weights.format})" if weights.format and weights.format != "open_clip" else ""
    fitting = fitting_architectures(weights)
    raise ModelError(
        f"{weights.origin}{kind} does not hold the weights of {name}: {'; '.join(described)}.",
        f"Its shapes are of another architecture, {', '.join(fitting)}: name that."
        if fitting and name not in fitting
        else "Name the architecture that it was trained with, or save the whole state dict of that model.",
    )
