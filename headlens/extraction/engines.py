"""What does the blocks of an extraction: this process, several devices of a machine, or (`ray_engine`) a Ray cluster.

All of them do `do_blocks`, on whatever blocks they are given; what is begun, checked, saved and reported is the same
for all. Another process on another machine with another share of the blocks (`extract(..., shard=(k, n))`) is one more
way.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from threading import Event
from typing import Any, Protocol, runtime_checkable

import torch

from headlens.errors import StoreError
from headlens.extraction.batching import Job, fill
from headlens.extraction.moment_folder import Totals, keys_of
from headlens.extraction.plan import Model, from_disk
from headlens.extraction.store_folder import StoreFolder
from headlens.progress import Advance

_MOMENTS_OF = ("z", "embedding")


@runtime_checkable
class Engine(Protocol):
    """Does blocks of a job, and yields once a block.

    With moments it yields each block's totals, in the order of the blocks; with a store, which it writes, empty ones in
    any order.
    """

    def __call__(self, job: Job, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]: ...


def do_blocks(job: Job, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]:
    """See `Engine`: in this thread, on the model's own device."""
    if job.storage is None:
        return _moments(job, model, blocks, advance)
    return _states(job, StoreFolder.open(job.storage), model, blocks, advance)


def _states(job: Job, folder: StoreFolder, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]:
    ranges = [job.plan.rows_of(block) for block in blocks]
    written: Future[None] | None = None
    # The model works on while a block is compressed and written. Leaving waits for that, whatever happened.
    with (
        ThreadPoolExecutor(1) as writer,
        closing(fill(job, model, job.plan.names, ranges, advance)) as pieces,
    ):
        for block, piece in zip(blocks, pieces, strict=True):
            if written:
                written.result()
                yield Totals()
            written = writer.submit(folder.write, block, piece.arrays, piece.skipped)
        if written:
            written.result()
            yield Totals()


def _moments(job: Job, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]:
    ranges = [job.plan.pieces_of(block) for block in blocks]
    every = [rows for pieces in ranges for rows in pieces]
    with closing(fill(job, model, _MOMENTS_OF, every, advance)) as pieces:
        for expected in ranges:
            totals = Totals()
            for piece in islice(pieces, len(expected)):
                lost = {skip.row for skip in piece.skipped}
                kept = [place for place, row in enumerate(piece.rows) if row not in lost]
                if kept:
                    z, embedding = (from_disk(piece.arrays[n][kept], job.plan.type_of(n)) for n in _MOMENTS_OF)
                    totals.add(keys_of(job.rows(piece.rows).iloc[kept], job.groups), z, embedding)
                totals.skipped += piece.skipped
            yield totals


@dataclass
class Tower:
    """The vision tower and the preprocessing of a model, on the device where they work: a `Model` for extraction."""

    vision: Any
    preprocess: Any
    name: str
    fingerprint: str
    device: torch.device

    @classmethod
    def of(cls, model: Model, device: torch.device) -> Tower:
        """On a device: the model's own tower where that is there already, else a copy."""
        vision = model.vision if model.device == device else copy.deepcopy(model.vision).to(device)
        return cls(vision, model.preprocess, model.name, model.fingerprint, device)


class Devices:
    """Several devices of this machine: a thread for each, with a copy of the tower and every n-th block.

    Threads are enough: PyTorch's kernels and Pillow's decoding run outside of Python's lock. What they give is handed
    on in the order of the blocks, and none is more than a block ahead, so that moments are those of one device, bit for
    bit.

    Args:
        names: as torch names devices; one that is named twice gets two threads.

    Raises:
        StoreError: for no list of names, or a device that is not there.
    """

    def __init__(self, names: Sequence[str]):
        if isinstance(names, str) or not names:
            raise StoreError("devices as a list of names", f"{names!r}", 'Write Devices(["cuda:0", "cuda:1"]).')
        self.names = list(names)
        for name in self.names:
            try:
                torch.empty(0, device=name)
            except (RuntimeError, AssertionError) as error:
                raise StoreError(
                    f"There is no device {name!r} on this machine: {str(error).splitlines()[0].rstrip('.')}.",
                    "torch.cuda.device_count() gives the number of GPUs: cuda:0, cuda:1, …",
                ) from error

    def __repr__(self) -> str:
        return f"Devices({self.names})"

    def __call__(self, job: Job, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]:
        """What the threads give, in the order of the blocks. Raises what any of them raises."""
        copies = {name: Tower.of(model, torch.device(name)) for name in dict.fromkeys(self.names)}
        towers = [copies[name] for name in self.names][: len(blocks)]
        job = replace(job, workers=-(-job.workers // len(self.names)))
        stop = Event()

        def counted(count: int) -> None:
            if stop.is_set():
                raise InterruptedError
            advance(count)

        parts = [do_blocks(job, tower, blocks[place :: len(towers)], counted) for place, tower in enumerate(towers)]
        with ThreadPoolExecutor(len(self.names), thread_name_prefix="headlens-device") as pool:
            waiting = [pool.submit(next, part) for part in parts]
            try:
                for number in range(len(blocks)):
                    place = number % len(parts)
                    totals = waiting[place].result()
                    if number + len(parts) < len(blocks):
                        waiting[place] = pool.submit(next, parts[place])
                    yield totals
                for part in parts:
                    next(part, None)  # to its end
            finally:
                stop.set()
                wait(waiting)
                for part in parts:
                    part.close()
