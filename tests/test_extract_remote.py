"""Stores, manifests and images on object storage: an S3 server on loopback, and fsspec's memory."""

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest
import torch
from tiny_clip import TinyClip, tiny_clip, write_images

import headlens.extraction.extraction as extraction
from headlens.errors import ImageError, ManifestError, StoreError
from headlens.extraction import HeadStore, MomentStore, extract, extract_moments
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import StoreFolder
from headlens.images import is_url, read_image
from headlens.manifest import image_files, read_manifest, resolve_paths

COUNT, BLOCK = 11, 4


@pytest.fixture(scope="module")
def s3(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a bucket on a server of this process."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'headlens[remote]'")
    server_module = pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[server]'")
    with pytest.MonkeyPatch.context() as patch:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("head-lens")
        yield "s3://head-lens"
        server.stop()


@pytest.fixture(params=["memory", "s3"])
def bucket(request: pytest.FixtureRequest) -> str:
    root = request.getfixturevalue("s3") if request.param == "s3" else "memory://head-lens"
    return f"{root}/{uuid.uuid4().hex}"


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


@pytest.fixture
def away(bucket: str, frame: pd.DataFrame, tmp_path: Path) -> str:
    """The address of a manifest whose images lie beside it."""
    system, root = fsspec.core.url_to_fs(f"{bucket}/images")
    for name in frame["path"]:
        system.pipe_file(f"{root}/{name}", (tmp_path / "images" / name).read_bytes())
    system.pipe_file(f"{root}/manifest.csv", frame.to_csv(index=False).encode())
    return f"{bucket}/images/manifest.csv"


def run(clip: TinyClip, manifest: object, path: object, **options: object) -> object:
    take = {"states": extract, "moments": extract_moments}[options.pop("keep", "states")]
    return take(clip, manifest, path, **{"batch_size": 3, "block": BLOCK, "workers": 2} | options)


class Stopping:
    def __init__(self, vision: object, at: int):
        self.vision, self.left = vision, at

    def __getattr__(self, name: str) -> object:
        return getattr(self.vision, name)

    def head_states(self, images: torch.Tensor) -> object:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.vision.head_states(images)


def objects(address: str) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(address)
    system.invalidate_cache()
    found = {path.removeprefix(root).lstrip("/"): system.cat_file(path) for path in system.find(root)}
    return {name: content for name, content in found.items() if name != ".lock"}


def test_a_store_there_is_the_store_here(
    clip: TinyClip, frame: pd.DataFrame, bucket: str, away: str, tmp_path: Path
) -> None:
    here = run(clip, frame, tmp_path / "acts.zarr")
    there = run(clip, away, f"{bucket}/acts.zarr")
    assert there.path == f"{bucket}/acts.zarr"
    texts = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    for store in (there, HeadStore.open(f"{bucket}/acts.zarr", clip, in_memory=False)):
        torch.testing.assert_close(store.project(texts), here.project(texts), rtol=0, atol=0)
        torch.testing.assert_close(store.heads(1, 2), here.heads(1, 2), rtol=0, atol=0)
        assert store.manifest["label"].tolist() == here.manifest["label"].tolist()
        assert store.manifest.attrs["root"] == f"{bucket}/images"
        assert store.subset(split="val").embedding.shape == (4, 7)
    data = {name: content for name, content in objects(f"{bucket}/acts.zarr").items() if "/c/" in name}
    assert data == {
        str(file.relative_to(here.path)): file.read_bytes()
        for file in sorted(here.path.rglob("*"))
        if file.is_file() and "/c/" in str(file)
    }


@pytest.mark.parametrize("stop_at", [1, 4])
@pytest.mark.parametrize("keep", ["states", "moments"])
def test_a_stopped_run_goes_on(
    clip: TinyClip, away: str, bucket: str, stop_at: int, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_SAVE_EVERY", 0.0)
    run(clip, away, f"{bucket}/whole", keep=keep)
    tower = clip.vision
    clip.vision = Stopping(tower, stop_at)
    with pytest.raises(KeyboardInterrupt):
        run(clip, away, f"{bucket}/part", keep=keep)
    with pytest.raises(StoreError, match="of 3 blocks"):
        (HeadStore if keep == "states" else MomentStore).open(f"{bucket}/part")
    clip.vision = Stopping(tower, -1)
    run(clip, away, f"{bucket}/part", keep=keep)
    assert clip.vision.left == -1 - (5 - 2 * ((stop_at - 1) // 2))
    assert objects(f"{bucket}/part") == objects(f"{bucket}/whole")
    clip.vision = tower
    with pytest.raises(StoreError, match=r"seed-0.*seed-1"):
        run(tiny_clip(seed=1), away, f"{bucket}/part", keep=keep)


def test_a_beginning_that_was_cut_short_is_begun_again(
    clip: TinyClip, away: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write

    def cut(self: Storage, name: str, content: bytes, new: bool = False) -> None:
        if new:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(Storage, "write", cut)
    with pytest.raises(KeyboardInterrupt):
        run(clip, away, f"{bucket}/acts.zarr")
    assert not StoreFolder.begun(Storage(f"{bucket}/acts.zarr"))
    monkeypatch.setattr(Storage, "write", write)
    assert len(run(clip, away, f"{bucket}/acts.zarr")) == COUNT


def test_of_two_that_begin_one_store_one_does(clip: TinyClip, away: str, bucket: str) -> None:
    storage = Storage(f"{bucket}/acts.zarr")
    storage.write("zarr.json", b"{}", new=True)
    with pytest.raises(FileExistsError):
        storage.write("zarr.json", b"{}", new=True)
    assert storage.read("zarr.json") == b"{}"


def test_something_else_is_left_alone(clip: TinyClip, away: str, bucket: str) -> None:
    with pytest.raises(StoreError, match=r"holds 0\.jpg"):
        run(clip, away, f"{bucket}/images")
    with pytest.raises(StoreError, match="something else"):
        HeadStore.open(f"{bucket}/images")
    with pytest.raises(StoreError, match="not there"):
        HeadStore.open(f"{bucket}/absent")


def test_images_and_manifests_at_addresses(away: str, bucket: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    manifest = read_manifest(away)
    places = [place for place, _ in image_files(manifest)]
    assert places[:2] == [f"{bucket}/images/0.jpg", f"{bucket}/images/1.png"]
    assert read_image(places[1]).tobytes() == read_image(tmp_path / "images" / "1.png").tobytes()
    mixed = frame.assign(path=[places[0], *frame["path"][1:]])
    assert [place for place, _ in image_files(mixed)][:2] == [places[0], tmp_path / "images" / "1.png"]
    with pytest.raises(ManifestError, match="not a file of this machine"):
        resolve_paths(manifest)
    with pytest.raises(ImageError, match="nothing at"):
        read_image(f"{bucket}/images/absent.png")
    with pytest.raises(ManifestError, match=r"absent\.csv.*not there"):
        read_manifest(f"{bucket}/images/absent.csv")


def test_a_missing_image_is_skipped_by_wish(clip: TinyClip, away: str, bucket: str) -> None:
    system, root = fsspec.core.url_to_fs(f"{bucket}/images")
    system.rm_file(f"{root}/5.png")
    with pytest.raises(ImageError, match=r"5\.png.*1 of 3 blocks are whole"):
        run(clip, away, f"{bucket}/acts.zarr")
    assert run(clip, away, f"{bucket}/acts.zarr", on_error="skip").skipped["row"].tolist() == [5]


def test_storage_that_does_not_answer(clip: TinyClip, frame: pd.DataFrame, s3: str) -> None:
    for ask in (
        lambda: run(clip, frame, "s3://no-such-bucket/acts.zarr"),
        lambda: HeadStore.open("nowhere://bucket/acts.zarr"),
    ):
        with pytest.raises(StoreError, match=r"no-such-bucket|nowhere"):
            ask()
    with pytest.raises(ManifestError, match="nowhere"):
        read_manifest("nowhere://bucket/manifest.csv")


def test_what_an_address_is() -> None:
    assert is_url("s3://bucket/a") and is_url("memory://a")
    for path in ("a/b", "/a", r"C:\images\a.png", "C:/images", "file:///a", Path("s3://a")):
        assert not is_url(path)
    assert Storage("file:///tmp/a").local
