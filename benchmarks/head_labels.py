"""Which heads are labelled: the planted ones of the testbed's models, and those of towers of random weights.

A random tower has the shape of the birds' testbed, and normal weights with the trained ones' deviations, tensor by
tensor; its seeds are others than those that the rule was chosen with (0 to 5). Labels are chosen on the split val and
tested on the split test.

    python benchmarks/head_labels.py --images 1200 --random 12
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

import headlens as hl
from headlens.explain import Explanation

MODELS = (
    ("testbed", "birds"), ("testbed-birds-1", "birds"), ("testbed-birds-2", "birds"), ("testbed-plain", "birds"),
    ("testbed-figures", "birds"), ("testbed-figures", "figures"),
)  # fmt: skip
FIRST_SEED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--random", type=int, default=12, help="towers of random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = {f"{name}, {world}": measured(name, world, options.images, folder) for name, world in MODELS}
        chance = [random_tower(seed, folder) for seed in range(FIRST_SEED, FIRST_SEED + options.random)]
    found["random"] = {
        "towers": len(chance), "heads": sum(n for n, _ in chance), "labelled": sum(labelled for _, labelled in chance),
    }  # fmt: skip
    print(json.dumps(found, indent=1, ensure_ascii=False))


def measured(name: str, world: str, images: int, folder: Path) -> dict[str, object]:
    """How many heads of a testbed model are labelled, and the labels of the planted ones."""
    clip, place = hl.load(name), folder / world
    if not place.exists():
        hl.testbed.images(place, n=images, world=world)
    card = hl.testbed.card(name, world)
    explained = explain(clip, card, place, folder / f"{name}-{world}.zarr")
    return {
        "heads": len(explained),
        "labelled": sum(one.pole is not None for one in explained.values()),
        "planted": {str(hl.HeadId(*head)): explained[hl.HeadId(*head)].label for head in card["planted_heads"]},
        "first text above random directions": sum(one.share[0] > one.chance[0] for one in explained.values()),
    }


def random_tower(seed: int, folder: Path) -> tuple[int, int]:
    """Heads, and labelled heads, of a tower of random weights on the birds."""
    clip = hl.load("testbed")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in clip.vision.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std())
    card = hl.testbed.card("testbed", "birds")
    explained = explain(clip, card, folder / "birds", folder / f"random-{seed}.zarr")
    return len(explained), sum(one.pole is not None for one in explained.values())


def explain(clip: hl.HookedCLIP, card: dict, images: Path, store: Path) -> dict[hl.HeadId, Explanation]:
    """Every head's explanation, in the words that the model knows."""
    asked = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    filled = hl.extract(clip, images / "manifest.csv", store)
    return hl.Audit(clip, filled, hl.ZeroShotTask(card["classes"], card["templates"]), asked).explain(n_bootstrap=0)


if __name__ == "__main__":
    main()
