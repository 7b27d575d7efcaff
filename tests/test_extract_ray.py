"""Many machines: a store, or moments, that actors made are those of a single process, whichever actors died."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from ray_tower import sketched
from tiny_clip import contents, tiny_clip, write_images

from headlens.errors import ImageError, StoreError
from headlens.extraction import Ray, extract, extract_moments, ray_engine

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'headlens[ray]'")
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",  # of Ray itself
)

from ray.cluster_utils import Cluster  # noqa: E402

COUNT, BLOCK = 41, 3


_TOO_BUSY = "Ray gives its own processes 15 to 30 seconds to start, and this machine is too busy for that"


@pytest.fixture(scope="module")
def surroundings() -> Iterator[None]:
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),  # where actors find what tests are made of
        }.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cluster(surroundings: None) -> Iterator[Cluster]:
    """Two machines, in so far as Ray can tell."""
    alone = {"include_log_monitor": False, "object_store_memory": 80 * 1024**2}  # what takes long to start is left out
    made = Cluster()
    try:
        made.add_node(num_cpus=1, include_dashboard=False, no_monitor=True, **alone)
        made.add_node(num_cpus=1, **alone)
    except Exception as error:
        made.shutdown()
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(_TOO_BUSY)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


def run(clip: object, frame: pd.DataFrame, path: Path, **options: object) -> object:
    given = {"batch_size": 2, "block": BLOCK, "actors": 2} | options
    actors = given.pop("actors")
    take = {"states": extract, "moments": extract_moments}[given.pop("keep", "states")]
    return take(clip, frame, path, engine=Ray(actors=actors) if actors else None, **given)


def test_a_cluster_of_its_own(frame: pd.DataFrame, tmp_path: Path, surroundings: None) -> None:
    """Started and stopped by the call; what a worker raises arrives as itself."""
    (tmp_path / "images" / "7.png").write_bytes(b"")
    try:
        with pytest.raises(ImageError, match=r"7\.png.*on_error='skip'.*of 14 blocks are whole and stay"):
            run(sketched(tiny_clip(), tmp_path), frame, tmp_path / "acts.zarr", actors=1)
    except StoreError as error:
        if "that starts on this machine" not in str(error):
            raise
        pytest.skip(_TOO_BUSY)
    assert not ray.is_initialized()


def test_moments_of_actors_are_those_of_one_process(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    """Also where one dies on the way."""
    options = {"keep": "moments", "groups": ["label", "place"]}
    clip = sketched(tiny_clip(), tmp_path, 3, "die")
    run(clip, frame, tmp_path / "cluster", **options)
    assert (tmp_path / "died").exists()
    run(clip, frame, tmp_path / "local", actors=0, **options)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_a_block_that_kills_every_worker_ends_it(
    cluster: Cluster, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_LIVES", 2)  # of three, it would take longer
    with pytest.raises(StoreError, match=r"one of 2 workers.*died over them.*blocks are whole and stay"):
        run(sketched(tiny_clip(), tmp_path, 1, "always"), frame, tmp_path / "acts.zarr", actors=1)


def test_a_machine_that_goes_away(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    """It goes while it has work, which waits for that: nothing depends on how fast anything is."""
    node = cluster.add_node(num_cpus=1, include_log_monitor=False, object_store_memory=80 * 1024**2)
    cluster.wait_for_nodes()
    (tmp_path / "seen").mkdir()
    (tmp_path / "images" / "7.png").write_bytes(b"")
    clip = sketched(tiny_clip(), tmp_path / "seen", act="dawdle")
    gone: list[str] = []

    def remove() -> None:
        for _ in range(6000):
            if (tmp_path / "seen" / node.node_id).exists():
                cluster.remove_node(node, allow_graceful=False)
                gone.append(node.node_id)
                break
            time.sleep(0.05)
        (tmp_path / "seen" / "go").touch()

    thread = threading.Thread(target=remove)
    thread.start()
    run(clip, frame, tmp_path / "cluster", actors=3, on_error="skip")
    thread.join()
    assert gone
    clip.vision.act = "nothing"
    run(clip, frame, tmp_path / "local", actors=0, on_error="skip")
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_what_cannot_be(cluster: Cluster, frame: pd.DataFrame, tmp_path: Path) -> None:
    clip = sketched(tiny_clip(), tmp_path)
    clip.device = torch.device("cuda")
    with pytest.raises(StoreError, match="cluster with GPUs"):
        run(clip, frame, tmp_path / "acts.zarr")
