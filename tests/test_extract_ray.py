"""Many machines: a store, or moments, that actors made are those of a single process, whoever died on the way."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_clip import TinyClip, tiny_clip, write_images

from headlens.errors import HeadlensError, ImageError, StoreError
from headlens.states import extract

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'headlens[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")

from ray.cluster_utils import Cluster  # noqa: E402

COUNT, BLOCK = 41, 3


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(patch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two machines, in so far as Ray can tell."""
    here = Path(__file__).parent
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),  # where actors find what tests are made of
    }.items():
        patch.setenv(name, value)
    made = Cluster()
    try:
        made.add_node(num_cpus=1, include_dashboard=False, object_store_memory=80 * 1024**2)
        made.add_node(num_cpus=1, object_store_memory=80 * 1024**2)
    except Exception as error:
        made.shutdown()
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray gives its own processes 30 seconds to start, and this machine is too busy for that")
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


class Odd:
    """A tower that does something unheard-of at the n-th batch of the first process that reaches it."""

    def __init__(self, vision: object, folder: Path, at: int, act: str):
        self.vision, self.folder, self.left, self.act = vision, folder, at, act

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or name == "vision":
            raise AttributeError(name)
        return getattr(self.vision, name)

    def head_states(self, images: torch.Tensor) -> object:
        self.left -= 1
        if self.act == "dawdle":
            time.sleep(0.25)
            (self.folder / f"{ray.get_runtime_context().get_node_id()}").touch()
        if self.left == 0 and self.act in ("die", "always"):
            try:
                (self.folder / "died").touch(exist_ok=self.act == "always")
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.vision.head_states(images)


def odd(folder: Path, at: int, act: str) -> TinyClip:
    clip = tiny_clip()
    clip.vision = Odd(clip.vision, folder, at, act)
    return clip


def run(clip: TinyClip, frame: pd.DataFrame, path: Path, **options: object) -> object:
    given = {"batch_size": 2, "block": BLOCK, "engine": "ray", "workers": 2} | options
    return extract(clip, frame, path, **given)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


@pytest.mark.parametrize("keep", ["states", "moments"])
def test_actors_make_what_one_process_makes(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path, keep: str) -> None:
    options = {"keep": keep} | ({"groups": ["label", "place"]} if keep == "moments" else {})
    (tmp_path / "images" / "7.png").write_bytes(b"")
    if keep == "states":
        with pytest.raises(ImageError, match=r"7\.png.*on_error='skip'.*the same call goes on"):
            run(tiny_clip(), frame, tmp_path / "cluster")
    (tmp_path / "died").mkdir()
    run(odd(tmp_path / "died", 3, "die"), frame, tmp_path / "cluster", on_error="skip", **options)
    assert (tmp_path / "died" / "died").exists()
    local = {"engine": "local", "workers": 2, "on_error": "skip"} | options
    run(tiny_clip(), frame, tmp_path / "local", **local)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_a_block_that_kills_every_worker_ends_it(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"one of 3 workers.*died over them.*blocks are whole and stay"):
        run(odd(tmp_path, 1, "always"), frame, tmp_path / "acts.zarr", workers=1)


def test_a_machine_that_goes_away(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2)
    cluster.wait_for_nodes()
    (tmp_path / "seen").mkdir()
    gone: list[str] = []

    def remove() -> None:
        for _ in range(600):
            if (tmp_path / "seen" / node.node_id).exists():
                cluster.remove_node(node, allow_graceful=False)
                gone.append(node.node_id)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=remove)
    thread.start()
    run(odd(tmp_path / "seen", -1, "dawdle"), frame, tmp_path / "cluster", workers=3)
    thread.join()
    assert gone
    run(tiny_clip(), frame, tmp_path / "local", engine="local")
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_what_cannot_be(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    clip = tiny_clip()
    clip.device = torch.device("cuda")
    clip.vision = Odd(clip.vision, tmp_path, -1, "nothing")
    with pytest.raises(HeadlensError):
        run(clip, frame, tmp_path / "acts.zarr")
