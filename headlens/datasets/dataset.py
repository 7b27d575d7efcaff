"""What a reader returns: the manifest, the class names, and what was done to them on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from headlens.errors import OutputError
from headlens.manifest import resolve_paths


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for `extract` and `Audit`.

    Attributes:
        manifest: one row an image (or, where there are boxes, one a person); see `headlens.manifest`.
        classes: the class names that `label` refers to, in their order.
        notes: what the reader left out, clipped or drew, a sentence each; empty where it took all as it was.
    """

    manifest: pd.DataFrame
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.manifest)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write manifest.csv, with absolute paths, and classes.txt: what `read("csv", folder)` and the shell read.

        Returns:
            The path of manifest.csv.

        Raises:
            OutputError: where one of the two files is there already.
        """
        target = Path(folder)
        manifest, classes = target / "manifest.csv", target / "classes.txt"
        for path in (manifest, classes):
            if path.exists():
                raise OutputError(
                    "a folder without a manifest.csv and a classes.txt",
                    f"{str(path)!r}, which is there",
                    "Nothing was written: name another folder, or remove the file.",
                )
        target.mkdir(parents=True, exist_ok=True)
        paths = [str(path) for path in resolve_paths(self.manifest)]
        self.manifest.assign(path=paths).to_csv(manifest, index=False)
        classes.write_text("\n".join(self.classes) + "\n", encoding="utf-8")
        return manifest
