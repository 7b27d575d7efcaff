"""What is doubtful in a data set is found, and stands in the shell's output, in the JSON files and in the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

import headlens as hl
from headlens.cli.app import app
from headlens.errors import HeadlensWarning
from headlens.findings import check_prompts, check_splits, check_values
from headlens.manifest import parse_attribute

CLASSES, VALUES = ("cat", "dog"), ("land", "water")


def table(folder: Path, colours: list[int]) -> pd.DataFrame:
    """One picture a row, equal where the colour is; every file has a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, colour in enumerate(colours):
        Image.new("RGB", (5, 7), (colour, 3, 3)).save(folder / f"{row}.png")
    frame = pd.DataFrame({"path": [f"{row}.png" for row in range(len(colours))]})
    frame.attrs["root"] = str(folder)
    return frame


def found(frame: pd.DataFrame, labels: list[int], values: list[int], parts: dict | None = None) -> dict:
    half = len(frame) // 2
    parts = parts or {"val": np.arange(half), "test": np.arange(half, len(frame))}
    every = check_splits(frame, parts, np.array(labels), np.array(values), CLASSES, VALUES)
    return {one.kind: one for one in every}


EVERY = ([0, 0, 1, 1] * 2, [0, 1, 0, 1] * 2)


@pytest.mark.parametrize(
    ("colours", "kind", "count", "said"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], None, 0, ""),
        ([1, 2, 3, 4, 1, 6, 7, 8], "image in both parts", 1, "1 image is in both parts, val and test"),
        ([1, 2, 3, 4, 1, 2, 3, 4], "image in both parts", 4, "4 images are in both parts, val and test"),
        ([1, 2, 3, 4, 5, 6, 6, 8], "image twice", 1, "1 image is in a part more than once"),
        ([1, 2, 3, 4, 5, 5, 5, 8], "image twice", 1, "1 image is in a part more than once"),
    ],
)
def test_images_are_compared_by_content(tmp_path: Path, colours: list, kind: str | None, count: int, said: str) -> None:
    every = found(table(tmp_path, colours), *EVERY)
    assert list(every) == [kind] * (kind is not None)
    if kind:
        assert every[kind].count == count and said in every[kind].sentence
        assert ".png = " in every[kind].names[0]


def test_a_row_that_is_in_both_parts_and_two_boxes_of_one_image(tmp_path: Path) -> None:
    frame = table(tmp_path, [1, 2, 3, 4])
    twice = pd.concat([frame, frame], ignore_index=True)
    twice.attrs = frame.attrs
    assert found(twice, *EVERY)["image in both parts"].names[0] == "0.png"
    boxes = [json.dumps([0, 0, 1 + row // 4, 2]) for row in range(8)]
    assert found(twice.assign(box=boxes), *EVERY) == {}


@pytest.mark.parametrize(
    ("labels", "values", "kind", "names"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1, 0, 0], "empty group", ("dog/water",)),
        ([0, 0, 1, 1, 0, 0, 0, 0], EVERY[1], "class without images", ("dog",)),
        ([0, 0, 1, 1, 0, 0, 0, 0], EVERY[1], "one class", ("cat",)),
    ],
)
def test_what_is_missing_in_a_part_is_named(
    tmp_path: Path, labels: list, values: list, kind: str, names: tuple
) -> None:
    every = found(table(tmp_path, list(range(8))), labels, values)
    assert every[kind].names == names and "test part" in every[kind].sentence


@pytest.mark.parametrize(
    ("rare", "frequent", "doubtful"),
    [
        ("watre", "water", True),
        ("watter", "water", True),
        ("watr", "water", True),
        ("Wator", "water", True),
        ("feild", "field", True),
        ("calm waters", "calm water", True),
        ("fire", "water", False),
        ("w8er", "water", False),
        ("land", "water", False),
        ("sand", "land", False),  # another first letter
        ("1", "2", False),
        ("2011", "2012", False),
        ("m", "f", False),
        ("cat", "car", False),
        ("female", "male", False),
        ("woman", "man", False),
    ],
)
def test_a_rare_value_that_looks_like_a_frequent_one(rare: str, frequent: str, doubtful: bool) -> None:
    column = pd.Series([frequent] * 60 + ["land"] * 60 + [rare] * 6, name="place")
    assert [one.names for one in check_values(column)] == [(rare, frequent)] * doubtful
    frame = pd.DataFrame({"path": range(126), "place": column})
    prompts = dict.fromkeys(("land", frequent, rare), "a photo of it")
    if doubtful:  # refused before any image is read, unless it is named as a value
        with pytest.raises(hl.HeadlensError, match=f"{rare!r} \\(6\\) beside {frequent!r} \\(60\\)"):
            parse_attribute("place", frame)
        assert list(parse_attribute(f"place:{','.join(map('='.join, prompts.items()))}", frame)[1]) == list(prompts)
    written = column.replace({rare: "land"} if rare != "land" else {})
    assert not check_values(written)


def test_in_python_a_misspelt_value_is_named_when_the_audit_is_made(tmp_path: Path) -> None:
    clip, manifest = hl.load("testbed"), hl.testbed.images(tmp_path / "birds", n=80)
    store = hl.extract(clip, manifest, tmp_path / "acts.zarr")
    water = manifest.index[manifest["background"] == "water"]
    manifest.loc[water[:2], "background"] = "watr"
    task, values = hl.ZeroShotTask(["landbird", "waterbird"]), {name: f"a photo of the {name}" for name in VALUES}
    asked = (clip, store.with_manifest(manifest), task)
    with pytest.raises(hl.HeadlensError, match=r"has 'watr' \(2\), which the .* Did you mean 'water'\?"):
        hl.Audit(*asked, hl.Attribute("background", values))
    with pytest.warns(HeadlensWarning, match="'watr' for 2 images, which looks like 'water'"):
        hl.Audit(*asked, hl.Attribute("background", values | {"watr": "a photo of the water"}))


@pytest.mark.parametrize(
    ("prompts", "codes"),
    [
        ({"0": ["a photo of a 0"], "1": ["a photo of a 1"]}, ("0", "1")),
        (
            {"Latino_Hispanic": ["a Latino_Hispanic person"], "White": ["a white person"]},
            ("Latino_Hispanic",),
        ),
        ({"0": ["a photo of land"], "land": ["a photo of land"]}, ()),
        ({"m": ["a photo of a man"], "f": ["a photo of a woman"]}, ()),
        ({"m": ["a photo of m"], "n01440764 tench": ["a n01440764 tench"]}, ("m", "n01440764 tench")),
        ({"T-shirt": ["a photo of a T-shirt"], "4x4": ["a 4x4 in a field"]}, ()),
    ],
)
def test_codes_in_prompts(prompts: dict, codes: tuple) -> None:
    found = check_prompts("classes", prompts)
    assert [one.names for one in found] == ([codes] if codes else [])


def test_names_that_look_alike() -> None:
    names = {name: [f"a photo of a {name}"] for name in ("crane", "Crane", "cat", "cat\u200b", "dog")}
    (found,) = check_prompts("classes", names)
    assert (found.kind, found.count) == ("names alike", 2)
    assert r"'crane' = 'Crane', 'cat' = 'cat\u200b'" in found.sentence


def test_they_stand_in_shell_json_and_report(tmp_path: Path) -> None:
    frame = hl.testbed.images(tmp_path / "birds", n=80)
    frame["path"] = [str(tmp_path / "birds" / path) for path in frame["path"]]
    reference = frame["path"][frame["split"] == "val"].iloc[0]
    tested = frame.index[frame["split"] == "test"][0]
    Path(frame.loc[tested, "path"]).write_bytes(Path(reference).read_bytes())
    frame.to_csv(tmp_path / "birds.csv", index=False)
    out = tmp_path / "out"
    asked = (
        f"--model testbed --data {tmp_path}/birds.csv --classes landbird,waterbird --attribute background --out {out}"
    )
    fast = "--draws 3 --bootstrap 20 --methods ablation"
    said = CliRunner().invoke(app, ["audit", *asked.split(), *fast.split()])
    assert said.exit_code == 0, said.output
    sentence = "1 image is in both parts, val and test"
    assert sentence in " ".join(said.output.split())
    (one,) = [one for one in json.loads((out / "evaluation.json").read_text())["findings"] if "both" in one["kind"]]
    assert one["count"] == 1 and reference in one["names"][0]
    assert sentence in (out / "report.html").read_text()
