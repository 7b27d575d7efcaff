"""`headlens extract` is a thin layer over `extract`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headlens.cli import app
from headlens.extraction import HeadStore, MomentStore
from headlens.testbed import images


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    images(folder, n=17, split="test")
    return folder / "manifest.csv"


def command(manifest: Path, out: Path, *options: str) -> dict:
    arguments = ["extract", "--model", "testbed", "--data", str(manifest), "--out", str(out), "--json", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_states_in_bfloat16(manifest: Path, tmp_path: Path) -> None:
    told = command(manifest, tmp_path / "acts.zarr", "--dtype", "bfloat16", "--workers", "1")
    store = HeadStore.open(tmp_path / "acts.zarr")
    assert store.plan.dtype == "bfloat16"
    assert (told["images"], told["skipped"], told["heads"]) == (len(store), 0, store.n_heads)
    assert "groups" not in told


def test_moments_by_group(manifest: Path, tmp_path: Path) -> None:
    told = command(manifest, tmp_path / "moments", "--moments", "--groups", "label, background")
    store = MomentStore.open(tmp_path / "moments")
    assert store.columns == ("label", "background")
    assert told["groups"] == len(store.cells) == 4
    assert told["images"] == store.count == 17


def test_two_devices_and_a_batch_size_of_its_own(manifest: Path, tmp_path: Path) -> None:
    command(manifest, tmp_path / "acts.zarr", "--devices", "cpu, cpu")
    assert HeadStore.open(tmp_path / "acts.zarr").plan.batch_size == 17  # no more than there are
    assert "found by trial" in CliRunner().invoke(app, ["extract", "--help"], env={"COLUMNS": "120"}).output


def test_shards_of_the_shell(manifest: Path, tmp_path: Path) -> None:
    first = command(manifest, tmp_path / "acts.zarr", "--shard", "1/2")
    assert first == {"store": str(tmp_path / "acts.zarr"), "shard": "1/2", "complete": False} or first["images"] == 17
    assert command(manifest, tmp_path / "acts.zarr", "--shard", "0/2")["images"] == 17


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "1"], "K/N"),
        (["--groups", "label"], "--groups needs --moments"),
        (["--moments", "--dtype", "float16"], "no --moments"),
        (["--address", "auto"], "--address needs --engine ray"),
        (["--engine", "ray", "--devices", "cpu"], "--devices needs --engine local"),
    ],
)
def test_options_that_do_not_go_together(manifest: Path, tmp_path: Path, options: list[str], said: str) -> None:
    arguments = ["extract", "-m", "testbed", "-d", str(manifest), "-o", str(tmp_path / "x"), *options]
    result = CliRunner().invoke(app, arguments)
    assert said in str(result.exception)


def test_an_unknown_engine_is_refused_by_the_shell(manifest: Path, tmp_path: Path) -> None:
    arguments = ["extract", "-m", "testbed", "-d", str(manifest), "-o", str(tmp_path / "x"), "--engine", "spark"]
    assert CliRunner().invoke(app, arguments).exit_code == 2
