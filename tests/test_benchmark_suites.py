"""Every suite from its published layout to its table, on miniature trees of noise and a tiny random model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from dataset_trees import PAIRS
from PIL import Image
from tower_factory import randomize

import headlens as hl
from headlens import benchmark
from headlens.benchmark.report import figures
from headlens.datasets import read
from headlens.errors import ManifestError
from headlens.models.open_clip_import import open_clip

SIDE = 12
QUICK = {"draws": 2, "bootstrap": 10}
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


@pytest.fixture(scope="module")
def clip():
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
                    name = f"{split}{y}{place}.Bird/{i}.png"
                    noise(root / name, len(rows))
                    rows.append((len(rows), name, y, split, place, "/l/lake/0.jpg"))
    columns = ["img_id", "img_filename", "y", "split", "place", "place_filename"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "metadata.csv", index=False)


def celeba(root: Path) -> None:
    lines, parts = [], []
    for split in (1, 2):
        for i in range(17):
            name = f"{split}{i:05d}.png"
            noise(root / "img_align_celeba" / name, 100 * split + i)
            lines.append(f"{name} {1 if i % 3 == 0 else -1} {1 if i % 2 == 0 else -1}")
            parts.append(f"{name} {split}")
    (root / "list_attr_celeba.txt").write_text("\n".join([str(len(lines)), "Blond_Hair Male ", *lines]) + "\n")
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


def occupations_in_two(root: Path) -> hl.datasets.Dataset:
    return read("genderbias-vl", root, val=2)


CASES = {
    "waterbirds": (waterbirds, {}, SOME),
    "celeba": (celeba, {}, SOME),
    "counteranimal": (counteranimal, {}, SOME),
    "counteranimal-imagenet": (counteranimal, {}, ["ablation", "ltc", "erm probe"]),
    "genderbias-vl": (genderbias_vl, {"read": occupations_in_two}, ["ablation", "ltc", "ltc (self)", "erm probe"]),
    "fairface": (fairface, {}, ["ablation", "ltc", "roboshot", "erm probe"]),
}


@pytest.fixture(scope="module")
def run_once(clip, tmp_path_factory):
    found = {}

    def run(name):
        if name not in found:
            tree, changed, methods = CASES[name]
            folder = tmp_path_factory.mktemp(name)
            tree(folder / "data")
            asked = replace(benchmark.suite(name), **changed)
            found[name] = benchmark.run(asked, clip, folder / "data", folder / "acts.zarr", methods=methods, **QUICK)
        return found[name]

    return run


@pytest.mark.parametrize("name", list(CASES))
def test_every_suite_goes_from_its_folder_to_its_table(run_once, name) -> None:
    table, audit = run_once(name)
    shown = {row.method for row in table.rows if not row.failure}
    failed = {row.method for row in table.rows if row.failure}
    assert "zero-shot" in shown
    assert shown | failed >= {"ablation", "ltc", "erm probe"}
    assert table.images == len(audit.splits.test)
    assert sum(table.sizes.values()) == table.images
    text = table.markdown()
    for extra in table.extras:
        assert extra.title in text
        assert extra.rows[0].method == "zero-shot"
    plain = json.loads(table.json())
    assert [row["method"] for row in plain["rows"]] == [row.method for row in table.rows]
    assert len(table.frame()) == len(table.rows)
    assert table.latex().count("\\begin{tabular}") == 1 + len(table.extras)


def test_every_suite_has_a_case() -> None:
    assert {*CASES, "testbed"} == set(benchmark.SUITES)


def test_the_common_counter_gap_is_the_difference_of_two_accuracies(run_once) -> None:
    table, audit = run_once("counteranimal")
    (extra,) = table.extras
    rows = audit.splits.test
    right = audit.results.predictions["zero-shot"] == audit.labels[rows]
    common = audit.values[rows] == audit.attribute.value_names.index("common")
    first = extra.rows[0]
    assert first.values["gap"] == pytest.approx(right[common].mean() - right[~common].mean())
    assert first.interval["gap"][0] <= first.values["gap"] <= first.interval["gap"][1]


def test_an_occupation_is_weighed_against_its_counterpart_with_the_pairs_of_these_two(run_once) -> None:
    table, audit = run_once("genderbias-vl")
    rows = audit.splits.test
    for name, predicted in audit.results.predictions.items():
        for row, guess in zip(rows, predicted, strict=True):
            own = json.loads(audit.store.manifest["candidates"].iloc[row])
            assert audit.task.classes[guess] in own, name
    assert isinstance(audit.corrections["ltc"], benchmark.ByCandidates)
    texts = {text for pair in audit.pairs for text in pair}
    assert "the tools that a civil engineer works with" in texts
    assert not any("{" in text for text in texts)
    # The registry is as it was: what was built for two classes at a time ends with the run.
    from headlens.audit import METHODS

    assert METHODS["ltc"].build.__module__ == "headlens.audit.builtin_methods"
    assert {one.method for one in table.extras[0].rows} >= {"zero-shot"}
    assert any("disadvantaged" in note for note in table.footnotes())


def test_the_figures_of_occupations_stand_before_and_after(run_once) -> None:
    _, audit = run_once("genderbias-vl")
    shown = {section.title: section.figure for section in figures(audit, images=0)}
    assert {"Occupations (zero-shot)", "Occupations (ltc)"} <= set(shown)
    bars = next(trace for trace in shown["Occupations (zero-shot)"].data if trace.type == "bar")
    told = hl.plots.describe(shown["Occupations (zero-shot)"])
    rows = audit.splits.test
    assert len(bars.x) == len(set(audit.labels[rows]))
    assert "Civil engineer (17 % women)" in told or "Sales manager (33 % women)" in told


def test_neutral_prompts_rank_the_corrected_embeddings(run_once) -> None:
    table, audit = run_once("fairface")
    (extra,) = table.extras
    by_method = {one.method: one for one in extra.rows}
    assert "erm probe" in {row.method for row in table.rows if not row.failure}
    assert "erm probe" not in by_method  # a probe has no place for other texts
    zero, shot = by_method["zero-shot"], by_method["roboshot"]
    assert set(zero.values) == {"maxskew", "skew", "ndkl"}
    assert not zero.difference
    assert any(difference != 0 for difference in shot.difference.values())
    prompts = [f"A photo of a {word} person" for word in benchmark.suites.NEUTRAL]
    texts = torch.nn.functional.normalize(audit.clip.encode_text(prompts), dim=-1)
    scores = audit.test.embedding @ texts.T
    k = len(scores) // 2
    names = np.asarray(audit.attribute.value_names)[audit.values[audit.splits.test]]
    assert zero.values["maxskew"] == pytest.approx(hl.metrics.max_skew(scores.detach(), names, k))


@pytest.mark.parametrize("name", [n for n in benchmark.SUITES if n != "testbed"])
def test_a_folder_of_another_layout_is_an_error_that_names_the_layout(clip, tmp_path, name) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ManifestError, match="laid out as published") as error:
        benchmark.run(benchmark.suite(name), clip, tmp_path / "elsewhere", tmp_path / "acts.zarr")
    assert str(tmp_path / "elsewhere") in str(error.value)
    assert not (tmp_path / "acts.zarr").exists()
