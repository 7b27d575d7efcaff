"""Data sets by name: the CSV reader, and what a reader of one's own needs."""

from pathlib import Path

import pandas as pd
import pytest

from headlens import datasets
from headlens.datasets import registry
from headlens.errors import ManifestError

CSV = "path,label,split\na.png,dog,val\nb.png,cat,test\nc.png,dog,test\n"


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


def test_what_cannot_be_read(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="Did you mean 'csv'"):
        datasets.read("cvs", root)
    with pytest.raises(ManifestError, match="not there"):
        datasets.read("csv", root / "absent")
    (root / "manifest.csv").write_text("path\na.png\n")
    with pytest.raises(ManifestError, match=r"classes\.txt"):
        datasets.read("csv", root)
    (root / "manifest.csv").write_text("path,label\na.png,cat\n")
    with pytest.raises(ManifestError, match="all 'cat'"):
        datasets.read("csv", root)


def test_a_reader_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def two_images(root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
        return pd.DataFrame({"path": [str(root / "a"), str(root / "b")], "label": ["x", "y"]}), ("x", "y")

    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    datasets.register("two", two_images)
    datasets.register("two", two_images)
    assert datasets.available() == ("csv", "two")
    assert datasets.read("two", tmp_path).manifest["path"][1] == str(tmp_path / "b")
    with pytest.raises(ManifestError, match="taken"):
        datasets.register("csv", two_images)
