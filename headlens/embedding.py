"""Plain and corrected embeddings of a table of images, written to a file; an interrupted run is resumed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from headlens.correct import Correction
from headlens.errors import OutputError
from headlens.extraction.decode import read_input
from headlens.manifest import as_manifest, image_files, manifest_digest
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.serialization import digest, read_arrays, write_arrays, write_json

_FORMATS = (".parquet", ".npy")


def embed_images(
    clip: HookedCLIP,
    correction: Correction,
    manifest: pd.DataFrame | str | os.PathLike[str],
    out: str | os.PathLike[str],
    batch_size: int = 64,
) -> Path:
    """Write the embeddings of images, not normalised, without and with a correction; see `CorrectedCLIP`.

    `.parquet` has the manifest's columns, and `plain` and `corrected`, a list of numbers a row. `.npy` has the
    corrected ones, [image embed] in the manifest's order; the plain ones are beside it, as `NAME.plain.npy`. Batches
    wait in a folder `NAME.parts` until all are there; a later call with the same arguments goes on after them.

    Args:
        clip: the model.
        correction: fitted on it.
        manifest: the table, or its CSV file.
        out: the file to write.
        batch_size: images that go through the model at once.

    Raises:
        OutputError: for another ending, no images, and where another run's batches wait in the folder.
        CorrectionError: as `HookedCLIP.corrected`.
        ImageError: for an image that cannot be read.
    """
    out = Path(out)
    if out.suffix not in _FORMATS:
        raise OutputError(f"{out} ends neither in .parquet nor in .npy.", "Name one of the two.")
    if batch_size < 1:
        raise OutputError(f"batch_size={batch_size} is not a positive number.", "Leave it out, or write batch_size=64.")
    table = as_manifest(manifest)
    if table.empty:
        raise OutputError("The table has no images.", "Check the file, or the rows that were chosen from it.")
    model = clip.corrected(correction)
    parts = out.with_name(out.name + ".parts")
    run = {
        "model": clip.fingerprint,
        "correction": digest(correction),
        "manifest": manifest_digest(table),
        "batch_size": batch_size,
    }
    parts.mkdir(parents=True, exist_ok=True)
    if (parts / "run.json").is_file() and json.loads((parts / "run.json").read_text(encoding="utf-8")) != run:
        raise OutputError(f"{parts} holds batches of another run.", "Remove that folder, or name another output.")
    write_json(parts / "run.json", run)
    files = list(image_files(table))
    names = []
    with progress("Embedding images", len(files)) as advance:
        for start in range(0, len(files), batch_size):
            chosen = files[start : start + batch_size]
            names.append(parts / f"{start:09d}.safetensors")
            if not names[-1].is_file():
                pixels = torch.stack([read_input(path, box, clip.preprocess) for path, box in chosen])
                with torch.no_grad():
                    plain, corrected = model.encode_both(pixels.to(clip.device, clip.dtype))
                write_arrays(names[-1], {"plain": plain.float().cpu(), "corrected": corrected.float().cpu()})
            advance(len(chosen))
    batches = [read_arrays(name) for name in names]
    both = {kind: np.concatenate([np.asarray(batch[kind]) for batch in batches]) for kind in ("plain", "corrected")}
    if out.suffix == ".npy":
        np.save(out, both["corrected"])
        np.save(out.with_name(f"{out.stem}.plain.npy"), both["plain"])
    else:
        table.assign(**{kind: list(values) for kind, values in both.items()}).to_parquet(out, index=False)
    shutil.rmtree(parts)
    return out
