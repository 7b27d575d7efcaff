"""Tables, cells and pictures as people have them: each is read as it is meant, or refused with its fault named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import headlens as hl
from headlens.cells import near_equal
from headlens.cli.inputs import class_names
from headlens.errors import HeadlensError, ImageError, ManifestError, StoreError, TaskError
from headlens.extraction.storage import Storage
from headlens.images import read_image
from headlens.manifest import check_manifest, class_indices, parse_attribute, read_manifest, resolve_paths
from headlens.serialization import write_whole

PLAIN = {"path": ["a.png", "b.png"], "label": ["cat", "dog"]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf;path;label\r\n0;a.png;cat\r\n1;b.png;dog\r\n",
        "path\tlabel\r\na.png\tcat\r\nb.png\tdog".encode("utf-16"),
        b"Unnamed: 0,path,label\n0,a.png,cat\n1,b.png,dog\n",
        b"path,label,,\na.png,cat,,\nb.png,dog,,\n\n\n",
        b'"path", "label"\n"a.png", "cat"\n"b.png", "dog"\n',
        b"sep=|\npath|label\na.png|cat\nb.png|dog\n",
        b"path,label\ra.png,cat\rb.png,dog\r",
        b"path,label\n.\\a.png,cat\nb.png,dog\n",
        b"'path','label'\n'a.png','cat'\n'b.png','dog'\n",
        b"path,label\r\na.png,cat\r\nb.png,dog\r\n\x1a",  # the end of a file of DOS
    ],
)
def test_dialects_with_one_reading(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    frame = read_manifest(tmp_path / "m.csv")
    assert frame["label"].tolist() == PLAIN["label"] and list(frame) == ["path", "label"]
    assert [path.resolve() for path in resolve_paths(frame)] == [tmp_path.resolve() / name for name in PLAIN["path"]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path;label;label\na.png;cat;cat\n", "column 'label' 2 times .*semicolons"),
        (b"path,label\na.png,cat,3\n", "Line 2 .*has 3 cells .*2 columns .*commas"),
        (b"path,,label\na.png,x,cat\n", "Column 2 .*no name"),
        (b"path;label\na.png,cat\n", "Line 2 .*1 cells .*semicolons"),
        (b"PK\x03\x04rest", "Excel workbook or a zip"),
        (b"path,label\na\xff.png,cat\n", "not text in UTF-8"),
        (b"path,label\na.png,cat\npath,label\nb.png,dog\n", "Line 3 .*names the columns once more"),
        (b'{"path": "a.png", "label": "cat"}\n', "JSON, not CSV"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git-LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b'path,label\n"a.png,cat\n', "does not read as CSV"),
        (b"path label\na.png cat\n", "'path label', is one cell.*commas"),
        (b"path^label\na.png^cat\n", "'path.label', is one cell.*commas"),
        (b"image,label\na.png,cat\n", "no column 'path'.*Rename 'image' to 'path'"),
        (b"ARROW1\0\0", "an Arrow or Feather file"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (b"\x80\x05\x95\x10", "a pickle"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"SQLite format 3\0", "an SQLite database"),
    ],
)
def test_dialects_without_one(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "m.csv")


def test_roots_are_relative_to_the_table_or_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "m.csv").write_bytes(b"path,label\n../images/a.png,cat\n")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (3, 5)).save(tmp_path / "images" / "a.png")
    monkeypatch.chdir(tmp_path)
    for given, root in (("tables/m.csv", None), (tmp_path / "tables" / "m.csv", None), ("tables/m.csv", "tables")):
        check_manifest(read_manifest(given, root=root))
    with pytest.raises(ManifestError, match="not there"):
        check_manifest(read_manifest("tables/m.csv", root=tmp_path / "elsewhere" / "deep"))


@pytest.mark.parametrize(
    ("file", "path", "said"),
    [
        ("UPPER.JPG", "upper.jpg", "There is 'UPPER.JPG'"),
        ("cafe\u0301.png", "caf\u00e9.png", r"There is 'cafe\\u0301.png'"),
        ("other.png", "upper.png", "Relative paths count from"),
        ("folder.png/0.png", "folder.png", "Relative paths count from"),
    ],
)
def test_a_file_that_another_system_spells_otherwise(tmp_path: Path, file: str, path: str, said: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    (tmp_path / "m.csv").write_text(f"path\n{path}\n", encoding="utf-8")
    if (tmp_path / path).is_file():
        pytest.skip("this file system takes both for one")
    with pytest.raises(ManifestError, match=said):
        check_manifest(read_manifest(tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["Land", "land", "water"], "'Land' .*'land'|'land' .*'Land'"),
        (["on_land", "on land", "water"], "spelling alone"),
        (["land.", "land", "water"], "spelling alone"),
        (["semi\u2011truck", "semi-truck", "car"], "spelling alone"),
        (["driver\u2019s seat", "driver's seat", "car"], "spelling alone"),
        (["caf\u00e9", "cafe\u0301", "water"], "spelling alone"),
        (["wat\u200ber", "water", "land"], r"'wat\\u200ber' .* mean 'water'"),
        (["w\u0430ter", "water", "land"], r"'w\\u0430ter' .* mean 'water'"),  # Cyrillic
        (["\uff57ater", "water", "land"], "mean 'water'"),
        (["salt &amp; pepper", "salt & pepper", "land"], "'salt &amp; pepper' .*'salt & pepper'"),
        ([1, True, "land"], "'1' .*'True'"),
        (["true", "yes", "no"], "'true' .*'yes'"),
        ([0.1 + 0.2, 0.3, 1], r"'0\.30000000000000004' .*'0\.3'"),
        (["1,000", "1000", "2"], "'1,000' .*'1000'"),
        (["1 000", "1e3", "2"], "'1 000' .*'1e3'"),
        (["007", "7", "8"], "'007' .*'7'"),
        (["land", "land", "land"], "the same value"),
        ([pd.Timestamp("2024-01-31"), "2024-01-31 00:00:00", "2024-01-31"], "the same value"),
        (["land", "", "water"], "1 cells .*empty"),
    ],
)
def test_values_that_are_nearly_equal_or_missing(values: list, said: str) -> None:
    frame = hl.manifest.as_manifest(pd.DataFrame({"path": ["a", "b", "c"], "place": values}))
    with pytest.raises(ManifestError, match=said):
        check_manifest(frame, attribute="place", files=False)


def test_values_that_are_alike_and_several() -> None:
    values = [
        "10-19",
        "20-29",
        "1.5",
        "2.5",
        "12345678901234567890",
        "12345678901234567891",
        "100 200",
        "10 200",
        "вода",
    ]
    assert not near_equal(values)


def test_an_index_of_paths_is_the_column() -> None:
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["cat", "dog"]})
    assert hl.manifest.as_manifest(table.set_index("path")).equals(hl.manifest.as_manifest(table))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["filename", "label", "place"], "Rename 'filename' to 'path'"),
        (["path", "class", "place"], "Rename 'class' to 'label'"),
        (["path", "place"], "Add the column 'label'"),
        (["path", "target", "category"], "Add the column 'label'"),
    ],
)
def test_columns_by_the_names_of_other_tools(columns: list[str], said: str) -> None:
    frame = hl.manifest.as_manifest(pd.DataFrame([list("abc")[: len(columns)]], columns=columns))
    with pytest.raises(ManifestError, match=said):
        check_manifest(frame, classes=["cat", "dog"], files=False)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["1", " 1.0 ", 1, 1.0, "7"], ["7", "1"], [1, 1, 1, 1, 0]),  # names that are numbers are no indices
        ([0, 1.0, "1"], ["cat", "dog"], [0, 1, 1]),
        (["cat ", " dog"], ["cat", "dog"], [0, 1]),
        (["01", "1"], ["01", "1"], [0, 1]),  # two codes
        (["0"], ["7", "1"], "no label is read as an index"),
        (["Cat"], ["cat", "dog"], "Did you mean 'cat'"),
        (["cat"], ["cat", "dog", "cat"], "named twice"),
        (["2"], ["cat", "dog"], "not among the 2 classes"),
    ],
)
def test_labels_by_name_and_by_index(labels: list, classes: list[str], expected: object) -> None:
    column = pd.Series(labels, dtype=object, name="label")
    if isinstance(expected, str):
        with pytest.raises(ManifestError, match=expected):
            class_indices(column, classes)
    else:
        assert class_indices(column, classes).tolist() == expected


@pytest.mark.parametrize(
    ("values", "asked", "said"),
    [
        (["0", "1"], "place", "says nothing to a model.*place:0=a photo of"),
        (["White", "Latino_Hispanic"], "place", "'a photo of Latino_Hispanic' says nothing"),
        (["n01440764 tench", "n01443537 goldfish"], "place", "'a photo of n01440764 tench' says nothing"),
        (["0: cat", "1: dog"], "place", "'a photo of 0: cat' says nothing"),
        (["yes", "no"], "place", "'a photo of no' says nothing"),
        (["9-Mar", "over 70"], "place", "'a photo of 9-Mar' says nothing"),  # a spreadsheet's 3-9
        (["cat,", '"dog"'], "place", "says nothing"),
        (["['cat'", "# dog"], "place", "says nothing"),
        (["0", "1"], "place:0=land,0=water", "'0' twice"),
        (["land", "water"], "plce", "Did you mean 'place'"),
        (["land", "water"], "path", "'path' is no attribute"),
        (["land", "water"], "attribute.yaml", "holds no attribute"),
    ],
)
def test_prompts_that_would_be_codes_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[str], asked: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("attribute.yaml").write_bytes(b"name: place\nvalues: [land")
    with pytest.raises(TaskError, match=said):
        parse_attribute(asked, pd.DataFrame({"path": ["a", "b"], "place": values}))


def test_one_prompt_of_a_value_may_stand_alone_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: place\nvalues: {0: the land, 1: [the sea, the water]}\n")
    found = parse_attribute(str(tmp_path / "a.yaml"), pd.DataFrame())
    assert found == ("place", {"0": ["the land"], "1": ["the sea", "the water"]})


def test_an_attribute_may_stand_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "place", "values": {"land": ["the land"], "sea": "the sea"}}')
    assert parse_attribute(str(tmp_path / "a.json"), pd.DataFrame())[1] == {"land": ["the land"], "sea": ["the sea"]}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["land", "water"], "a mapping"),
        ({"land": "a photo of {}", "water": "a photo of water"}, r"slot.*\{\}"),
        ({"land": 3, "water": "a photo of water"}, "not a text"),
        ({"land": [], "water": "a photo of water"}, "no prompt"),
    ],
)
def test_values_that_are_no_prompts(values: object, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        hl.Attribute("place", values)


@pytest.mark.usefixtures("without_shape_checks")
def test_prompts_and_tables_of_other_types(tmp_path: Path) -> None:
    found = hl.Attribute("place", {"land": np.array(["the land", "a field"]), "sea": ("the sea",)})
    assert found.values == {"land": ("the land", "a field"), "sea": ("the sea",)}
    for table in (["a.png", "b.png"], pd.Series(["a.png"]), {"path": ["a.png"]}):
        with pytest.raises(ManifestError, match="is no table"):
            hl.manifest.as_manifest(table)
    (tmp_path / "a b.png").touch()
    check_manifest(hl.manifest.as_manifest(pd.DataFrame({"path": [f"file://{tmp_path}/a%20b.png"]})))


def test_a_file_of_classes_is_a_txt_file(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    with pytest.raises(TaskError, match=r"no \.txt file"):
        class_names(str(tmp_path / "classes.json"))
    (tmp_path / "classes.txt").write_text("<!DOCTYPE html>")
    with pytest.raises(ManifestError, match="a web page"):
        class_names(str(tmp_path / "classes.txt"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git-LFS pointer.*git lfs pull"),
        (b"<html>404</html>", "is a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.4", "is a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0", "is a HEIC or AVIF picture.*as JPEG"),
        (b"\0\0\0\x1cftypavif\0\0", "is a HEIC or AVIF picture.*as JPEG"),
        (b"\x93NUMPY\x01", "is a NumPy array.*picture as PNG"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_pictures_are_named_for_what_they_are(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "a.jpg")


RAMP = np.arange(35, dtype=np.uint8).reshape(5, 7)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.fromarray(RAMP).convert("P"), "png", RAMP),
        (Image.merge("LA", (Image.fromarray(RAMP), Image.new("L", (7, 5), 9))), "png", RAMP),
        (Image.merge("RGBA", (*[Image.fromarray(RAMP)] * 3, Image.new("L", (7, 5), 0))), "png", RAMP),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "png", RAMP),
        (Image.fromarray(RAMP).convert("RGB").convert("LAB"), "tif", RAMP),
        (Image.fromarray(RAMP.astype(np.int32)), "tif", "32-bit"),
        (Image.fromarray(RAMP.astype(np.float32)), "tif", "32-bit"),
        (Image.new("RGB", (120_000, 1)), "png", "more than 300 times"),
        (Image.new("RGB", (1, 20_000)), "png", "more than 300 times"),
    ],
)
def test_pictures_of_every_kind(tmp_path: Path, image: Image.Image, suffix: str, expected: object) -> None:
    image.save(tmp_path / f"a.{suffix}")
    if isinstance(expected, str):
        with pytest.raises(ImageError, match=expected):
            read_image(tmp_path / f"a.{suffix}")
    else:
        # A colour of 8-bit LAB is another one's, too.
        apart = 9 if image.mode == "LAB" else 0
        np.testing.assert_allclose(np.asarray(read_image(tmp_path / f"a.{suffix}"))[..., 0], expected, 0, apart)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_folder_that_takes_nothing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    from tiny_clip import tiny_clip, write_images

    frame = write_images(tmp_path / "images", 5)

    def refuse(self: Storage, *arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", refuse)
        with pytest.raises(StoreError, match=error.strerror):
            hl.extract(tiny_clip(), frame, tmp_path / "acts.zarr")
    assert len(hl.extract(tiny_clip(), frame, tmp_path / "acts.zarr")) == 5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_an_audit_that_cannot_be_saved_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    import fairness_example

    audit = fairness_example.audit(tmp_path / "images")
    folder = audit.save(tmp_path / "kept")
    before = {file: file.read_bytes() for file in folder.rglob("*.json")}

    def refuse(*arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("headlens.serialization.write_whole", refuse)
        with pytest.raises(HeadlensError, match=error.strerror):
            audit.save(folder, overwrite=True)
    assert {file: file.read_bytes() for file in folder.rglob("*.json")} == before
    assert hl.Audit.load(folder).identity == audit.identity


def test_a_file_that_a_full_disk_cuts_is_named_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(self: Path, content: bytes) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*report\.html'"):
        write_whole(tmp_path / "report.html", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
