"""Nothing is lost: odd images, other writers, full disks, and where a block's bytes are when it is declared whole."""

import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clip import TinyClip, contents, tiny_clip, write_images

import headlens.extraction.extraction as extraction
from headlens.errors import HeadlensError, ImageError, StoreError
from headlens.extraction import HeadStore, MomentStore, extract, extract_moments
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import StoreFolder

COUNT, BLOCK = 11, 4


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


def run(clip: TinyClip, frame: pd.DataFrame | Path, path: Path, **options: object) -> object:
    take = {"states": extract, "moments": extract_moments}[options.pop("keep", "states")]
    return take(clip, frame, path, **{"batch_size": 3, "block": BLOCK, "workers": 2} | options)


GOOD = {"cmyk.jpg": "plain.png", "deep.png": "grey.png", "moving.gif": "red.png", "turned.png": "plain.png"}
BAD = {
    "cut.jpg": "cut.jpg.*cannot be read",
    "huge.png": r"at most .* are read",
    "bomb.png": r"at most .* are read",
    "float.tiff": "32-bit",
    "text.png": "cannot be read",
    "empty.png": "is empty",
}


def odd_images(folder: Path) -> pd.DataFrame:
    folder.mkdir()
    ramp = np.linspace(10, 240, 16)
    plain = np.stack(np.broadcast_arrays(ramp[:, None], 90.0, ramp[None]), -1).round().astype(np.uint8)
    Image.fromarray(plain).save(folder / "plain.png")
    Image.fromarray(plain).convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    deep = (np.arange(256).reshape(16, 16) * 250).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(np.round(deep / 257).astype(np.uint8)).save(folder / "grey.png")
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    red.save(folder / "red.png")
    red.save(folder / "moving.gif", save_all=True, append_images=[blue])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(plain, 1))).save(folder / "turned.png", exif=exif)
    noise = np.random.default_rng(0).integers(0, 256, (61, 67, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1500])
    Image.new("1", (400, 300)).save(folder / "huge.png")
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)  # 10 GB once decoded, in 80 bytes
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = [struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in chunks]
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    Image.fromarray(np.full((3, 5), 0.5, np.float32)).save(folder / "float.tiff")
    (folder / "text.png").write_text("this is no image")
    (folder / "empty.png").touch()
    frame = pd.DataFrame({"path": ["plain.png", "grey.png", "red.png", *GOOD, *BAD]})
    frame.attrs["root"] = str(folder)
    return frame


def test_odd_images_are_read_or_listed(clip: TinyClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    frame = odd_images(tmp_path / "images")
    store = run(clip, frame, tmp_path / "acts.zarr", on_error="skip")
    names = [Path(path).name for path in store.skipped["path"]]
    assert names == list(BAD)
    for reason, said in zip(store.skipped["reason"], BAD.values(), strict=True):
        assert pd.Series([reason]).str.contains(said).all(), reason
    place = {path: row for row, path in enumerate(store.manifest["path"])}
    assert list(place) == ["plain.png", "grey.png", "red.png", *GOOD]
    for odd, like in GOOD.items():
        ours, theirs = store.embedding[place[odd]], store.embedding[place[like]]
        tolerance = 0.05 if odd == "cmyk.jpg" else 1e-6  # a JPEG loses a little
        assert (ours - theirs).norm() < tolerance, odd
    for number, (odd, said) in enumerate(BAD.items()):
        alone = frame[frame["path"].isin(["plain.png", odd])]
        with pytest.raises(ImageError, match=said):
            run(clip, alone, tmp_path / f"{number}.zarr")


_HOLDER = """
import sys
from headlens.extraction.storage import Storage
with Storage(sys.argv[1]).only_writer():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("keep", ["states", "moments"])
def test_another_process_that_writes_and_then_is_killed(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, keep: str
) -> None:
    path = tmp_path / "acts.zarr"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], env=environment, stdin=pipe, stdout=pipe, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="Another process"):
            run(clip, frame, path, keep=keep)
        other.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    assert len(run(clip, frame, path, keep=keep)) == COUNT


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: a write beyond is cut off and fails. What is in the file by then stays there."""
    resource = pytest.importorskip("resource", reason="file size limits are a thing of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("keep", "size"), [("states", 400), ("states", 3000), ("moments", 400), ("moments", 1900)])
def test_a_disk_that_takes_half_a_file(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, keep: str, size: int
) -> None:
    options = {"keep": keep} | ({"groups": ["label", "place"]} if keep == "moments" else {})
    whole = run(clip, frame, tmp_path / "whole", **options)
    with files_of_at_most(size), pytest.raises(StoreError, match="File too large"):
        run(clip, frame, tmp_path / "part", **options)
    run(clip, frame, tmp_path / "part", **options)
    assert contents(tmp_path / "part") == contents(whole.path)


def test_a_full_disk_while_moments_are_saved(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_SAVE_EVERY", 0.0)
    whole = run(clip, frame, tmp_path / "whole", keep="moments")
    write, saved = Storage.write, []

    def full(self: Storage, name: str, content: bytes, new: bool = False) -> None:
        if name == "state.safetensors":
            saved.append(name)
            if len(saved) == 2:
                raise OSError(28, "No space left on device")
        write(self, name, content, new)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", full)
        with pytest.raises(
            StoreError, match=r"cannot take the moments of 2 blocks: No space left.*2 of 3 blocks are whole"
        ):
            run(clip, frame, tmp_path / "part", keep="moments")
    run(clip, frame, tmp_path / "part", keep="moments")
    assert contents(tmp_path / "part") == contents(whole.path)


def test_a_block_is_on_the_disk_before_it_is_declared_whole(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "acts.zarr"
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def pushed(handle: int) -> None:
        events.append(f"pushed {os.fstat(handle).st_ino}")
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        events.append(f"replaced {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", pushed)
    monkeypatch.setattr(Path, "replace", replaced)
    run(clip, frame, path)
    folder = StoreFolder.open(Storage(path))
    for block in range(folder.plan.n_blocks):
        declared = events.index(f"replaced {block:06d}.json")
        for array in folder.plan.names:
            file = next(
                file
                for file in (path / array / "c" / str(block), *path.glob(f"{array}/c/{block}/**/0"))
                if file.is_file()
            )
            for entry in (file, file.parent, path / array / "c"):
                assert events.index(f"pushed {entry.stat().st_ino}") < declared, f"{entry} of block {block}"
        marker = (path / "blocks" / f"{block:06d}.json").stat().st_ino
        assert events.index(f"pushed {marker}") < declared
        assert f"pushed {(path / 'blocks').stat().st_ino}" in events[declared:]
    last = events.index("replaced complete.json")
    assert last > max(events.index(f"replaced {block:06d}.json") for block in range(folder.plan.n_blocks))


def test_a_store_of_the_first_format_is_still_read(tmp_path: Path) -> None:
    """Format 1 kept the stem of every image, as average pooling still does, and had no word for it."""
    clip, frame = tiny_clip(pool="avg"), write_images(tmp_path / "images", COUNT)
    store = run(clip, frame, tmp_path / "acts.zarr")
    file = tmp_path / "acts.zarr" / "zarr.json"
    record = json.loads(file.read_text())
    record["attributes"]["headlens"]["format"] = 1
    assert record["attributes"]["headlens"].pop("stem") is True
    del record["attributes"]["headlens"]["convention"]
    file.write_text(json.dumps(record))
    (tmp_path / "acts.zarr" / "complete.json").write_text(json.dumps({"blocks": 3, "skipped": []}))
    again = HeadStore.open(tmp_path / "acts.zarr", clip)
    torch.testing.assert_close(again.stem, store.stem, rtol=0, atol=0)
    assert len(run(clip, frame, tmp_path / "acts.zarr")) == COUNT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[np.ndarray]]]:
    folder = tmp_path_factory.mktemp("flipped")
    clip, frame = tiny_clip(), write_images(folder / "images", COUNT)
    run(clip, frame, folder / "states")
    run(clip, frame, folder / "moments", keep="moments", groups=["label"])
    return {keep: (folder / keep, read_all(keep, folder / keep)) for keep in ("states", "moments")}


def read_all(keep: str, path: Path) -> list[np.ndarray]:
    if keep == "moments":
        store = MomentStore.open(path)
        arrays = [store.mean, store.scatter, store.mean_embedding, store.subset(label="cat").mean, store.basis.beta]
        return [array.numpy() for array in arrays]
    store = HeadStore.open(path)
    parts = [store.embedding, store.mlps, store.stem, store.constant, store.project(torch.eye(7))]
    return [part.numpy() for part in parts] + [store.manifest.to_numpy(dtype=str), store.skipped.to_numpy()]


@settings(deadline=None, max_examples=60)
@given(keep=st.sampled_from(["states", "moments"]), data=st.data())
def test_a_flipped_byte_is_an_error_or_changes_nothing(written: dict, keep: str, data: st.DataObject) -> None:
    path, expected = written[keep]
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(flipped)
    try:
        found = read_all(keep, path)
    except HeadlensError:
        return
    finally:
        file.write_bytes(content)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_is_gone_is_an_error(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = run(clip, frame, tmp_path / "acts.zarr").path
    for name in ("z/c/1/0/0/0", "embedding/c/2/0", "basis.safetensors", "manifest.parquet", "zarr.json"):
        content = (path / name).read_bytes()
        (path / name).unlink()
        for in_memory in (True, False):
            with pytest.raises(StoreError):
                HeadStore.open(path, in_memory=in_memory).project(torch.eye(7))
        (path / name).write_bytes(content)
    assert len(HeadStore.open(path).project(torch.eye(7))) == COUNT
