"""Extraction on Ray Data (https://docs.ray.io/en/latest/data/data.html), over the machines of a Ray cluster.

Steps:

1. The tower is put into the cluster once; each actor takes a copy of it to its own device.
2. Runs of blocks are the blocks of a Ray dataset: of the manifest, they hold those rows alone. A pool of actors maps
   them. An actor writes its blocks of the store by itself, marker last, or hands back the moments of each block.
3. Ray Data gives work to whichever actor is free, starts an actor that died again, where its machine is gone on
   another, and gives it its runs once more. Of these, the blocks that are whole stay. A run that was begun three times
   and never ended ends the extraction (Ray's own count of retries would end it where a machine is slow to be missed).
4. Moments come back in the order of the blocks, whichever finished first, so that the merged ones are bitwise identical
   to those of a single process.
   What is done before its turn waits in the cluster's object store, within the bounds that Ray Data keeps.

Limits: results are the same on every machine only as far as their processors round alike. The machine that this runs on
is not replaced; run `extract` again there, and it goes on after the blocks that are whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch

from headlens.errors import HeadlensError, StoreError
from headlens.extraction.batching import Job
from headlens.extraction.engines import Tower, do_blocks
from headlens.extraction.moment_folder import Totals
from headlens.extraction.plan import Model
from headlens.extraction.store_folder import Skip, StoreFolder, storable
from headlens.manifest import manifest_root
from headlens.progress import Advance

_RUN = 4  # blocks of a store: enough that an actor reads ahead of its model, few enough that little waits at the end
_LIVES = 3  # actors that may begin a run
_PATIENCE = 300  # seconds until the actors have to have started: a cluster may be getting new machines
_ROW = "headlens_row"  # the column that says where in the whole manifest a row is


class Ray:
    """The engine.

    Args:
        address: of a running cluster ("auto" finds one); None starts one on this machine, unless this process is
            connected already.
        actors: how many; by default one a GPU where the model is on one, else one a machine.

    Raises:
        StoreError: where Ray is not installed.
    """

    def __init__(self, address: str | None = None, actors: int | None = None):
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            raise StoreError("Ray Data is not installed.", "pip install 'headlens[ray]'") from error
        self.address, self.actors = address, actors

    def __repr__(self) -> str:
        return f"Ray(address={self.address!r}, actors={self.actors})"

    def __call__(self, job: Job, model: Model, blocks: Sequence[int], advance: Advance) -> Generator[Totals]:
        """See `Engine`."""
        runs = _cut(blocks, _RUN if job.storage else 1)
        if not runs:
            return
        with _cluster(self.address), _silence(), _raising(), closing(self._rows(job, model, runs)) as rows:
            totals = Totals()
            for row in rows:
                if row["moments"]:
                    totals.merge(Totals.from_bytes(row["moments"])[0])
                else:
                    advance(row["images"])
                    totals.skipped += [Skip(**skip) for skip in json.loads(row["skipped"])]
                    yield totals
                    totals = Totals()

    def _rows(self, job: Job, model: Model, runs: list[list[int]]) -> Generator[dict[str, Any]]:
        import ray
        from ray.data import ActorPoolStrategy

        gpu = model.device.type == "cuda"
        size, cores = _shares(self.actors, gpu, len(runs))
        root = manifest_root(job.frame)
        data = ray.data.from_pandas([_rows_of(job, run) for run in runs])
        context = data.context
        context.enable_progress_bars = False
        context.raise_original_map_exception = True
        context.wait_for_min_actors_s = _PATIENCE
        context.execution_no_progress_timeout_s = -1  # a run may take hours on a processor
        context.execution_options.preserve_order = job.storage is None
        mapped = data.map_batches(
            Actor,
            fn_constructor_kwargs={
                "tower": _sent(Tower.of(model, torch.device("cpu"))),
                "begun": _begun(),
                "device": "cuda" if gpu else "cpu",
                "job": replace(job, frame=job.frame.iloc[:0], workers=min(16, max(2, cores))),
                "root": root,
                "lives": _LIVES,
            },
            batch_size=None,
            batch_format="pandas",
            compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=cores,
            num_gpus=int(gpu),
        )
        with closing(iter(mapped.iter_rows())) as rows:
            yield from rows


class Actor:
    """Ray Data calls it with one run of blocks at a time, and again, here or elsewhere, after a death."""

    def __init__(self, tower: Any, begun: Any, device: str, job: Job, root: str, lives: int):
        import ray

        held: Tower = ray.get(tower)
        self.tower = held if device == "cpu" else Tower.of(held, torch.device(device))
        self.begun, self.job, self.root, self.lives = begun, job, root, lives

    def __call__(self, batch: pd.DataFrame) -> Iterator[Any]:
        """A table of each block that is done, and before it one for each of its moments."""
        import ray

        plan, first, last = self.job.plan, int(batch[_ROW].iloc[0]), int(batch[_ROW].iloc[-1])
        blocks: Sequence[int] = range(first // plan.block, last // plan.block + 1)
        if ray.get(self.begun.count.remote(blocks[0])) > self.lives:
            raise StoreError(
                f"blocks {blocks[0]} to {blocks[-1]} from one of {self.lives} workers",
                "workers that died over them",
                "Give workers more memory (a smaller batch_size or block), or look at Ray's logs.",
            )
        frame = batch.drop(columns=_ROW)
        frame.attrs = {"root": self.root}
        job = replace(self.job, frame=frame, first=first)
        if job.storage:  # all of them are missing, unless an actor died over these
            folder = StoreFolder.open(job.storage)
            whole = [block for block in blocks if folder.has(block)]
            yield from (_table(len(plan.rows_of(block))) for block in whole)
            blocks = [block for block in blocks if block not in whole]
        for block, totals in zip(blocks, do_blocks(job, self.tower, blocks, lambda _: None), strict=True):
            for key, cell in totals.cells.items():  # one by one: a cell is small, whatever the number of groups
                yield _table(moments=Totals({key: cell}).to_bytes())
            yield _table(len(plan.rows_of(block)), skipped=json.dumps([asdict(skip) for skip in totals.skipped]))


class Begun:
    """Counts how often work on a run began, in an actor of its own: it outlives those that die over one."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}

    def count(self, run: int) -> int:
        """How often that is now."""
        self.runs[run] = self.runs.get(run, 0) + 1
        return self.runs[run]


def _begun() -> Any:
    """The actor of it, on the driver's machine: without that nothing goes on anyway."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    kind: Any = ray.remote(Begun)
    return kind.options(num_cpus=0, scheduling_strategy=here).remote()


def _cut(blocks: Sequence[int], size: int) -> list[list[int]]:
    """Runs of at most `size` consecutive blocks."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and len(runs[-1]) < size and runs[-1][-1] + 1 == block:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _rows_of(job: Job, run: Sequence[int]) -> pd.DataFrame:
    """The rows of the manifest that a run needs, in columns that Ray Data takes."""
    rows = range(job.plan.rows_of(run[0]).start, job.plan.rows_of(run[-1]).stop)
    part = job.rows(rows)
    part = storable(part[[name for name in part.columns if name in ("path", "box", *job.groups)]])
    part.attrs = {}
    return part.assign(**{_ROW: rows})


def _table(images: int = 0, moments: bytes = b"", skipped: str = "[]") -> Any:
    import pyarrow

    content = pyarrow.array([moments], pyarrow.large_binary())
    return pyarrow.table({"images": [images], "moments": content, "skipped": [skipped]})


def _sent(tower: Tower) -> Any:
    import ray

    try:
        return ray.put(tower)
    except (TypeError, AttributeError) as error:
        raise StoreError(
            f"The model cannot be sent to other processes: {error}.",
            "Give it a preprocess that is a plain function or object.",
        ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Be connected to a cluster: the one that this process is connected to already, the one at an address (or at
    RAY_ADDRESS), or one that lives on this machine as long as the block."""
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # starting an extraction is nobody else's business
        options["include_dashboard"] = False
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises a bare one where its own processes do not start in time
        ray.shutdown()
        raise StoreError(
            f"a Ray cluster {f'at {address}' if address else 'that starts on this machine'}",
            str(error).strip().split("\n")[0].rstrip("."),
            "Start one with `ray start --head` and give its address, or leave the address out to have one started."
            if address
            else "The machine may be too busy, since Ray gives its own processes a few seconds: run this again.",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _shares(size: int | None, gpu: bool, most: int) -> tuple[int, int]:
    """How many actors, and how many processors each. Raises `StoreError` where the cluster lacks what is needed."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in alive if node.get("CPU", 0) >= 1 and (not gpu or node.get("GPU", 0) >= 1)]
    if not nodes:
        raise StoreError(
            f"a cluster with {'GPUs, since the model is on one' if gpu else 'processors'}",
            f"{len(alive)} machines without",
            "Add such machines, or load the model on the processor.",
        )
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    size = min(size or (gpus if gpu else len(nodes)), most)
    total, smallest, largest = (int(f(node["CPU"] for node in nodes)) for f in (sum, min, max))
    # Whole shares: actors that ask for more than a machine has would never start.
    return size, max(1, min(total // size, largest if size < len(nodes) else smallest))


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what Ray Data has to say in its log files: errors are reported by raising them."""
    import ray.data  # noqa: F401

    handlers = [one for one in logging.getLogger("ray.data").handlers if not isinstance(one, logging.FileHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


@contextmanager
def _raising() -> Iterator[None]:
    """Raise what an actor raised as itself, and what became of actors as a `StoreError`."""
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
            f"Not all actors started in {_PATIENCE:.0f} seconds.",
            "Add machines to the cluster, or end what else runs on it, and run this again.",
        ) from error
    except exceptions.RayError as error:  # the process, the machine, or the memory that held a result is gone
        said = str(error).strip().split("\n")[-1].strip().rstrip(".")
        raise StoreError(
            f"Workers did not start, or a machine is gone and was not replaced: {said}.",
            "Every machine needs headlens, what the model needs, and memory for it; Ray's logs say more.",
        ) from error
