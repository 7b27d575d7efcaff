"""CounterAnimal: animals in the surroundings they are mostly photographed in (common) and in others (counter).

Source: Wang et al. 2024, A Sober Look at the Robustness of CLIPs to Spurious Features, arXiv 2403.11497.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.datasets.dataset import Dataset
from headlens.datasets.layout import Layout, listed, pictures, rooted
from headlens.errors import ManifestError

LAYOUT = Layout(
    "CounterAnimal",
    'folders named "<ImageNet index> <name>", each with a folder that has "common" in its name and one that has '
    '"counter", as in "100 black swan/counter-grass"',
)
_CLASS = re.compile(r"(\d+) +(\S.*)")
_BACKGROUNDS = ("common", "counter")
_AGAIN = "Unpack that class again, or remove its folder to leave the class out."


def read_counteranimal(
    root: Path, *, val: int = 16, seed: int = 0, class_names: Sequence[str] | None = None
) -> Dataset:
    """CounterAnimal: 45 animals on common and on counter backgrounds.

    There are no published splits: of every class and background `val` images are drawn for the split val, as LTC
    draws 16, and the rest is test. (Its very draw depends on the order in which a disk lists files.)

    Args:
        root: the folder of the class folders, or the one above LAION-final.
        val: images of each class and background in the split val; at most half of them are taken.
        seed: of that draw.
        class_names: names in the order of the ImageNet indices, all 1,000 for the published task. The labels then
            take their names from here. By default the classes are the animals that are there, named as their folders.

    Raises:
        ManifestError: no folder of that form, a class without common or counter images, two classes of one name, too
            few class names, or a negative `val`.
    """
    if val < 0:
        raise ManifestError("0 or more images a group in the split val", repr(val), "Take 0 for no such split.")
    base = LAYOUT.folder(root)
    base = base / "LAION-final" if (base / "LAION-final").is_dir() else base
    animals = sorted((int(found[1]), found[2].strip(), folder) for folder, found in _classes(base))
    if not animals:
        raise LAYOUT.error(f"no folder of that form in {str(base)!r}", "Give the folder that holds the class folders.")
    names = _names(animals, class_names)
    generator = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    short = []
    for (index, _, folder), name in zip(animals, names, strict=True):
        for background in _BACKGROUNDS:
            inside = _background(base / folder, background)
            files = pictures(base / folder / inside)
            count = min(val, len(files) // 2)
            if count < val:
                short.append(f"{name}, {background}: {count}")
            drawn = set(generator.permutation(len(files))[:count].tolist())
            rows += [
                {
                    "path": f"{folder}/{inside}/{file}",
                    "label": name,
                    "split": "val" if i in drawn else "test",
                    "background": background,
                    "scene": inside.replace(background, "").strip(" -_"),
                    "imagenet_index": str(index),
                }
                for i, file in enumerate(files)
            ]
    notes = [f"{val} images of every class and background were drawn for the split val (seed {seed})."] if val else []
    if short:
        notes.append(f"Groups of fewer than {2 * val} images gave half of them to val ({listed(short)}).")
    classes = tuple(names) if class_names is None else tuple(class_names)
    return Dataset(rooted(pd.DataFrame(rows), base), classes, tuple(notes))


def _classes(base: Path) -> list[tuple[str, re.Match[str]]]:
    names = sorted(folder.name for folder in base.iterdir() if folder.is_dir())
    return [(name, found) for name in names if (found := _CLASS.fullmatch(name))]


def _background(folder: Path, background: str) -> str:
    """The one folder of a class that has the background in its name, and images in it."""
    inside = sorted(each.name for each in folder.iterdir() if each.is_dir())
    found = [name for name in inside if background in name]
    if len(found) != 1:
        raise LAYOUT.error(
            f"{len(found)} folders with {background!r} in their names in {str(folder)!r} ({listed(inside) or 'none'})",
            _AGAIN,
        )
    if not pictures(folder / found[0]):
        raise LAYOUT.error(f"{str(folder / found[0])!r} without an image", _AGAIN)
    return found[0]


def _names(animals: Sequence[tuple[int, str, str]], class_names: Sequence[str] | None) -> list[str]:
    last = max(index for index, _, _ in animals)
    if class_names is not None and last >= len(class_names):
        raise ManifestError(
            f"class names up to the ImageNet index {last}",
            f"{len(class_names)} of them",
            "Give all 1,000 names in the order of the indices, or none.",
        )
    names = [name if class_names is None else class_names[index] for index, name, _ in animals]
    again = sorted({name for name in names if names.count(name) > 1})
    if again:
        raise ManifestError(
            "classes with names of their own", f"{again[0]!r} twice", "Pass class_names that tell them apart."
        )
    return names
