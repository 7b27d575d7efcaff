"""The testbed's images as files, so that what is tried on them takes the path that real data takes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from headlens.errors import ManifestError, OutputError
from headlens.manifest import read_manifest
from headlens.progress import progress
from headlens.testbed.worlds import WORLDS

_CHUNK = 200
_STAMP = "world.json"


def images(
    folder: str | os.PathLike[str],
    split: str = "all",
    n: int | None = None,
    seed: int = 0,
    world: str = "birds",
    masks: bool = False,
) -> pd.DataFrame:
    """Write the testbed's images as PNG files with a `manifest.csv`, and return the manifest.

    The reference split "val" is correlated, as found images are (birds: class and background agree in three of four;
    figures: so do occupation and presentation, in the occupations that lean); "test" is balanced over the groups. In
    both splits of the figures age is half and half within occupation and presentation.

    Args:
        folder: where to write.
        split: "val", "test" or "all".
        n: how many images in all; by default 1,200 of val and 1,600 of test for the birds, 960 and 1,920 for the
            figures.
        seed: of the scenes. No seed shows the models a picture that they were trained on.
        world: "birds" or "figures".
        masks: also write where birds or figures are, white on black, with their paths in a column `mask`.

    Raises:
        ManifestError: for an unknown split, or fewer than eight images a split.
        UnknownNameError: for an unknown world.
        OutputError: for a folder with a manifest of other images.
    """
    drawing = WORLDS[world]
    if split not in (*drawing.splits, "all"):
        raise ManifestError("a split among val, test and all", repr(split), "Choose one of these.")
    chosen = {name: drawing.splits[name] for name in (drawing.splits if split == "all" else [split])}
    whole = sum(count for count, _ in chosen.values())
    counts = {name: count if n is None else round(n * count / whole) for name, (count, _) in chosen.items()}
    if min(counts.values()) < 8:
        raise ManifestError("eight images a split or more", f"{counts}", "Ask for more with n=.")
    root, stamp = Path(folder), {"world": world, "format": 1, "seed": seed, "counts": counts}
    stamp |= {"masks": True} if masks else {}
    if _written(root, stamp):
        return read_manifest(root / "manifest.csv")
    rows: list[dict[str, str]] = []
    with progress("Drawing images", sum(counts.values())) as advance:
        for name, count in counts.items():
            # Apart from the training generators, which are seeded 1000 and up.
            kind = list(WORLDS).index(world)
            rng = np.random.default_rng([seed, 7, list(drawing.splits).index(name), *([kind] if kind else [])])
            scenes = drawing.sample(rng, count, chosen[name][1])
            texts = drawing.captions(rng, scenes, None)
            (root / name).mkdir(parents=True, exist_ok=True)
            for start in range(0, count, _CHUNK):
                part = scenes[slice(start, start + _CHUNK)]
                pictures, covered = drawing.render.with_masks(rng, part, masks=masks)
                for i, (picture, mask) in enumerate(zip(pictures, covered, strict=True), start):
                    path = f"{name}/{i:05d}.png"
                    Image.fromarray(picture).save(root / path)
                    rows.append({"path": path, "split": name, "id": f"{name}-{i:05d}", "caption": texts[i]})
                    rows[-1] |= drawing.facts(scenes, i)
                    if masks:
                        rows[-1]["mask"] = f"masks/{path}"
                        (root / "masks" / name).mkdir(parents=True, exist_ok=True)
                        Image.fromarray(mask).save(root / "masks" / path)
                advance(len(part))
    order = ["path", *drawing.columns, "id", "caption", *(["mask"] if masks else [])]
    pd.DataFrame(rows)[order].to_csv(root / "manifest.csv", index=False)
    # Written last: a folder without it was left half-way, and is written again.
    (root / _STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    return read_manifest(root / "manifest.csv")


def _written(root: Path, stamp: dict[str, object]) -> bool:
    if not (root / _STAMP).is_file():
        if (root / "manifest.csv").is_file() and not (root / "val").is_dir() and not (root / "test").is_dir():
            raise OutputError(
                "a folder for the testbed's images", f"{root}, which holds another manifest", "Name another folder."
            )
        return False
    if json.loads((root / _STAMP).read_text(encoding="utf-8")) != stamp:
        raise OutputError(
            "an empty folder, or one with these same images",
            f"{root}, whose images were drawn with another seed, split, number or world",
            "Name another folder, or remove this one.",
        )
    return (root / "manifest.csv").is_file()
