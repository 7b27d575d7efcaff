"""FairFace, UTKFace and CelebA: faces with perceived attributes, from tables, file names and lists."""

from pathlib import Path

import pytest
from dataset_trees import UTKFACE, celeba, fairface, picture, utkface

from headlens import datasets
from headlens.datasets.faces import AGES
from headlens.errors import ManifestError


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_fairface(tmp_path: Path) -> None:
    fairface(tmp_path)
    data = datasets.read("fairface", tmp_path)
    frame = data.manifest
    assert data.classes == AGES and data.notes == ()
    assert frame["path"].tolist() == ["train/1.jpg", "train/2.jpg", "train/3.jpg", "val/1.jpg", "val/2.jpg"]
    assert frame["split"].tolist() == ["train"] * 3 + ["val"] * 2
    assert frame["age_presentation"].tolist() == ["50-59", "3-9", "3-9", "more than 70", "10-19"]
    assert frame["gender_presentation"].tolist() == ["male", "female", "male", "female", "male"]
    assert frame["perceived_race"].tolist() == ["East Asian", "Black", "White", "Latino_Hispanic", "Indian"]
    assert frame["label"].tolist() == frame["age_presentation"].tolist()


def test_fairface_with_another_label_or_split(tmp_path: Path) -> None:
    fairface(tmp_path)
    data = datasets.read("fairface", tmp_path, label="gender_presentation", splits=["val"])
    assert data.classes == ("female", "male")
    assert data.manifest["label"].tolist() == ["female", "male"] == data.manifest["gender_presentation"].tolist()
    (tmp_path / "fairface_label_train.csv").unlink()
    assert len(datasets.read("fairface", tmp_path, splits=["val"])) == 2
    with pytest.raises(ManifestError, match=r"no 'fairface_label_train\.csv' in .*fairface_label_val\.csv, train"):
        datasets.read("fairface", tmp_path)
    with pytest.raises(ManifestError, match=r"label is .*Choose one of age_presentation, gender_presentation, perc"):
        datasets.read("fairface", tmp_path, label="gender")
    with pytest.raises(ManifestError, match=r"every split is 'test'. Choose one of train, val"):
        datasets.read("fairface", tmp_path, splits=["test"])
    for splits in ("val", []):
        with pytest.raises(ManifestError, match="no list of splits"):
            datasets.read("fairface", tmp_path, splits=splits)


def test_fairface_in_two_margins(tmp_path: Path) -> None:
    tight, wide = (f"fairface-img-margin{margin}-trainval" for margin in ("025", "125"))
    fairface(tmp_path, images=wide)
    assert datasets.read("fairface", tmp_path).manifest.attrs["root"] == str(tmp_path / wide)
    with pytest.raises(ManifestError, match=rf"no folder '{tight}/train'"):
        datasets.read("fairface", tmp_path, margin="025")
    fairface(tmp_path, images=tight)
    with pytest.raises(ManifestError, match="images of two margins"):
        datasets.read("fairface", tmp_path)
    assert datasets.read("fairface", tmp_path, margin="025").manifest.attrs["root"] == str(tmp_path / tight)
    with pytest.raises(ManifestError, match=r"margin is .*Choose one of 025, 125"):
        datasets.read("fairface", tmp_path, margin="0.25")


def test_what_is_amiss_with_fairface(tmp_path: Path) -> None:
    fairface(tmp_path)
    (tmp_path / "val/2.jpg").unlink()
    with pytest.raises(ManifestError, match=r"1 of 5 images are not there: .*val/2\.jpg"):
        datasets.read("fairface", tmp_path)
    assert len(datasets.read("fairface", tmp_path, missing="drop")) == 4
    table = tmp_path / "fairface_label_val.csv"
    rewrite(table, "10-19", "Oct-19")  # what a spreadsheet makes of it
    with pytest.raises(ManifestError, match=r"column 'age' .*holds 'Oct-19' \(row 1\)\. .*A spreadsheet may have"):
        datasets.read("fairface", tmp_path)
    rewrite(table, "race", "ethnicity")
    with pytest.raises(ManifestError, match="has no column 'race'; it has file, age, gender, ethnicity"):
        datasets.read("fairface", tmp_path)
    table.write_text("file,age,gender,race\n")
    with pytest.raises(ManifestError, match="has no row"):
        datasets.read("fairface", tmp_path)
    table.write_text("")
    with pytest.raises(ManifestError, match="is empty"):
        datasets.read("fairface", tmp_path)
    for split in ("train", "val"):
        (tmp_path / split).rename(tmp_path / f"{split}-old")
    fairface(tmp_path / "again")
    with pytest.raises(ManifestError, match="no folder 'train'"):
        datasets.read("fairface", tmp_path, splits=["train"])


def test_utkface(tmp_path: Path) -> None:
    utkface(tmp_path)
    data = datasets.read("utkface", tmp_path)
    frame = data.manifest.set_index("path")
    assert set(frame.index) == {UTKFACE[0], UTKFACE[1], UTKFACE[2], UTKFACE[5]}
    assert frame.loc[UTKFACE[0]].tolist() == ["more than 70", "female", "White", "100", "more than 70"]
    assert frame.loc[UTKFACE[2]].tolist() == ["20-29", "female", "Asian", "26", "20-29"]
    assert frame.loc[UTKFACE[1], ["age_presentation", "gender_presentation", "perceived_race"]].tolist() == [
        "0-2",
        "male",
        "Others",
    ]
    assert data.notes == (
        f"2 of 6 images have malformed names and were left out: {UTKFACE[4]}, {UTKFACE[3]}.",  # 117 years; no race
    )
    assert "split" not in frame.columns


@pytest.mark.parametrize(
    ("age", "group"), [(0, "0-2"), (3, "3-9"), (9, "3-9"), (10, "10-19"), (69, "60-69"), (70, "more than 70")]
)
def test_ages_fall_into_fairfaces_groups(tmp_path: Path, age: int, group: str) -> None:
    for name in (f"{age}_0_0_20170112213500903.jpg", "40_1_3_20170112213500903.jpg"):
        picture(tmp_path / "UTKFace" / name)
    data = datasets.read("utkface", tmp_path)
    assert data.manifest.set_index("age")["label"][str(age)] == group


def test_utkface_in_parts(tmp_path: Path) -> None:
    picture(tmp_path / "part1" / UTKFACE[0])
    picture(tmp_path / "part3" / UTKFACE[1])
    data = datasets.read("utkface", tmp_path, label="perceived_race")
    assert data.manifest["path"].tolist() == [f"part1/{UTKFACE[0]}", f"part3/{UTKFACE[1]}"]
    assert data.manifest["label"].tolist() == ["White", "Others"]


def test_what_is_amiss_with_utkface(tmp_path: Path) -> None:
    utkface(tmp_path)
    with pytest.raises(ManifestError, match=r"2 of 6 names .*malformed='drop' leaves them out"):
        datasets.read("utkface", tmp_path, malformed="error")
    with pytest.raises(ManifestError, match=r"malformed is .*Choose one of drop, error"):
        datasets.read("utkface", tmp_path, malformed="ignore")
    picture(tmp_path / "other/cat.jpg")
    with pytest.raises(ManifestError, match=r"1 of 1 names do not read as age_gender_race_date: cat\.jpg"):
        datasets.read("utkface", tmp_path / "other")
    (tmp_path / "none").mkdir()
    with pytest.raises(ManifestError, match="No images are in"):
        datasets.read("utkface", tmp_path / "none")


def test_celeba(tmp_path: Path) -> None:
    celeba(tmp_path)
    data = datasets.read("celeba", tmp_path)
    assert data.classes == ("not blond hair", "blond hair")
    assert data.manifest.to_dict("list") == {
        "path": [f"img_align_celeba/00000{i}.jpg" for i in (1, 2, 3)],
        "label": ["not blond hair", "blond hair", "blond hair"],
        "split": ["train", "val", "test"],
        "gender_presentation": ["male", "female", "male"],
        "id": ["000001.jpg", "000002.jpg", "000003.jpg"],
    }


@pytest.mark.parametrize(
    ("attributes", "partition", "images"),
    [("Anno", "Eval", "Img/img_align_celeba"), ("celeba", "celeba", "celeba/img_align_celeba")],
)
def test_celeba_in_the_other_layouts(tmp_path: Path, attributes: str, partition: str, images: str) -> None:
    celeba(tmp_path, attributes, partition, images)
    assert len(datasets.read("celeba", tmp_path)) == 3


def test_other_attributes_of_celeba(tmp_path: Path) -> None:
    celeba(tmp_path)
    options = {"target": "Male", "attributes": ["Wearing_Hat", "Blond_Hair"], "classes": ["a woman", "a man"]}
    data = datasets.read("celeba", tmp_path, **options)
    assert data.manifest["label"].tolist() == ["a man", "a woman", "a man"]
    assert data.manifest["wearing_hat"].tolist() == ["no", "yes", "no"]
    assert data.manifest["blond_hair"].tolist() == ["no", "yes", "yes"]
    every = datasets.read("celeba", tmp_path, attributes="all").manifest
    assert every["gender_presentation"].tolist() == ["male", "female", "male"]
    assert every["wearing_hat"].tolist() == ["no", "yes", "no"]
    assert "blond_hair" not in every.columns
    with pytest.raises(ManifestError, match="unless it is a list"):
        datasets.read("celeba", tmp_path, attributes="Male")
    with pytest.raises(ManifestError, match=r"are not two. Name the absence"):
        datasets.read("celeba", tmp_path, classes=["blond"])
    with pytest.raises(ManifestError, match=r"has no column 'Blonde_Hair'; .*Rename 'Blond_Hair'"):
        datasets.read("celeba", tmp_path, target="Blonde_Hair")


def test_what_is_amiss_with_celeba(tmp_path: Path) -> None:
    celeba(tmp_path)
    listed, parted = tmp_path / "list_attr_celeba.txt", tmp_path / "list_eval_partition.txt"
    (tmp_path / "img_align_celeba/000002.jpg").unlink()
    with pytest.raises(ManifestError, match=r"1 of 3 images are not there: .*000002\.jpg"):
        datasets.read("celeba", tmp_path)
    assert datasets.read("celeba", tmp_path, missing="drop").manifest["id"].tolist() == ["000001.jpg", "000003.jpg"]
    rewrite(parted, "000001.jpg 0\n", "")
    with pytest.raises(ManifestError, match=r"1 images are named by one of the two lists only \(000001\.jpg"):
        datasets.read("celeba", tmp_path)
    rewrite(parted, "000002.jpg 1", "000002.jpg 3")
    with pytest.raises(ManifestError, match=r"column 'split' .*holds '3'"):
        datasets.read("celeba", tmp_path)
    parted.unlink()
    with pytest.raises(ManifestError, match=r"no 'list_eval_partition\.txt' in"):
        datasets.read("celeba", tmp_path)
    celeba(tmp_path)
    rewrite(listed, "3\n", "5\n")
    with pytest.raises(ManifestError, match=r"has 3 of the 5 lines that it announces"):
        datasets.read("celeba", tmp_path)
    rewrite(listed, "5\n", "")
    with pytest.raises(ManifestError, match=r"first line of .* is 'Blond_Hair Male Wearing_Hat', which is no number"):
        datasets.read("celeba", tmp_path)
    celeba(tmp_path)
    rewrite(listed, "000003.jpg  1", "000003.jpg  0")
    with pytest.raises(ManifestError, match=r"column 'Blond_Hair' .*holds '0'.*The values are '-1', '1'"):
        datasets.read("celeba", tmp_path)
    celeba(tmp_path)
    (tmp_path / "img_align_celeba").rename(tmp_path / "images")
    with pytest.raises(ManifestError, match="No images are in"):
        datasets.read("celeba", tmp_path)


def test_a_list_of_one_line_is_no_list(tmp_path: Path) -> None:
    celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text("3\n")
    with pytest.raises(ManifestError, match="does not read"):
        datasets.read("celeba", tmp_path)
    celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text("")
    with pytest.raises(ManifestError, match="3 images are named by one of the two lists only"):
        datasets.read("celeba", tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text("image_id,partition\n000001.jpg,0\n")
    with pytest.raises(ManifestError, match="The column 'split'"):
        datasets.read("celeba", tmp_path)
