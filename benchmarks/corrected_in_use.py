"""Claim: a corrected model is evaluated by code written for open_clip, and its figures are those of the audit.

    python benchmarks/corrected_in_use.py

The functions of `clip-benchmark` run on open_clip's own testbed model, and on `clip.corrected(…)` of two corrections:
zero-shot classification of the test images, and retrieval by the captions that the testbed draws with them (recall@5:
an image's own caption, or a caption's own image, is among the first five of all). Beside them stand headlens' figures
of the same images, from the store. Both are printed as a table, and the run fails where they differ.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from PIL import Image
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

import headlens as hl
from headlens.testbed import load_open_clip

K = 5


class Pictures(Dataset):
    """Test images and what belongs to each, as clip-benchmark's loaders give them."""

    def __init__(self, paths, preprocess, targets):
        self.paths, self.preprocess, self.targets = paths, preprocess, targets

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, place):
        return self.preprocess(Image.open(self.paths[place]).convert("RGB")), self.targets[place]


def of_clip_benchmark(model, tokenizer, loader, task, captions_loader) -> list[float]:
    """Accuracy, recall of images by their captions, and of captions by their images, each a fraction."""
    classifier = zeroshot_classification.zero_shot_classifier(
        model, tokenizer, list(task.classes), [one.replace("{}", "{c}") for one in task.templates], "cpu", amp=False
    )
    # Not its `evaluate`, whose last line, after the model's work, is an error under new versions of NumPy.
    logits, truth = zeroshot_classification.run_classification(model, classifier, loader, "cpu", amp=False)
    recall = zeroshot_retrieval.evaluate(model, captions_loader, tokenizer, "cpu", amp=False, recall_k_list=[K])
    names = [f"{kind}_retrieval_recall@{K}" for kind in ("image", "text")]
    return [float((logits.argmax(1) == truth).double().mean()), *(recall[name] for name in names)]


def of_headlens(audit: hl.Audit, correction, captions: list[str]) -> list[float]:
    """The same from the store, whose embeddings are not computed again."""
    view = audit.data.test if correction is None else correction.apply(audit.data.test)
    logits = view.embedding @ audit.data.classifier.T
    scores = audit.clip.encode_text(captions, normalize=True) @ normalize(view.embedding, dim=-1).T
    own = torch.arange(len(captions))[:, None]
    recall = [float((one.topk(K, dim=1).indices == own).any(1).double().mean()) for one in (scores, scores.T)]
    return [float((logits.argmax(1) == torch.as_tensor(audit.data.test_labels)).double().mean()), *recall]


def main() -> None:
    """Measure, compare and print."""
    card = hl.testbed.card("testbed")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    clip = hl.load("testbed")
    model, preprocess, tokenizer = load_open_clip("testbed")
    with tempfile.TemporaryDirectory() as folder:
        drawn = hl.testbed.images(Path(folder) / "images")
        store = hl.extract(clip, drawn, Path(folder) / "states.zarr")
        attribute = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
        audit = hl.Audit(clip, store, task, attribute, pairs=card["pairs"])
        audit.locate()
        rows = drawn.iloc[audit.splits.test]
        paths, captions = [Path(folder) / "images" / path for path in rows["path"]], rows["caption"].tolist()
        pictures = DataLoader(Pictures(paths, preprocess, audit.data.test_labels.tolist()), batch_size=64)
        captioned = DataLoader(
            Pictures(paths, preprocess, [[caption] for caption in captions]),
            batch_size=64,
            collate_fn=lambda rows: (torch.stack([image for image, _ in rows]), [texts for _, texts in rows]),
        )
        print(f"{len(paths)} test images; clip-benchmark / headlens, in %")
        print(f"| | zero-shot accuracy | image recall@{K} | text recall@{K} |\n|---|---|---|---|")
        for name in (None, "ablation", "ltc"):
            correction = None if name is None else audit.correct(name)
            used = model if correction is None else clip.corrected(correction)
            theirs = of_clip_benchmark(used, tokenizer, pictures, task, captioned)
            ours = of_headlens(audit, correction, captions)
            cells = [f"{100 * one:.2f} / {100 * other:.2f}" for one, other in zip(theirs, ours, strict=True)]
            print(f"| {name or 'plain'} |", " | ".join(cells), "|", flush=True)
            # A recall may differ by an image whose fifth and sixth neighbour are as near, up to rounding.
            assert theirs[0] == ours[0], name
            assert max(abs(one - other) for one, other in zip(theirs, ours, strict=True)) <= 1 / len(paths), name


if __name__ == "__main__":
    main()
