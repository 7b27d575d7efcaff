"""From image files to a store: the one time that the pixels are looked at.

Steps: settle the plan (model, manifest, sizes) and begin a store, or find the one that an earlier run began;
for every block that is not there yet, decode its images in worker threads while the model works on the batch
before, check that what comes out is finite, and write the block. Batches never cross a block's edge, so that
what is in a block does not depend on where an earlier run stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from jaxtyping import Float
from torch import Tensor

from headlens.errors import HeadlensError, ImageError, ModelError, StoreError
from headlens.manifest import (
    boxes,
    check_files,
    check_manifest,
    images_digest,
    manifest_digest,
    read_manifest,
    resolve_paths,
)
from headlens.progress import progress
from headlens.states.basis import HeadBasis
from headlens.states.decode import decode
from headlens.states.layout import Skip, StoreFolder, refuse_strangers, writer_lock
from headlens.states.plan import DIMENSIONS, DTYPES, Model, Plan, block_sizes
from headlens.states.store import HeadStore, other_model

Item = Float[Tensor, "channel height width"] | ImageError


def extract(
    clip: Model,
    manifest: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    batch_size: int = 64,
    on_error: str = "raise",
    block: int | None = None,
    workers: int | None = None,
    dtype: str = "float32",
) -> HeadStore:
    """Stream a manifest of image files through the model into a store on disk, and open it.

    Run again after a stop (an error, Ctrl-C, kill, a full disk), it goes on after the blocks that are whole,
    and the result is the same, bit for bit, as that of one run. On a complete store it only opens it.

    Args:
        clip: the model.
        manifest: the table, or the CSV file that holds it. Of its columns `path` is needed, and `box` is
            heeded.
        path: the store's folder.
        batch_size: images in one step of the model. It changes results only by rounding.
        on_error: "raise" stops at the first image that cannot be read; "skip" leaves such images out and
            records each with the reason in `store.skipped`.
        block: images a block, by default about 512: what a stopped run loses at most, and holds in memory.
        workers: threads that read images, by default one a core, 16 at most.
        dtype: "float32" (exact), "float16" (half the space; about three digits), or "float64" for a float64
            model.

    Raises:
        ManifestError: a manifest without `path`, or with missing files under on_error="raise".
        ImageError: an image that cannot be read, under on_error="raise".
        ModelError: head states that are not numbers, with the images that they came from.
        StoreError: the folder holds something else, or a store of another model, manifest or options; another
            process is writing to it; the disk is full.
    """
    _check_options(batch_size, on_error, block, workers, dtype)
    frame = manifest if isinstance(manifest, pd.DataFrame) else read_manifest(manifest)
    check_manifest(frame, files=False)
    plan = _plan(clip, frame, block, dtype)
    target = Path(path)
    if not StoreFolder.begun(target):
        refuse_strangers(target)
    elif (folder := StoreFolder.open(target)).complete:
        _check_same(folder, plan, fixed_block=block is not None)
        return HeadStore.open(target, clip)
    try:
        with writer_lock(target):
            if StoreFolder.begun(target):
                folder = StoreFolder.open(target)
                _check_same(folder, plan, fixed_block=block is not None)
                folder.sweep()
            else:
                folder = StoreFolder.create(target, plan, frame, HeadBasis.from_vision(clip.vision))
            missing = folder.missing()
            if on_error == "raise":
                check_files(frame.iloc[[row for number in missing for row in folder.plan.rows_of(number)]])
            if missing:
                workers = workers or min(16, os.cpu_count() or 1)
                _fill(clip, frame, folder, missing, batch_size, on_error == "skip", workers)
            if not folder.complete:
                folder.finish()
    except Timeout as error:
        raise StoreError(
            f"to be the only one that writes to {str(path)!r}",
            "another process that is writing to it",
            "Wait until it is done: the store is then complete. Or name another folder.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"a store that can be written to {str(path)!r}",
            str(error),
            "Make room, or name a folder that you may write to.",
        ) from error
    return HeadStore.open(target, clip)


def _fill(
    clip: Model,
    frame: pd.DataFrame,
    folder: StoreFolder,
    missing: list[int],
    batch_size: int,
    skip: bool,
    workers: int,
) -> None:
    plan = folder.plan
    paths, cuts = resolve_paths(frame), boxes(frame)
    todo = [row for number in missing for row in plan.rows_of(number)]
    files = ((paths[row], cuts[row]) for row in todo)
    images = decode(files, clip.preprocess, workers, ahead=2 * batch_size + workers)
    try:
        with progress("extract", total=plan.rows, done=plan.rows - len(todo)) as advance:
            for number in missing:
                rows = plan.rows_of(number)
                folder.write(number, *_block(clip, plan, rows, images, paths, batch_size, skip, advance))
    except (KeyboardInterrupt, HeadlensError) as stop:
        whole = plan.n_blocks - len(folder.missing())
        told = f"{whole} of {plan.n_blocks} blocks are whole and stay: the same call goes on after them."
        if isinstance(stop, HeadlensError):
            stop.remedy = f"{stop.remedy} {told}"
        else:
            stop.add_note(told)
        raise
    finally:
        images.close()


def _block(
    clip: Model,
    plan: Plan,
    rows: range,
    images: Generator[Item],
    paths: list[Path],
    batch_size: int,
    skip: bool,
    advance: Callable[[int], None],
) -> tuple[dict[str, np.ndarray], list[Skip]]:
    arrays = {name: np.full(plan.shape_of(name, len(rows)), np.nan, dtype=plan.dtype_of(name)) for name in DIMENSIONS}
    skipped: list[Skip] = []
    readable: list[int] = []
    batch: list[Tensor] = []
    for row in rows:
        item = next(images)
        if isinstance(item, ImageError):
            if not skip:
                raise ImageError(
                    item.expected,
                    item.received,
                    f"{item.remedy} Or leave such images out, each recorded with its reason: on_error='skip'.",
                )
            skipped.append(Skip(row, str(paths[row]), f"Expected {item.expected}, but got {item.received}."))
        else:
            readable.append(row)
            batch.append(item)
        if batch and (len(batch) == batch_size or row == rows[-1]):
            states = _head_states(clip, torch.stack(batch), plan, [paths[row] for row in readable])
            for name, values in states.items():
                arrays[name][np.array(readable) - rows.start] = values
            readable, batch = [], []
        advance(1)
    return arrays, skipped


@torch.inference_mode()
def _head_states(
    clip: Model, images: Float[Tensor, "image channel height width"], plan: Plan, paths: list[Path]
) -> dict[str, np.ndarray]:
    states = clip.vision.head_states(images.to(clip.device))
    arrays, finite = {}, np.ones(len(images), dtype=bool)
    for name in DIMENSIONS:
        values = getattr(states, name).cpu().numpy()
        with np.errstate(over="ignore"):  # told below, with the image that it happened to
            arrays[name] = values.astype(plan.dtype_of(name))
        finite &= np.isfinite(arrays[name]).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        culprits = [str(path) for path, good in zip(paths, finite, strict=True) if not good]
        raise ModelError(
            f"finite head states in {plan.dtype}",
            f"NaN or infinite values for {len(culprits)} of {len(finite)} images of a batch: {', '.join(culprits[:3])}",
            "Where it is every image, the weights are broken; where it is some, use precision='fp32' for the model "
            "and dtype='float32' for the store.",
        )
    return arrays


def _plan(clip: Model, frame: pd.DataFrame, block: int | None, dtype: str) -> Plan:
    cfg = clip.vision.cfg
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
    )


def _check_same(folder: StoreFolder, plan: Plan, fixed_block: bool) -> None:
    have, path = folder.plan, folder.path
    if have.fingerprint != plan.fingerprint:
        raise other_model(path, have, plan.model, plan.fingerprint)
    if have.images != plan.images:
        raise StoreError(
            f"the {have.rows} images that {str(path)!r} was begun with (digest {have.images})",
            f"a manifest of {plan.rows} images (digest {plan.images})",
            "Extract into another folder; a store never mixes two sets of images.",
        )
    if have.manifest != plan.manifest:
        raise StoreError(
            f"the manifest that {str(path)!r} was begun with (digest {have.manifest})",
            f"the same images with other columns or values (digest {plan.manifest})",
            "Nothing has to be extracted again: open the store and take store.with_manifest(manifest).",
        )
    if have.dtype != plan.dtype or (fixed_block and have.block != plan.block):
        raise StoreError(
            f"the options that {str(path)!r} was begun with: dtype={have.dtype!r}, block={have.block}",
            f"dtype={plan.dtype!r}, block={plan.block}",
            "Give the same options, or extract into another folder.",
        )


def _check_options(batch_size: int, on_error: str, block: int | None, workers: int | None, dtype: str) -> None:
    for name, value in (("batch_size", batch_size), ("block", block), ("workers", workers)):
        if value is not None and value < 1:
            raise StoreError(f"{name} of at least 1", str(value), "Leave it out to have it chosen.")
    for name, text, known in (("on_error", on_error, ("raise", "skip")), ("dtype", dtype, DTYPES)):
        if text not in known:
            raise StoreError(f"{name} as one of {', '.join(known)}", repr(text), "Choose one of these.")
