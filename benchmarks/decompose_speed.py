"""How long a decomposition, and an image encoder with a correction inside, take next to open_clip's `encode_image`.

    python benchmarks/decompose_speed.py --model ViT-B-16 --batch 16 --repeats 7 [--per-token] [--device cuda]

The unmodified model and headlens run in turn in one process, on the same pixels and random weights (the time does not
depend on them), without gradients. The correction is LTC's: mean ablation of four heads and knowledge injection on
four, in the last four layers. Printed: the median time of each, and the medians of its ratios, round by round, to
open_clip and to headlens' own forward pass, which are steadier than ratios of medians where the machine is shared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import headlens as hl
from headlens.correct import Compose, KnowledgeInjection, MeanAblation
from headlens.models.corrected import CorrectedCLIP
from headlens.models.open_clip_import import open_clip


def _seconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def _corrected(vision: hl.HookedVisionTransformer, images: torch.Tensor) -> CorrectedCLIP:
    layers, heads = vision.cfg.n_layers, vision.cfg.n_heads
    late = [max(0, layers - back) for back in (1, 2, 3, 4)]
    first, second = ([(layer, head % heads) for layer in dict.fromkeys(late)] for head in (0, 1))
    pairs = torch.randn(3, 2, vision.cfg.d_embed)
    correction = Compose([MeanAblation(first), KnowledgeInjection(second, pairs)])
    return CorrectedCLIP(vision, None, correction.fit(hl.decompose(vision, images[:2], normalize=True)))


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="an architecture of open_clip")
    parser.add_argument("--batch", type=int, default=16, help="images at once")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count, after one that does not")
    parser.add_argument("--per-token", action="store_true", help="also per head and token")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; all cores without it")
    parser.add_argument(
        "--cpu-time", action="store_true", help="seconds of the processor, not of the clock, on a machine in use"
    )
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    device = torch.device(options.device)
    model = open_clip().create_model(options.model, load_weights=False).eval().to(device)
    vision = hl.HookedVisionTransformer.from_open_clip(model.visual)
    images = torch.randn(options.batch, 3, *vision.cfg.image_size, device=device)
    work: dict[str, Callable[[], object]] = {
        "open_clip encode_image": lambda: model.encode_image(images),
        "headlens forward": lambda: vision(images),
        "headlens head_states": lambda: vision.head_states(images),
        "headlens decompose": lambda: hl.decompose(vision, images),
    }
    corrected = _corrected(vision, images)
    work["headlens corrected encode_image"] = lambda: corrected.encode_image(images)
    if options.per_token:
        work["headlens decompose, per token"] = lambda: hl.decompose(vision, images, per_token=True)

    times: dict[str, list[float]] = {name: [] for name in work}
    with torch.no_grad():
        for _ in range(options.repeats + 1):
            for name, one in work.items():
                times[name].append(_seconds(one, device, time.process_time if options.cpu_time else time.perf_counter))
    print(f"{options.model}, batch {options.batch}, {device}, {torch.get_num_threads()} threads")
    for name, taken in times.items():
        ratios = [
            statistics.median(t / b for t, b in zip(taken[1:], times[base][1:], strict=True))
            for base in ("open_clip encode_image", "headlens forward")
        ]
        shown = f"{ratios[0]:5.3f} x open_clip   {ratios[1]:5.3f} x headlens forward"
        print(f"{name:32} {statistics.median(taken[1:]) * 1000:9.1f} ms   {shown}")


if __name__ == "__main__":
    main()
