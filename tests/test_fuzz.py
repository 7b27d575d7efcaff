"""Inputs as nobody would write them: each is read correctly, or refused in a sentence. No other error, nothing lost.

Hypothesis draws the same inputs in every run. `make test` tries a few hundred; `HEADLENS_FUZZ=10000`, which
`make test-all` sets, is how many there are in all.
"""

import json
import os
import pickle
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import fairness_example
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_clip import tiny_clip, write_images

import headlens as hl
from headlens.cli.inputs import class_names
from headlens.errors import HeadlensError
from headlens.manifest import candidate_indices, check_manifest, class_indices, parse_attribute, read_manifest
from headlens.models.checkpoints import read_checkpoint
from headlens.prompts import Attribute, ZeroShotTask, load_bank, load_pairs

EACH = int(os.environ.get("HEADLENS_FUZZ", "210")) // 7
seeded = settings(
    max_examples=EACH,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
WORDS = st.text(alphabet="abz 019.,;|\t\"'\\/{}[]:=#é\u00a0\ufeff\u0130\U0001f426\ud800\n\r\0-_NA", max_size=12)
PLAIN = st.text(alphabet="abcxyz019 é_-", min_size=1, max_size=8).map(str.strip).filter(bool)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns; None where it refuses in a sentence. Any other error is the test's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except HeadlensError as error:
        said = str(error)
        assert said.strip() and "Traceback" not in said and len(said) < 3000, said
        return None


@pytest.fixture(autouse=True)
def _as_users_have_it(without_shape_checks: None) -> None:
    """Users run without the shape checks of the tests, which would answer first."""


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Some bytes flipped, cut off, or doubled."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            changed[place] ^= data.draw(st.integers(1, 255))
        elif kind == "cut" and place:
            del changed[place : place + data.draw(st.sampled_from([1, 7, len(changed)]))]
        else:
            changed[place:place] = data.draw(st.binary(min_size=1, max_size=5))
    return bytes(changed)


@seeded
@given(data=st.data())
def test_a_table_in_any_dialect_is_read_as_it_is(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Values without separators, in every dialect that has one reading."""
    rows = data.draw(st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=5))
    delimiter, end = data.draw(st.sampled_from(",;\t|")), data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    index, tail, quoted, space = (data.draw(st.booleans()) for _ in range(4))
    header = [*[""] * index, "path", "label", "place"]
    lines = [header, *([*[str(i)] * index, f"{i}/{a}.png", b, c] for i, (a, b, c) in enumerate(rows))]

    def cell(text: str) -> str:
        text = f'"{text}"' if quoted and text else text
        return f" {text} " if space and not quoted else text

    written = end.join(delimiter.join(map(cell, line)) + delimiter * tail for line in lines) + end
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    file = tmp_path_factory.getbasetemp() / "dialect.csv"
    file.write_bytes(written.encode(encoding))
    frame = read_manifest(file)
    assert list(frame.columns) == ["path", "label", "place"]
    assert frame["path"].tolist() == [f"{i}/{a}.png" for i, (a, _, _) in enumerate(rows)]
    for column, place in (("label", 1), ("place", 2)):
        expected = [hl.manifest.cell_text(row[place]) for row in rows]
        assert frame[column].tolist() == expected


@seeded
@given(data=st.data())
def test_manifests(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    names = st.sampled_from(
        ["path", "label", "split", "place", "box", "candidates", "id", "x", "y", "w", "h", "Path", ""]
    )
    columns = data.draw(st.lists(st.one_of(names, WORDS), min_size=1, max_size=6))
    cells = st.one_of(WORDS, st.sampled_from(["cat", "dog", "0", "1.0", "val", "test", "[1, 2, 3, 4]", "cat|dog", ""]))
    rows = data.draw(st.lists(st.lists(cells, min_size=len(columns) - 1, max_size=len(columns) + 1), max_size=6))
    content = "\n".join(",".join(row) for row in [columns, *rows]).encode("utf-8", "surrogatepass")
    if data.draw(st.booleans()) and content:
        content = damaged(content, data)
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(content)
    frame = outcome(lambda: read_manifest(file))
    if frame is not None:
        assert len(frame) and "path" in frame.columns
        outcome(lambda: check_manifest(frame, ["cat", "dog"], "place", ("val", "test")))
        outcome(lambda: candidate_indices(frame, ["cat", "dog"]))
        outcome(lambda: list(hl.manifest.boxes(frame)))
    values = st.one_of(WORDS, st.integers(), st.floats(), st.none(), st.booleans(), st.binary(max_size=3), st.dates())
    table = pd.DataFrame(
        {
            column: data.draw(st.lists(values, min_size=3, max_size=3))
            for column in dict.fromkeys(columns)
            if column.isprintable()
        },
        dtype=object,  # pandas itself refuses a lone surrogate where it guesses texts
    )
    found = outcome(lambda: hl.manifest.as_manifest(table))
    if found is not None:
        outcome(lambda: check_manifest(found, ["cat", "dog"], "place"))


@seeded
@given(data=st.data())
def test_prompts_and_classes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.one_of(WORDS, PLAIN), max_size=5))
    templates = data.draw(st.lists(st.one_of(WORDS, st.just("a {}")), max_size=2))
    task = outcome(lambda: ZeroShotTask(names, templates))
    if task is not None:
        assert len(set(task.classes)) == len(names) and all(task.prompts())
        codes = outcome(lambda: class_indices(pd.Series(list(task.classes)), task.classes))
        assert codes is None or codes.tolist() == list(range(len(names)))
    outcome(lambda: Attribute(data.draw(WORDS), dict(pairwise(names))))
    frame = pd.DataFrame({"path": ["a", "b"], "place": [data.draw(WORDS), data.draw(PLAIN)]}, dtype=object)
    asked = data.draw(st.one_of(WORDS, st.just("place"), st.lists(WORDS, max_size=3).map(lambda x: "a:" + "=".join(x))))
    found = outcome(lambda: parse_attribute(asked, frame))
    assert found is None or outcome(lambda: Attribute(*found)) is None or found[0]
    folder = tmp_path_factory.getbasetemp()
    text = data.draw(st.one_of(WORDS, st.lists(st.one_of(WORDS, PLAIN), max_size=4).map("\n".join)))
    for name, read in (
        ("classes.txt", class_names),
        ("bank.txt", load_bank),
        ("bank.csv", load_bank),
        ("bank.jsonl", load_bank),
        ("pairs.yaml", load_pairs),
        ("pairs.json", load_pairs),
        ("attribute.yaml", lambda path: parse_attribute(path, frame)),
    ):
        content = text.encode("utf-8", "surrogatepass")
        if data.draw(st.booleans()):
            content = damaged(GOOD[name], data)
        (folder / name).write_bytes(content)
        outcome(lambda read=read, name=name: read(str(folder / name)))


GOOD = {
    "classes.txt": b"landbird\nwaterbird\n",
    "bank.txt": b"a red boat\na blue boat\n",
    "bank.csv": b"text,category\na red boat,colour\na boat,thing\n",
    "bank.jsonl": b'{"text": "a red boat", "category": "colour"}\n{"text": "a boat", "category": "thing"}\n',
    "pairs.yaml": b'"true":\n  - [a bird, a duck]\nspurious:\n  - [land, water]\n',
    "pairs.json": json.dumps({"true": [["a bird", "a duck"]], "spurious": [["land", "water"]]}).encode(),
    "attribute.yaml": b"name: place\nvalues:\n  land: [a photo of land]\n  water: [a photo of water]\n",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("checkpoints")
    weights = {"visual.proj": torch.randn(5, 7), "logit_scale": torch.ones(()), "text_projection": torch.ones(3, 7)}
    save_file(weights, folder / "a.safetensors")
    torch.save({"state_dict": weights, "epoch": 3}, folder / "b.pt")
    torch.save(weights, folder / "c.bin", _use_new_zipfile_serialization=False)
    (folder / "d.pkl").write_bytes(pickle.dumps({"state_dict": {"a": [1.0, 2.0]}}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the format old, and people have such files
        torch.jit.script(torch.nn.Linear(3, 2)).save(str(folder / "e.ts.pt"))
    (folder / "f.index.json").write_text(json.dumps({"weight_map": {"visual.proj": "a.safetensors"}}))
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@seeded
@given(data=st.data())
def test_checkpoints(
    checkpoints: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(checkpoints)))
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(damaged(checkpoints[name], data))
    found = outcome(lambda: read_checkpoint(file))
    assert found is None or all(isinstance(one, torch.Tensor) for one in found.weights.tensors.values())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    folder = tmp_path_factory.mktemp("kept")
    audit = fairness_example.audit(folder / "images")
    audit.save(folder / "audit")
    return folder / "audit", {file: file.read_bytes() for file in (folder / "audit").rglob("*") if file.is_file()}


@seeded
@given(data=st.data())
def test_saved_audits(kept: tuple[Path, dict[Path, bytes]], data: st.DataObject) -> None:
    folder, files = kept
    file = data.draw(st.sampled_from(sorted(files)))
    file.write_bytes(damaged(files[file], data) if files[file] else b"x")
    try:
        found = outcome(lambda: hl.Audit.load(folder))
        if found is not None:
            outcome(lambda: found.script())
    finally:
        file.write_bytes(files[file])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes], torch.Tensor]:
    folder = tmp_path_factory.mktemp("store")
    made = hl.extract(tiny_clip(), write_images(folder / "images", 5), folder / "acts.zarr", block=2)
    files = {file: file.read_bytes() for file in (folder / "acts.zarr").rglob("*") if file.is_file()}
    return folder / "acts.zarr", files, made.project(torch.eye(7))


@seeded
@given(data=st.data())
def test_stores(store: tuple[Path, dict[Path, bytes], torch.Tensor], data: st.DataObject) -> None:
    folder, files, expected = store
    file = data.draw(st.sampled_from(sorted(file for file in files if files[file])))
    file.write_bytes(damaged(files[file], data))
    try:
        found = outcome(lambda: hl.HeadStore.open(folder).project(torch.eye(7)))
        assert found is None or torch.equal(found, expected)
    finally:
        file.write_bytes(files[file])


@seeded
@given(data=st.data())
def test_images(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from headlens.images import read_image

    suffix = data.draw(st.sampled_from(sorted(PICTURES)))
    file = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    file.write_bytes(damaged(PICTURES[suffix], data))
    box = data.draw(st.one_of(st.none(), st.tuples(*[st.integers(0, 9)] * 4)))
    found = outcome(lambda: read_image(file, box))
    assert found is None or found.mode == "RGB"


def _pictures() -> dict[str, bytes]:
    from io import BytesIO

    from PIL import Image

    found = {}
    for suffix, kind, mode in (
        ("png", "PNG", "RGBA"),
        ("jpg", "JPEG", "CMYK"),
        ("gif", "GIF", "P"),
        ("tif", "TIFF", "I;16"),
        ("bmp", "BMP", "L"),
        ("webp", "WEBP", "RGB"),
    ):
        stream = BytesIO()
        Image.new(mode, (7, 5)).save(stream, kind)
        found[suffix] = stream.getvalue()
    return found


PICTURES = _pictures()
