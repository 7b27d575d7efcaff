"""Extraction on Ray Data (https://docs.ray.io/en/latest/data/data.html), over the machines of a Ray cluster.

Steps:

1. The tower is put into the cluster once; each actor takes a copy of it to its own device.
2. Runs of blocks are the blocks of a Ray dataset: of the manifest, they hold those rows alone. A pool of actors maps
   them. An actor writes its blocks of the store by itself, marker last, or hands back the moments of each block.
3. Ray Data gives work to whichever actor is free, starts an actor that died again, where its machine is gone on
   another, and gives it its runs once more. Of these, the blocks that are whole stay. A run that was begun three times
   and never ended ends the extraction (Ray's own count of retries would end it where a machine is slow to be missed).
4. Moments come back in the order of the blocks, whoever was first, so that merging gives the bits of a single process.
   What is done before its turn waits in the cluster's object store, within the bounds that Ray Data keeps.

Limits: results are the same on every machine only as far as their processors round alike. The machine that this runs on
is not replaced; run `extract` again there, and it goes on after the blocks that are whole.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from headlens.errors import HeadlensError, StoreError
from headlens.extraction.engines import Advance
from headlens.extraction.filling import Way
from headlens.extraction.layout import Skip, StoreFolder
from headlens.extraction.moment_totals import Totals
from headlens.extraction.plan import Model, Plan
from headlens.extraction.ray_cluster import cluster, shares, silence
from headlens.extraction.ray_worker import Work, Worker, blocks_in, parts, tally
from headlens.extraction.tower import Tower
from headlens.manifest import manifest_root

_RUN = 4  # blocks of a store: enough that an actor reads ahead of its model, few enough that little waits at the end
_LIVES = 3  # workers that may begin a run
_PATIENCE = 300  # seconds until the actors have to have started: a cluster may be getting new machines


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
            import ray.data  # noqa: F401
        except ImportError as error:
            raise StoreError(
                "Ray Data for engine='ray'", "an environment without it", "pip install 'headlens[ray]'"
            ) from error
        self.address, self.workers, self.gpu = address, workers, clip.device.type == "cuda"

    def store(
        self, clip: Model, frame: pd.DataFrame, folder: StoreFolder, blocks: Sequence[int], way: Way, advance: Advance
    ) -> None:
        """See `Engine`."""
        path = str(folder.path.absolute() if isinstance(folder.path, Path) else folder.path)
        work = Work(folder.plan, manifest_root(frame), way, _LIVES, store=path)
        with closing(self._done(clip, frame, _cut(blocks, _RUN), work)) as done:
            for images, _, _ in done:
                advance(images)

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
        work = Work(plan, manifest_root(frame), way, _LIVES, columns=tuple(columns))
        with closing(self._done(clip, frame, _cut(blocks, 1), work)) as done:
            for images, totals, skipped in done:
                advance(images)
                yield totals, skipped

    def _done(
        self, clip: Model, frame: pd.DataFrame, runs: list[list[int]], work: Work
    ) -> Generator[tuple[int, Totals, list[Skip]]]:
        """What workers tell of every block: of moments in order, of a store as they are done."""
        if not runs:
            return
        import ray
        from ray.data import ActorPoolStrategy

        with cluster(self.address), silence(), _told():
            size, cores = shares(self.workers, self.gpu, len(runs))
            tower = _sent(Tower.of(clip, torch.device("cpu")))
            data = ray.data.from_pandas(parts(frame, work.plan, runs, work.columns))
            context = data.context
            context.enable_progress_bars = False
            context.raise_original_map_exception = True
            context.wait_for_min_actors_s = _PATIENCE
            context.execution_no_progress_timeout_s = -1  # a run may take hours on a processor
            context.execution_options.preserve_order = work.store is None
            mapped = data.map_batches(
                Worker,
                fn_constructor_kwargs={
                    "tower": tower,
                    "tally": tally(),
                    "device": "cuda" if self.gpu else "cpu",
                    "work": replace(work, way=replace(work.way, workers=min(16, max(2, cores)))),
                },
                batch_size=None,
                batch_format="pandas",
                compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
                num_cpus=cores,
                num_gpus=int(self.gpu),
            )
            with closing(iter(mapped.iter_rows())) as rows:
                yield from blocks_in(rows)


def _sent(tower: Tower) -> Any:
    import ray

    try:
        return ray.put(tower)
    except (TypeError, AttributeError) as error:
        raise StoreError(
            "a model that can be sent to other processes",
            str(error),
            "Give it a preprocess that is a plain function or object.",
        ) from error


@contextmanager
def _told() -> Iterator[None]:
    """Raise what a worker raised as itself, and what became of workers as a `StoreError`."""
    from ray import exceptions

    try:
        yield
    except exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, HeadlensError):
            raise cause from None
        raise
    except exceptions.GetTimeoutError as error:
        raise StoreError(
            "actors that start",
            f"some that did not in {_PATIENCE:.0f} seconds",
            "Add machines to the cluster, or end what else runs on it, and run this again.",
        ) from error
    except exceptions.RayError as error:  # the process, the machine, or the memory that held a result is gone
        said = str(error).strip().split("\n")[-1].strip().rstrip(".")
        raise StoreError(
            "workers that start, and machines that stay until they are replaced",
            said,
            "Every machine needs headlens, what the model needs, and memory for it; Ray's logs say more.",
        ) from error


def _cut(blocks: Sequence[int], size: int) -> list[list[int]]:
    """Runs of at most `size` consecutive blocks."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and len(runs[-1]) < size and runs[-1][-1] + 1 == block:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs
