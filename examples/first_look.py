"""A first look: which heads of the embedded testbed take the background for the bird, and what correcting them does.

Run it with `python examples/first_look.py`. For a real model and your own images, change the three lines under
"the model and the images"; nothing else depends on the testbed.
"""

import sys
from pathlib import Path

import headlens as hl


def main(folder: Path, count: int | None = None) -> hl.Audit:
    # The model and the images.
    clip = hl.load("testbed")  # or hl.load("ViT-B-16", pretrained="laion2b_s34b_b88k")
    manifest = hl.testbed.images(folder / "images", n=count)  # or hl.read_manifest("manifest.csv")
    store = hl.extract(clip, manifest, folder / "acts.zarr")

    # What is asked.
    task = hl.ZeroShotTask(["landbird", "waterbird"], "a photo of a {}")
    background = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
    pairs = hl.testbed.card("testbed")["pairs"]  # texts that distinguish the classes by true features
    audit = hl.Audit(clip, store, task, background, pairs=pairs)

    # The answers.
    location = audit.locate()
    results = audit.evaluate(["ablation", "ltc"])
    sys.stdout.write(f"spurious heads: {', '.join(map(str, location.spurious)) or 'none'}\n")
    sys.stdout.write(f"{results}\n")
    sys.stdout.write(results.verdict.sentence + "\n")
    audit.report(folder / "report.html")
    return audit


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/first_look"))
