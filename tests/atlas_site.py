"""A small model with texts, and an atlas of it whose every text and path tries to be more than text."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from report_page import HOSTILE
from tiny_clip import EMBED, TinyClip, tiny_clip, write_images

import headlens as hl
from headlens.prompts import TextBank


@dataclass
class Worded(TinyClip):
    """The tiny tower with a text side that gives every text a direction of its own."""

    tokenizer: None = None

    def encode_text(self, texts, normalize=False):
        rows = [torch.randn(EMBED, generator=torch.Generator().manual_seed(sum(text.encode()))) for text in texts]
        stack = torch.stack(rows)
        return torch.nn.functional.normalize(stack, dim=1) if normalize else stack


def worded(seed: int = 0) -> Worded:
    return Worded(tiny_clip(seed=seed).vision, fingerprint=f"seed-{seed}", name="tiny" + HOSTILE[1])


def bank(n: int = 40) -> TextBank:
    return TextBank(
        tuple(f"{HOSTILE[i % len(HOSTILE)]} text {i}" for i in range(n)), tuple(f"kind {i % 3}" for i in range(n))
    )


def hostile_manifest(folder: Path, count: int = 48) -> pd.DataFrame:
    """Images under names that are markup, and one that is not there."""
    frame = write_images(folder, count)
    named = folder / "a<img src=x onerror=alert(1)>&%.png"
    (folder / frame["path"][0]).rename(named)
    frame.loc[0, "path"] = named.name
    frame["label"] = [(HOSTILE[0], HOSTILE[4])[i % 2] for i in range(count)]
    frame.attrs["root"] = str(folder)
    return frame


def site(folder: Path, seed: int = 0, compare: Path | None = None, store: hl.HeadStore | None = None) -> Path:
    clip = worded(seed)
    if store is None:
        store = hl.extract(clip, hostile_manifest(folder / f"images-{seed}"), folder / f"{seed}.zarr")
        gone = Path(folder / f"images-{seed}") / store.manifest["path"][1]
        gone.unlink()
    return hl.atlas(
        clip, store, folder / f"atlas-{seed}", task=hl.ZeroShotTask([HOSTILE[0], HOSTILE[4]]),
        attribute=hl.Attribute("place" + HOSTILE[3], {"in": "a photo inside", "out": HOSTILE[2]}), bank=bank(),
        compare=compare,
    )  # fmt: skip
