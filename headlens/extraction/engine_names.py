"""Engines by name: this process, on one device or several, or the actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from headlens.errors import StoreError
from headlens.extraction.devices import Devices
from headlens.extraction.engines import Engine, Local
from headlens.extraction.plan import Model


def engine_of(
    name: str, clip: Model, address: str | None, workers: int | None, devices: Sequence[str] | None = None
) -> Engine:
    """The engine of a name. Raises `StoreError` for an unknown one, or one that is not installed."""
    if name == "ray":
        from headlens.extraction.ray_engine import Ray

        if devices is not None:
            raise StoreError("devices only for engine='local'", f"{devices!r}", "With Ray, every actor takes one GPU.")
        return Ray(clip, address, workers)
    if name != "local":
        raise StoreError("engine as one of local, ray", repr(name), "Choose one of these.")
    if address is not None:
        raise StoreError("an address only for engine='ray'", f"{address!r}", "Leave the address out.")
    if devices is not None:
        return Devices(clip, devices)
    return Local()
