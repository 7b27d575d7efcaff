"""Extraction: whatever stops it, the next run goes on, and the store is the one that a single run would have
made."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from PIL import Image
from tiny_clip import TinyClip, contents, pixels, tiny_clip, write_images

import headlens.extraction.extraction as extraction
from headlens.errors import HeadlensError, ImageError, ManifestError, ModelError, StoreError
from headlens.extraction import HeadStore, MomentStore, extract, extract_moments
from headlens.extraction.batching import decode
from headlens.extraction.storage import Storage
from headlens.images import read_image
from headlens.states import decompose

COUNT, BLOCK = 11, 4
EXTRACT = {"states": extract, "moments": extract_moments}


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


def run(clip: TinyClip, frame: pd.DataFrame | Path, path: Path, **options: object) -> HeadStore:
    take = EXTRACT[options.pop("keep", "states")]
    return take(clip, frame, path, **{"batch_size": 3, "block": BLOCK, "workers": 2} | options)


class Stopping:
    """A vision tower that raises when it is called for the n-th time, and counts."""

    def __init__(self, vision: object, at: int, error: BaseException):
        self.vision, self.left, self.error, self.calls = vision, at, error, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.vision, name)

    def head_states(self, images: torch.Tensor) -> object:
        self.left -= 1
        self.calls += 1
        if self.left == 0:
            raise self.error
        return self.vision.head_states(images)


def test_a_csv_file_a_string_and_a_table_give_the_same_store(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path
) -> None:
    source = tmp_path / "images" / "manifest.csv"
    frame.to_csv(source, index=False)
    stores = [run(clip, given, tmp_path / f"{i}.zarr") for i, given in enumerate((frame, source, str(source)))]
    assert len({store.manifest_digest for store in stores}) == 1
    assert len({json.dumps({k: hash(v) for k, v in contents(s.path).items() if "/c/" in k}) for s in stores}) == 1


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_ctrl_c_keeps_whole_blocks_and_says_how_to_go_on(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, stop_at: int
) -> None:
    whole = run(clip, frame, tmp_path / "whole.zarr")
    tower = clip.vision
    clip.vision = Stopping(tower, stop_at, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        run(clip, frame, tmp_path / "part.zarr")
    done = (stop_at - 1) // 2
    assert caught.value.__notes__ == [f"{done} of 3 blocks are whole and stay: the same call goes on after them."]
    with pytest.raises(StoreError, match=rf"{3 - done} of 3 blocks are missing"):
        HeadStore.open(tmp_path / "part.zarr")
    clip.vision = Stopping(tower, -1, KeyboardInterrupt())
    part = run(clip, frame, tmp_path / "part.zarr")
    assert clip.vision.calls == 5 - 2 * done
    assert contents(part.path) == contents(whole.path)


_KILLED = """
import os, signal, sys, json
import torch
torch.set_num_threads(1)
from pathlib import Path
from tiny_clip import tiny_clip
import headlens.extraction.extraction as extraction
from headlens.manifest import read_manifest
extraction._SAVE_EVERY = 0.0
clip, folder = tiny_clip(), Path(sys.argv[1])
frame = read_manifest(folder / "images" / "manifest.csv")
for keep, step in json.loads(sys.argv[2]):
    target = str(folder / f"{keep}-{step}")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0
        def die(event, arguments):
            global count
            steps = ("open", "os.rename", "os.link", "os.mkdir", "os.remove")
            if event in steps and target in str(arguments[0]):
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(die)
        take = {"states": extraction.extract, "moments": extraction.extract_moments}[keep]
        take(clip, frame, target, batch_size=3, block=4, workers=2)
        os.write(writing, str(count).encode())
        os._exit(0)
    os.close(writing)
    status = os.waitpid(child, 0)[1]
    steps = os.read(reading, 99).decode()
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps([keep, step, killed, steps]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kill_9_at_random_steps_of_the_file_system(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_SAVE_EVERY", 0.0)
    source = tmp_path / "images" / "manifest.csv"
    frame.to_csv(source, index=False)
    whole = {keep: run(clip, source, tmp_path / f"{keep}-whole", keep=keep) for keep in ("states", "moments")}
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "HEADLENS_PROGRESS": "0"}

    def killed(points: list[tuple[str, int]]) -> list[tuple[str, int, bool, str]]:
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _KILLED, str(tmp_path), json.dumps(points)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=True,
        )
        return [tuple(json.loads(line)) for line in told.stdout.splitlines()]

    steps = {keep: int(count) for keep, _, _, count in killed([("states", 10_000), ("moments", 10_000)])}
    rng = random.Random(4)
    points = [
        (keep, step)
        for keep, number in (("states", 20), ("moments", 6))
        for step in rng.sample(range(2, steps[keep] + 1), number)
    ]
    for keep, step, died, _ in killed(points):
        path = tmp_path / f"{keep}-{step}"
        assert died, f"{step} of {steps[keep]}"
        opener = HeadStore if keep == "states" else MomentStore
        done = "complete.json" if keep == "states" else "state.safetensors"
        if not (path / done).exists():
            with pytest.raises(StoreError):
                opener.open(path)
        run(clip, source, path, keep=keep)
        assert contents(path) == contents(whole[keep].path), f"{keep} killed at step {step}"
        assert not list(path.rglob("*.draft"))


def test_a_complete_store_is_opened_at_once(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    first = run(clip, frame, tmp_path / "acts.zarr")
    before = contents(first.path)
    clip.vision = Stopping(clip.vision, 1, AssertionError("the model was used"))
    again = run(clip, frame, tmp_path / "acts.zarr")
    torch.testing.assert_close(again.embedding, first.embedding, rtol=0, atol=0)
    assert contents(first.path) == before


@pytest.mark.parametrize("complete", [True, False])
def test_another_model_manifest_or_option_is_refused(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, complete: bool
) -> None:
    path = tmp_path / "acts.zarr"
    tower = clip.vision
    if not complete:
        clip.vision = Stopping(tower, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(clip, frame, path)
        clip.vision = tower
    else:
        run(clip, frame, path)
    before = contents(path)
    with pytest.raises(StoreError, match=r"seed-0.*seed-1"):
        run(tiny_clip(seed=1), frame, path)
    other = write_images(tmp_path / "others", COUNT + 2)
    with pytest.raises(StoreError, match=r"13 of the manifest's 13 images|with 11 images, not the 13"):
        run(clip, other, path)
    with pytest.raises(StoreError, match=r"float32.*float16"):
        run(clip, frame, path, dtype="float16")
    with pytest.raises(StoreError, match=r"block=4.*block=5"):
        run(clip, frame, path, block=5)
    assert contents(path) == before
    assert len(run(clip, frame, path, block=None)) == COUNT  # what was begun settles what was left open


def test_another_table_of_the_same_images_needs_no_extraction(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path
) -> None:
    first = run(clip, frame, tmp_path / "acts.zarr")
    clip.vision = Stopping(clip.vision, 1, AssertionError("the model was used"))
    edited = frame.assign(label="bird")[::-1]
    again = run(clip, edited, tmp_path / "acts.zarr")
    assert again.manifest["label"].unique().tolist() == ["bird"]
    torch.testing.assert_close(again.embedding, first.embedding.flip(0), rtol=0, atol=0)
    with pytest.warns(UserWarning, match="2 of the store's 11 images are not in the table"):
        assert len(run(clip, frame[2:], tmp_path / "acts.zarr")) == 9
    longer = pd.concat([frame, frame[:1].assign(path="more.png")])
    longer.attrs = frame.attrs
    with pytest.raises(StoreError, match=r"does not hold 1 of the manifest's 12 images: more\.png"):
        run(clip, longer, tmp_path / "acts.zarr")


def test_other_columns_do_not_stop_a_run_that_goes_on(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    tower = clip.vision
    clip.vision = Stopping(tower, 4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(clip, frame, tmp_path / "acts.zarr")
    clip.vision = tower
    store = run(clip, frame.assign(label="bird"), tmp_path / "acts.zarr")
    assert store.manifest["label"].unique().tolist() == ["bird"]
    assert HeadStore.open(tmp_path / "acts.zarr").manifest["label"].nunique() == 2


def test_a_folder_that_holds_something_else_is_left_alone(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        run(clip, frame, tmp_path / "mine")
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "manifest.parquet").write_bytes(b"a file of a name that a store uses too")
    with pytest.raises(StoreError, match=r"manifest\.parquet"):
        run(clip, frame, tmp_path / "table")
    assert [entry.name for entry in (tmp_path / "table").iterdir()] == ["manifest.parquet"]
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="something else"):
        run(clip, frame, tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="is a file"):
        run(clip, frame, tmp_path / "mine" / "thesis.tex")


def test_two_writers(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    with Storage(tmp_path / "acts.zarr").only_writer(), pytest.raises(StoreError, match="Another process"):
        run(clip, frame, tmp_path / "acts.zarr")
    assert len(run(clip, frame, tmp_path / "acts.zarr")) == COUNT


def test_a_full_disk(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []
    write = Storage.write

    def full(self: Storage, name: str, content: bytes, new: bool = False) -> None:
        writes.append(name)
        if name.startswith("embedding/c/2"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, name, content, new)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", full)
        with pytest.raises(StoreError, match=r"cannot take block 2 of 3: No space left.* 2 of 3 blocks are whole"):
            run(clip, frame, tmp_path / "acts.zarr")
    whole = run(clip, frame, tmp_path / "whole.zarr")
    assert contents(run(clip, frame, tmp_path / "acts.zarr").path) == contents(whole.path)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody may write to")
@pytest.mark.parametrize("keep", ["states", "moments"])
def test_a_folder_that_cannot_be_written_to(clip: TinyClip, frame: pd.DataFrame, keep: str) -> None:
    with pytest.raises(StoreError, match=r"acts\.zarr' cannot be written to: .*name a folder that you may write to"):
        run(clip, frame, Path("/sys/kernel/acts.zarr"), keep=keep)


def test_values_that_are_no_numbers_name_their_images(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    class Broken(Stopping):
        def head_states(self, images: torch.Tensor) -> object:
            states = super().head_states(images)
            if self.calls == 3:
                states.z[1, 2, 3, 1] = float("nan")
            return states

    clip.vision = Broken(clip.vision, -1, AssertionError())
    with pytest.raises(ModelError, match=r"1 of 3 images of a batch: .*/5\.png\. .*1 of 3 blocks are whole"):
        run(clip, frame, tmp_path / "acts.zarr")


def test_values_too_large_for_half_precision(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    with torch.no_grad():
        clip.vision.W_P *= 1e6
    with pytest.raises(ModelError, match=r"finite head states in float16.*dtype='float32'"):
        run(clip, frame, tmp_path / "acts.zarr", dtype="float16")


def test_missing_files_are_told_before_the_model_runs(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "images" / "9.jpg").unlink()
    clip.vision = Stopping(clip.vision, 1, AssertionError("the model was used"))
    with pytest.raises(ManifestError, match=r"1 of 11 image files are not there: .*9\.jpg"):
        run(clip, frame, tmp_path / "acts.zarr")


def test_an_unreadable_image_stops_and_then_is_skipped_by_wish(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    (images / "10.png").write_bytes((images / "10.png").read_bytes()[:60])
    with pytest.raises(ImageError, match=r"10\.png.*on_error='skip'.*2 of 3 blocks are whole"):
        run(clip, frame, tmp_path / "acts.zarr")
    (images / "2.png").unlink()  # in a block that is whole already
    (images / "9.jpg").unlink()
    store = run(clip, frame, tmp_path / "acts.zarr", on_error="skip")
    assert store.skipped["row"].tolist() == [9, 10]
    assert [Path(path).name for path in store.skipped["path"]] == ["9.jpg", "10.png"]
    assert "is not there" in store.skipped["reason"][0]
    assert list(store.manifest["path"]) == list(frame["path"].drop([9, 10]))
    write_images(images, 3)
    kept = pixels(clip, store.manifest)
    torch.testing.assert_close(
        store.embedding, decompose(clip.vision, kept, normalize=True).total(), atol=1e-5, rtol=1e-5
    )
    assert np.isnan(store._arrays["z"][10]).all()


def test_an_image_that_preprocessing_fails_on_is_skipped_by_wish(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path
) -> None:
    preprocess = clip.preprocess

    def narrow(image: Image.Image) -> torch.Tensor:
        if image.width > 40:
            raise MemoryError("for a picture this wide")
        return preprocess(image)

    Image.new("RGB", (41, 1)).save(tmp_path / "images" / "5.png")
    clip.preprocess = narrow
    with pytest.raises(ImageError, match=r"preprocessing fails on.*5\.png.*41 × 1.*for a picture this wide.*on_error="):
        run(clip, frame, tmp_path / "acts.zarr")
    store = run(clip, frame, tmp_path / "acts.zarr", on_error="skip")
    assert store.skipped["row"].tolist() == [5]
    assert len(store) == COUNT - 1


def test_a_preprocess_without_one_size_is_named(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    clip.preprocess = lambda image: torch.zeros(3, image.height, image.width)
    with pytest.raises(ModelError, match="images of several sizes"):
        run(clip, frame, tmp_path / "acts.zarr")


def test_a_manifest_of_nothing_but_unreadable_images(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"None of the 11 images could be read, the first because: .*is not there"):
        run(clip, frame.assign(path="absent.png"), tmp_path / "acts.zarr", on_error="skip")


def test_a_box_is_cut_out(clip: TinyClip, tmp_path: Path) -> None:
    frame = write_images(tmp_path, 2)
    Image.open(tmp_path / "1.png").crop((1, 2, 6, 8)).save(tmp_path / "0.png")
    cut = frame.assign(path=["1.png", "0.png"], box=["[1, 2, 5, 6]", None])
    embedding = run(clip, cut, tmp_path / "acts.zarr").embedding
    torch.testing.assert_close(embedding[0], embedding[1], atol=1e-6, rtol=1e-5)


def test_results_depend_on_batch_size_only_by_rounding(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    texts = torch.randn(5, 7)
    expected = run(clip, frame, tmp_path / "three.zarr").project(texts)
    for batch_size in (1, 64):
        other = run(clip, frame, tmp_path / f"{batch_size}.zarr", batch_size=batch_size, block=None)
        torch.testing.assert_close(other.project(texts), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size of at least 1"),
        ({"block": 0}, "block of at least 1"),
        ({"workers": -1}, "workers of at least 1"),
        ({"shard": (3, 3)}, r"k from 0 to n - 1"),
        ({"on_error": "ignore"}, "on_error as one of raise, skip"),
        ({"dtype": "int8"}, "dtype as one of"),
    ],
)
def test_unknown_options(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises(HeadlensError, match=said):
        run(clip, frame, tmp_path / "acts.zarr", **options)
    assert not (tmp_path / "acts.zarr").exists()


def test_decoding_keeps_order_and_a_bounded_distance(tmp_path: Path) -> None:
    frame = write_images(tmp_path, 37)
    taken: list[int] = []

    def files() -> object:
        for number, path in enumerate(frame["path"]):
            assert number - len(taken) <= 5
            yield tmp_path / path, None

    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()

    for _, decoded in decode(files(), preprocess, workers=3, ahead=5):
        expected = preprocess(read_image(tmp_path / frame["path"][len(taken)]))
        torch.testing.assert_close(decoded, expected, rtol=0, atol=0)
        taken.append(1)
    assert len(taken) == 37
