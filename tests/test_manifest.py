"""The manifest: what is read, what is refused, and whether every refusal names its cause."""

import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import ManifestError
from headlens.manifest import (
    as_text,
    boxes,
    candidate_indices,
    check_files,
    check_manifest,
    class_indices,
    images_digest,
    manifest_digest,
    read_manifest,
    resolve_paths,
    split_mask,
)

CLASSES = ("landbird", "waterbird")


def table(**columns: list) -> pd.DataFrame:
    base = {
        "path": ["a.png", "b.png", "c.png"],
        "label": ["landbird", "waterbird", "landbird"],
        "split": ["val", "val", "test"],
        "background": ["land", "water", "water"],
    }
    return pd.DataFrame({key: value for key, value in (base | columns).items() if value is not None})


def write(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_keeps_paths_as_written_and_remembers_their_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("one.png", "two.png"):
        (tmp_path / "images" / name).write_bytes(b"x")
    frame = read_manifest(write(tmp_path, "path,label\nimages/one.png,cat\nimages/two.png,dog\n"))
    assert list(frame["path"]) == ["images/one.png", "images/two.png"]
    assert resolve_paths(frame) == [tmp_path / "images" / "one.png", tmp_path / "images" / "two.png"]
    check_files(frame)
    part = frame[frame["label"] == "dog"].reset_index(drop=True)
    assert resolve_paths(part) == [tmp_path / "images" / "two.png"]


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    frame = read_manifest(write(tmp_path, "path\n/elsewhere/one.png\n"))
    assert resolve_paths(frame) == [Path("/elsewhere/one.png")]


def test_read_takes_none_and_na_as_values_and_an_empty_cell_as_missing(tmp_path: Path) -> None:
    frame = read_manifest(write(tmp_path, "path,background\na,None\nb,NA\nc,\nd,01\n"))
    assert list(frame["background"][[0, 1, 3]]) == ["None", "NA", "01"]
    assert pd.isna(frame["background"][2])


def test_read_understands_the_mark_that_spreadsheets_put_first_and_spaces_in_the_header(
    tmp_path: Path,
) -> None:
    (tmp_path / "m.csv").write_bytes("\ufeffpath , label\na.png,cat\n".encode())
    assert list(read_manifest(tmp_path / "m.csv").columns) == ["path", "label"]


@pytest.mark.parametrize("names", ["x,y,w,h", "x,y,width,height"])
def test_four_columns_become_a_box(tmp_path: Path, names: str) -> None:
    frame = read_manifest(write(tmp_path, f"path,{names}\na,1,2,3.5,4\nb,,,,\n"))
    assert list(frame.columns) == ["path", "box"]
    assert boxes(frame) == [(1.0, 2.0, 3.5, 4.0), None]


def test_a_box_is_json_text_or_a_sequence() -> None:
    assert boxes(table(box=["[1, 2, 3, 4]", None, (5, 6, 7, 8)])) == [(1, 2, 3, 4), None, (5, 6, 7, 8)]
    assert boxes(table()) == [None, None, None]


@pytest.mark.parametrize("cell", ["[1,2,3]", "1,2,3,4", "[1,2,0,4]", "[-1,2,3,4]", '["a",2,3,4]', 7, "[1,2,NaN,3]"])
def test_a_malformed_box_is_refused_with_its_row(cell: object) -> None:
    with pytest.raises(ManifestError, match=r"in row 2"):
        boxes(table(box=[None, "[1, 2, 3, 4]", cell]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('path\n"a', "does not read"),
        ("path,label\n", "no row"),
        ("image\na\n", "'path'"),
    ],
)
def test_read_refuses_what_is_no_table_of_images(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_manifest(write(tmp_path, text))


def test_read_refuses_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not there"):
        read_manifest(tmp_path / "no.csv")
    with pytest.raises(ManifestError, match="a directory"):
        read_manifest(tmp_path)


def test_a_good_manifest_passes() -> None:
    check_manifest(table(), classes=CLASSES, attribute="background", splits=("val", "test"), files=False)


def test_a_missing_column_names_the_near_ones() -> None:
    with pytest.raises(ManifestError, match="column 'label'") as caught:
        check_manifest(table(label=None, Labels=["a", "b", "c"]), classes=CLASSES, files=False)
    assert caught.value.remedy == "Rename 'Labels' to 'label' if that is what it holds."
    with pytest.raises(ManifestError, match="Add the column 'background'"):
        check_manifest(table(background=None), attribute="background", files=False)
    with pytest.raises(ManifestError, match="column 'split'"):
        check_manifest(table(split=None), splits=("val",), files=False)


def test_unknown_labels_are_listed_with_counts_and_rows() -> None:
    with pytest.raises(ManifestError) as caught:
        check_manifest(table(label=["landbrid", "waterbird", "landbrid"]), classes=CLASSES, files=False)
    assert "'landbrid' (2 times, row 0, 2)" in caught.value.problem
    assert "'landbird', 'waterbird'" in caught.value.problem
    assert "Did you mean 'landbird'?" in caught.value.remedy


def test_a_missing_label_is_an_unknown_one() -> None:
    with pytest.raises(ManifestError, match=r"\(missing\).*row 1"):
        class_indices(pd.Series(["landbird", None, "waterbird"]), CLASSES)


@pytest.mark.parametrize(
    ("columns", "kwargs", "said"),
    [
        ({"path": [], "label": [], "split": [], "background": []}, {}, "no row"),
        ({"path": ["a", None, "c"]}, {}, "1 cells of the column 'path' are empty"),
        ({"id": ["p", "q", "p"]}, {}, r"'p' \(2 times, row 0, 2\)"),
        ({"label": ["landbird"] * 3}, {"classes": CLASSES}, "one class, 'landbird'"),
        ({"background": ["land"] * 3}, {"attribute": "background"}, "same value of 'background': 'land'"),
        ({"background": ["land", None, "water"]}, {"attribute": "background"}, "are empty"),
        ({}, {"splits": ("train",)}, r"'val' \(2\), 'test' \(1\)"),
        (
            {"candidates": ["landbird|duck", None, None]},
            {"classes": CLASSES},
            "row 0, 'landbird.duck'.*column 'candidates'",
        ),
        ({"box": ["[1]", None, None]}, {}, "row 0"),
        ({}, {"classes": ("landbird", "landbird")}, "twice"),
        ({}, {"classes": ()}, "no class names"),
    ],
)
def test_refusals(columns: dict, kwargs: dict, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        check_manifest(table(**columns), files=False, **kwargs)


def test_missing_files_are_counted_and_the_first_few_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": [f"{i}.png" for i in range(11)]})
    frame.attrs["root"] = str(tmp_path)
    (tmp_path / "0.png").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"10 of 11 image files are not there.*1\.png.*5\.png' and 5 more"):
        check_manifest(frame)


def test_labels_by_index_and_by_name_and_names_come_first() -> None:
    assert class_indices(pd.Series([1, 0, 1]), CLASSES).tolist() == [1, 0, 1]
    assert class_indices(pd.Series([1.0, 0.0]), CLASSES).tolist() == [1, 0]
    assert class_indices(pd.Series(["1", "landbird"]), CLASSES).tolist() == [1, 0]
    assert class_indices(pd.Series(["1", "0"]), ("1", "0")).tolist() == [0, 1]
    with pytest.raises(ManifestError, match="'2'"):
        class_indices(pd.Series([2, 0]), CLASSES)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(string.ascii_letters, min_size=1), min_size=1, unique=True), st.data())
def test_class_indices_are_the_inverse_of_naming(classes: list[str], data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, len(classes) - 1), min_size=1))
    named = pd.Series([classes[i] for i in indices], dtype=object)
    assert class_indices(named, classes).tolist() == indices
    assert class_indices(pd.Series(indices), classes).tolist() == indices


def test_candidates() -> None:
    frame = table(candidates=['["waterbird", "landbird"]', "landbird | waterbird", None])
    assert candidate_indices(frame, CLASSES) == [(1, 0), (0, 1), None]
    assert candidate_indices(table(), CLASSES) == [None, None, None]
    for cell in ("landbird", "[", '["landbird"]', 3):
        with pytest.raises(ManifestError, match="are not two classes or more"):
            candidate_indices(table(candidates=[cell, None, None]), CLASSES)


def test_split_mask() -> None:
    np.testing.assert_array_equal(split_mask(table(), "val"), [True, True, False])
    np.testing.assert_array_equal(split_mask(table(split=[0, 1, 0]), "0"), [True, False, True])


def test_as_text_makes_one_value_of_a_number_and_its_text() -> None:
    assert as_text(pd.Series([1, "1", 1.0, " a ", True], dtype=object)).tolist() == [
        "1",
        "1",
        "1",
        "a",
        "True",
    ]
    assert as_text(pd.Series([np.nan, None], dtype=object)).isna().all()


def test_digests_tell_images_from_what_is_said_of_them(tmp_path: Path) -> None:
    frame = table()
    frame.attrs["root"] = str(tmp_path)
    absolute = frame.assign(path=[str(path) for path in resolve_paths(frame)])
    assert manifest_digest(absolute) == manifest_digest(frame[list(frame.columns[::-1])]) == manifest_digest(frame)
    moved = frame.copy()
    moved.attrs["root"] = str(tmp_path / "elsewhere")
    assert manifest_digest(moved) == manifest_digest(frame)
    relabelled = frame.assign(label=["waterbird"] * 3)
    assert images_digest(relabelled) == images_digest(frame)
    assert manifest_digest(relabelled) != manifest_digest(frame)
    for other in (frame[::-1], frame[1:], frame.assign(box=["[0, 0, 1, 1]", None, None])):
        assert images_digest(other) != images_digest(frame)
    assert manifest_digest(frame.assign(box=None)) == manifest_digest(frame)
