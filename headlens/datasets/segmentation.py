"""Images with masks: ImageNet-Segmentation (Guillaumin et al. 2014), or a folder of images and masks.

ImageNet-Segmentation is one file, `gtsegs_ijcv.mat`, in Matlab's v7.3 format, which is HDF5: `value/img`, `value/gt`
and `value/id` hold references to an image, to a cell with its mask, and to its name, each in Matlab's order of axes.
`unpack_imagenet_segmentation` writes them as a folder once; `read_segmentation` reads such a folder:

    root/images/NAME.png (or .jpg, .jpeg, .webp, .bmp), root/masks/NAME.png
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from headlens.datasets.layout import PICTURES, Layout, rooted
from headlens.errors import ManifestError

_LAYOUT = Layout("a folder of masks", "images/NAME.png, masks/NAME.png")


def read_segmentation(root: str | os.PathLike[str]) -> pd.DataFrame:
    """The manifest of a folder of images and masks: `path`, `mask`, `id`, and `label` where names begin with a synset.

    A name as in ImageNet, "n02084071_3", gives the label "n02084071"; other names give no label at all.

    Raises:
        ManifestError: for a folder that is not laid out so, or images without a mask (the first is named).
    """
    folder = _LAYOUT.folder(Path(root))
    images = sorted(path for path in (folder / "images").glob("*") if path.suffix.lower() in PICTURES)
    if not images:
        raise _LAYOUT.error(f"There is no image in {str(folder / 'images')!r}.", "Give the folder that holds images/.")
    for path in images:
        if not (folder / "masks" / f"{path.stem}.png").is_file():
            raise _LAYOUT.error(f"{path.name!r} has no mask {path.stem + '.png'!r}.", "Remove the image, or add it.")
    rows = [
        {"path": f"images/{path.name}", "mask": f"masks/{path.stem}.png", "id": path.stem, "label": _synset(path.stem)}
        for path in images
    ]
    frame = pd.DataFrame(rows)
    return rooted(frame if frame["label"].notna().all() else frame.drop(columns="label"), folder)


def unpack_imagenet_segmentation(file: str | os.PathLike[str], folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Write the images and masks of `gtsegs_ijcv.mat` as a folder, and read it.

    Raises:
        ManifestError: without the package h5py, for a file that is not there, no HDF5, or laid out otherwise.
    """
    try:
        h5py = import_module("h5py")
    except ImportError:
        raise ManifestError(
            "gtsegs_ijcv.mat is HDF5, and the package h5py is not installed.", "Run pip install h5py."
        ) from None
    root, path = Path(folder), Path(file)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(path, "r") as opened:
            _unpack(opened, root)
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{str(path)!r} is not laid out as gtsegs_ijcv.mat is ({error}).",
            "Give the file as its authors publish it.",
        ) from error
    return read_segmentation(root)


def _unpack(opened: Any, root: Path) -> None:
    value = opened["value"]
    for place in range(len(value["img"])):
        picture, cell, name = (opened[value[key][place, 0]] for key in ("img", "gt", "id"))
        mask = opened[cell[0, 0]]
        # Matlab's arrays lie column by column: their axes come in the reverse order.
        stem = "".join(chr(int(code)) for code in np.asarray(name).ravel())
        if not stem.replace("_", "").isalnum():
            raise ValueError(f"name {stem!r}")
        Image.fromarray(np.asarray(picture).T.astype(np.uint8)).save(root / "images" / f"{stem}.png")
        Image.fromarray(np.asarray(mask).T.astype(bool)).save(root / "masks" / f"{stem}.png")


def _synset(stem: str) -> str | None:
    first = stem.partition("_")[0]
    return first if len(first) == 9 and first[0] == "n" and first[1:].isdecimal() else None
