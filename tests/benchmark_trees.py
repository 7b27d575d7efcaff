"""Miniature data sets of noise, each in its published layout, and a tiny random model: what suites are run on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from dataset_trees import PAIRS
from PIL import Image
from tower_factory import randomize

import headlens as hl
from headlens import benchmark
from headlens.datasets import Dataset, read
from headlens.models.open_clip_import import open_clip

SIDE = 12
QUICK = {"n_random_sets": 2, "n_bootstrap": 10}
SOME = ["ablation", "ablation (self)", "ltc", "roboshot", "ortho-cali", "leace", "erm probe"]


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class Pixels:
    def __call__(self, image):
        image = image.resize((SIDE, SIDE))
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)

    def __repr__(self):
        return "Pixels()"


def small_clip() -> hl.HookedCLIP:
    vision = {"image_size": SIDE, "layers": 3, "width": 20, "head_width": 5, "patch_size": 4}
    text = {"context_length": 19, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}
    model = randomize(open_clip().CLIP(23, vision, text), seed=2)
    return hl.HookedCLIP.from_open_clip(model, Pixels(), open_clip().SimpleTokenizer(context_length=19), name="tiny")


def waterbirds(root: Path) -> None:
    rows = []
    for split in (1, 2):
        for y in (0, 1):
            for place in (0, 1):
                for i in range(5 if y == place else 3):
                    name = f"{split}{y}{place}.{('Finch', 'Duck')[y]}/{i}.png"
                    noise(root / name, len(rows))
                    rows.append((len(rows), name, y, split, place, ("/f/forest/0.jpg", "/l/lake/0.jpg")[place]))
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)


def celeba(root: Path) -> None:
    lines, parts = [], []
    for split in (1, 2):
        for i in range(17):
            name = f"{split}{i:05d}.png"
            noise(root / "img_align_celeba" / name, 100 * split + i)
            values = (i % 3 == 0, i % 2 == 0, i % 5 < 2, i % 7 < 3)
            lines.append(" ".join([name, *("1" if each else "-1" for each in values)]))
            parts.append(f"{name} {split}")
    (root / "list_attr_celeba.txt").write_text(
        "\n".join([str(len(lines)), "Blond_Hair Male Smiling Wearing_Hat ", *lines]) + "\n"
    )
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")


def counteranimal(root: Path) -> None:
    for number, (animal, common, counter) in enumerate(
        (("9 ostrich", "ground", "water"), ("100 black swan", "water", "grass"), ("76 tarantula", "sand", "hand"))
    ):
        for i in range(11):
            noise(root / animal / f"common-{common}" / f"{i}.png", 1000 * number + i)
        for i in range(7):
            noise(root / animal / f"counter-{counter}" / f"{i}.png", 1000 * number + 500 + i)


def genderbias_vl(root: Path) -> None:
    names = ("Civil_engineer", "Sales_manager", "Marketing_manager", "File_Clerk", "Dental_hygienist", "Baker")
    for number, occupation in enumerate(names):
        for j, gender in enumerate(("female", "male")):
            for i in range(5 + j):
                noise(root / occupation / gender / f"{i}.png", 1000 * number + 100 * j + i)
    (root / "genderbias_occ.csv").write_text(PAIRS)


def fairface(root: Path) -> None:
    ages = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
    races = ("White", "Black", "Indian")
    for split, count in (("train", 29), ("val", 31)):
        lines = ["file,age,gender,race,service_test"]
        for i in range(count):
            noise(root / split / f"{i}.png", 100 * count + i)
            gender = "Male" if i % 5 < 2 else "Female"
            lines.append(f"{split}/{i}.png,{ages[i % 9]},{gender},{races[i % 3]},False")
        (root / f"fairface_label_{split}.csv").write_text("\n".join(lines) + "\n")


def occupations_in_two(root: Path) -> Dataset:
    return read("genderbias-vl", root, val=2)


CASES = {
    "waterbirds": (waterbirds, {}, SOME),
    "celeba": (celeba, {}, SOME),
    "counteranimal": (counteranimal, {}, [*SOME, "ltc (self)", "ltc full", "erm probe + ltc"]),
    # A random model classifies none of 1,000 classes correctly, so that nothing could be located here.
    "counteranimal-imagenet": (
        counteranimal,
        {"heads_from": benchmark.TransferredHeads(((0, 1),), ((1, 2),), "another data set")},
        ["ablation", "ltc", "erm probe"],
    ),
    "genderbias-vl": (genderbias_vl, {"read": occupations_in_two}, ["ablation", "ltc", "ltc (self)", "erm probe"]),
    "fairface": (fairface, {}, ["ablation", "ltc", "roboshot", "erm probe"]),
}


def run_case(name: str, clip: hl.HookedCLIP, folder: Path):
    """The suite of that name over its tree, from its folder to its table."""
    tree, changed, methods = CASES[name]
    tree(folder / "data")
    asked = replace(benchmark.suite(name), **changed)
    return benchmark.run(asked, clip, folder / "data", folder / "acts.zarr", methods=methods, **QUICK)


def small_testbed(folder: Path) -> benchmark.Suite:
    """The testbed's suite over 240 images of its own, which are drawn to `folder`/images."""
    hl.testbed.images(folder / "images", n=240)
    classes = tuple(hl.testbed.card("testbed")["classes"])
    return replace(
        benchmark.suite("testbed"), read=lambda root: Dataset(hl.read_manifest(root / "manifest.csv"), classes)
    )
