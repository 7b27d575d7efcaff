"""From image files to what is kept of them: the one time that the pixels are looked at.

Steps: settle the plan (model, manifest, sizes) and begin a store, or find the one that an earlier run began; give the
blocks that are not there yet to an engine; mark the store as complete, and open it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import overload

import pandas as pd

from headlens.errors import HeadlensError, ModelError, StoreError, StoreWarning
from headlens.extraction.batching import Job, batch_size_for
from headlens.extraction.engines import Engine, do_blocks
from headlens.extraction.moment_folder import MomentFolder
from headlens.extraction.moment_store import MomentStore, check_columns
from headlens.extraction.plan import DTYPES, Model, Plan
from headlens.extraction.storage import WHOLE, Shard, Storage
from headlens.extraction.store import HeadStore
from headlens.extraction.store_folder import StoreFolder
from headlens.manifest import as_manifest, check_files, check_manifest
from headlens.progress import Advance, progress
from headlens.states.basis import HeadBasis

_WIDE = 1 << 30  # bytes of second moments from which on their size is stated
_SAVE_EVERY = 20.0  # seconds between two states of moments: what a stopped run loses at most, beside a block
Table = pd.DataFrame | str | os.PathLike[str]


@overload
def extract(
    clip: Model,
    manifest: Table,
    path: str | os.PathLike[str],
    batch_size: int | None = ...,
    on_error: str = ...,
    block: int | None = ...,
    workers: int | None = ...,
    dtype: str = ...,
    *,
    shard: None = ...,
    engine: Engine | None = ...,
) -> HeadStore: ...


@overload
def extract(
    clip: Model,
    manifest: Table,
    path: str | os.PathLike[str],
    batch_size: int | None = ...,
    on_error: str = ...,
    block: int | None = ...,
    workers: int | None = ...,
    dtype: str = ...,
    *,
    shard: Shard,
    engine: Engine | None = ...,
) -> HeadStore | None: ...


def extract(
    clip: Model,
    manifest: Table,
    path: str | os.PathLike[str],
    batch_size: int | None = None,
    on_error: str = "raise",
    block: int | None = None,
    workers: int | None = None,
    dtype: str = "float32",
    *,
    shard: Shard | None = None,
    engine: Engine | None = None,
) -> HeadStore | None:
    """Stream a manifest of image files through the model into a store, and open it.

    Run again after a stop (an error, Ctrl-C, kill, a full disk, a lost machine), it goes on after the blocks that are
    whole, and the result is the same, bit for bit, as that of one run. A complete store it only opens, also with
    another table of its images (see `HeadStore.with_manifest`).

    Args:
        clip: the model.
        manifest: the table, or the CSV file that holds it, or the file's address. Of its columns `path` is needed, and
            `box` is used.
        path: the store's folder, or an address that fsspec reaches (`s3://bucket/acts.zarr`).
        batch_size: images in one step of the model, by default found by trial on a GPU (doubled as long as that is
            faster and memory holds it), and 32 on a processor. It changes results only by rounding; where memory runs
            out on the way it is halved, with a warning.
        on_error: "raise" stops at the first image that cannot be read; "skip" leaves such images out and records each
            with the reason in `.skipped`.
        block: images a block, by default about 512: what a stopped run loses at most, and holds in memory.
        workers: threads that read images, by default one a core, 16 at most.
        dtype: of what is kept: "float32" (exact), "float16" or "bfloat16" (half the space; three digits, or two with
            float32's range), or "float64" for a float64 model. Embeddings stay in float32 at least.
        shard: (k, n) writes the k-th of n shares of the blocks, counted from 0. n calls, in any order, in any process
            on any machine that reaches images and store, make the whole.
        engine: what does the work: by default this process, on the model's own device; `Devices(["cuda:0", "cuda:1"])`
            on several of this machine; `Ray(address)` on a cluster, whose machines have to reach images and store under
            the same names (a shared disk, or object storage).

    `torch.autocast` around the call applies: the model computes in that type, and what is kept is float32.

    Returns:
        The store; None for a shard while blocks of other shards are missing.

    Raises:
        ManifestError: a manifest without `path`, or with missing files under on_error="raise".
        ImageError: an image that cannot be read, under on_error="raise".
        ModelError: head states that are not numbers, with the images that they came from.
        StoreError: the folder holds something else, or a store of another model, of other images or with other options;
            another process is writing to it; the disk is full; the storage does not answer; a cluster lost too much.
    """
    _check_model(clip)
    _check_options(batch_size, on_error, block, workers, shard, dtype)
    frame, share = _read(manifest), shard or WHOLE
    plan = Plan.of_states(clip, frame, block, dtype)
    storage = Storage(path, share)
    if not StoreFolder.begun(storage):
        StoreFolder.check_free(storage)
    elif (folder := StoreFolder.open(storage)).complete:
        _check_same(folder.path, folder.plan, plan, block is not None)
        return _with_table(folder, clip, frame, plan)
    with storage.only_writer():
        if StoreFolder.begun(storage):
            folder = StoreFolder.open(storage)
        else:
            folder = StoreFolder.create(storage, _sized(clip, plan, batch_size), frame, _basis(clip))
        _check_same(folder.path, folder.plan, plan, block is not None)
        folder.check_images(plan)
        todo = sorted(set(folder.missing()) & set(_blocks_of(folder.plan, share)))
        job = _job(clip, folder.plan, frame, batch_size, on_error, workers, storage=storage)
        with (
            _reported(job, todo, lambda: folder.plan.n_blocks - len(folder.missing())) as advance,
            closing((engine or do_blocks)(job, clip, todo, advance)) as done,
        ):
            for _ in done:
                pass
        if folder.missing():
            return None
        if not folder.complete:
            folder.finish()
    return _with_table(folder, clip, frame, plan)


def extract_moments(
    clip: Model,
    manifest: Table,
    path: str | os.PathLike[str],
    groups: Sequence[str] = (),
    batch_size: int | None = None,
    on_error: str = "raise",
    block: int | None = None,
    workers: int | None = None,
    *,
    shard: Shard | None = None,
    engine: Engine | None = None,
) -> MomentStore | None:
    """Stream a manifest of image files through the model into moments of its heads, and open them.

    What is kept is of constant size, however many images there are: count, mean and second moment of every head, for
    each combination of the groups' values. Run again after a stop, it goes on.

    Args:
        clip: the model.
        manifest: as in `extract`.
        path: a folder, or an address that fsspec reaches.
        groups: columns of the manifest; moments are kept for each combination of their values.
        batch_size: as in `extract`.
        on_error: as in `extract`.
        block: images after which a stopped run may go on, by default 512, and more in large manifests; memory does not
            grow with it.
        workers: as in `extract`.
        shard: as in `extract`. Moments of shards are merged when they are opened, which rounds in another order than
            one run does.
        engine: as in `extract`.

    Returns:
        The moments; None for a shard while those of other shards are missing.

    Raises:
        ManifestError: a manifest without `path` or a group column, or with missing files under on_error="raise".
        ImageError: an image that cannot be read, under on_error="raise".
        ModelError: head states that are not numbers, with the images that they came from.
        StoreError: as in `extract`.
    """
    _check_model(clip)
    _check_options(batch_size, on_error, block, workers, shard)
    frame, columns, share = _read(manifest), tuple(groups), shard or WHOLE
    check_columns(frame, groups)
    plan = Plan.of_moments(clip, frame, block)
    _warn_of_wide(plan)
    storage = Storage(path, share)
    if not MomentFolder.begun(storage):
        MomentFolder.check_free(storage)
    with storage.only_writer():
        if MomentFolder.begun(storage):
            folder = MomentFolder.open(storage)
        else:
            folder = MomentFolder.create(storage, _sized(clip, plan, batch_size), columns, _basis(clip))
        _check_same(folder.path, folder.plan, plan, block is not None)
        folder.check_groups(plan, columns)
        totals, done = folder.state(share)
        todo, saved, last = _blocks_of(folder.plan, share)[done:], done, monotonic()
        job = _job(clip, folder.plan, frame, batch_size, on_error, workers, groups=columns)

        def save() -> int:
            nonlocal saved, last
            if saved < done:
                folder.save(totals, done, share)
                saved, last = done, monotonic()
            return saved

        def kept() -> int:
            with suppress(StoreError):  # which stopped the work
                save()
            return saved

        with (
            _reported(job, todo, kept) as advance,
            closing((engine or do_blocks)(job, clip, todo, advance)) as parts,
        ):
            for part in parts:
                totals.merge(part)
                done += 1
                if monotonic() - last >= _SAVE_EVERY:
                    save()
        save()
        if folder.totals()[1] < folder.plan.n_blocks:
            return None
    return MomentStore.open(path, clip)


def _warn_of_wide(plan: Plan) -> None:
    """State the size of second moments where a head's states are wide, as behind an attention pool."""
    n_layers, n_heads, width = (plan.sizes[name] for name in ("layer", "head", "d_head"))
    size = n_layers * n_heads * width**2 * 8
    if size > _WIDE:
        warnings.warn(
            f"Second moments of {n_layers * n_heads} heads of width {width} take {size / 1e9:.1f} GB in memory and on "
            "disk, for every combination of the groups' values. A store of states (extract) takes "
            f"{n_layers * n_heads * width * 4 / 1e6:.1f} MB an image.",
            StoreWarning,
            stacklevel=3,
        )


def _read(manifest: Table) -> pd.DataFrame:
    frame = as_manifest(manifest)
    check_manifest(frame, files=False)
    return frame


def _basis(clip: Model) -> HeadBasis:
    return HeadBasis.from_vision(clip.vision)


def _sized(clip: Model, plan: Plan, batch_size: int | None) -> Plan:
    """With the batch size on record where it is not given: a run that goes on, wherever that is, takes the same."""
    return plan if batch_size else replace(plan, batch_size=batch_size_for(clip, plan))


def _job(
    clip: Model,
    plan: Plan,
    frame: pd.DataFrame,
    batch_size: int | None,
    on_error: str,
    workers: int | None,
    storage: Storage | None = None,
    groups: tuple[str, ...] = (),
) -> Job:
    size = batch_size or plan.batch_size or batch_size_for(clip, plan)
    threads = workers or min(16, os.cpu_count() or 1)
    return Job(plan, frame, storage, groups, size, on_error == "skip", threads)


def _blocks_of(plan: Plan, shard: Shard) -> range:
    """The blocks of a shard: neighbours, so that it reads one part of the manifest."""
    k, n = shard
    return range(plan.n_blocks * k // n, plan.n_blocks * (k + 1) // n)


@contextmanager
def _reported(job: Job, todo: Sequence[int], whole: Callable[[], int]) -> Iterator[Advance]:
    """Look for the files of the blocks to be done, show how far they have come, and say with whatever stops them how
    many blocks are kept."""
    if not job.skip:
        for _, run in groupby(enumerate(todo), key=lambda pair: pair[1] - pair[0]):
            together = [block for _, block in run]
            start, stop = job.plan.rows_of(together[0]).start, job.plan.rows_of(together[-1]).stop
            check_files(job.rows(range(start, stop)))
    remaining = sum(len(job.plan.rows_of(block)) for block in todo)
    try:
        with progress("Extracting", total=job.plan.rows, done=job.plan.rows - remaining) as advance:
            yield advance
    except (KeyboardInterrupt, HeadlensError) as stop:
        said = f"{whole()} of {job.plan.n_blocks} blocks are whole and stay: the same call goes on after them."
        if isinstance(stop, HeadlensError):
            stop.remedy = f"{stop.remedy} {said}"
        else:
            stop.add_note(said)
        raise


def _with_table(folder: StoreFolder, clip: Model, frame: pd.DataFrame, plan: Plan) -> HeadStore:
    """A complete store with the table that was asked for, as long as that names images of the store alone."""
    store = HeadStore.open(folder.path)
    if plan.manifest == store.manifest_digest:
        return store
    if folder.is_of(plan):
        return store.with_manifest(frame.iloc[store.rows])
    unknown = frame["path"][store.places_of(frame) < 0]
    if len(unknown):
        raise StoreError(
            f"The store at {str(store.path)!r} does not hold {len(unknown)} of the manifest's {len(frame)} images: "
            f"{', '.join(map(str, unknown[:3]))}{', …' * (len(unknown) > 3)}.",
            "Extract into another folder; a store never mixes two sets of images.",
        )
    return store.with_manifest(frame)


def _check_same(path: Path | str, have: Plan, plan: Plan, fixed_block: bool) -> None:
    """Raise `StoreError` unless what was begun at a path is of this model and these options.

    Args:
        path: where, for the message.
        have: the plan that it was begun with.
        plan: the plan that is asked for.
        fixed_block: whether the block's size was asked for, rather than chosen.
    """
    have.check_model(path, plan)
    if (have.dtype, have.autocast) != (plan.dtype, plan.autocast) or (fixed_block and have.block != plan.block):
        options = [
            f"dtype={x.dtype!r}, block={x.block}" + f", autocast to {x.autocast}" * bool(x.autocast)
            for x in (have, plan)
        ]
        raise StoreError(
            f"{str(path)!r} was begun with other options: {options[0]} instead of {options[1]}.",
            "Give the same options, or extract into another folder.",
        )


def _check_model(clip: object) -> None:
    if not hasattr(clip, "preprocess"):  # anything that has a tower and its preprocessing will do
        raise ModelError(
            f"clip has the type {type(clip).__name__}, not HookedCLIP.",
            "The order is hl.extract(clip, manifest, 'acts.zarr'), and clip is hl.load(…), or "
            "hl.HookedCLIP.from_open_clip(model, preprocess, tokenizer).",
        )


def _check_options(
    batch_size: int | None,
    on_error: str,
    block: int | None,
    workers: int | None,
    shard: Shard | None,
    dtype: str = "float32",
) -> None:
    for name, value in (("batch_size", batch_size), ("block", block), ("workers", workers)):
        if value is not None and value < 1:
            raise StoreError(f"{name} of at least 1", str(value), "Leave it out to have it chosen.")
    for name, text, known in (("on_error", on_error, ("raise", "skip")), ("dtype", dtype, DTYPES)):
        if text not in known:
            raise StoreError(f"{name} as one of {', '.join(known)}", repr(text), "Choose one of these.")
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise StoreError("shard=(k, n) with k from 0 to n - 1", repr(shard), "For four shares: (0, 4) to (3, 4).")
