"""Time an image against the batch size: where a larger batch stops paying.

    python benchmarks/batch_size.py --model ViT-B-32 [--device cuda] [--sizes 1 4 8 16 32 64] [--json batch.json]

Head states of random images by a random tower (or "testbed"), sizes in turn and the median of --repeats rounds: on a
processor in processor time of one core, on a GPU by the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

import headlens as hl


def measure(name: str, device: str, precision: str, sizes: list[int], repeats: int) -> dict[int, float]:
    """Seconds an image by batch size."""
    clip = hl.load(name, None if name.startswith("testbed") else "random", device=device, precision=precision)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    on_gpu = clip.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    with torch.inference_mode():
        for number in range(repeats + 1):
            for size in sizes:
                images = torch.randn(size, 3, *clip.vision.cfg.image_size, device=clip.device)
                steps = max(1, 32 // size)
                start = clock()
                for _ in range(steps):
                    clip.vision.head_states(images)
                if on_gpu:
                    torch.cuda.synchronize()
                if number:  # the first round warms up
                    taken[size].append((clock() - start) / (steps * size))
    return {size: statistics.median(values) for size, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.model, given.device, given.precision, given.sizes, given.repeats)
    best = min(found.values())
    print("| batch | ms an image | over the best |\n|---|---|---|")
    for size, seconds in found.items():
        print(f"| {size} | {1e3 * seconds:.2f} | {seconds / best:.2f} |")
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "device": given.device, "seconds": found}, indent=1))


if __name__ == "__main__":
    main()
