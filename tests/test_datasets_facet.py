"""FACET: crops by the box, attributes from the annotators' columns, and what may be invalid in either."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataset_trees import FACET_COLUMNS, facet, person, picture, write_facet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clip import tiny_clip

from headlens import datasets, extract
from headlens.datasets.facet import fit, overhangs, skin_tone
from headlens.errors import ManifestError
from headlens.images import read_image, upright_size
from headlens.manifest import boxes, resolve_paths

WIDTH, HEIGHT = 23, 19


@pytest.fixture
def root(tmp_path: Path) -> Path:
    facet(tmp_path)
    return tmp_path


def test_a_row_is_a_person(root: Path) -> None:
    data = datasets.read("facet", root)
    frame = data.manifest
    assert data.classes == ("computer user", "guitarist", "lawman") and data.notes == ()
    assert frame["path"].tolist() == ["imgs_1/a.jpg", "imgs_1/a.jpg", "imgs_2/b.jpg", "imgs_3/c.jpg", "imgs_3/d.jpg"]
    assert frame["label"].tolist() == ["lawman", "guitarist", "computer user", "lawman", "guitarist"]
    assert frame["id"].tolist() == ["7", "8", "9", "11", "13"]
    assert frame["gender_presentation"].tolist() == ["fem", "masc", "na", "non_binary", "na"]
    assert frame["age_presentation"].tolist() == ["young", "na", "na", "na", "older"]
    assert frame["skin_tone"].tolist() == ["2", "6", "na", "9", "na"]
    assert frame["skin_tone_group"].tolist() == ["light", "medium", "na", "dark", "na"]
    assert "split" not in frame.columns


def test_the_crop_is_the_person(root: Path) -> None:
    frame = datasets.read("facet", root).manifest
    crop = np.asarray(read_image(resolve_paths(frame)[1], boxes(frame)[1]))
    assert crop.shape == (11, 7, 3)  # the box (11, 5, 7, 11)
    np.testing.assert_allclose(crop[0, 0, :2], (11, 5), atol=6)  # JPEG; red is x and green is y
    np.testing.assert_allclose(crop[-1, -1, :2], (17, 15), atol=6)


def test_a_store_keeps_boxes_and_people(root: Path, tmp_path: Path) -> None:
    data = datasets.read("facet", root, keep={"gender_presentation": ["fem", "masc"]})
    store = extract(tiny_clip(), data.manifest, tmp_path / "store.zarr")
    assert store.manifest["id"].tolist() == ["7", "8"]
    assert boxes(store.manifest) == [(2, 3, 5, 7), (11, 5, 7, 11)]
    assert not np.allclose(store.embedding[0], store.embedding[1])  # one photograph, two people


def test_na_stays_unless_it_is_dropped(root: Path) -> None:
    data = datasets.read("facet", root, drop_na=["gender_presentation"])
    assert data.manifest["id"].tolist() == ["7", "8", "11"]
    assert data.notes == ("2 of 5 people whose gender_presentation is na were left out.",)
    toned = datasets.read("facet", root, drop_na=["gender_presentation", "skin_tone_group"])
    assert toned.manifest["id"].tolist() == ["7", "8", "11"] and len(toned.notes) == 1  # the second left out nobody
    with pytest.raises(ManifestError, match="one class, 'lawman'"):
        datasets.read("facet", root, drop_na=["gender_presentation", "age_presentation"])
    with pytest.raises(ManifestError, match=r"no attribute .* Name one of gender_presentation"):
        datasets.read("facet", root, drop_na=["hair_color"])


def test_other_families_and_thresholds(root: Path) -> None:
    frame = datasets.read("facet", root, attributes=["lighting", "skin_tone"], threshold=2).manifest
    assert "gender_presentation" not in frame.columns
    assert frame["lighting"].tolist() == ["na"] * 5  # set once, below the threshold
    assert frame["skin_tone"].tolist() == ["2", "na", "na", "9", "na"]
    frame = datasets.read("facet", root, attributes=["lighting", "skin_tone"], tones=(1, 2)).manifest
    assert frame["lighting"].tolist() == ["na"] * 4 + ["well_lit"]
    assert frame["skin_tone_group"].tolist() == ["medium", "dark", "na", "dark", "na"]


def test_where_perceptions_differ(root: Path) -> None:
    box = (1, 2, 3, 5)
    people = [
        person(1, "a.jpg", "lawman", box, gender_presentation_fem=1, gender_presentation_masc=1),
        person(2, "a.jpg", "lawman", box, gender_presentation_fem=2, gender_presentation_masc=1),
        person(3, "a.jpg", "judge", box, gender_presentation_fem=1, gender_presentation_na=2),
        person(5, "a.jpg", "judge", box, gender_presentation_fem=1, gender_presentation_na=1),
    ]
    write_facet(root, people)
    values = datasets.read("facet", root).manifest["gender_presentation"]
    assert values.tolist() == ["mixed", "fem", "na", "fem"]


@given(st.lists(st.integers(0, 4), min_size=10, max_size=10))
@settings(max_examples=40, deadline=None)
def test_a_skin_tone_is_the_lower_median_of_the_marks(counts: list[int]) -> None:
    table = pd.DataFrame([counts], columns=[f"skin_tone_{tone}" for tone in range(1, 11)]).astype(str)
    marks = np.repeat(np.arange(1, 11), counts)
    expected = str(int(np.quantile(marks, 0.5, method="lower"))) if len(marks) else "na"
    assert skin_tone(table, Path(), 1) == [expected]


def spoil(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = root / "annotations/annotations.csv"
    change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)


@pytest.mark.parametrize("column", ["person_id", "filename", "class1", "bounding_box", "skin_tone_3"])
def test_a_missing_column(root: Path, column: str) -> None:
    spoil(root, lambda table: table.drop(columns=column))
    with pytest.raises(ManifestError, match=f"has no column '{column}'") as caught:
        datasets.read("facet", root)
    assert "annotations/annotations.csv with person_id" in caught.value.remedy
    assert "get the file again" in caught.value.remedy


def test_a_missing_family(root: Path) -> None:
    spoil(root, lambda table: table.drop(columns=[name for name in FACET_COLUMNS if name.startswith("age_")]))
    with pytest.raises(ManifestError, match=r"has no column 'age_presentation_\*'"):
        datasets.read("facet", root)
    assert len(datasets.read("facet", root, attributes=["gender_presentation"])) == 5


def test_a_cell_that_is_no_count(root: Path) -> None:
    spoil(root, lambda table: table.assign(gender_presentation_fem=["1", "", "yes", "0", "0"]))
    with pytest.raises(ManifestError, match=r"column 'gender_presentation_fem' .*holds 'yes' \(row 2\)"):
        datasets.read("facet", root)


def test_missing_files(root: Path) -> None:
    (root / "imgs_2/b.jpg").unlink()
    with pytest.raises(ManifestError, match=r"1 of 5 images are not there: .*b\.jpg.*missing='drop'"):
        datasets.read("facet", root)
    data = datasets.read("facet", root, missing="drop")
    assert data.manifest["id"].tolist() == ["7", "8", "11", "13"]
    assert data.notes[0].startswith("1 of 5 images are not there and were left out")
    for file in root.glob("imgs_*/*.jpg"):
        file.unlink()
    with pytest.raises(ManifestError, match="5 of 5 images are not there"):
        datasets.read("facet", root, missing="drop")
    for folder in root.glob("imgs_*"):
        folder.rmdir()
    with pytest.raises(ManifestError, match="no folder imgs_1, imgs_2 or imgs_3"):
        datasets.read("facet", root)


def test_a_moved_file_is_found_and_named(root: Path) -> None:
    (root / "old").mkdir()
    (root / "annotations").rename(root / "old/annotations")
    with pytest.raises(ManifestError, match=r"'annotations\.csv' is at .*old/annotations.*Give another root, or move"):
        datasets.read("facet", root)
    (root / "old/annotations/annotations.csv").rename(root / "annotations.csv")
    assert len(datasets.read("facet", root)) == 5  # beside the images will do


@pytest.mark.parametrize(
    ("box", "kept"),
    [((-2, -3, 5, 7), (0, 0, 3, 4)), ((20, 15, 7, 11), (20, 15, 3, 4)), ((-1, -1, 50, 50), (0, 0, WIDTH, HEIGHT))],
)
def test_a_box_that_overhangs_is_clipped_and_it_is_said(root: Path, box: tuple, kept: tuple) -> None:
    write_facet(root, [person(1, "a.jpg", "lawman", box), person(2, "b.jpg", "judge", (1, 1, 2, 3))])
    data = datasets.read("facet", root)
    assert boxes(data.manifest)[0] == kept
    assert data.notes == ("1 boxes that reach beyond their image were clipped (person 1).",)
    assert read_image(resolve_paths(data.manifest)[0], kept).size == kept[2:]


@pytest.mark.parametrize("box", [(23, 0, 5, 7), (0, 19, 5, 7), (-9, 1, 9, 5), (400, 300, 50, 50)])
def test_a_box_outside_its_image_is_refused_or_dropped(root: Path, box: tuple) -> None:
    rest = [person(2, "b.jpg", "judge", (1, 1, 2, 3)), person(3, "b.jpg", "lawman", (1, 1, 2, 3))]
    write_facet(root, [person(1, "a.jpg", "lawman", box), *rest])
    with pytest.raises(ManifestError, match=r"1 of 3 boxes lie outside .*person 1: .* in a\.jpg of 23 × 19"):
        datasets.read("facet", root)
    data = datasets.read("facet", root, outside="drop")
    assert data.manifest["id"].tolist() == ["2", "3"]
    assert "lie outside their image were left out (person 1" in data.notes[0]
    write_facet(root, [person(1, "a.jpg", "lawman", box)])
    with pytest.raises(ManifestError, match="1 of 1 boxes"):
        datasets.read("facet", root, outside="drop")


@pytest.mark.parametrize("box", ["", "[1, 2, 3, 5]", '{"x": 1, "y": 2, "width": 3}', "{'x': f()}", (1, 2, 0, 5)])
def test_a_malformed_box(root: Path, box: object) -> None:
    write_facet(root, [person(1, "a.jpg", "lawman", box)])
    with pytest.raises(ManifestError, match=r"The bounding_box of person 1 does not read"):
        datasets.read("facet", root)


def test_a_box_that_went_through_python(root: Path) -> None:
    boxed = [
        person(1, "a.jpg", "lawman", "{'x': 1.5, 'y': 2, 'width': 3, 'height': 5, 'more': {}}"),
        person(2, "a.jpg", "judge", '{"x": 1, "y": 2, "width": 3, "height": 5, "more": []}'),
    ]
    write_facet(root, boxed)
    assert boxes(datasets.read("facet", root).manifest) == [(1.5, 2, 3, 5), (1, 2, 3, 5)]


def test_padding_widens_a_box_within_its_image(root: Path) -> None:
    data = datasets.read("facet", root, padding=1)
    assert boxes(data.manifest)[0] == (0, 0, 12, 17)  # (2, 3, 5, 7) on every side, less what is outside
    assert data.notes == ()  # the person's own box was inside
    assert boxes(datasets.read("facet", root, padding=0.2).manifest)[0] == pytest.approx((1, 1.6, 7, 9.8))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"padding": -0.1}, "The padding is"),
        ({"threshold": 0}, "The threshold is 0"),
        ({"tones": (6, 3)}, "not two rising tones"),
        ({"outside": "clip"}, "outside is"),
        ({"missing": "ignore"}, "missing is"),
    ],
)
def test_options_out_of_range(root: Path, options: dict, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        datasets.read("facet", root, **options)


def test_an_image_on_its_side_is_measured_upright(root: Path) -> None:
    picture(root / "imgs_1/a.jpg", size=(23, 19), orientation=6)
    assert upright_size(root / "imgs_1/a.jpg") == (19, 23) == read_image(root / "imgs_1/a.jpg").size
    write_facet(root, [person(1, "a.jpg", "lawman", (2, 19, 5, 4)), person(2, "b.jpg", "judge", (1, 1, 2, 3))])
    assert datasets.read("facet", root).notes == ()


def test_an_image_that_cannot_be_measured_is_left_to_the_extraction(root: Path) -> None:
    (root / "imgs_2/b.jpg").write_bytes(b"no image")
    data = datasets.read("facet", root)
    assert data.notes == ("1 images could not be measured, and may fail later (b.jpg).",)
    assert boxes(data.manifest)[2] == (1, 1, 13, 3)


numbers = st.floats(-30, 30, allow_nan=False).map(lambda value: round(value, 2))
lengths = st.floats(0.1, 40).map(lambda value: round(value, 2))


@given(numbers, numbers, lengths, lengths, st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_fitted_box_is_one_that_can_be_cut(x: float, y: float, width: float, height: float, padding: float) -> None:
    size = (WIDTH, HEIGHT)
    fitted = fit((x, y, width, height), size, padding)
    if fitted is None:
        assert x > WIDTH - 1 or y > HEIGHT - 1 or x + width < 1 or y + height < 1 or width <= 1 or height <= 1
        return
    left, top, *lengths = fitted
    assert left >= 0 and top >= 0 and min(lengths) > 0
    assert not overhangs((left, top, lengths[0] - 1e-9, lengths[1] - 1e-9), size)
    if not padding and not overhangs((x, y, width, height), size):
        assert fitted == pytest.approx((x, y, width, height))
    corners = (round(left), round(top), round(left + lengths[0]), round(top + lengths[1]))
    assert Image.new("RGB", size).crop(corners).size == (corners[2] - corners[0], corners[3] - corners[1]) > (0, 0)
