"""CounterAnimal: animals in the surroundings they are mostly photographed in (common) and in others (counter).

Source: Wang et al. 2024, A Sober Look at the Robustness of CLIPs to Spurious Features, arXiv 2403.11497.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from headlens.datasets.dataset import Dataset, register
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


@register("counteranimal")
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
            take their names from here; of a name that is there twice the second becomes "another …", and a note says
            so. By default the classes are the animals that are there, named as their folders.

    Raises:
        ManifestError: no folder of that form, a class without common or counter images, two animals of one name, too
            few class names, or a negative `val`.
    """
    if val < 0:
        raise ManifestError(f"val is {val}.", "Give 0 or more images a group; 0 for no split val.")
    LAYOUT.folder(root)
    base = LAYOUT.only(
        [folder for folder in (root, root / "LAION-final") if folder.is_dir() and _classes(folder)], root
    )
    animals = sorted((int(found[1]), found[2].strip(), folder) for folder, found in _classes(base))
    classes, notes = (None, []) if class_names is None else _distinct(class_names)
    names = _names(animals, classes)
    if renamed := [f"{own} as {name}" for (_, own, _), name in zip(animals, names, strict=True) if own != name]:
        notes.append(f"{len(renamed)} classes are not named as their folders: {listed(renamed)}.")
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
    if val:
        notes.insert(0, f"{val} images of every class and background were drawn for the split val (seed {seed}).")
    if short:
        notes.append(f"Groups of fewer than {2 * val} images gave half of them to val ({listed(short)}).")
    return Dataset(rooted(pd.DataFrame(rows), base), tuple(names if classes is None else classes), tuple(notes))


def _distinct(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Class names of which none is there twice, and a note on those renamed.

    The list of ImageNet's classes that is in common use has "missile" and "sunglasses" twice; the second becomes
    "another missile".
    """
    result: list[str] = []
    for name in map(str.strip, names):
        while name in result:
            name = f"another {name}"
        result.append(name)
    renamed = [new for new, old in zip(result, names, strict=True) if new != old.strip()]
    note = f"Classes whose name is in the list twice are renamed at their second place: {', '.join(renamed)}."
    return result, [note] if renamed else []


def _classes(base: Path) -> list[tuple[str, re.Match[str]]]:
    names = sorted(folder.name for folder in base.iterdir() if folder.is_dir())
    return [(name, found) for name in names if (found := _CLASS.fullmatch(name))]


def _background(folder: Path, background: str) -> str:
    """The one folder of a class that has the background in its name, and images in it."""
    inside = sorted(each.name for each in folder.iterdir() if each.is_dir())
    found = [name for name in inside if background in name]
    if len(found) != 1:
        raise LAYOUT.error(
            f"{len(found)} folders in {str(folder)!r} have {background!r} in their names ({listed(inside) or 'none'}).",
            _AGAIN,
        )
    if not pictures(folder / found[0]):
        raise LAYOUT.error(f"{str(folder / found[0])!r} holds no image.", _AGAIN)
    return found[0]


def _names(animals: Sequence[tuple[int, str, str]], class_names: Sequence[str] | None) -> list[str]:
    last = max(index for index, _, _ in animals)
    if class_names is not None and last >= len(class_names):
        raise ManifestError(
            f"{len(class_names)} class names do not reach the ImageNet index {last}.",
            "Give all 1,000 names in the order of the indices, or none.",
        )
    names = [name if class_names is None else class_names[index] for index, name, _ in animals]
    for name in names:
        if names.count(name) > 1 or (name.startswith("another ") and name.removeprefix("another ") in names):
            raise ManifestError(f"Two animals are named {name!r}.", "Pass class_names that distinguish them.")
    return names
