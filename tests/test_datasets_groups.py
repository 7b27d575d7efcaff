"""Waterbirds, CounterAnimal and GenderBias-VL: groups by background, and pairs of occupations."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from dataset_trees import counteranimal, genderbias_vl, picture, waterbirds

from headlens import datasets
from headlens.errors import ManifestError
from headlens.manifest import candidate_indices, class_indices


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_waterbirds(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    data = datasets.read("waterbirds", tmp_path)
    assert data.classes == ("landbird", "waterbird") and data.notes == ()
    assert data.manifest.drop(columns="path").to_dict("list") == {
        "label": ["waterbird", "waterbird", "landbird", "landbird"],
        "split": ["train", "val", "test", "test"],
        "background": ["water", "land", "land", "water"],
        "place": ["ocean", "bamboo forest", "forest/broadleaf", "lake/natural"],
        "species": ["Black footed Albatross", "Black footed Albatross", "Cardinal", "Cardinal"],
        "id": ["1", "2", "3", "5"],
    }
    y, place = class_indices(data.manifest["label"], data.classes), data.manifest["background"] == "water"
    assert (2 * y + place).tolist() == [3, 2, 0, 1]  # the published group number


def test_waterbirds_one_folder_higher(tmp_path: Path) -> None:
    folder = tmp_path / "waterbird_complete95_forest2water2"
    waterbirds(folder)
    assert datasets.read("waterbirds", tmp_path).manifest.attrs["root"] == str(folder)
    folder.rename(tmp_path / "birds")
    with pytest.raises(ManifestError, match=r"'metadata\.csv' is at .*birds/metadata\.csv.*Give another root"):
        datasets.read("waterbirds", tmp_path)


def test_a_table_that_is_cut_short(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    rewrite(
        tmp_path / "metadata.csv", "5,017.Cardinal/d.jpg,0,2,1,/l/lake/natural/00000024.jpg", "5,017.Cardinal/d.jpg"
    )
    with pytest.raises(ManifestError, match=r"Line 5 of .* has 2 cells where the header names 6"):
        datasets.read("waterbirds", tmp_path)
    rewrite(tmp_path / "metadata.csv", "5,017.Cardinal/d.jpg", "5,,0,2,1,/l/lake/natural/00000024.jpg")
    with pytest.raises(ManifestError, match=r"1 cells of the column 'img_filename' .* published form: '' \(row 3\)"):
        datasets.read("waterbirds", tmp_path)


def test_what_is_amiss_with_waterbirds(tmp_path: Path) -> None:
    waterbirds(tmp_path)
    (tmp_path / "017.Cardinal/c.jpg").unlink()
    with pytest.raises(ManifestError, match=r"1 of 4 images are not there: .*c\.jpg"):
        datasets.read("waterbirds", tmp_path)
    assert datasets.read("waterbirds", tmp_path, missing="drop").manifest["id"].tolist() == ["1", "2", "5"]
    table = tmp_path / "metadata.csv"
    rewrite(table, "5,017.Cardinal/d.jpg,0,2,1", "5,017.Cardinal/d.jpg,0,4,1")
    with pytest.raises(ManifestError, match=r"column 'split' .*holds '4' \(row 3\)"):
        datasets.read("waterbirds", tmp_path)
    rewrite(table, ",place,", ",location,")
    with pytest.raises(ManifestError, match="has no column 'place'"):
        datasets.read("waterbirds", tmp_path)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="is not text in UTF-8"):
        datasets.read("waterbirds", tmp_path)
    table.unlink()
    with pytest.raises(ManifestError, match=r"no 'metadata\.csv' in .*which holds 001\.Black"):
        datasets.read("waterbirds", tmp_path)


def test_counteranimal(tmp_path: Path) -> None:
    counteranimal(tmp_path)
    data = datasets.read("counteranimal", tmp_path, val=1)
    frame = data.manifest
    assert data.classes == ("ostrich", "black swan")  # in the order of the indices, which is not the folders'
    assert data.notes == ("1 images of every class and background were drawn for the split val (seed 0).",)
    counts = Counter(zip(frame["label"], frame["background"], frame["split"], strict=True))
    for animal in data.classes:
        assert [counts[animal, "common", part] for part in ("val", "test")] == [1, 4]
        assert [counts[animal, "counter", part] for part in ("val", "test")] == [1, 2]
    swan = frame[frame["label"] == "black swan"]
    assert set(swan["path"].str.rsplit("/", n=1).str[0]) == {
        "100 black swan/common-water",
        "100 black swan/counter-grass",
    }
    assert set(zip(swan["background"], swan["scene"], strict=True)) == {("common", "water"), ("counter", "grass")}
    assert set(swan["imagenet_index"]) == {"100"}


def test_counteranimals_draw_is_the_seeds(tmp_path: Path) -> None:
    counteranimal(tmp_path / "LAION-final")
    splits = [datasets.read("counteranimal", tmp_path, val=2, seed=s).manifest["split"].tolist() for s in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] or splits[0] != splits[3]
    halves = datasets.read("counteranimal", tmp_path)
    assert Counter(halves.manifest["split"]) == {"val": 2 * (2 + 1), "test": 2 * (3 + 2)}
    assert halves.notes[1].startswith("Groups of fewer than 32 images gave half of them to val (ostrich, common: 2")
    none = datasets.read("counteranimal", tmp_path, val=0)
    assert set(none.manifest["split"]) == {"test"} and none.notes == ()


def test_counteranimal_among_all_of_imagenet(tmp_path: Path) -> None:
    counteranimal(tmp_path)
    names = [f"class {i}" for i in range(101)]
    data = datasets.read("counteranimal", tmp_path, val=1, class_names=names)
    assert data.classes == tuple(names)
    assert set(class_indices(data.manifest["label"], data.classes)) == {9, 100}
    with pytest.raises(ManifestError, match="45 class names do not reach the ImageNet index 100"):
        datasets.read("counteranimal", tmp_path, class_names=names[:45])


def test_what_is_amiss_with_counteranimal(tmp_path: Path) -> None:
    counteranimal(tmp_path)
    with pytest.raises(ManifestError, match="Give 0 or more images a group"):
        datasets.read("counteranimal", tmp_path, val=-1)
    (tmp_path / "9 ostrich/counter-snow").mkdir()
    with pytest.raises(
        ManifestError, match=r"2 folders in .* have 'counter' .*common-ground, counter-snow, counter-water"
    ):
        datasets.read("counteranimal", tmp_path)
    for file in (tmp_path / "9 ostrich/counter-water").iterdir():
        file.unlink()
    (tmp_path / "9 ostrich/counter-snow").rmdir()
    with pytest.raises(ManifestError, match="counter-water' holds no image"):
        datasets.read("counteranimal", tmp_path)
    (tmp_path / "9 ostrich/counter-water").rmdir()
    with pytest.raises(ManifestError, match=r"0 folders in .* have 'counter'"):
        datasets.read("counteranimal", tmp_path)
    (tmp_path / "9 ostrich").rename(tmp_path / "ostrich")
    (tmp_path / "100 black swan").rename(tmp_path / "swan")
    with pytest.raises(ManifestError, match="No images are in"):
        datasets.read("counteranimal", tmp_path)
    for i in (1, 2):
        for background in ("common", "counter"):
            picture(tmp_path / f"{i} crane/{background}/0.jpg")
    with pytest.raises(ManifestError, match="Two animals are named"):
        datasets.read("counteranimal", tmp_path)


def test_genderbias_vl(tmp_path: Path) -> None:
    genderbias_vl(tmp_path)
    data = datasets.read("genderbias-vl", tmp_path, val=["File Clerk"])
    frame = data.manifest
    used = ["Civil engineer", "Dental hygienist", "File Clerk", "Marketing manager", "Sales manager"]
    assert data.classes == ("Baker", *used)  # Baker has no pictures of both, but is a candidate class of one
    assert len(frame) == 5 * (3 + 2)
    occupations = frame.drop_duplicates("label").set_index("label")
    pairs = {label: data.classes[second] for label, (_, second) in pairs_of(frame, data.classes).items()}
    assert pairs == {
        "Civil engineer": "File Clerk",  # of 62.4 % and 80.2 % women, the most
        "Sales manager": "File Clerk",
        "Marketing manager": "Civil engineer",  # of 17.1 % and 33.1 %, the fewest
        "File Clerk": "Civil engineer",
        "Dental hygienist": "Baker",
    }
    assert occupations["held_mostly_by"].tolist() == ["men", "women", "women", "women", "men"]
    assert occupations["percent_women"].tolist() == ["17.1", "94.5", "80.2", "62.4", "33.1"]
    assert set(frame[frame["split"] == "val"]["label"]) == {"File Clerk"}
    clerks = frame[frame["label"] == "File Clerk"]
    assert clerks["gender_presentation"].tolist() == ["female"] * 3 + ["male"] * 2
    assert clerks["path"].tolist()[-1] == "File_Clerk/male/1.png"
    assert data.notes == (
        "1 occupations lack pictures of women or of men and were left out: Baker.",
        "1 folders are in no pair and were left out: Astronaut.",
    )


def pairs_of(frame: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = candidate_indices(frame, classes)
    assert all(pair[0] == own for pair, own in zip(found, class_indices(frame["label"], classes), strict=True))
    return dict(zip(frame["label"], found, strict=True))


def test_genderbias_vls_draw_is_the_seeds(tmp_path: Path) -> None:
    genderbias_vl(tmp_path, images="xl_generate_base")
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        data = datasets.read("genderbias-vl", tmp_path, val=2, seed=seed)
        assert data.manifest.attrs["root"] == str(tmp_path / "xl_generate_base")
        assert data.notes[0] == f"2 of 5 occupations were drawn for the split val (seed {seed})."
        drawn.append(set(data.manifest[data.manifest["split"] == "val"]["label"]))
    assert drawn[0] == drawn[1] and all(len(each) == 2 for each in drawn)
    assert len({frozenset(each) for each in drawn}) > 1
    assert set(datasets.read("genderbias-vl", tmp_path, val=0).manifest["split"]) == {"test"}


@pytest.mark.parametrize(
    ("val", "told"),
    [
        (25, "val is 25, of 5 occupations"),
        (-1, "Give 0 to 4"),
        (["Baker"], r"val names Baker\. .*both \(Civil engineer, Dental"),
        ("File Clerk", "val names 'File Clerk'"),
        (
            ["Civil engineer", "Dental hygienist", "File Clerk", "Marketing manager", "Sales manager"],
            "val names all occupations",
        ),
    ],
)
def test_a_val_that_cannot_be(tmp_path: Path, val: object, told: str) -> None:
    genderbias_vl(tmp_path)
    with pytest.raises(ManifestError, match=told):
        datasets.read("genderbias-vl", tmp_path, val=val)


def test_what_is_amiss_with_genderbias_vl(tmp_path: Path) -> None:
    genderbias_vl(tmp_path)
    table = tmp_path / "genderbias_occ.csv"
    table.rename(tmp_path / "pairs.csv")
    with pytest.raises(ManifestError, match=r"no 'occ_merge_filter_sim\.csv'"):
        datasets.read("genderbias-vl", tmp_path, val=2)
    assert len(datasets.read("genderbias-vl", tmp_path, val=2, pairs="pairs.csv")) == 25
    (tmp_path / "pairs.csv").rename(table)
    rewrite(table, "80.2", "-")
    with pytest.raises(
        ManifestError, match=r"column 'job_female_ratio' .*holds '-' \(row 1\)\. .*percentages of women"
    ):
        datasets.read("genderbias-vl", tmp_path, val=2)
    genderbias_vl(tmp_path)
    rewrite(table, "Baker,Dental", "File Clerk,Dental")
    with pytest.raises(ManifestError, match="'File Clerk' is on both sides"):
        datasets.read("genderbias-vl", tmp_path, val=2)
    genderbias_vl(tmp_path)
    rewrite(table, "job_male_ratio", "ratio")
    with pytest.raises(ManifestError, match="has no column 'job_male_ratio'"):
        datasets.read("genderbias-vl", tmp_path, val=2)
    genderbias_vl(tmp_path / "other")
    (tmp_path / "alone").mkdir()
    (tmp_path / "other/genderbias_occ.csv").rename(tmp_path / "alone/genderbias_occ.csv")
    with pytest.raises(ManifestError, match=r"No occupation of genderbias_occ\.csv has pictures in both folders"):
        datasets.read("genderbias-vl", tmp_path / "alone", val=2)
