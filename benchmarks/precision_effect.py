"""What half precision does to attributions: on the embedded testbed, against the same store in float32.

    python benchmarks/precision_effect.py [--models testbed-birds-0 testbed-birds-1 testbed-birds-2] [--json out.json]

The testbed's images are extracted three times, in float32, float16 and bfloat16. Compared are every head's logits
(its contribution along the class embeddings): the largest difference over images, relative to that head's own spread
(its standard deviation over images) and to the largest logit of all heads; the heads that contrastive attribution
locates; and accuracy after they are mean-ablated. Embeddings are kept in float32 in every store, so that nothing
changes but by way of heads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import headlens as hl
from headlens.correct import MeanAblation
from headlens.extraction import HeadStore
from headlens.locate import conflicting_groups, contrastive
from headlens.manifest import class_indices
from headlens.metrics import group_accuracy, group_names

DTYPES = ("float32", "float16", "bfloat16")


def answers(clip: hl.HookedCLIP, store: HeadStore) -> dict[str, Any]:
    """Head logits, located heads, and the groups' accuracy once the spurious ones are ablated."""
    card = hl.testbed.card(clip.name)
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    classifier = task.classifier(clip.encode_text)
    reference, test = (store.subset(split=name) for name in ("val", "test"))
    labels = torch.tensor(class_indices(reference.manifest["label"], task.classes))
    attribute = reference.manifest[card["attribute"]["name"]]
    heads = reference.project(classifier)
    conflicting = torch.as_tensor(conflicting_groups(reference.manifest["label"], attribute).mask)
    location = contrastive(heads, reference.embedding @ classifier.T, labels, conflicting)
    corrected = MeanAblation(location.spurious).fit(reference).apply(test)
    truth = class_indices(test.manifest["label"], task.classes)
    predicted = (corrected.embedding @ classifier.T).argmax(1).numpy()
    groups = group_names(test.manifest["label"], test.manifest[card["attribute"]["name"]])
    return {
        "heads": store.project(classifier),
        "spurious": [str(head) for head in location.spurious],
        "salient": [str(head) for head in location.salient],
        "shares": torch.stack([location.wrong, location.correct]),
        "groups": group_accuracy(truth, predicted, groups=groups).round(4).to_dict(),
        "predicted": predicted,
    }


def compare(half: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """How far the answers of two stores are from one another."""
    error = (half["heads"] - full["heads"]).abs()
    spread = full["heads"].std(0)
    return {
        "largest_difference_in_spreads_of_its_head": float((error / spread).max()),
        "median_difference_in_spreads_of_its_head": float((error / spread).median()),
        "largest_difference_over_largest_logit": float(error.max() / full["heads"].abs().max()),
        "largest_change_of_a_share": float((half["shares"] - full["shares"]).abs().max()),
        "same_spurious_heads": half["spurious"] == full["spurious"],
        "same_salient_heads": half["salient"] == full["salient"],
        "same_groups": half["groups"] == full["groups"],
        "predictions_that_change": int((half["predicted"] != full["predicted"]).sum()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["testbed-birds-0", "testbed-birds-1", "testbed-birds-2"])
    parser.add_argument("--images", type=int, default=None, help="how many; the testbed's 2,800 without it")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = hl.testbed.images(Path(folder) / "images", n=asked.images)
        for name in asked.models:
            clip = hl.load(name)
            stores = {dtype: hl.extract(clip, manifest, Path(folder) / name / dtype, dtype=dtype) for dtype in DTYPES}
            found = {dtype: answers(clip, store) for dtype, store in stores.items()}
            record[name] = {
                "spurious": found["float32"]["spurious"],
                **{dtype: compare(found[dtype], found["float32"]) for dtype in DTYPES[1:]},
            }
    text = json.dumps(record, indent=2)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
