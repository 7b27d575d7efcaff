"""Shards: any processes, in any order, each with a share of the blocks, make the store that one run would have made."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_clip import TinyClip, contents, tiny_clip, write_images

from headlens.errors import StoreError
from headlens.extraction import HeadStore, MomentStore, extract, extract_moments
from headlens.extraction.storage import Storage
from headlens.manifest import read_manifest

COUNT, BLOCK = 29, 3


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


OPTIONS = {"batch_size": 2, "block": BLOCK, "workers": 2}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_make_the_store_of_one_run(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, order: tuple[int, ...]
) -> None:
    whole = extract(clip, frame, tmp_path / "whole", **OPTIONS)
    for k in order[:-1]:
        assert extract(clip, frame, tmp_path / "parts", shard=(k, 3), **OPTIONS) is None
        with pytest.raises(StoreError, match="of 10 blocks are missing"):
            HeadStore.open(tmp_path / "parts")
    last = extract(clip, frame, tmp_path / "parts", shard=(order[-1], 3), **OPTIONS)
    assert len(last) == COUNT
    assert contents(tmp_path / "parts") == contents(whole.path)
    assert len(extract(clip, frame, tmp_path / "parts", shard=(0, 3), **OPTIONS)) == COUNT


@pytest.mark.parametrize("n", [2, 7, 31])
def test_shards_of_moments_merge(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, n: int) -> None:
    options = OPTIONS | {"groups": ["label", "place"]}
    whole = extract_moments(clip, frame, tmp_path / "whole", **options)
    made = [extract_moments(clip, frame, tmp_path / "parts", shard=(k, n), **options) for k in range(n)]
    assert made[:-1] == [None] * (n - 1)
    store = MomentStore.open(tmp_path / "parts", clip)
    assert store.count == made[-1].count == COUNT
    for one, other in ((store, whole), (store.subset(label="cat"), whole.subset(label="cat"))):
        torch.testing.assert_close(one.mean, other.mean, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(one.scatter, other.scatter, atol=1e-9, rtol=1e-9)


def test_a_shard_that_stopped_goes_on_and_a_whole_run_takes_over(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path
) -> None:
    whole = extract(clip, frame, tmp_path / "whole", on_error="skip", **OPTIONS)
    assert extract(clip, frame, tmp_path / "parts", shard=(1, 2), **OPTIONS) is None
    with Storage(tmp_path / "parts", (1, 2)).only_writer():
        with pytest.raises(StoreError, match="Another process"):
            extract(clip, frame, tmp_path / "parts", shard=(1, 2), **OPTIONS)
        extract(clip, frame, tmp_path / "parts", **OPTIONS)
    assert contents(tmp_path / "parts") == contents(whole.path)


_SHARD = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from tiny_clip import tiny_clip
from headlens.extraction import extract
from headlens.manifest import read_manifest
folder, k = Path(sys.argv[1]), int(sys.argv[2])
clip, frame = tiny_clip(), read_manifest(folder / "images" / "manifest.csv")
print("ready", flush=True)
sys.stdin.readline()
extract(clip, frame, folder / "parts", batch_size=2, block=3, workers=1, shard=(k, 2))
"""


def test_processes_that_begin_one_store_at_once(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "images" / "manifest.csv", index=False)
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "HEADLENS_PROGRESS": "0"}
    command = [sys.executable, "-W", "ignore", "-c", _SHARD, str(tmp_path)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen([*command, str(k)], env=environment, stdin=pipe, stdout=pipe, text=True) for k in (0, 1)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    for process in both:
        process.stdout.close()
    frame = read_manifest(tmp_path / "images" / "manifest.csv")  # a store keeps where its table is from
    whole = extract(clip, frame, tmp_path / "whole", **OPTIONS)
    assert contents(tmp_path / "parts") == contents(whole.path)
