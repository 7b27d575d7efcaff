"""Extraction on several devices of this machine: a thread for each, with a copy of the tower and every n-th block.

Threads are enough: PyTorch's kernels and Pillow's decoding run outside of Python's lock. What they give is handed on in
the order of the blocks, and none is more than a few blocks ahead, so that moments merge to the bits of one device.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import pandas as pd
import torch

from headlens.errors import StoreError
from headlens.extraction.engines import Advance, block_moments, write_blocks
from headlens.extraction.filling import Way
from headlens.extraction.layout import Skip, StoreFolder
from headlens.extraction.moment_totals import Totals
from headlens.extraction.plan import Model, Plan
from headlens.extraction.tower import Tower

T = TypeVar("T")
_AHEAD = 2  # blocks that a device may have done before they are taken


class _Stop(Exception):
    """Ends a thread whose work is no longer wanted."""


class Devices:
    """The engine.

    Args:
        clip: the model.
        devices: as torch names them; one that is named twice gets two threads.

    Raises:
        StoreError: for a device that is not there.
    """

    def __init__(self, clip: Model, devices: Sequence[str]):
        if isinstance(devices, str) or not devices:
            raise StoreError("devices as a list of names", f"{devices!r}", 'Write devices=["cuda:0", "cuda:1"].')
        copies: dict[str, Tower] = {}
        for name in devices:
            if name in copies:
                continue
            try:
                copies[name] = Tower.of(clip, torch.device(name))
            except (RuntimeError, AssertionError) as error:
                raise StoreError(
                    "devices of this machine",
                    f"{name!r}: {str(error).splitlines()[0]}",
                    "torch.cuda.device_count() tells how many GPUs there are: cuda:0, cuda:1, …",
                ) from error
        self.towers = [copies[name] for name in devices]

    def store(
        self, clip: Model, frame: pd.DataFrame, folder: StoreFolder, blocks: Sequence[int], way: Way, advance: Advance
    ) -> None:
        """See `Engine`."""
        way = self._share(way)

        def work(tower: Tower, part: Sequence[int], tell: Advance) -> Iterator[int]:
            return write_blocks(tower, frame, folder, part, way, tell)

        with closing(self._run(work, blocks, advance)) as done:
            for _ in done:
                pass

    def moments(
        self,
        clip: Model,
        frame: pd.DataFrame,
        plan: Plan,
        columns: Sequence[str],
        blocks: Sequence[int],
        way: Way,
        advance: Advance,
    ) -> Generator[tuple[Totals, list[Skip]]]:
        """See `Engine`."""
        way = self._share(way)

        def work(tower: Tower, part: Sequence[int], tell: Advance) -> Iterator[tuple[Totals, list[Skip]]]:
            return block_moments(tower, frame, plan, columns, part, way, tell)

        return self._run(work, blocks, advance)

    def _share(self, way: Way) -> Way:
        return replace(way, workers=-(-way.workers // len(self.towers)))

    def _run(
        self, work: Callable[[Tower, Sequence[int], Advance], Iterator[T]], blocks: Sequence[int], advance: Advance
    ) -> Generator[T]:
        """What the threads give, in the order of the blocks. Raises what any of them raises."""
        stop = Event()
        queues: list[Queue[Any]] = [Queue(_AHEAD) for _ in self.towers]

        def tell(count: int) -> None:
            if stop.is_set():
                raise _Stop
            advance(count)

        def put(queue: Queue[Any], item: object) -> None:
            while not stop.is_set():
                try:
                    return queue.put(item, timeout=0.1)
                except Full:
                    continue

        def run(place: int) -> None:
            try:
                for result in work(self.towers[place], blocks[place :: len(self.towers)], tell):
                    put(queues[place], (result, None))
            except BaseException as error:  # whatever it is, it is the caller's
                put(queues[place], (None, error))

        threads = [Thread(target=run, args=(place,), name=f"headlens-device-{place}") for place in range(len(queues))]
        for thread in threads:
            thread.start()
        try:
            for number in range(len(blocks)):
                result, error = queues[number % len(queues)].get()
                if error is not None:
                    raise error
                yield result
        finally:
            stop.set()
            for thread in threads:
                thread.join()
