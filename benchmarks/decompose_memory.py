"""How much memory a decomposition takes, next to open_clip's own `encode_image`.

    python benchmarks/decompose_memory.py --model ViT-B-16 --batch 16 [--per-token]

Each runs twice in a process of its own, on random pixels and weights. Printed: the largest resident memory of the whole
process (interpreter, libraries and weights included), its ratio to that of `encode_image`, and what the work added to a
process in which model and pixels were there. A decomposition holds its result, and the tower's folded weights from then
on; per token the result alone is image × layer × head × token × embed numbers.
"""

from __future__ import annotations

import argparse
import resource
from multiprocessing import get_context

import torch

import headlens as hl
from headlens.models.open_clip_import import open_clip

WORK = ("open_clip encode_image", "headlens head_states", "headlens decompose")
PER_TOKEN = "headlens decompose, per token"


def _resident() -> float:
    """The process' largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(work: str, name: str, batch: int) -> tuple[float, float]:
    """The peak, and what of it was added by the work."""
    torch.manual_seed(0)
    model = open_clip().create_model(name, load_weights=False).eval()
    vision = hl.HookedVisionTransformer.from_open_clip(model.visual, copy=False)
    images = torch.randn(batch, 3, *vision.cfg.image_size)
    before = _resident()
    with torch.no_grad():
        for _ in range(2):
            if work == WORK[0]:
                model.encode_image(images)
            elif work == WORK[1]:
                vision.head_states(images)
            else:
                hl.decompose(vision, images, per_token=work == PER_TOKEN)
    return _resident(), _resident() - before


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="an architecture of open_clip")
    parser.add_argument("--batch", type=int, default=16, help="images at once")
    parser.add_argument("--per-token", action="store_true", help="also per head and token")
    options = parser.parse_args()
    print(f"{options.model}, batch {options.batch}")
    base = 0.0
    for work in (*WORK, *[PER_TOKEN] * options.per_token):
        with get_context("spawn").Pool(1) as pool:
            peak, added = pool.apply(measure, (work, options.model, options.batch))
        base = base or peak
        print(f"{work:32} {peak:8.0f} MB   {peak / base:5.3f} x   added {added:6.0f} MB")


if __name__ == "__main__":
    main()
