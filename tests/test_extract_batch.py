"""Batch size, devices and number format: what goes through the model at once changes results by rounding alone."""

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_clip import TinyClip, contents, tiny_clip, write_images

from headlens.errors import ModelError, StoreError
from headlens.extraction import Devices, HeadStore, MomentStore, extract, extract_moments
from headlens.extraction.batching import ON_PROCESSOR, batch_size_for, by_trial
from headlens.extraction.plan import Plan

COUNT, BLOCK = 47, 5


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


def run(clip: TinyClip, frame: pd.DataFrame, path: Path, **options: object) -> HeadStore | MomentStore:
    if "devices" in options:
        options["engine"] = Devices(options.pop("devices"))
    take = {"states": extract, "moments": extract_moments}[options.pop("keep", "states")]
    return take(clip, frame, path, **{"workers": 2, "block": BLOCK} | options)


class Watched:
    """A tower that notes how many images come at once, raises at the n-th call, and holds at most so many images."""

    def __init__(self, vision: object, holds: int = 1000, stop_at: int = 0):
        self.vision, self.holds, self.stop_at, self.sizes = vision, holds, stop_at, []

    def __getattr__(self, name: str) -> object:
        return getattr(self.vision, name)

    def head_states(self, images: torch.Tensor) -> object:
        if len(images) > self.holds:
            raise torch.OutOfMemoryError
        self.sizes.append(len(images))
        if len(self.sizes) == self.stop_at:
            raise KeyboardInterrupt
        return self.vision.head_states(images)


@pytest.mark.parametrize(
    ("seconds", "most", "expected"),
    [
        (lambda size: size, 512, 16),  # no faster together than apart
        (lambda size: 1 + size / 1000, 512, 512),  # always faster: as many as come in one piece
        (lambda size: max(1, size / 64), 512, 64),  # faster until the device is full
        (lambda size: max(1, size / 64), 37, 32),
        (lambda size: 1 + size, 7, 7),
    ],
)
def test_a_batch_grows_as_long_as_that_pays(seconds: object, most: int, expected: int) -> None:
    assert by_trial(seconds, most) == expected


@pytest.mark.parametrize(("holds", "expected"), [(100, 64), (16, 16), (11, 8), (1, 1)])
def test_a_batch_fits_the_memory(holds: int, expected: int) -> None:
    tried = []

    def seconds(size: int) -> float:
        tried.append(size)
        if size > holds:
            raise torch.OutOfMemoryError
        return 1.0

    assert by_trial(seconds, 512) == expected
    assert len(tried) == len(set(tried))
    with pytest.raises(ModelError, match="not hold a single image"):
        by_trial(lambda size: seconds(size + holds), 512)


def test_on_a_processor_there_is_nothing_to_find(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:

    def planned(count: int) -> Plan:
        return Plan.of_states(clip, pd.DataFrame({"path": [f"{i}.png" for i in range(count)]}), None, "float32")

    assert (batch_size_for(clip, planned(512)), batch_size_for(clip, planned(7))) == (ON_PROCESSOR, 7)
    clip.vision = Watched(clip.vision)
    run(clip, frame, tmp_path / "acts.zarr", block=None)
    assert clip.vision.sizes == [32, 15]


@pytest.mark.parametrize("keep", ["states", "moments"])
def test_a_run_that_goes_on_takes_the_size_that_was_found(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([3, 4, 2])
    monkeypatch.setattr("headlens.extraction.extraction.batch_size_for", lambda *_: next(found))
    tower = clip.vision
    whole = run(clip, frame, tmp_path / "whole", keep=keep)
    assert whole.plan.batch_size == 3
    found = iter([3, 4, 2])
    clip.vision = Watched(tower, stop_at=5)
    with pytest.raises(KeyboardInterrupt):
        run(clip, frame, tmp_path / "part", keep=keep)
    clip.vision = Watched(tower)
    run(clip, frame, tmp_path / "part", keep=keep)
    assert set(clip.vision.sizes) == {3, 2}  # of five images a block
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    clip.vision = tower
    assert run(clip, frame, tmp_path / "given", keep=keep, batch_size=3).plan.batch_size is None


def test_memory_that_runs_out_on_the_way_halves_the_batch(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    expected = run(clip, frame, tmp_path / "whole", block=23, batch_size=11)
    tower = clip.vision
    clip.vision = Watched(tower, holds=4)
    with pytest.warns(UserWarning, match=r"batch of \d+ images; the run goes on") as told:
        store = run(clip, frame, tmp_path / "part", block=23, batch_size=11)
    assert [str(one.message).split()[7] for one in told] == ["11", "6"]
    assert clip.vision.sizes == [3, 3, 3, 2] + [3] * 4 + [3] * 7 + [2] + [1]
    for name in ("embedding", "norm"):
        torch.testing.assert_close(getattr(store, name), getattr(expected, name), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(store.heads(1, 2), expected.heads(1, 2), atol=1e-6, rtol=1e-5)
    clip.vision = Watched(tower, holds=0)
    with warnings.catch_warnings(), pytest.raises(ModelError, match="not hold a single image"):
        warnings.simplefilter("ignore")
        run(clip, frame, tmp_path / "none", batch_size=2)


@pytest.mark.parametrize("keep", ["states", "moments"])
def test_devices_share_the_blocks(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, keep: str) -> None:
    (tmp_path / "images" / "7.png").write_bytes(b"")
    options = {"keep": keep, "on_error": "skip", "batch_size": 2}
    run(clip, frame, tmp_path / "one", **options)
    for devices in (["cpu"], ["cpu", "cpu"], ["cpu"] * 13):
        path = tmp_path / f"{len(devices)}"
        run(clip, frame, path, devices=devices, **options)
        assert contents(path) == contents(tmp_path / "one")


@pytest.mark.parametrize("keep", ["states", "moments"])
@pytest.mark.parametrize("stop_at", [1, 6, 16])
def test_what_stops_one_device_stops_all(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, keep: str, stop_at: int
) -> None:
    options = {"keep": keep, "batch_size": 2, "devices": ["cpu", "cpu", "cpu"]}
    run(clip, frame, tmp_path / "whole", **options)
    tower = clip.vision
    clip.vision = Watched(tower, stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(clip, frame, tmp_path / "part", **options)
    assert "of 10 blocks are whole and stay" in caught.value.__notes__[0]
    assert len(clip.vision.sizes) < 30
    clip.vision = tower
    run(clip, frame, tmp_path / "part", **options)
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": "cuda:0"}, "devices as a list"),
        ({"devices": []}, "devices as a list"),
        ({"devices": ["cpu", "no-such"]}, "no device 'no-such'"),
        ({"devices": ["cuda:97"]}, "no device 'cuda:97'"),
    ],
)
def test_devices_that_are_not_there(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, options: dict, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        run(clip, frame, tmp_path / "acts.zarr", **options)
    assert not (tmp_path / "acts.zarr").exists()


def test_autocast_is_heeded_on_every_thread(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    exact = run(clip, frame, tmp_path / "exact", batch_size=3)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(clip, frame, tmp_path / "half", batch_size=3)
        run(clip, frame, tmp_path / "threads", batch_size=3, devices=["cpu", "cpu"])
    assert contents(tmp_path / "threads") == contents(tmp_path / "half")
    assert half.embedding.dtype == half.heads(0, 0).dtype == torch.float32
    error = (half.embedding - exact.embedding).norm(dim=-1)
    assert 1e-5 < error.max() < 0.1  # bfloat16 rounds by up to 0.004 of a number, in each of three layers
    cosine = torch.nn.functional.cosine_similarity(half.heads(2, 1), exact.heads(2, 1))
    assert cosine.min() > 0.99
    with pytest.raises(StoreError, match="autocast to bfloat16"):
        run(clip, frame, tmp_path / "half", batch_size=3)
    record = json.loads((tmp_path / "half" / "zarr.json").read_text())
    assert record["attributes"]["headlens"]["autocast"] == "bfloat16"
