"""Data sets by name: the registry, its options, the CSV reader, and that the docs keep up with them."""

from collections.abc import Callable
from pathlib import Path

import dataset_trees
import pandas as pd
import pytest

from headlens import datasets
from headlens.datasets import dataset
from headlens.errors import ManifestError, OutputError, UnknownNameError
from headlens.manifest import boxes, check_manifest, resolve_paths

CSV = "path,label,split\na.png,dog,val\nb.png,cat,test\nc.png,dog,test\n"
BUILDERS: dict[str, Callable[[Path], object]] = {
    "celeba": dataset_trees.celeba,
    "counteranimal": dataset_trees.counteranimal,
    "facet": dataset_trees.facet,
    "fairface": dataset_trees.fairface,
    "genderbias-vl": dataset_trees.genderbias_vl,
    "utkface": dataset_trees.utkface,
    "waterbirds": dataset_trees.waterbirds,
}
OPTIONS: dict[str, dict[str, object]] = {"genderbias-vl": {"val": 2}, "counteranimal": {"val": 1}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "manifest.csv").write_text(CSV)
    return tmp_path


def test_a_folder_or_a_file_of_any_name(root: Path) -> None:
    (root / "birds.csv").write_text(CSV)
    for given in (root, str(root), root / "birds.csv"):
        data = datasets.read("csv", given)
        assert len(data) == 3
        assert data.classes == ("cat", "dog")
        assert data.manifest["path"].tolist() == ["a.png", "b.png", "c.png"]
        assert data.manifest.attrs["root"] == str(root)


def test_classes_txt_settles_the_order(root: Path) -> None:
    (root / "classes.txt").write_text("dog\n\n newt \ncat\n")
    assert datasets.read("csv", root).classes == ("dog", "newt", "cat")
    (root / "classes.txt").write_text("dog\nnewt\n")
    with pytest.raises(ManifestError, match=r"'cat' \(1 times, row 1\)"):
        datasets.read("csv", root)


def test_what_cannot_be_read(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'csv'"):
        datasets.read("cvs", root)
    with pytest.raises(ManifestError, match="is not there"):
        datasets.read("csv", root / "absent")
    (root / "manifest.csv").write_text("path\na.png\n")
    with pytest.raises(ManifestError, match=r"classes\.txt"):
        datasets.read("csv", root)
    (root / "manifest.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(ManifestError, match="one class, 'cat'"):
        datasets.read("csv", root)


def test_a_reader_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def two_images(root: Path, **options: str) -> datasets.Dataset:
        """Two images.

        And more about them.
        """
        frame = pd.DataFrame({"path": [str(root / "a"), str(root / "b")], "label": ["x", options.get("second", "y")]})
        return datasets.Dataset(frame, ("x", "y"))

    monkeypatch.setattr(dataset, "DATASETS", datasets.DATASETS.with_entries({"two": two_images}))
    assert datasets.available()["two"] == "Two images."
    assert datasets.read("two", tmp_path).manifest["path"][1] == str(tmp_path / "b")
    with pytest.raises(ManifestError, match="one class, 'x'"):
        datasets.read("two", tmp_path, second="x")


def test_every_reader_has_a_line_of_its_own_and_a_tree_here() -> None:
    lines = datasets.available()
    assert list(lines) == sorted(lines)
    assert set(lines) == {"csv", *BUILDERS}
    assert len(set(lines.values())) == len(lines)
    assert all(line.endswith((".", "?")) and len(line) < 110 for line in lines.values())


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_published_layout_becomes_a_manifest(name: str, tmp_path: Path) -> None:
    BUILDERS[name](tmp_path)
    data = datasets.read(name, tmp_path, **OPTIONS.get(name, {}))
    check_manifest(data.manifest, classes=data.classes, files=True)
    assert data.manifest.index.tolist() == list(range(len(data)))
    assert not any(Path(path).is_absolute() for path in data.manifest["path"])
    assert all(path.is_relative_to(tmp_path) for path in resolve_paths(data.manifest))


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_data_set_is_written_and_read_again(name: str, tmp_path: Path) -> None:
    BUILDERS[name](tmp_path / "in")
    data = datasets.read(name, tmp_path / "in", **OPTIONS.get(name, {}))
    target = data.write(tmp_path / "out")
    assert target == tmp_path / "out/manifest.csv"
    again = datasets.read("csv", target)
    assert again.classes == data.classes
    assert boxes(again.manifest) == boxes(data.manifest)
    assert resolve_paths(again.manifest) == resolve_paths(data.manifest)
    pd.testing.assert_frame_equal(
        again.manifest.drop(columns="path"), data.manifest.drop(columns="path"), check_dtype=False
    )
    with pytest.raises(OutputError, match=r"manifest\.csv' is there already, and nothing was written"):
        data.write(tmp_path / "out")


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_missing_root_is_told_with_the_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="The published layout of") as caught:
        datasets.read(name, tmp_path / "nowhere")
    assert "not there" in caught.value.problem and "obtain" in caught.value.remedy
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="a file"):
        datasets.read(name, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="The published layout of"):
        datasets.read(name, tmp_path / "empty")


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_unknown_option_names_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"'{name}' has no option 'paddding'; it has [a-z_, ]+\."):
        datasets.read(name, tmp_path, paddding=1)
    with pytest.raises(ManifestError, match="Did you mean 'padding'"):
        datasets.read("facet", tmp_path, paddding=1)


def test_keep_narrows_a_data_set_and_says_so(tmp_path: Path) -> None:
    dataset_trees.facet(tmp_path)
    data = datasets.read("facet", tmp_path, keep={"gender_presentation": ["fem", "masc"]})
    assert data.manifest["id"].tolist() == ["7", "8"]
    assert data.manifest.index.tolist() == [0, 1] and data.manifest.attrs["root"] == str(tmp_path)
    assert data.notes == ("3 of 5 images whose gender_presentation is not fem or masc were left out.",)
    assert data.classes == ("computer user", "guitarist", "lawman")
    labels = datasets.read("facet", tmp_path, keep={"label": ["lawman", "guitarist"]})
    assert labels.classes == ("guitarist", "lawman") and len(labels) == 4
    everyone = datasets.read("facet", tmp_path, keep={"label": ["lawman", "guitarist", "computer user"]})
    assert everyone.notes == ()


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    dataset_trees.facet(tmp_path)
    for keep, told in (
        ({"gender": ["fem"]}, "no column 'gender' .*gender_presentation"),
        (
            {"gender_presentation": ["female"]},
            r"'female' to keep does not occur in 'gender_presentation'. It holds .*'na' \(2\)",
        ),
        ({"gender_presentation": "fem"}, r"Write \['fem'\]"),
        ({"gender_presentation": []}, "No value of 'gender_presentation' is to be kept"),
    ):
        with pytest.raises(ManifestError, match=told):
            datasets.read("facet", tmp_path, keep=keep)


def test_the_docs_name_every_data_set_and_every_column(tmp_path: Path) -> None:
    page = Path(__file__).parents[1] / "docs" / "datasets.md"
    if not page.is_file():
        pytest.skip("the docs are not part of a source distribution")
    text = page.read_text()
    for name, build in BUILDERS.items():
        build(tmp_path / name)
        data = datasets.read(name, tmp_path / name, **OPTIONS.get(name, {}))
        section = text.split(f"## `{name}`")[1].split("\n## ")[0]
        for column in data.manifest.columns:
            assert f"`{column}`" in section or column in ("path", "label"), (name, column)
    assert set(datasets.available()) <= {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
