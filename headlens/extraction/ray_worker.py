"""What an actor of a Ray cluster is: a tower, and the work on runs of blocks that come to it as rows of a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch

from headlens.errors import StoreError
from headlens.extraction.arrays import storable
from headlens.extraction.engines import block_moments, write_blocks
from headlens.extraction.filling import Way
from headlens.extraction.layout import Skip, StoreFolder
from headlens.extraction.moment_totals import Totals
from headlens.extraction.place import place_of
from headlens.extraction.plan import Plan

ROW = "headlens_row"  # the column that says where in the whole manifest a row is


@dataclass(frozen=True)
class Work:
    """What is to be done with every run of blocks.

    Attributes:
        plan: sizes and types.
        root: the folder that paths of the manifest count from.
        way: how images go through the model.
        lives: how many workers may begin a run.
        store: the store's path or address; None for moments.
        columns: with moments, the group columns.
    """

    plan: Plan
    root: str
    way: Way
    lives: int
    store: str | None = None
    columns: tuple[str, ...] = ()


class Worker:
    """The actor. Ray Data calls it with one run of blocks at a time, and again, here or elsewhere, after a death."""

    def __init__(self, tower: Any, tally: Any, device: str, work: Work):
        import ray

        self.tower = ray.get(tower).to(torch.device(device))
        self.tally = tally
        self.work = work

    def __call__(self, batch: pd.DataFrame) -> Iterator[Any]:
        """Of every block a table of the `images` that are done with it, and before it one for each of its moments."""
        plan, first, last = self.work.plan, int(batch[ROW].iloc[0]), int(batch[ROW].iloc[-1])
        blocks = range(first // plan.block, last // plan.block + 1)
        self._count(blocks)
        frame = batch.drop(columns=ROW)
        frame.attrs = {"root": self.work.root}
        yield from self._store(frame, blocks, first) if self.work.store else self._moments(frame, blocks, first)

    def _count(self, blocks: range) -> None:
        import ray

        if ray.get(self.tally.begin.remote(blocks[0])) > self.work.lives:
            raise StoreError(
                f"blocks {blocks[0]} to {blocks[-1]} from one of {self.work.lives} workers",
                "workers that died over them",
                "Give workers more memory (a smaller batch_size or block), or look at Ray's logs.",
            )

    def _store(self, frame: pd.DataFrame, blocks: Sequence[int], first: int) -> Iterator[Any]:
        folder = StoreFolder.open(place_of(self.work.store or ""))
        missing = [block for block in blocks if not folder.has(block)]  # all of them, unless a worker died over these
        for _ in write_blocks(self.tower, frame, folder, missing, self.work.way, _unseen, first):
            pass
        yield _table(images=len(frame))

    def _moments(self, frame: pd.DataFrame, blocks: Sequence[int], first: int) -> Iterator[Any]:
        plan, columns = self.work.plan, self.work.columns
        found = block_moments(self.tower, frame, plan, columns, blocks, self.work.way, _unseen, first)
        for block, (totals, skipped) in zip(blocks, found, strict=True):
            for key, cell in totals.cells.items():  # one by one: a cell is small, whatever the number of groups
                yield _table(moments=Totals({key: cell}).to_bytes({}))
            lost = json.dumps([asdict(skip) for skip in skipped])
            yield _table(images=len(plan.rows_of(block)), skipped=lost)


class Tally:
    """Counts how often work on a run began, in an actor of its own: it outlives those that die over one."""

    def __init__(self) -> None:
        self.begun: dict[int, int] = {}

    def begin(self, run: int) -> int:
        """How often that is now."""
        self.begun[run] = self.begun.get(run, 0) + 1
        return self.begun[run]


def tally() -> Any:
    """The actor of it, on the driver's machine: without that nothing goes on anyway."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    kind: Any = ray.remote(Tally)
    return kind.options(num_cpus=0, scheduling_strategy=here).remote()


def parts(frame: pd.DataFrame, plan: Plan, runs: Sequence[Sequence[int]], columns: Sequence[str]) -> list[pd.DataFrame]:
    """The rows of the manifest that each run needs, in columns that Ray Data takes."""
    names = [name for name in frame.columns if name in ("path", "box", *columns)]
    cut = []
    for run in runs:
        start, stop = plan.rows_of(run[0]).start, plan.rows_of(run[-1]).stop
        part = storable(frame.iloc[start:stop][names])
        part.attrs = {}
        cut.append(part.assign(**{ROW: range(start, stop)}))
    return cut


def blocks_in(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, Totals, list[Skip]]]:
    """What workers told of every block: how many images are done with it, their moments, and those left out."""
    totals = Totals()
    for row in rows:
        if row["moments"]:
            totals.merge(Totals.from_bytes(row["moments"])[0])
        else:
            yield row["images"], totals, [Skip(**skip) for skip in json.loads(row["skipped"])]
            totals = Totals()


def _table(images: int = 0, moments: bytes = b"", skipped: str = "[]") -> Any:
    import pyarrow

    content = pyarrow.array([moments], pyarrow.large_binary())
    return pyarrow.table({"images": [images], "moments": content, "skipped": [skipped]})


def _unseen(count: int) -> None:
    """Progress is told by the driver."""
