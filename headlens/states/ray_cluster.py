"""A Ray cluster and the actors on it: started, replaced where they die, and stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from headlens.errors import HeadlensError, StoreError

_PATIENCE = 300.0  # seconds without a single living actor: a cluster may be getting new machines


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Be connected to a cluster: the one that this process is connected to already, the one at an address (or at
    RAY_ADDRESS), or one that lives on this machine as long as the block.

    Raises:
        StoreError: where no cluster answers.
    """
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


@dataclass(frozen=True)
class Done:
    """A task that ended, with what it gave."""

    value: Any


@dataclass(frozen=True)
class Death:
    """A task whose actor died."""

    reason: str


class Crew:
    """Actors that are given one task at a time.

    Args:
        tower: what each is made with, put into the cluster once.
        kind: their class.
        size: how many; None for one a GPU, or one a machine.
        gpu: whether each gets a GPU.
        most: how many tasks there are.

    Raises:
        StoreError: where the cluster has no GPU and one is needed, or the tower cannot be sent.
    """

    def __init__(self, tower: Any, kind: type, size: int | None, gpu: bool, most: int):
        import ray

        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        if not nodes or (gpu and not gpus):
            raise StoreError(
                f"a cluster with {'GPUs, as the model is on one' if gpu else 'processors'}",
                f"{len(nodes)} machines and {gpus} GPUs",
                "Add such machines, or load the model on the processor.",
            )
        self.size = min(size or (gpus if gpu else len(nodes)), most)
        total, largest = (int(f(node["CPU"] for node in nodes)) for f in (sum, max))
        # Whole shares: actors that ask for more than a machine has would never start.
        smallest = int(min(node["CPU"] for node in nodes))
        self.cores = max(1, min(total // self.size, largest if self.size < len(nodes) else smallest))
        try:
            self._tower = ray.put(tower)
        except (TypeError, AttributeError) as error:
            raise StoreError(
                "a model that can be sent to other processes",
                str(error),
                "Give it a preprocess that is a plain function or object.",
            ) from error
        self._options = {"num_cpus": self.cores, "num_gpus": int(gpu), "max_restarts": 0, "max_task_retries": 0}
        self._kind: Any = ray.remote(kind)
        self._device = "cuda" if gpu else "cpu"
        self._starting: dict[Any, Any] = {}
        self._free: list[Any] = []
        self._tasks: dict[Any, Any] = {}
        self._stillborn = 0
        for _ in range(self.size):
            self._hire()

    def _hire(self) -> None:
        worker = self._kind.options(**self._options).remote(self._tower, self._device)
        self._starting[worker.ready.remote()] = worker

    def free(self) -> list[Any]:
        """The actors without a task."""
        return list(self._free)

    def give(self, worker: Any, ticket: Any) -> Any:
        """Note that an actor has a task."""
        self._free.remove(worker)
        self._tasks[ticket] = worker
        return ticket

    def wait(self, busy: bool) -> list[tuple[Any, Done | Death]]:
        """What is done, after the first of anything that happens.

        Raises:
            HeadlensError: what a task raised.
            StoreError: where actors die before they can start, or none starts for long.
        """
        known = [*self._tasks, *self._starting]
        happened, _ = self._ray.wait(known, num_returns=1, timeout=None if busy or self._free else _PATIENCE)
        if not happened:
            raise StoreError(
                f"an actor with {self.cores} processors" + (" and a GPU" if self._options["num_gpus"] else ""),
                f"none in {_PATIENCE:.0f} seconds",
                "Add machines to the cluster, or end what else runs on it, and run this again.",
            )
        outcomes: list[tuple[Any, Done | Death]] = []
        for ticket in happened:
            starting = ticket in self._starting
            worker = (self._starting if starting else self._tasks).pop(ticket)
            outcome = self._outcome(ticket)
            if isinstance(outcome, Death):
                self._ray.kill(worker)
                self._stillborn += starting
                if self._stillborn >= 3:
                    raise StoreError(
                        "actors that start",
                        f"three in a row that do not: {outcome.reason}",
                        "Every machine needs headlens, what the model needs, and memory for it.",
                    )
                self._hire()
            else:
                self._stillborn = 0
                self._free.append(worker)
            if not starting:
                outcomes.append((ticket, outcome))
        return outcomes

    def _outcome(self, ticket: Any) -> Done | Death:
        errors = self._ray.exceptions
        try:
            return Done(self._ray.get(ticket))
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, HeadlensError):
                raise cause from None
            raise
        except errors.RayError as error:  # the process, the machine, or the memory that held the result is gone
            return Death(str(error).strip().split("\n")[-1].strip().rstrip("."))

    def close(self) -> None:
        """Let all actors go."""
        for worker in [*self._starting.values(), *self._tasks.values(), *self._free]:
            self._ray.kill(worker)
