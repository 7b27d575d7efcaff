"""From image files to what is kept of them: the one time that the pixels are looked at.

Steps: settle the plan (model, manifest, sizes) and begin a store, or find the one that an earlier run began; give the
blocks that are not there yet to an engine; say that the store is complete, and open it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import groupby
from time import monotonic
from typing import Literal, overload

import pandas as pd
from filelock import Timeout

from headlens.errors import HeadlensError, StoreError
from headlens.extraction.engine_names import engine_of
from headlens.extraction.engines import Engine
from headlens.extraction.filling import Way
from headlens.extraction.identity import check_same, plan_of
from headlens.extraction.layout import OURS, StoreFolder, refuse_strangers
from headlens.extraction.moment_folder import OURS as OURS_OF_MOMENTS
from headlens.extraction.moment_folder import MomentFolder
from headlens.extraction.moment_store import MomentStore, check_columns
from headlens.extraction.place import Place, place_of
from headlens.extraction.plan import DTYPES, Model, Plan
from headlens.extraction.store import HeadStore
from headlens.manifest import as_manifest, check_files, check_manifest
from headlens.progress import progress
from headlens.states.basis import HeadBasis

_SAVE_EVERY = 20.0  # seconds between two states of moments: what a stopped run loses at most, beside a block


@overload
def extract(
    clip: Model,
    manifest: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    batch_size: int | None = ...,
    on_error: str = ...,
    block: int | None = ...,
    workers: int | None = ...,
    dtype: str = ...,
    *,
    keep: Literal["states"] = ...,
    engine: str = ...,
    address: str | None = ...,
    devices: Sequence[str] | None = ...,
) -> HeadStore: ...


@overload
def extract(
    clip: Model,
    manifest: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    batch_size: int | None = ...,
    on_error: str = ...,
    block: int | None = ...,
    workers: int | None = ...,
    dtype: str = ...,
    *,
    keep: Literal["moments"],
    groups: Sequence[str] = ...,
    engine: str = ...,
    address: str | None = ...,
    devices: Sequence[str] | None = ...,
) -> MomentStore: ...


def extract(
    clip: Model,
    manifest: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    batch_size: int | None = None,
    on_error: str = "raise",
    block: int | None = None,
    workers: int | None = None,
    dtype: str = "float32",
    *,
    keep: str = "states",
    groups: Sequence[str] = (),
    engine: str = "local",
    address: str | None = None,
    devices: Sequence[str] | None = None,
) -> HeadStore | MomentStore:
    """Stream a manifest of image files through the model into a store, and open it.

    Run again after a stop (an error, Ctrl-C, kill, a full disk, a lost machine), it goes on after the blocks that are
    whole, and the result is the same, bit for bit, as that of one run. On a complete store it only opens it.

    Args:
        clip: the model.
        manifest: the table, or the CSV file that holds it, or the file's address. Of its columns `path` is needed, and
            `box` is heeded.
        path: the store's folder, or an address that fsspec reaches (`s3://bucket/acts.zarr`).
        batch_size: images in one step of the model, by default found by trial on a GPU (doubled as long as that is
            faster and memory holds it), and 32 on a processor. It changes results only by rounding; where memory runs
            out on the way it is halved, with a warning.
        on_error: "raise" stops at the first image that cannot be read; "skip" leaves such images out and records each
            with the reason in `.skipped`.
        block: images a block, by default about 512: what a stopped run loses at most, and holds in memory. With
            keep="moments" it grows with the manifest, and memory does not.
        workers: threads that read images, by default one a core, 16 at most. With engine="ray", actors: by default one
            a GPU where the model is on one, else one a machine.
        dtype: of what is kept: "float32" (exact), "float16" or "bfloat16" (half the space; three digits, or two with
            float32's range), or "float64" for a float64 model. Embeddings stay in float32 at least.
        keep: "states", or "moments" for the moments of every head alone: a result of constant size, however many
            images there are.
        groups: with keep="moments", columns of the manifest; moments are kept for each combination of their values.
        engine: "local" is this process; "ray" gives blocks to actors of a Ray cluster, each of which writes its own.
            Those have to reach images and store under the same names: on a shared disk, or on object storage.
        address: of a running Ray cluster ("auto" finds one); without it, one is started on this machine.
        devices: with engine="local", devices that share the blocks, each with a copy of the tower: ["cuda:0",
            "cuda:1"]. By default the one that the model is on.

    `torch.autocast` around the call is heeded: the model computes in that type, and what is kept is float32.

    Returns:
        A `HeadStore`, or a `MomentStore` with keep="moments".

    Raises:
        ManifestError: a manifest without `path` or a group column, or with missing files under on_error="raise".
        ImageError: an image that cannot be read, under on_error="raise".
        ModelError: head states that are not numbers, with the images that they came from.
        StoreError: the folder holds something else, or a store of another model, manifest or options; another process
            is writing to it; the disk is full; the storage does not answer; Ray is not installed or lost too much.
    """
    _check_options(batch_size, on_error, block, workers, dtype, keep, groups)
    frame = as_manifest(manifest)
    check_manifest(frame, files=False)
    plan = plan_of(clip, frame, block, dtype, keep)
    way = Way.chosen(clip, batch_size, on_error, workers if engine == "local" else None)
    doer = engine_of(engine, clip, address, workers, devices)
    place = place_of(path)
    with _one_writer(place):
        if keep == "moments":
            check_columns(frame, groups)
            return _moments(clip, frame, plan, tuple(groups), place, way, doer, block is not None)
        return _states(clip, frame, plan, place, way, doer, block is not None)


def _states(
    clip: Model, frame: pd.DataFrame, plan: Plan, place: Place, way: Way, engine: Engine, fixed_block: bool
) -> HeadStore:
    if not StoreFolder.begun(place):
        refuse_strangers(place, OURS)
    elif (folder := StoreFolder.open(place)).complete:
        check_same(folder.path, folder.plan, plan, fixed_block)
        return HeadStore.open(place.path, clip)
    with place.lock():
        if not StoreFolder.begun(place):
            folder = StoreFolder.create(place, _sized(clip, plan, way), frame, HeadBasis.from_vision(clip.vision))
        else:
            folder = StoreFolder.open(place)
            folder.sweep()
        check_same(folder.path, folder.plan, plan, fixed_block)
        missing = folder.missing()
        _look_for_files(frame, folder.plan, missing, way)
        if missing:
            way = way.sized(clip, folder.plan)
            done = plan.rows - sum(len(folder.plan.rows_of(block)) for block in missing)
            try:
                with progress("extract", total=plan.rows, done=done) as advance:
                    engine.store(clip, frame, folder, missing, way, advance)
            except (KeyboardInterrupt, HeadlensError) as stop:
                _tell(stop, folder.plan.n_blocks - len(folder.missing()), folder.plan.n_blocks)
                raise
        if not folder.complete:
            folder.finish()
    return HeadStore.open(place.path, clip)


def _moments(
    clip: Model,
    frame: pd.DataFrame,
    plan: Plan,
    columns: tuple[str, ...],
    place: Place,
    way: Way,
    engine: Engine,
    fixed_block: bool,
) -> MomentStore:
    if not MomentFolder.begun(place):
        refuse_strangers(place, OURS_OF_MOMENTS)
    with place.lock():
        if not MomentFolder.begun(place):
            folder = MomentFolder.create(place, _sized(clip, plan, way), columns, HeadBasis.from_vision(clip.vision))
        else:
            folder = MomentFolder.open(place)
            folder.sweep()
        check_same(folder.path, folder.plan, plan, fixed_block, keep="moments")
        if folder.columns != columns:
            raise StoreError(
                f"the groups that {str(folder.path)!r} was begun with: {', '.join(folder.columns) or 'none'}",
                f"{', '.join(columns) or 'none'}",
                "Name the same columns in the same order, or extract into another folder.",
            )
        totals, done, skipped = folder.state()
        plan = folder.plan
        missing = list(range(done, plan.n_blocks))
        _look_for_files(frame, plan, missing, way)
        way = way.sized(clip, plan)
        saved, last = done, monotonic()
        try:
            with (
                progress("extract", total=plan.rows, done=min(done * plan.block, plan.rows)) as advance,
                closing(engine.moments(clip, frame, plan, columns, missing, way, advance)) as parts,
            ):
                for part, lost in parts:
                    totals.merge(part)
                    skipped += lost
                    done += 1
                    if done == plan.n_blocks or monotonic() - last >= _SAVE_EVERY:
                        folder.save(totals, done, skipped)
                        saved, last = done, monotonic()
        except (KeyboardInterrupt, HeadlensError) as stop:
            if saved < done and not isinstance(stop, StoreError):
                folder.save(totals, done, skipped)
                saved = done
            _tell(stop, saved, plan.n_blocks)
            raise
    return MomentStore.open(place.path, clip)


def _sized(clip: Model, plan: Plan, way: Way) -> Plan:
    """With the batch size on record where it is not given: a run that goes on, wherever that is, takes the same."""
    return plan if way.batch_size else replace(plan, batch_size=way.size_for(clip, plan))


@contextmanager
def _one_writer(place: Place) -> Iterator[None]:
    try:
        yield
    except Timeout as error:
        raise StoreError(
            f"to be the only one that writes to {str(place.path)!r}",
            "another process that is writing to it",
            "Wait until it is done: the store is then complete. Or name another folder.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"a store that can be written to {str(place.path)!r}",
            str(error),
            "Make room, or name a folder that you may write to.",
        ) from error


def _tell(stop: BaseException, whole: int, blocks: int) -> None:
    """Say with whatever stops the work what is kept of it."""
    said = f"{whole} of {blocks} blocks are whole and stay: the same call goes on after them."
    if isinstance(stop, HeadlensError):
        stop.remedy = f"{stop.remedy} {said}"
    else:
        stop.add_note(said)


def _look_for_files(frame: pd.DataFrame, plan: Plan, blocks: Sequence[int], way: Way) -> None:
    if way.skip:
        return
    for _, run in groupby(enumerate(blocks), key=lambda pair: pair[1] - pair[0]):
        together = [block for _, block in run]
        check_files(frame.iloc[plan.rows_of(together[0]).start : plan.rows_of(together[-1]).stop])


def _check_options(
    batch_size: int | None,
    on_error: str,
    block: int | None,
    workers: int | None,
    dtype: str,
    keep: str,
    groups: Sequence[str],
) -> None:
    for name, value in (("batch_size", batch_size), ("block", block), ("workers", workers)):
        if value is not None and value < 1:
            raise StoreError(f"{name} of at least 1", str(value), "Leave it out to have it chosen.")
    known = {"on_error": ("raise", "skip"), "dtype": DTYPES, "keep": ("states", "moments")}
    for name, text in (("on_error", on_error), ("dtype", dtype), ("keep", keep)):
        if text not in known[name]:
            raise StoreError(f"{name} as one of {', '.join(known[name])}", repr(text), "Choose one of these.")
    if keep == "moments" and dtype not in ("float32", "float64"):
        raise StoreError(
            "dtype 'float32' or 'float64' with keep='moments'",
            repr(dtype),
            "Moments are added up in float64 from what the model gives: there is nothing to save.",
        )
    if keep == "states" and groups:
        raise StoreError(
            "groups only with keep='moments'", f"{list(groups)}", "A store knows its images: group_moments takes any."
        )
