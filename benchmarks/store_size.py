"""Claim: a store is a seventh of the dense decomposition, a fourteenth in half precision, and answers faster.

    python benchmarks/store_size.py --images 500

Head states of random numbers in a tower's shape (ViT-L-14 unless told otherwise) are written as a store, and the dense
float32 array [image layer head embed] of the same images is made from it. Compared are the numbers that a store keeps,
before compression, with a dense float32 decomposition of the same content (heads, MLPs, stem, constant, embedding); and
the bytes on disk with the array of the heads alone. Random mantissas do not compress: what is gained here is gained on
any data. Times and memory of a projection on a few directions are taken in turn, on the same data. Only ratios are
worth reading.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from math import prod
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from einops import einsum

from headlens.extraction import HeadStore
from headlens.extraction.plan import Plan, block_sizes, to_disk
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import StoreFolder
from headlens.manifest import images_digest
from headlens.states import HeadBasis

HALVES = ("float16", "bfloat16")


def write_store(
    path: Path,
    images: int,
    sizes: dict[str, int],
    dtype: str,
    paths: list[str] | None = None,
    fingerprint: str = "none",
    weights: torch.Tensor | None = None,
    arrays: Mapping[str, torch.Tensor] | None = None,
) -> HeadStore:
    """A store of random head states, through the same folder that extraction writes; of no image files, or of these.

    Weights and arrays, by row, may be given.
    """
    torch.manual_seed(0)
    layers, heads, d_head, embed = (sizes[name] for name in ("layer", "head", "d_head", "embed"))
    weights = torch.randn(layers, heads, d_head, embed) / embed**0.5 if weights is None else weights
    basis = dataclasses.replace(HeadBasis.of_weights(weights), stem=torch.zeros(embed))
    block, chunk = block_sizes(images, None)
    manifest = pd.DataFrame({"path": paths or ["none"] * images})
    plan = Plan("random", fingerprint, "none", images_digest(manifest), images, block, chunk, dtype, sizes, stem=False)
    folder = StoreFolder.create(Storage(path), plan, manifest, basis)
    for number in range(plan.n_blocks):
        rows = plan.rows_of(number)
        block = {name: torch.randn(plan.shape_of(name, len(rows))) for name in plan.names}
        block |= {name: values[rows.start : rows.stop] for name, values in (arrays or {}).items()}
        folder.write(number, {name: to_disk(values, plan.type_of(name))[0] for name, values in block.items()}, [])
    folder.finish()
    return HeadStore.open(path)


def numbers(store: HeadStore) -> int:
    """Bytes of what a store keeps of its images, before compression."""
    plan = store.plan
    return sum(prod(plan.shape_of(name, plan.rows)) * plan.stored_as(name).itemsize for name in plan.names)


def disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def dense_heads(store: HeadStore) -> torch.Tensor:
    """What the published code keeps: every head's contribution as a vector of the joint space."""
    z = torch.cat([block for _, block in store.blocks()])
    return einsum(z, store.basis.B, "image layer head d_head, layer head d_head embed -> image layer head embed")


def dense_project(heads: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ilhe,te->ilht", heads, directions)


def seconds(*calls: Callable[[], object], rounds: int = 5) -> list[float]:
    """The best time of each call, taken in turn."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def high_water() -> int:
    """The most bytes that this process ever held (Linux). `getrusage` would count what its parent held as
    well."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def forget_high_water() -> None:
    """Let the mark begin again from what is held now: imports held more for a moment."""
    Path("/proc/self/clear_refs").write_text("5")


def peak(path: str, dense: str | None, count: int) -> int:
    """Bytes that one projection needs on top of an opened store, in a process of its own."""
    store = HeadStore.open(path)
    directions = torch.randn(count, store.plan.sizes["embed"])
    forget_high_water()
    before = high_water()
    if dense is None:
        store.project(directions)
    else:
        shape = (len(store), store.n_layers, store.n_heads, store.plan.sizes["embed"])
        elements = shape[0] * shape[1] * shape[2] * shape[3]
        heads = torch.from_file(dense, size=elements, dtype=torch.float32).clone().view(shape)
        dense_project(heads, directions)
    return high_water() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"images": 500, "layers": 24, "heads": 16, "d-head": 64, "embed": 768, "directions": 2}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    sizes = {"layer": asked.layers, "head": asked.heads, "d_head": asked.d_head, "embed": asked.embed}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        full = write_store(root / "full.zarr", asked.images, sizes, "float32")
        halves = {name: write_store(root / f"{name}.zarr", asked.images, sizes, name) for name in HALVES}
        # Heads, MLPs, stem, constant and embedding: what a dense decomposition of the same content holds.
        parts = asked.layers * asked.heads + asked.layers + 3
        dense_bytes = 4 * asked.images * parts * asked.embed
        dense_heads_bytes = 4 * asked.images * asked.layers * asked.heads * asked.embed
        weights = (Path(full.path) / "basis.safetensors").stat().st_size  # once a store, however many images

        start = time.perf_counter()
        full.project(torch.randn(1, asked.embed))
        first = time.perf_counter() - start
        directions = torch.randn(asked.directions, asked.embed)
        heads = dense_heads(full)
        torch.testing.assert_close(full.project(directions), dense_project(heads, directions), atol=1e-4, rtol=1e-4)
        compact_time, dense_time = seconds(lambda: full.project(directions), lambda: dense_project(heads, directions))
        heads.numpy().tofile(root / "dense")
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            compact_peak = pool.apply(peak, (str(full.path), None, asked.directions))
            dense_peak = pool.apply(peak, (str(full.path), str(root / "dense"), asked.directions))
        result = {
            **vars(asked),
            "dense_over_numbers": {
                name: round(dense_bytes / numbers(store), 2) for name, store in {"float32": full, **halves}.items()
            },
            "dense_heads_over_disk": {
                name: round(dense_heads_bytes / (disk(Path(store.path)) - weights), 2)
                for name, store in {"float32": full, **halves}.items()
            },
            "bytes_per_image": {
                name: (disk(Path(store.path)) - weights) // asked.images
                for name, store in {"float32": full, **halves}.items()
            },
            "weights_mb": round(weights / 1e6, 1),
            "first_projection_s": round(first, 3),
            "projection_s": round(compact_time, 4),
            "dense_over_projection_time": round(dense_time / compact_time, 2),
            "dense_over_projection_memory": round(dense_peak / compact_peak, 2),
        }
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
