"""The arrays of a store, and its manifest, as they lie on disk.

Each array of `plan.DIMENSIONS` is cut in shards, one a block of images, and each shard in chunks of some images and one
layer, so that a head of all images and all heads of some images are both cheap to read. Chunks are compressed without
loss: the bytes of a number are set apart first, since signs and exponents repeat and mantissas do not.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from headlens.extraction.numbers import nothing
from headlens.extraction.plan import DIMENSIONS, FORMAT, Plan
from headlens.manifest import as_text, boxes, manifest_root


def make_arrays(path: Path, plan: Plan) -> None:
    """A Zarr group with the plan among its attributes, and its empty arrays."""
    group = zarr.create_group(path, zarr_format=3, attributes={"headlens": {"format": FORMAT} | asdict(plan)})
    for name in plan.names:
        inner = plan.shape_of(name, plan.rows)[1:]
        chunk = (plan.chunk, 1, *inner[1:]) if "layer" in DIMENSIONS[name] else (plan.chunk, *inner)
        group.create_array(
            name,
            shape=(plan.rows, *inner),
            dtype=plan.dtype_of(name),
            chunks=chunk,
            shards=(plan.block, *inner),
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=plan.dtype_of(name).itemsize),
            fill_value=nothing(plan.type_of(name)),
            dimension_names=DIMENSIONS[name],
            attributes={"dtype": plan.type_of(name)},
        )
    with warnings.catch_warnings():  # consolidated metadata is read everywhere, though not yet part of the standard
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def shard_files(plan: Plan, block: int) -> list[str]:
    """The files that a block's arrays lie in, below the store."""
    return [f"{name}/c/{block}" + "/0" * (len(DIMENSIONS[name]) - 1) for name in plan.names]


def storable(manifest: pd.DataFrame) -> pd.DataFrame:
    """A manifest as Parquet takes it: one type a column, where a table made by hand may hold lists beside text."""
    frame = manifest.reset_index(drop=True)
    frame.attrs = {"root": manifest_root(manifest)}  # absolute, so that the store can be opened from anywhere
    frame.columns = frame.columns.astype(str)
    if "box" in frame.columns:
        texts = [None if box is None else json.dumps(box) for box in boxes(frame)]
        frame = frame.assign(box=pd.Series(texts, index=frame.index, dtype=object))
    if "candidates" in frame.columns:
        lists = [json.dumps(list(cell)) if isinstance(cell, (list, tuple)) else cell for cell in frame["candidates"]]
        frame = frame.assign(candidates=pd.Series(lists, index=frame.index, dtype=object))
    return frame.assign(**{name: as_text(frame[name]) for name in frame.columns if frame[name].dtype.kind == "O"})
