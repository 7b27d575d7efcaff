"""A Ray cluster: found or started, stopped where it was started here, and how many actors of what size it holds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headlens.errors import StoreError


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


def shares(size: int | None, gpu: bool, most: int) -> tuple[int, int]:
    """How many actors, and how many processors each.

    Args:
        size: actors that are asked for; None for one a GPU, or one a machine.
        gpu: whether each gets a GPU.
        most: how many tasks there are.

    Raises:
        StoreError: where the cluster has nothing of what is needed.
    """
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = [node for node in alive if node.get("CPU", 0) >= 1 and (not gpu or node.get("GPU", 0) >= 1)]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if not nodes:
        raise StoreError(
            f"a cluster with {'GPUs, since the model is on one' if gpu else 'processors'}",
            f"{len(alive)} machines without",
            "Add such machines, or load the model on the processor.",
        )
    size = min(size or (gpus if gpu else len(nodes)), most)
    total, largest = (int(f(node["CPU"] for node in nodes)) for f in (sum, max))
    # Whole shares: actors that ask for more than a machine has would never start.
    smallest = int(min(node["CPU"] for node in nodes))
    return size, max(1, min(total // size, largest if size < len(nodes) else smallest))


@contextmanager
def silence() -> Iterator[None]:
    """Keep what Ray Data has to say in its log files: errors are told by raising them."""
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
