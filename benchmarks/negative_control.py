"""How often does the fairness audit claim a bias where none was planted, and miss one where it was?

Both attributes of the testbed's figures, over bootstrap samples of the images: perceived gender presentation goes with
some occupations in training, age with none. Each seed resamples reference and test split, locates anew and judges.

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, help="figures to draw in all; the world's own number by default")
    parser.add_argument("--folder", type=Path, help="where images and store are kept between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        clip, card = hl.load("testbed-figures"), hl.testbed.card("testbed-figures", "figures")
        manifest = hl.testbed.images(folder / "images", n=options.images, world="figures")
        store = hl.extract(clip, manifest, folder / "store.zarr")
        told = {}
        for role in ("attribute", "control"):
            asked = hl.Attribute(card[role]["name"], card[role]["values"])
            words, heads = Counter(), Counter()
            for seed in range(options.seeds):
                results = judge(clip, store, hl.ZeroShotTask(card["classes"], card["templates"]), asked, seed)
                words[results.verdict.word] += 1
                heads.update(str(head) for head in results.candidates)
            told[asked.name] = {"verdicts": dict(words), "candidates": dict(heads.most_common())}
            print(asked.name, told[asked.name])
    print(json.dumps(told))


def judge(clip: hl.HookedCLIP, store: hl.HeadStore, task: hl.ZeroShotTask, asked: hl.Attribute, seed: int):
    """The audit of one bootstrap sample of the images, drawn within each split."""
    generator = np.random.default_rng(seed)
    split = store.manifest["split"].to_numpy()
    rows = np.concatenate([generator.choice(np.flatnonzero(split == s), (split == s).sum()) for s in np.unique(split)])
    sample = store.subset(np.sort(rows))
    # An image that was drawn twice is two images of the sample.
    sample = sample.with_manifest(sample.manifest.assign(id=[str(i) for i in range(len(sample))]))
    audit = hl.Audit(clip, sample, task, asked, seed=seed)
    return audit.fairness(total=0)


if __name__ == "__main__":
    main()
