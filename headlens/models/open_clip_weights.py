"""From open_clip's `VisionTransformer` to the hooked tower and back, tensor for tensor."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from headlens.errors import ModelError
from headlens.models.altered import refuse_differences, unaltered
from headlens.models.config import VisionConfig
from headlens.models.open_clip_config import read_config
from headlens.models.open_clip_import import open_clip
from headlens.models.vision_transformer import HookedVisionTransformer


def check_finite(module: nn.Module, prefix: str = "") -> None:
    """Raise `ModelError`, naming the tensor, for a weight that is not a finite number."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ModelError(
                "weights that are finite numbers",
                f"{bad} of {tensor.numel()} values of {prefix}{name} that are NaN or infinite",
                "The checkpoint is damaged, or its training diverged: load another one.",
            )


def _to_hooked(weights: dict[str, Tensor], cfg: VisionConfig) -> dict[str, Tensor]:
    """open_clip's tensors, renamed and seen by head. Every result is a view of what it came from."""

    def by_head(flat: Tensor) -> Tensor:
        if flat.ndim == 1:
            return rearrange(flat, "(head d_head) -> head d_head", head=cfg.n_heads)
        return rearrange(flat, "(head d_head) d_model -> head d_model d_head", head=cfg.n_heads)

    out = {
        "W_E": weights["conv1.weight"],
        "class_token": weights["class_embedding"],
        "W_pos": weights["positional_embedding"],
        "W_P": weights["proj"],
        "ln_final.w": weights["ln_post.weight"],
        "ln_final.b": weights["ln_post.bias"],
    }
    if cfg.ln_pre:
        out |= {"ln_pre.w": weights["ln_pre.weight"], "ln_pre.b": weights["ln_pre.bias"]}
    for layer in range(cfg.n_layers):
        old, new = f"transformer.resblocks.{layer}.", f"blocks.{layer}."
        for letter, w, b in zip(
            "QKV",
            weights[f"{old}attn.in_proj_weight"].chunk(3),
            weights[f"{old}attn.in_proj_bias"].chunk(3),
            strict=True,
        ):
            out |= {f"{new}attn.W_{letter}": by_head(w), f"{new}attn.b_{letter}": by_head(b)}
        w_out = weights[f"{old}attn.out_proj.weight"]
        out |= {
            f"{new}attn.W_O": rearrange(w_out, "d_model (head d_head) -> head d_head d_model", head=cfg.n_heads),
            f"{new}attn.b_O": weights[f"{old}attn.out_proj.bias"],
            f"{new}mlp.W_in": weights[f"{old}mlp.c_fc.weight"].T,
            f"{new}mlp.b_in": weights[f"{old}mlp.c_fc.bias"],
            f"{new}mlp.W_out": weights[f"{old}mlp.c_proj.weight"].T,
            f"{new}mlp.b_out": weights[f"{old}mlp.c_proj.bias"],
        }
        for n in (1, 2):
            out |= {f"{new}ln{n}.w": weights[f"{old}ln_{n}.weight"], f"{new}ln{n}.b": weights[f"{old}ln_{n}.bias"]}
        if cfg.layer_scale:
            out |= {
                f"{new}attn.scale": weights[f"{old}ls_1.gamma"],
                f"{new}mlp.scale": weights[f"{old}ls_2.gamma"],
            }
    return out


def convert(visual: nn.Module, copy: bool = True) -> HookedVisionTransformer:
    """A hooked tower with the weights of `visual`, an open_clip `VisionTransformer`, in evaluation mode.

    Args:
        visual: the tower.
        copy: own the weights; without it they share the original's memory.

    Raises:
        ModelError: for a setting that is not understood, or for weights that are not finite, each by name.
    """
    visual = unaltered(visual)
    cfg = read_config(visual)
    reference = _empty_open_clip(cfg, type(cast(Any, visual).transformer.resblocks[0]).__name__)
    transformer = open_clip().transformer
    norms = frozenset({transformer.LayerNorm, transformer.LayerNormFp32, nn.LayerNorm})
    refuse_differences(visual, reference, (norms, frozenset({transformer.PatchDropout, nn.Identity})))
    check_finite(visual, "visual.")
    with torch.device("meta"):
        hooked = HookedVisionTransformer(cfg)
    weights = {name: tensor.detach() for name, tensor in visual.state_dict().items()}
    if copy:
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    for name, tensor in reference.state_dict().items():
        if name not in weights:  # a missing bias is one of zeros, a norm's missing weight one of ones
            fill = torch.zeros if name.endswith("bias") else torch.ones
            weights[name] = fill(tensor.shape, dtype=weights["proj"].dtype, device=weights["proj"].device)
    hooked.load_state_dict(_to_hooked(weights, cfg), assign=True)
    return hooked.eval()


def to_open_clip(vision: HookedVisionTransformer) -> dict[str, Tensor]:
    """The tower's weights under open_clip's names, as `visual.load_state_dict` takes them.

    Bitwise the inverse of `convert`. Tensors are contiguous copies, ready to be written to a file.
    """
    cfg, mine = vision.cfg, {name: tensor.detach() for name, tensor in vision.state_dict().items()}
    out = {
        "class_embedding": mine["class_token"],
        "positional_embedding": mine["W_pos"],
        "proj": mine["W_P"],
        "conv1.weight": mine["W_E"],
    }
    for old, new in (("ln_pre", "ln_pre"), ("ln_final", "ln_post")):
        if f"{old}.w" in mine:
            out |= {f"{new}.weight": mine[f"{old}.w"], f"{new}.bias": mine[f"{old}.b"]}
    for layer in range(cfg.n_layers):
        old, new = f"blocks.{layer}.", f"transformer.resblocks.{layer}."
        in_proj = [rearrange(mine[f"{old}attn.W_{x}"], "head d_model d_head -> (head d_head) d_model") for x in "QKV"]
        out |= {
            f"{new}attn.in_proj_weight": torch.cat(in_proj),
            f"{new}attn.in_proj_bias": torch.cat([mine[f"{old}attn.b_{x}"].flatten() for x in "QKV"]),
            f"{new}attn.out_proj.weight": rearrange(
                mine[f"{old}attn.W_O"], "head d_head d_model -> d_model (head d_head)"
            ),
            f"{new}attn.out_proj.bias": mine[f"{old}attn.b_O"],
            f"{new}mlp.c_fc.weight": mine[f"{old}mlp.W_in"].T,
            f"{new}mlp.c_fc.bias": mine[f"{old}mlp.b_in"],
            f"{new}mlp.c_proj.weight": mine[f"{old}mlp.W_out"].T,
            f"{new}mlp.c_proj.bias": mine[f"{old}mlp.b_out"],
        }
        for n in (1, 2):
            out |= {f"{new}ln_{n}.weight": mine[f"{old}ln{n}.w"], f"{new}ln_{n}.bias": mine[f"{old}ln{n}.b"]}
        if cfg.layer_scale:
            out |= {f"{new}ls_1.gamma": mine[f"{old}attn.scale"], f"{new}ls_2.gamma": mine[f"{old}mlp.scale"]}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in out.items()}


def rebuild_open_clip(vision: HookedVisionTransformer) -> nn.Module:
    """open_clip's own tower with this tower's settings and a copy of its weights, in evaluation mode."""
    visual = _empty_open_clip(vision.cfg)
    visual.load_state_dict(to_open_clip(vision), assign=True)
    return visual.eval()


def _empty_open_clip(cfg: VisionConfig, block: str = "ResidualAttentionBlock") -> nn.Module:
    """open_clip's tower of these settings, without numbers."""
    transformer = open_clip().transformer
    norm = transformer.LayerNormFp32 if cfg.norm_in_float32 else transformer.LayerNorm
    activations = {
        "gelu": nn.GELU,
        "gelu_tanh": partial(nn.GELU, approximate="tanh"),
        "quick_gelu": transformer.QuickGELU,
    }
    with torch.device("meta"):
        visual: nn.Module = transformer.VisionTransformer(
            image_size=cfg.image_size,
            patch_size=cfg.patch_size,
            width=cfg.d_model,
            layers=cfg.n_layers,
            heads=cfg.n_heads,
            # Half a unit is added because the width is found again by rounding down.
            mlp_ratio=(cfg.d_mlp + 0.5) / cfg.d_model,
            ls_init_value=1.0 if cfg.layer_scale else None,
            output_dim=cfg.d_embed,
            no_ln_pre=not cfg.ln_pre,
            pool_type=cfg.pool,
            final_ln_after_pool=cfg.ln_after_pool,
            act_layer=activations[cfg.act],
            norm_layer=partial(norm, eps=cfg.eps),
            block_type="custom" if block.startswith("Custom") else None,
        )
    return visual
