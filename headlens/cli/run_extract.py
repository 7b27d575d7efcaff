"""What `headlens extract` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headlens.cli import show
from headlens.errors import StoreError
from headlens.extraction import Devices, Ray, extract, extract_moments
from headlens.loading import load
from headlens.manifest import read_manifest


@dataclass(frozen=True)
class ExtractRequest:
    """What `headlens extract` was asked, as it was typed. The fields are the command's options."""

    model: str
    pretrained: str | None
    data: str
    out: str
    batch_size: int | None
    on_error: str
    device: str
    precision: str
    dtype: str
    moments: bool
    groups: list[str]
    engine: str
    address: str | None
    devices: list[str]
    workers: int | None
    shard: str | None


def run_extract(request: ExtractRequest, *, as_json: bool) -> None:
    """Fill a store and say what is in it."""
    _check(request)
    shard = None if request.shard is None else _shard(request.shard)
    manifest = read_manifest(request.data)
    clip = load(request.model, pretrained=request.pretrained, device=request.device, precision=request.precision)
    how: dict[str, Any] = {
        "batch_size": request.batch_size,
        "on_error": request.on_error,
        "workers": request.workers,
        "shard": shard,
    }
    if request.engine == "ray":
        how |= {"engine": Ray(request.address, request.workers), "workers": None}
    elif request.devices:
        how["engine"] = Devices(request.devices)
    store: Any
    if request.moments:
        store = extract_moments(clip, manifest, request.out, request.groups, **how)
    else:
        store = extract(clip, manifest, request.out, dtype=request.dtype, **how)
    if store is None:
        show.facts({"store": request.out, "shard": request.shard, "complete": False}, as_json=as_json)
        return
    facts = {
        "store": request.out,
        "images": len(store),
        "skipped": len(store.skipped),
        "layers": store.n_layers,
        "heads": store.n_heads,
        "model": store.model_name,
        "fingerprint": store.fingerprint,
    }
    if request.moments:
        facts["groups"] = len(store.cells)
    show.facts(facts, as_json=as_json)


def _check(request: ExtractRequest) -> None:
    if request.moments and request.dtype not in ("float32", "float64"):
        raise StoreError("Moments are added up in float64 whatever --dtype is.", "Leave out --dtype, or --moments.")
    for alone, option, needed in (
        (request.groups and not request.moments, "--groups", "--moments"),
        (request.address and request.engine != "ray", "--address", "--engine ray"),
        (
            request.devices and request.engine == "ray",
            "--devices",
            "--engine local; with Ray, every actor takes one GPU",
        ),
    ):
        if alone:
            raise StoreError(f"{option} needs {needed}.", f"Add that, or leave out {option}.")


def _shard(text: str) -> tuple[int, int]:
    k, slash, n = text.partition("/")
    if not slash or not k.strip().isdecimal() or not n.strip().isdecimal():
        raise StoreError(f"--shard {text!r} is not of the form K/N.", "For the first of four shares write --shard 0/4.")
    return int(k), int(n)
