"""What each step of an extraction takes an image, and what a hundred million images would take at these rates.

    python benchmarks/rates.py --model ViT-L-14 [--batch 16] [--json rates.json]

Measured in processor time on one core, each alone, in this process: reading and preprocessing a JPEG photograph; the
head states of a batch (random weights: the time does not depend on them); writing a block of head states to a store;
adding a piece to moments; digesting the manifest; projecting a store on two texts. Then the days of one core and the
bytes that --total images would take at these rates: an extrapolation, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from growth import machine, projection
from PIL import Image
from store_size import disk, write_store

import headlens as hl
from headlens.extraction.moment_folder import Totals
from headlens.extraction.plan import to_disk
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import StoreFolder
from headlens.images import read_image
from headlens.manifest import manifest_digest
from headlens.models.open_clip_import import open_clip


def median(work: Callable[[], object], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def photograph(path: Path) -> None:
    """500 × 375 pixels with the spectrum of a photograph, about 60 kB."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(500), np.fft.fftfreq(375)))
    noise = np.fft.fft2(rng.standard_normal((3, 375, 500))) / np.maximum(frequency, 1 / 500) ** 1.2
    pixels = np.fft.ifft2(noise).real
    pixels = (pixels - pixels.mean()) / pixels.std() * 50 + 128
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(path, quality=90)


def measure(name: str, batch: int, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds an image of each step, and bytes an image (or in all) of each kind."""
    torch.manual_seed(0)
    oc = open_clip()
    model = oc.create_model(name, load_weights=False).eval()
    vision = hl.HookedVisionTransformer.from_open_clip(model.visual, copy=False)
    cfg = vision.cfg
    preprocess = oc.image_transform(cfg.image_size, is_train=False)
    pixels = torch.randn(batch, 3, *cfg.image_size)
    sizes = {"layer": cfg.n_layers, "head": cfg.n_heads, "d_head": cfg.d_head, "embed": cfg.d_embed}
    seconds, size = {}, {}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        root = Path(scratch)
        photograph(root / "photo.jpg")
        size["jpeg"] = (root / "photo.jpg").stat().st_size
        seconds["read and preprocess"] = median(lambda: preprocess(read_image(root / "photo.jpg")), 5 * repeats)
        seconds["head states"] = median(lambda: vision.head_states(pixels), repeats) / batch
        count = 512
        for dtype in ("float32", "float16", "bfloat16"):
            store = write_store(root / dtype, count, sizes, dtype)
            folder, plan = StoreFolder.open(Storage(root / dtype)), store.plan
            states = {name: torch.randn(plan.shape_of(name, plan.block)) for name in plan.names}

            def write(folder: StoreFolder = folder, states: dict[str, torch.Tensor] = states) -> None:
                arrays = {name: to_disk(values, folder.plan.type_of(name))[0] for name, values in states.items()}
                folder.write(0, arrays, [])

            seconds[f"write {dtype}"] = median(write, repeats) / plan.block
            size[f"store {dtype}"] = (disk(root / dtype) - (root / dtype / "basis.safetensors").stat().st_size) / count
        z, embedding = torch.randn(count, cfg.n_layers, cfg.n_heads, cfg.d_head), torch.randn(count, cfg.d_embed)
        totals = Totals()
        seconds["add to moments"] = median(lambda: totals.add([()] * count, z, embedding), repeats) / count
        size["moments of a group, in all"] = len(totals.to_bytes({}))
        frame = pd.DataFrame({"path": [f"a/folder/{i:09d}.jpg" for i in range(20_000)], "label": "x"})
        seconds["digest the manifest"] = median(lambda: manifest_digest(frame), 3) / len(frame)
        size["manifest in memory"] = frame.memory_usage(deep=True).sum() / len(frame)
        seconds["project on two texts"] = median(projection(cfg.n_layers, cfg.n_heads, 500, 2), repeats) / 500
    return seconds, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-L-14")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--total", type=float, default=1e8)
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seconds, size = measure(asked.model, asked.batch, asked.repeats)
    record: dict[str, Any] = {
        "model": asked.model,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "milliseconds_an_image": {name: round(1000 * value, 4) for name, value in seconds.items()},
        "bytes_an_image": {name: round(value) for name, value in size.items()},
        "total": asked.total,
        "core_days": {name: round(value * asked.total / 86_400, 2) for name, value in seconds.items()},
        "terabytes": {
            name: round(value * asked.total / 1e12, 3) for name, value in size.items() if "in all" not in name
        },
    }
    text = json.dumps(record, indent=2)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
