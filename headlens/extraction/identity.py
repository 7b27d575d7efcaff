"""What a store belongs to: model, manifest and options, and the errors where what is asked for differs."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from headlens.errors import StoreError, StoreWarning
from headlens.extraction.plan import Model, Plan, autocast_of, block_sizes
from headlens.fingerprint import same_model
from headlens.manifest import images_digest, manifest_digest

_PIECE = 512
_MOST_BLOCKS = 2000


def plan_of(clip: Model, frame: pd.DataFrame, block: int | None, dtype: str, keep: str = "states") -> Plan:
    """What is to be kept of a manifest's images, and in what sizes.

    A store's block is a shard, and its chunks are quarters of it. A block of moments is only where a stopped run goes
    on: it grows with the manifest, and is computed in pieces (`chunk`) of constant size.
    """
    cfg = clip.vision.cfg
    if keep == "moments":
        wanted = block or max(_PIECE, -(-len(frame) // (_MOST_BLOCKS * _PIECE)) * _PIECE)
        per_block = min(wanted, len(frame))
        per_chunk = min(per_block, _PIECE)
    else:
        per_block, per_chunk = block_sizes(len(frame), block)
    return Plan(
        model=clip.name,
        fingerprint=clip.fingerprint,
        manifest=manifest_digest(frame),
        images=images_digest(frame),
        rows=len(frame),
        block=per_block,
        chunk=per_chunk,
        dtype=dtype,
        sizes={"layer": cfg.n_layers, "head": cfg.n_heads, "d_head": cfg.d_head, "embed": cfg.d_embed},
        stem=cfg.pool != "tok",
        autocast=None if (kind := autocast_of(clip)) is None else str(kind).removeprefix("torch."),
    )


def check_same(path: Path | str, have: Plan, plan: Plan, fixed_block: bool, keep: str = "states") -> None:
    """Raise `StoreError` unless what was begun at a path is what is asked for.

    Args:
        path: where, for the message.
        have: the plan that it was begun with.
        plan: the plan that is asked for.
        fixed_block: whether the block's size was asked for, rather than chosen.
        keep: "states" or "moments", for the remedy.
    """
    check_model(path, have, plan.model, plan.fingerprint)
    if have.images != plan.images:
        raise StoreError(
            f"the {have.rows} images that {str(path)!r} was begun with (digest {have.images})",
            f"a manifest of {plan.rows} images (digest {plan.images})",
            "Extract into another folder; a store never mixes two sets of images.",
        )
    if have.manifest != plan.manifest:
        remedy = "Nothing has to be extracted again: open the store and take store.with_manifest(manifest)."
        if keep == "moments":
            remedy = "Moments hold the groups of the manifest that they were made with: extract into another folder."
        raise StoreError(
            f"the manifest that {str(path)!r} was begun with (digest {have.manifest})",
            f"the same images with other columns or values (digest {plan.manifest})",
            remedy,
        )
    if (have.dtype, have.autocast) != (plan.dtype, plan.autocast) or (fixed_block and have.block != plan.block):
        told = [
            f"dtype={x.dtype!r}, block={x.block}" + f", autocast to {x.autocast}" * bool(x.autocast)
            for x in (have, plan)
        ]
        raise StoreError(
            f"the options that {str(path)!r} was begun with: {told[0]}",
            told[1],
            "Give the same options, or extract into another folder.",
        )


def check_model(path: Path | str, plan: Plan, name: str, fingerprint: str) -> None:
    """Raise `StoreError` for a store that was made with another model.

    One that an early version wrote names its model's weights and preprocessing alone: it is accepted for a model with
    these, and a `StoreWarning` says what was not compared.
    """
    if plan.fingerprint == fingerprint:
        return
    if same_model(plan.fingerprint, fingerprint):
        warnings.warn(
            f"{path} was written by an early version, which did not record its model's settings: it is taken for one "
            f"of {name}, whose weights and preprocessing it has; whether it was made with the same nonlinearity and "
            "pooling cannot be told.",
            StoreWarning,
            stacklevel=3,
        )
        return
    if plan.fingerprint.partition("-")[0] == fingerprint.partition("-")[0]:
        raise StoreError(
            f"{str(path)!r} was made with the weights of {name}, but with other settings, such as another nonlinearity "
            f"or pooling (fingerprint {plan.fingerprint}, not {fingerprint}).",
            f"Load {plan.model} as it was then, or extract into another folder.",
        )
    raise StoreError(
        f"the model that {str(path)!r} was made with, {plan.model} (fingerprint {plan.fingerprint})",
        f"{name} (fingerprint {fingerprint})",
        "Load that model with the same weights and preprocessing, or extract into another folder.",
    )
