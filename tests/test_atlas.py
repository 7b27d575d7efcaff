"""The atlas: its files say what the library computes, a stopped build ends with the same bytes, texts stay texts."""

import base64
import json
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from atlas_site import bank, site, worded
from report_page import HOSTILE

import headlens as hl
from headlens.errors import OutputError, StoreError
from headlens.head_atlas import build
from headlens.head_atlas.measured import AtlasQuestion, Measured
from headlens.heads import HeadId


@pytest.fixture(autouse=True)
def plain(without_shape_checks):
    """A stand-in for a model is no HookedCLIP."""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        return site(tmp_path_factory.mktemp("atlas")).parent
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def read(atlas: Path, name: str):
    return build._read(atlas / "data" / f"{name}.js")[2]


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_head_has_a_page_and_the_index_knows_it(atlas):
    index = read(atlas, "index")
    assert [one["id"] for one in index["heads"]] == [f"L{i}H{j}" for i in range(3) for j in range(5)]
    assert (index["layers"], index["heads_a_layer"], index["images"]) == (3, 5, 48)
    assert index["explained_on"] + index["tested_on"] == 48
    shares = [one["scores"][0] for one in index["heads"]]
    assert sum(shares) == pytest.approx(1, abs=2e-3)
    for one in index["heads"]:
        assert read(atlas, one["id"])["label"] == one["label"]


def test_the_numbers_of_a_head_are_the_librarys(atlas):
    clip = worded()
    store = hl.HeadStore.open(atlas.parent / "0.zarr")
    asked = hl.ZeroShotTask([HOSTILE[0], HOSTILE[4]])
    found = Measured(clip, store, AtlasQuestion(asked, None, bank()))
    head = HeadId(2, 3)
    record, explained = read(atlas, "L2H3"), found.explanations[head]
    assert [text for text, _, _ in record["texts"]] == list(explained.texts)
    assert record["poles"][0]["high"] == list(found.poles(head)[0].high)
    along = store.heads(2, 3) @ found.poles(head)[0].direction.float()
    assert [row for row, _ in record["ends"][0][0]] == along.argsort(descending=True, stable=True)[:6].tolist()
    # Ablating: the head's contribution is replaced by its mean over the images that it was explained on.
    classifier = asked.classifier(clip.encode_text)
    edited = found.test.embedding - found.test.heads(2, 3) + found.fit.heads(2, 3).mean(0)
    before, after = (x @ classifier.T for x in (found.test.embedding, edited))
    changed = float((before.argmax(1) != after.argmax(1)).float().mean())
    assert record["task"]["changed"] == pytest.approx(changed, abs=1e-4)
    labels = torch.tensor(asked.index(list(found.test.manifest["label"])))
    assert record["task"]["accuracy"] == pytest.approx(
        [float((x.argmax(1) == labels).float().mean()) for x in (before, after)], abs=1e-4
    )
    # A map: its summands along the first pole.
    one = record["maps"][0]
    values = np.frombuffer(base64.b64decode(one["values"]), np.int8).reshape(one["shape"]) * one["largest"] / 127
    pixels = clip.preprocess(hl.head_atlas.build.read_image(*found_file(store, one["row"])))[None]
    expected = hl.explain.token_maps(clip.vision, pixels, [head], found.poles(head)[0].direction.float()[None])[0, 0]
    np.testing.assert_allclose(values, expected, atol=one["largest"] / 120)


def found_file(store, row):
    return list(build.image_files(store.manifest))[row]


def test_a_stopped_build_ends_with_the_same_bytes(atlas, tmp_path, monkeypatch):
    store, written, whole = hl.HeadStore.open(atlas.parent / "0.zarr"), [], build._write

    def stop_at(count):
        def write(path, content):
            written.append(path)
            if len(written) == count:
                raise KeyboardInterrupt
            whole(path, content)

        return write

    for count in (5, 23):
        written.clear()
        monkeypatch.setattr(build, "_write", stop_at(count))
        with pytest.raises(KeyboardInterrupt):
            site(tmp_path, store=store)
        monkeypatch.setattr(build, "_write", whole)
        assert not (tmp_path / "atlas-0" / "data" / "index.js").is_file()
    site(tmp_path, store=store)
    assert bytes_of(tmp_path / "atlas-0") == bytes_of(atlas)
    site(tmp_path, store=store)
    assert bytes_of(tmp_path / "atlas-0") == bytes_of(atlas)


def test_a_build_that_was_killed_before_it_had_a_name_goes_on(atlas, tmp_path):
    (tmp_path / "atlas-0" / "data").mkdir(parents=True)
    (tmp_path / "atlas-0" / "data" / ".atlas.json.part").write_bytes(b'{"atl')
    site(tmp_path, store=hl.HeadStore.open(atlas.parent / "0.zarr"))
    assert bytes_of(tmp_path / "atlas-0") == bytes_of(atlas)


def test_data_are_ascii_json_that_no_text_can_leave(atlas):
    for path in (atlas / "data").glob("*.js"):
        line = path.read_bytes().decode("ascii")
        assert line.count("\n") == 1 and line.startswith("headlensAtlas.add(") and line.endswith(");\n")
        json.loads("[" + line[len("headlensAtlas.add(") : -3] + "]")
    assert {path.suffix for path in (atlas / "images").iterdir()} == {".jpg"}


def test_the_page_asks_for_nothing_and_makes_no_markup_of_texts():
    folder = Path(build.__file__).parent / "static"
    for name in ("index.html", "app.js", "style.css"):
        text = (folder / name).read_text(encoding="utf-8")
        for word in (
            "http:",
            "https:",
            "//cdn",
            "fetch(",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert word not in text, (name, word)


def test_a_missing_image_is_said(atlas):
    shown = {row for i in range(3) for j in range(5) for pole in read(atlas, f"L{i}H{j}")["ends"]
             for end in pole for row, _ in end}  # fmt: skip
    assert (1 in shown) == bool(read(atlas, "index")["note"])
    assert not (atlas / "images" / "0000001.jpg").exists()


def test_two_atlases_stand_side_by_side(atlas, tmp_path):
    other = site(tmp_path, seed=1, compare=atlas).parent
    key = json.loads((atlas / "data" / "atlas.json").read_text())["atlas"]
    assert build._read(other / "data" / "compare.js") == ["", "compare", key]
    assert (other / "compare" / "data" / "L2H4.js").read_bytes() == (atlas / "data" / "L2H4.js").read_bytes()


def test_a_folder_of_something_else_is_refused(atlas, tmp_path):
    store = hl.HeadStore.open(atlas.parent / "0.zarr")
    with pytest.raises(OutputError, match="another model, other images or another question"):
        hl.atlas(worded(), store, atlas)
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        hl.atlas(worded(), store, tmp_path / "atlas", bank=bank())
    with pytest.raises(OutputError, match="no finished atlas"):
        hl.atlas(worded(), store, tmp_path / "new", bank=bank(), compare=tmp_path)
    with pytest.raises(StoreError, match="too few"):
        hl.atlas(worded(), store.subset(range(19)), tmp_path / "new", bank=bank())


def test_a_head_that_does_not_vary_is_not_described(atlas):
    clip, store = worded(), hl.HeadStore.open(atlas.parent / "0.zarr")
    heads = torch.stack([torch.stack([store.heads(i, j) for j in range(5)], 1) for i in range(3)], 1)
    heads[:, 1, 1] = heads[:, 1, 1].mean(0) * torch.linspace(0.9, 1.1, 48)[:, None]  # as ablation leaves it
    rest = store.embedding - heads.sum((1, 2))
    other = hl.HeadStore.from_arrays(heads, rest, store.manifest, convention="separate", normalized=True)
    found = Measured(clip, other, AtlasQuestion(bank=bank()))
    assert [head for head in found.heads if not found.varies(head)] == [(1, 1)]
    record = found.head(HeadId(1, 1))
    assert (record["label"], record["clear"], record["poles"]) == ("does not vary", False, [])
    assert record["texts"] == record["near"] == record["similar"] == []


def test_the_shell_writes_one(tmp_path, capsys):
    from headlens.cli.app import app

    jaxtyping.config.update("jaxtyping_disable", False)  # this model is one
    hl.testbed.images(tmp_path / "birds", split="test", n=40)
    bank = tmp_path / "bank.txt"
    bank.write_text("\n".join(["a photo of the water", "a photo of the land", "a red bird", "a blue bird"]))
    app(
        ["atlas", "--model", "testbed", "--data", str(tmp_path / "birds" / "manifest.csv"), "--out",
         str(tmp_path / "atlas"), "--classes", "landbird,waterbird", "--bank", str(bank), "--json"],
        standalone_mode=False,
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out)["heads"] == 32
    assert read(tmp_path / "atlas", "index")["task"] == ["landbird", "waterbird"]
