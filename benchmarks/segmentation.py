"""Zero-shot segmentation by the decomposition, beside raw attention and plain patch similarity, against known masks.

The testbed's scenes are drawn, so that their masks are known. An image is segmented by the text of its own species or
occupation, as the published protocol segments by an image's own class; --predicted uses the model's guess instead.

    python benchmarks/segmentation.py --images 400
    python benchmarks/segmentation.py --folder gtsegs/ --model ViT-B-16 --pretrained laion2b_s34b_b88k --names names.csv

--folder is what `hl.datasets.unpack_imagenet_segmentation` writes; --names has columns label and name.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

import headlens as hl

TESTBED = (
    ("testbed", "birds"), ("testbed-birds-1", "birds"), ("testbed-birds-2", "birds"), ("testbed-plain", "birds"),
    ("testbed-figures", "birds"), ("testbed-figures", "figures"),
)  # fmt: skip
NAMES = {"birds": "species", "figures": "label"}
CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--predicted", action="store_true", help="the text that the model itself finds nearest")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--pretrained")
    parser.add_argument("--names", type=Path)
    options = parser.parse_args()
    rows = []
    if options.folder is not None:
        manifest = hl.datasets.read_segmentation(options.folder)
        if options.names is not None:
            of_label = pd.read_csv(options.names).set_index("label")["name"]
            manifest["label"] = manifest["label"].map(of_label)
        clip = hl.load(options.model, pretrained=options.pretrained)
        rows += measured(clip, options.folder, manifest, "label", options.predicted)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            for model, world in TESTBED:
                folder = Path(temporary) / world
                manifest = hl.testbed.images(folder, split="test", n=options.images, world=world, masks=True)
                for row in measured(hl.load(model), folder, manifest, NAMES[world], options.predicted):
                    rows.append({"model": f"{model}, {world}"} | row)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def measured(
    clip: hl.HookedCLIP, folder: Path, manifest: pd.DataFrame, column: str, predicted: bool
) -> list[dict[str, object]]:
    """The scores of each way, on images that are read a chunk at a time."""
    names = sorted(manifest[column].unique())
    texts, rows = [f"a photo of a {name}" for name in names], []
    for by in ("heads", "attention", "patches"):
        maps, masks = [], []
        for start in range(0, len(manifest), CHUNK):
            part = manifest.iloc[start : start + CHUNK]
            pixels = torch.stack([clip.preprocess(Image.open(folder / path).convert("RGB")) for path in part["path"]])
            of = None if predicted else [names.index(name) for name in part[column]]
            found = hl.explain.segment(clip, pixels, texts, of, by=by)
            maps.append(found.maps)
            masks += [Image.open(folder / path) for path in part["mask"]]
        whole = hl.explain.Segmentation(torch.cat(maps), tuple(texts), (), by)
        rows.append({"by": by} | whole.scores(hl.explain.masks_as_seen(clip, masks)).table().iloc[0].to_dict())
    return rows


if __name__ == "__main__":
    main()
