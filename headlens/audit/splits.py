"""Which images a correction is fitted on, and which it is judged on.

The two must not overlap: a mean taken from the images that are scored makes each image's result depend on the others.
Where the manifest names no splits, a seeded half of every group is drawn for each part, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from headlens.errors import ManifestError


@dataclass(frozen=True)
class Splits:
    """Row numbers of the two parts, and how they came about.

    Attributes:
        reference: rows that heads are located on and corrections are fitted on.
        test: rows that are scored.
        note: one sentence on where the parts come from.
    """

    reference: np.ndarray
    test: np.ndarray
    note: str

    def labelled(self, values: Int[np.ndarray, "image"]) -> Splits:
        """The same without the images whose value of the attribute is −1, which the note then counts.

        Raises:
            ManifestError: where a part is left without two values of the attribute.
        """
        parts = {"reference": self.reference, "test": self.test}
        kept = {name: rows[values[rows] >= 0] for name, rows in parts.items()}
        for name, rows in kept.items():
            if len(np.unique(values[rows])) < 2:
                raise ManifestError(
                    f"two values of the attribute or more in the {name} part",
                    f"{len(rows)} labelled images with {len(np.unique(values[rows]))} value(s)",
                    "Take other splits or add images; an attribute that never varies cannot be told from the rest.",
                )
        lost = sum(len(rows) for rows in parts.values()) - sum(len(rows) for rows in kept.values())
        without = f" {lost} images without a value of the attribute are left out." if lost else ""
        return Splits(kept["reference"], kept["test"], self.note + without)


def choose_splits(
    manifest: pd.DataFrame, groups: Sequence[str], reference: str = "val", test: str = "test", seed: int = 0
) -> Splits:
    """Take the two named splits from the manifest's `split` column, or draw halves where there is none.

    Args:
        manifest: the table of images.
        groups: the group of every row; drawn halves keep its proportions.
        reference: the split to fit on.
        test: the split to score.
        seed: of the draw.

    Raises:
        ManifestError: where the column is there but a named split is not, or both names are the same.
    """
    if "split" not in manifest.columns:
        return _halves(np.asarray(groups), seed)
    if reference == test:
        raise ManifestError(
            "two different splits, one to fit on and one to score",
            f"{reference!r} for both",
            "Name two splits, or remove the manifest's split column to have halves drawn.",
        )
    names = manifest["split"].astype(str).to_numpy()
    for wanted in (reference, test):
        if not (names == wanted).any():
            present = ", ".join(f"{name} ({count})" for name, count in manifest["split"].value_counts().items())
            raise ManifestError(
                f"a split named {wanted!r} in the manifest's split column",
                f"only {present}",
                "Name the two splits to use (--split REFERENCE,TEST in the shell), "
                "or remove the column to have halves drawn.",
            )
    rows = np.arange(len(manifest))
    note = f"Heads are located and corrections fitted on the split {reference!r}; {test!r} is scored."
    return Splits(rows[names == reference], rows[names == test], note)


def _halves(groups: np.ndarray, seed: int) -> Splits:
    generator = np.random.default_rng(seed)
    reference: list[int] = []
    for group in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups == group))
        reference.extend(rows[: len(rows) // 2].tolist())
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[reference] = True
    note = (
        f"The manifest names no splits: half of every group (seed {seed}) serves to locate and to fit, "
        "the rest is scored."
    )
    return Splits(np.flatnonzero(chosen), np.flatnonzero(~chosen), note)
