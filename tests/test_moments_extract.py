"""`extract_moments`: what a store's moments would be, in constant space, whatever stops the run on the way."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_clip import EMBED, HEADS, LAYERS, TinyClip, tiny_clip, write_images

import headlens.extraction.extraction as extraction
from headlens.correct import MeanAblation
from headlens.errors import HeadlensError, ImageError, ManifestError, StoreError
from headlens.explain import textspan_heads
from headlens.extraction import HeadStore, MomentStore, extract, extract_moments
from headlens.locate import concept_directions, concept_scores, head_variance
from headlens.states import group_moments, head_moments, merge_all
from headlens.states.moments import Moments

COUNT, BLOCK = 23, 5
GROUPS = ("label", "place")


@pytest.fixture
def clip() -> TinyClip:
    return tiny_clip()


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    return write_images(tmp_path / "images", COUNT)


@pytest.fixture(autouse=True)
def every_block_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_SAVE_EVERY", 0.0)


def run(clip: TinyClip, frame: pd.DataFrame, path: Path, **options: object) -> MomentStore:
    given = {"batch_size": 3, "block": BLOCK, "workers": 2, "groups": GROUPS} | options
    return extract_moments(clip, frame, path, **given)


def assert_same(one: Moments, other: Moments, tolerance: float = 1e-9) -> None:
    assert one.count == other.count
    torch.testing.assert_close(one.mean, other.mean, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(one.scatter, other.scatter, atol=tolerance, rtol=tolerance)


@pytest.fixture
def rows(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> HeadStore:
    return extract(clip, frame, tmp_path / "acts.zarr", batch_size=3)


def test_they_equal_those_of_the_rows(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, rows: HeadStore) -> None:
    store = run(clip, frame, tmp_path / "moments")
    assert_same(store, head_moments(rows), 1e-6)  # two passes through the model round in float32
    z = torch.cat([block for _, block in rows.blocks()]).double()
    assert_same(store, Moments.of(z), 1e-6)
    torch.testing.assert_close(store.mean_embedding, rows.embedding.double().mean(0), atol=1e-6, rtol=1e-6)
    for column in GROUPS:
        expected = group_moments(rows, rows.manifest[column])
        assert list(store.by(column)) == list(expected)
        for value, part in store.by(column).items():
            assert_same(part, expected[value], 1e-6)
    assert_same(store, merge_all(store.by("label").values()))
    assert_same(
        store.subset(label="cat", place=["in", "out"]).subset(place="in"),
        head_moments(rows.subset((frame["label"] == "cat") & (frame["place"] == "in"))),
        1e-6,
    )
    assert (len(store), store.n_layers, store.n_heads) == (COUNT, LAYERS, HEADS)
    assert "23 images, 3 layers × 5 heads of 2, 4 groups by label, place, tiny seed-0" in repr(store)


@pytest.mark.parametrize("block", [1, 7, COUNT, None])
def test_pieces_and_blocks_merge_exactly(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int | None
) -> None:
    clip.vision.double()
    whole = run(clip, frame, tmp_path / "whole", block=COUNT, batch_size=1)
    monkeypatch.setattr("headlens.extraction.plan._BLOCK", 4)
    parts = run(clip, frame, tmp_path / "parts", block=block, batch_size=1)
    assert_same(parts, whole, 1e-9)
    for key, cell in whole.cells.items():
        assert_same(parts.cells[key].moments, cell.moments, 1e-9)


class Stopping:
    """A tower that stops at the n-th batch."""

    def __init__(self, vision: object, at: int, error: BaseException):
        self.vision, self.left, self.error = vision, at, error

    def __getattr__(self, name: str) -> object:
        return getattr(self.vision, name)

    def head_states(self, images: torch.Tensor) -> object:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.vision.head_states(images)


@pytest.mark.parametrize("stop_at", [1, 2, 9])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_stopped_run_goes_on_and_ends_alike(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, stop_at: int, every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(clip, frame, tmp_path / "whole")
    monkeypatch.setattr(extraction, "_SAVE_EVERY", every)
    tower = clip.vision
    clip.vision = Stopping(tower, stop_at, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        run(clip, frame, tmp_path / "part")
    done = (stop_at - 1) // 2  # two batches a block
    assert caught.value.__notes__ == [f"{done} of 5 blocks are whole and stay: the same call goes on after them."]
    with pytest.raises(StoreError, match=rf"{done} of 5 blocks"):
        MomentStore.open(tmp_path / "part")
    clip.vision = tower
    part = run(clip, frame, tmp_path / "part")
    state = [(path / "state.safetensors").read_bytes() for path in (whole.path, part.path)]
    assert state[0] == state[1]


def test_the_space_they_take_does_not_grow(clip: TinyClip, tmp_path: Path) -> None:
    sizes = []
    for count in (COUNT, 5 * COUNT):
        frame = write_images(tmp_path / f"images-{count}", count)
        path = run(clip, frame, tmp_path / f"{count}").path
        sizes.append(sum(file.stat().st_size for file in path.rglob("*")))
    assert abs(sizes[1] - sizes[0]) < 64  # a digit more here and there


def test_skipped_images_are_listed(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "images" / "7.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"7\.png.*on_error='skip'.*1 of 5 blocks are whole"):
        run(clip, frame, tmp_path / "moments")
    store = run(clip, frame, tmp_path / "moments", on_error="skip")
    assert store.skipped["row"].tolist() == [7]
    assert len(store) == COUNT - 1
    nothing = frame.assign(path="absent.png")
    with pytest.raises(StoreError, match=r"None of the 23 images"):
        run(clip, nothing, tmp_path / "nothing", on_error="skip")


def test_they_serve_what_needs_no_rows(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, rows: HeadStore) -> None:
    store = run(clip, frame, tmp_path / "moments")
    texts = torch.randn(13, EMBED, generator=torch.Generator().manual_seed(1))
    spans, expected = textspan_heads(store, texts, 3, basis=store.basis), textspan_heads(rows, texts, 3)
    assert {head: span.texts.tolist() for head, span in spans.items()} == {
        head: span.texts.tolist() for head, span in expected.items()
    }
    heads = [(0, 1), (2, 3)]
    fitted = MeanAblation(heads).fit(store.subset(place="in").average())
    reference = MeanAblation(heads).fit(rows.subset(rows.manifest["place"] == "in"))
    torch.testing.assert_close(fitted.means, reference.means, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fitted.apply(rows).embedding, reference.apply(rows).embedding, atol=1e-6, rtol=1e-5)
    assert store.average().count == COUNT
    assert head_moments(store) is store


@pytest.mark.parametrize(("column", "values"), [("label", ["cat", "dog"]), ("split", ["test", "train", "val"])])
def test_concept_scores(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, rows: HeadStore, column: str, values: list[str]
) -> None:
    store = run(clip, frame, tmp_path / "moments", groups=["label", "split"])
    prototypes = torch.randn(len(values), EMBED, generator=torch.Generator().manual_seed(4))
    directions = concept_directions(prototypes)
    found = store.scores(directions, column, values)
    groups = torch.tensor([values.index(value) for value in frame[column]])
    variance = head_variance(head_moments(rows), rows.basis)
    expected = concept_scores(rows.project(directions), groups, variance, directions)
    best = found.difference.abs().argmax(-1, keepdim=True)
    for name in ("share", "difference", "gap"):
        ours = getattr(found, name).gather(-1, best)[..., 0]
        torch.testing.assert_close(ours, getattr(expected, name), atol=1e-5, rtol=1e-5)
    assert found.sizes == expected.sizes
    with pytest.raises(StoreError, match="directions of shape"):
        store.scores(directions[:0], column, values)
    with pytest.raises(StoreError, match="What occurs"):
        store.scores(concept_directions(prototypes[:2]), column, [values[0], "absent"])


def test_groups_that_do_not_occur(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    store = run(clip, frame, tmp_path / "moments")
    for values in ({}, {"mood": "merry"}, {"label": "cow"}):
        with pytest.raises(StoreError):
            store.subset(**values)
    with pytest.raises(StoreError, match="groups="):
        store.values("split")


def test_what_was_begun_is_not_mixed_with_anything_else(
    clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, rows: HeadStore
) -> None:
    path = run(clip, frame, tmp_path / "moments").path
    for options, said in (
        ({"groups": ["label"]}, "other groups: label, place instead of label"),
        ({"block": 6}, "block=5"),
        ({"frame": frame.assign(label="x")}, "other columns or values.*another folder"),
        ({"frame": frame[1:]}, "other images"),
        ({"clip": tiny_clip(seed=1)}, r"seed-0.*seed-1"),
    ):
        given = {"clip": clip, "frame": frame, "path": path} | options
        with pytest.raises(StoreError, match=said):
            run(**given)
    with pytest.raises(StoreError, match=r"moments\.json"):
        extract(clip, frame, path)
    with pytest.raises(StoreError, match=r"manifest\.parquet"):
        run(clip, frame, rows.path)
    with pytest.raises(StoreError, match=r"holds moments alone.*MomentStore"):
        HeadStore.open(path)
    with pytest.raises(StoreError, match=r"HeadStore\.open"):
        MomentStore.open(rows.path)
    with pytest.raises(StoreError, match="holds no moments"):
        MomentStore.open(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"seed-0.*seed-1"):
        MomentStore.open(path, tiny_clip(seed=1))
    assert len(run(clip, frame, path, block=None)) == COUNT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": ["lable"]}, "columns among"),
        ({"groups": ["label", "label"]}, "each once"),
        ({"groups": "label"}, "as a list"),
        ({"shard": (2, 2)}, "shard="),
        ({"shard": (-1, 2)}, "shard="),
    ],
)
def test_unknown_options(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises(HeadlensError, match=said):
        run(clip, frame, tmp_path / "moments", **options)
    assert not (tmp_path / "moments").exists()


def test_too_many_groups_are_refused(clip: TinyClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headlens.extraction.moment_store._MOST_CELLS", 3)
    frame = write_images(tmp_path / "images", COUNT)
    with pytest.raises(ManifestError, match="4 of label, place"):
        run(clip, frame, tmp_path / "moments")


def test_a_missing_value_is_a_group_of_its_own(clip: TinyClip, frame: pd.DataFrame, tmp_path: Path) -> None:
    gaps = frame.assign(place=[None if i < 3 else value for i, value in enumerate(frame["place"])])
    store = run(clip, gaps, tmp_path / "moments", groups=["place"])
    assert store.values("place") == ["in", "out"]
    assert sum(part.count for part in store.by("place").values()) == COUNT - 3
    assert store.cells[None,].moments.count == 3
