"""Stores that earlier versions wrote stay readable: `stores/` holds some of the first released formats, byte for byte.

They are of 11 images, one of which could not be read, by `tiny_clip` at commit 986c844; `expected.npz` is what that
version read out of them.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clip import tiny_clip, write_images

from headlens.errors import StoreError
from headlens.extraction import HeadStore, MomentStore, batching, extract

STORES = Path(__file__).parent / "stores"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(STORES / "expected.npz") as arrays:
        return dict(arrays)


def unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(STORES / f"{name}.zip") as archive:
        archive.extractall(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["token_float32", "average_bfloat16"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_store_of_format_2(name: str, in_memory: bool, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    store = HeadStore.open(unpacked(name, tmp_path), in_memory=in_memory)
    texts = torch.from_numpy(expected["texts"])
    found = {part: getattr(store, part) for part in ("norm", "embedding", "mlps", "stem", "constant")}
    found |= {"z": store.z(1, 3), "heads": store.heads(2, 4)}
    found |= {f"project.{constants}": store.project(texts, constants) for constants in ("separate", "spread")}
    for part, values in found.items():
        np.testing.assert_allclose(values.numpy(), expected[f"{name}.{part}"], rtol=1e-6, atol=1e-7, err_msg=part)
    assert store.skipped["row"].tolist() == [5]
    assert list(store.manifest["path"]) == [f"{i}.{'jpg' if i % 3 == 0 else 'png'}" for i in range(11) if i != 5]
    assert store.manifest.attrs["root"] == "/data/headlens-images"


def test_moments_of_format_1(expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    store = MomentStore.open(unpacked("moments", tmp_path))
    np.testing.assert_array_equal(store.mean.numpy(), expected["moments.mean"])
    np.testing.assert_array_equal(store.scatter.numpy(), expected["moments.scatter"])
    np.testing.assert_array_equal(store.mean_embedding.numpy(), expected["moments.mean_embedding"])
    np.testing.assert_array_equal(store.subset(label="cat").mean.numpy(), expected["moments.cat.mean"])
    assert store.columns == ("label", "place")
    assert (store.count, store.skipped["row"].tolist()) == (10, [5])


def test_an_unfinished_store_goes_on(tmp_path: Path) -> None:
    """Its last block is written by this version: the same numbers, up to how this machine rounds."""
    path = unpacked("unfinished", tmp_path)
    with pytest.raises(StoreError, match="1 of 3 blocks"):
        HeadStore.open(path)
    frame = write_images(tmp_path / "images", 11)
    (tmp_path / "images" / "5.png").write_bytes(b"")
    frame.attrs["root"] = "/data/headlens-images"  # where the store was begun

    clip = tiny_clip()
    with pytest.MonkeyPatch.context() as patch:
        read = batching.read_image
        patch.setattr(batching, "read_image", lambda file, box: read(tmp_path / "images" / Path(file).name, box))
        store = extract(clip, frame, path, batch_size=3, block=4, workers=1, on_error="skip")
    assert store.skipped["row"].tolist() == [5]
    whole = extract(
        clip,
        frame.assign(path=[str(tmp_path / "images" / one) for one in frame["path"]]),
        tmp_path / "new",
        batch_size=3,
        block=4,
        workers=1,
        on_error="skip",
    )
    torch.testing.assert_close(store.embedding, whole.embedding, atol=1e-4, rtol=1e-4)
