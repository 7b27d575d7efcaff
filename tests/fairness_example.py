"""A small fairness audit of random images, asked with any words: a store, an audit, and what it finds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tiny_clip import EMBED, tiny_clip

import headlens as hl
from headlens.prompts import TextBank
from headlens.steps.data import AuditData
from headlens.steps.texts import TextEmbeddings

IMAGES = 84


def encoder(filled: hl.HeadStore) -> Callable[[list[str]], torch.Tensor]:
    """A text tower that knows every word: a direction for each prompt, always the same.

    Directions stand upright on the mean image, so that no prompt wins every image of a random tower.
    """
    mean = filled.embedding.mean(0)

    def encode(prompts: list[str]) -> torch.Tensor:
        words = [list(prompt.encode("utf-8", "backslashreplace")) for prompt in prompts]
        rows = torch.tensor(np.array([np.random.default_rng(one).normal(size=EMBED) for one in words])).float()
        return rows - (rows @ mean)[:, None] * mean / (mean @ mean)

    return encode


def store(
    folder: Path, classes: tuple[str, ...], attribute: str, values: tuple[str, ...], stem: str = ""
) -> hl.HeadStore:
    """Head states of images whose colour follows class and value, under file names that begin with `stem`."""
    rng = np.random.default_rng(0)
    rows = []
    folder.mkdir(parents=True)
    for i in range(IMAGES):
        label, value = i % len(classes), (i // 3) % len(values)
        pixels = rng.integers(0, 90, (13, 17, 3)) + np.array([60 * value, 40 * label, 30 * (label == value)])
        name = f"{stem}{i}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        split = "val" if i % 5 < 2 else "test"
        rows.append({"path": name, "label": classes[label], attribute: values[value], "split": split})
    manifest = hl.read_manifest(_written(folder, rows))
    return hl.extract(tiny_clip(), manifest, folder / "store.zarr", batch_size=29)


def _written(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "manifest.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def audit(
    folder: Path,
    classes: tuple[str, ...] = ("cook", "nurse", "farmer"),
    attribute: str = "presentation",
    values: tuple[str, ...] = ("feminine", "masculine"),
    text: str = "a photo",
    stem: str = "",
) -> hl.Audit:
    """An audit whose candidates are three heads, located, scored and explained."""
    bank = TextBank(tuple(f"{text} {i}" for i in range(31)), tuple(f"{text[:40]} kind {i % 7}" for i in range(31)))
    filled = store(folder, classes, attribute, values, stem)
    whole = hl.Audit(
        None,
        filled,
        hl.ZeroShotTask(classes, "{}"),
        hl.Attribute(attribute, {value: (f"{value} one", f"{value} two") for value in values}),
        bank=bank,
    )
    asked = hl.Audit.of(AuditData(whole.question, filled, None, TextEmbeddings(encoder(filled))))
    # The three heads with the largest part, by the rule that names just these.
    loose = asked.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    parts = sorted((float(loose.concept.part[head]) for head in loose.spurious), reverse=True)
    rule = hl.locate.ConceptRule(0, 0, 0.5, parts[2])
    asked.locate("concept", rule=rule)
    asked.fairness("concept", rule=rule, n_random_sets=7, n_bootstrap=23, n_permutations=19)
    asked.explain(k=2, n_bootstrap=2)
    return asked
