"""How often does the fairness audit claim a bias where there is none, and miss one that was planted?

The testbed's figures, with new scenes for every seed, and three attributes:

- perceived gender presentation, which goes with some occupations in training: planted;
- age, independent of everything in the images. Nothing keeps a trained model from reading a cane or grey hair all the
  same, so that a small dependence of its predictions may be real: the effect √D stands beside the verdict;
- age permuted within the true classes: no model can depend on it, and every claim is false.

    python benchmarks/negative_control.py --seeds 20
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import headlens as hl

PERMUTED = "age, permuted"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, help="figures to draw in all; the world's own number by default")
    options = parser.parse_args()
    clip, card = hl.load("testbed-figures"), hl.testbed.card("testbed-figures", "figures")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    asked = {card[role]["name"]: card[role] for role in ("attribute", "control")}
    control = card["control"]["name"]
    words = {name: Counter() for name in (*asked, PERMUTED)}
    effects = {name: [] for name in words}
    for seed in range(1, options.seeds + 1):  # the demo and the tests have seed 0
        with tempfile.TemporaryDirectory() as folder:
            manifest = hl.testbed.images(Path(folder) / "images", n=options.images, world="figures", seed=seed)
            store = hl.extract(clip, manifest, Path(folder) / "store.zarr")
            for name in words:
                own = control if name == PERMUTED else name
                views = store if name != PERMUTED else store.with_manifest(permuted(store.manifest, own, seed))
                attribute = hl.Attribute(own, asked[own]["values"])
                results = hl.Audit(clip, views, task, attribute, seed=seed).fairness(total=0, n_null=0)
                words[name][results.verdict.word] += 1
                effects[name].append(max(results.dependence.d, 0.0) ** 0.5)
        print(seed, {name: dict(found) for name, found in words.items()}, flush=True)
    median = {name: round(float(np.median(found)), 3) for name, found in effects.items()}
    print(json.dumps({"verdicts": {name: dict(found) for name, found in words.items()}, "median effect": median}))


def permuted(manifest, column: str, seed: int):
    """The manifest with a column permuted within each split and class."""
    generator = np.random.default_rng(seed)
    values = manifest[column].to_numpy(dtype=object).copy()
    for _, rows in manifest.reset_index(drop=True).groupby(["split", "label"]).groups.items():
        values[rows] = generator.permutation(values[rows])
    return manifest.assign(**{column: values})


if __name__ == "__main__":
    main()
