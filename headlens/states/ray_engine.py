"""Extraction by the actors of a Ray cluster (https://docs.ray.io).

Steps:

1. The tower is put into the cluster once; each actor takes a copy of it to its own device.
2. Blocks go to actors in short runs, one run an actor at a time, with those rows of the manifest alone. An actor writes
   its blocks of the store by itself, marker last, or hands back the moments of each block.
3. An actor that dies, with its process or its machine, is replaced. Of its run, the blocks that are whole stay; the
   others go to whichever actor is free. A run that costs three actors their lives ends the extraction.
4. Moments are merged by the caller in the order of the blocks, whoever was first, so that the bits are those of a
   single process. Blocks are handed out only so far ahead of that merge that what waits for it stays small.

Limits: results are the same on every machine only as far as their processors round alike. The machine that this runs on
is not replaced; run `extract` again there, and it goes on after the blocks that are whole.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from headlens.errors import StoreError
from headlens.manifest import manifest_root
from headlens.states.engines import Advance, block_moments, write_blocks
from headlens.states.filling import Way
from headlens.states.layout import Skip, StoreFolder
from headlens.states.moment_totals import Totals
from headlens.states.place import place_of
from headlens.states.plan import Model, Plan
from headlens.states.ray_cluster import Crew, Done, cluster

_RUN = 4  # blocks of a store: enough that an actor reads ahead of its model, few enough that little waits at the end
_LIVES = 3
_AHEAD = 3  # runs an actor that may be done before the oldest one is


@dataclass
class Tower:
    """The part of a model that extraction needs, on one device."""

    vision: Any
    preprocess: Any
    name: str
    fingerprint: str
    device: torch.device

    @classmethod
    def of(cls, clip: Model) -> Tower:
        """On the processor, from which every device can take a copy."""
        vision = clip.vision if clip.device.type == "cpu" else copy.deepcopy(clip.vision).to("cpu")
        return cls(vision, clip.preprocess, clip.name, clip.fingerprint, torch.device("cpu"))

    def to(self, device: torch.device) -> Tower:
        """On another device."""
        return self if device.type == "cpu" else replace(self, vision=self.vision.to(device), device=device)


class Worker:
    """What an actor is: a tower, and the work on blocks."""

    def __init__(self, tower: Tower, device: str):
        self.tower = tower.to(torch.device(device))

    def ready(self) -> bool:
        """Once the tower is in place."""
        return True

    def store(self, path: str, frame: pd.DataFrame, first: int, blocks: list[int], way: Way) -> None:
        """Write blocks of a store."""
        write_blocks(self.tower, frame, StoreFolder.open(place_of(path)), blocks, way, _unseen, first)

    def moments(
        self, plan: Plan, columns: tuple[str, ...], frame: pd.DataFrame, first: int, blocks: list[int], way: Way
    ) -> list[tuple[Totals, list[Skip]]]:
        """The moments of blocks."""
        return list(block_moments(self.tower, frame, plan, columns, blocks, way, _unseen, first))


@dataclass(eq=False)
class Run:
    """Consecutive blocks that go to one actor, in their `place` among all runs."""

    place: int
    blocks: list[int]
    deaths: int = 0


class Ray:
    """The engine.

    Args:
        clip: the model; where it is on a GPU, every actor gets one.
        address: of a running cluster; None starts one on this machine, unless this process is connected already.
        workers: actors; by default one a GPU, or one a machine.

    Raises:
        StoreError: where Ray is not installed.
    """

    def __init__(self, clip: Model, address: str | None, workers: int | None):
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise StoreError(
                "Ray for engine='ray'", "an environment without it", "pip install 'headlens[ray]'"
            ) from error
        self.address, self.workers, self.gpu = address, workers, clip.device.type == "cuda"

    def store(
        self, clip: Model, frame: pd.DataFrame, folder: StoreFolder, blocks: Sequence[int], way: Way, advance: Advance
    ) -> None:
        """See `Engine`."""
        path = str(folder.path.absolute() if isinstance(folder.path, Path) else folder.path)

        def start(worker: Any, run: Run, way: Way) -> Any:
            first, rows = _rows(frame, folder.plan, run.blocks, ())
            return worker.store.remote(path, rows, first, run.blocks, way)

        def still(run: Run) -> list[int]:
            return [block for block in run.blocks if not folder.has(block)]

        count = {block: len(folder.plan.rows_of(block)) for block in blocks}
        with closing(self._runs(clip, _cut(blocks, _RUN), start, still, way, ahead=None)) as done:
            for run, _ in done:
                advance(sum(count[block] for block in run.blocks))

    def moments(
        self,
        clip: Model,
        frame: pd.DataFrame,
        plan: Plan,
        columns: Sequence[str],
        blocks: Sequence[int],
        way: Way,
        advance: Advance,
    ) -> Iterator[tuple[Totals, list[Skip]]]:
        """See `Engine`."""

        def start(worker: Any, run: Run, way: Way) -> Any:
            first, rows = _rows(frame, plan, run.blocks, columns)
            return worker.moments.remote(plan, tuple(columns), rows, first, run.blocks, way)

        waiting: dict[int, list[tuple[Totals, list[Skip]]]] = {}
        due = 0
        with closing(self._runs(clip, _cut(blocks, 1), start, lambda run: run.blocks, way, _AHEAD)) as done:
            for run, result in done:
                waiting[run.place] = result
                advance(sum(len(plan.rows_of(block)) for block in run.blocks))
                while due in waiting:
                    yield from waiting.pop(due)
                    due += 1

    def _runs(
        self,
        clip: Model,
        blocks: list[list[int]],
        start: Callable[[Any, Run, Way], Any],
        still: Callable[[Run], list[int]],
        way: Way,
        ahead: int | None,
    ) -> Generator[tuple[Run, Any]]:
        """Every run with its result, in the order in which they are done."""
        queue = deque(Run(place, part) for place, part in enumerate(blocks))
        open_places = {run.place for run in queue}
        if not queue:
            return
        with cluster(self.address), closing(Crew(Tower.of(clip), Worker, self.workers, self.gpu, len(queue))) as crew:
            way = replace(way, workers=min(16, max(2, crew.cores)))
            busy: dict[Any, Run] = {}
            while queue or busy:
                for worker in crew.free():
                    if not queue or (ahead and queue[0].place >= min(open_places) + ahead * crew.size):
                        break
                    run = queue.popleft()
                    busy[crew.give(worker, start(worker, run, way))] = run
                for ticket, outcome in crew.wait(bool(busy)):
                    run = busy.pop(ticket)
                    if isinstance(outcome, Done):
                        open_places.discard(run.place)
                        yield run, outcome.value
                        continue
                    run.deaths += 1
                    if run.deaths == _LIVES:
                        raise StoreError(
                            f"blocks {run.blocks[0]} to {run.blocks[-1]} from one of {_LIVES} workers",
                            f"workers that died over them, the last with: {outcome.reason}",
                            "Give workers more memory (a smaller batch_size or block), or look at Ray's logs.",
                        )
                    left = still(run)
                    if left:
                        queue.appendleft(Run(run.place, left, run.deaths))
                    else:
                        open_places.discard(run.place)
                        yield run, None


def _cut(blocks: Sequence[int], size: int) -> list[list[int]]:
    """Runs of at most `size` consecutive blocks."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and len(runs[-1]) < size and runs[-1][-1] + 1 == block:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _rows(frame: pd.DataFrame, plan: Plan, blocks: list[int], columns: Sequence[str]) -> tuple[int, pd.DataFrame]:
    """The part of a manifest that a run needs, and the row that it begins with."""
    start, stop = plan.rows_of(blocks[0]).start, plan.rows_of(blocks[-1]).stop
    names = [name for name in frame.columns if name in ("path", "box", *columns)]
    part = frame.iloc[start:stop][names].copy()
    part.attrs = {"root": manifest_root(frame)}
    return start, part


def _unseen(count: int) -> None:
    """Progress is told by the driver."""
