"""Moments of a data set without its rows: what `extract_moments` leaves, in constant space.

It is a `Moments` (of everything, or of the groups that `subset` chose), and knows the weights that those are read
through, so that what works from moments takes it as it is: `explain.textspan_heads(store, texts, count,
basis=store.basis)`, `locate.concept_spans`, `MeanAblation(heads).fit(store.average())`. What needs rows (an image's own
projection, an AUROC, a nearest image, a correction applied) needs a `HeadStore`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from headlens.errors import ManifestError, StoreError
from headlens.extraction.moment_folder import Cell, Key, MomentFolder, merge_cells
from headlens.extraction.plan import HasFingerprint, Plan, Planned
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import skipped_images
from headlens.manifest import as_text
from headlens.states.basis import HeadBasis
from headlens.states.moments import Moments
from headlens.states.scores import MomentScores, moment_scores

_MOST_CELLS = 1000


@dataclass(frozen=True)
class Average:
    """The mean contributions of some images, as a view of one image that stands for them.

    For what takes the mean over a reference: `MeanAblation(heads).fit(store.subset(split="val").average())` equals the
    fit on those images' rows. It is no image: scores of it are scores of a mean.

    Attributes:
        embedding: the mean of the unit embeddings, in one row; shorter than 1.
        contributions: the mean contribution of every head.
        fingerprint: the model.
        count: how many images it stands for.
    """

    embedding: Float[Tensor, "image embed"]
    contributions: Float[Tensor, "layer head embed"]
    fingerprint: str
    count: int

    @property
    def n_layers(self) -> int:
        """Layers of the tower."""
        return self.contributions.shape[0]

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        return self.contributions.shape[1]

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The mean contribution of one head, in one row."""
        return self.contributions[layer, head][None]


@dataclass(frozen=True, eq=False, repr=False)
class MomentStore(Planned, Moments):
    """Count, mean and scatter of z for every head, over all images or over a group, as parts of the unit embedding.

    Made by `extract_moments`, opened by `MomentStore.open`; `subset` and `by` give those of groups.

    Attributes:
        mean_embedding: the mean of the unit embeddings, in float64.
        basis: the weights that z is read through.
        columns: the group columns.
        cells: the moments of each combination of their values that occurs, in the order of the columns.
        skipped: rows of the manifest that could not be read, with `row`, `path` and `reason`.
        path: the folder, or its address.
        plan: identity and sizes.
    """

    mean_embedding: Float[Tensor, "embed"]
    basis: HeadBasis
    columns: tuple[str, ...]
    cells: Mapping[Key, Cell] = field(repr=False)
    skipped: pd.DataFrame
    path: Path | str
    plan: Plan

    @classmethod
    def open(cls, path: str | os.PathLike[str], clip: HasFingerprint | None = None) -> MomentStore:
        """Open complete moments.

        Args:
            path: the folder, or its address.
            clip: a model; the moments then have to be this model's.

        Raises:
            StoreError: no moments, some that are not complete, or those of another model; no image that could be read.
        """
        folder = MomentFolder.open(Storage(path))
        totals, done = folder.totals()
        if done != folder.plan.n_blocks:
            raise StoreError(
                f"complete moments at {str(path)!r}",
                f"those of {done} of {folder.plan.n_blocks} blocks",
                "Run extract_moments with the same model and manifest again: it goes on after them.",
            )
        skipped = skipped_images(totals.skipped, len(totals.cells))
        if clip is not None:
            folder.plan.check_model(folder.path, clip)
        return _of(totals.cells, folder.basis(), folder.columns, skipped, folder.path, folder.plan)

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        size = f"{len(self)} images, {self.n_layers} layers × {self.n_heads} heads of {self.mean.shape[2]}"
        groups = f"{len(self.cells)} groups by {', '.join(self.columns)}" if self.columns else "no groups"
        return f"MomentStore({str(self.path)!r}: {size}, {groups}, {self.model_name} {self.fingerprint})"

    @property
    def manifest_digest(self) -> str:
        return self.plan.manifest

    @property
    def n_layers(self) -> int:
        return self.mean.shape[0]

    @property
    def n_heads(self) -> int:
        return self.mean.shape[1]

    def subset(self, **values: str | Sequence[str]) -> MomentStore:
        """The moments of the images with given values, `store.subset(split="val", place=["in", "out"])`: a merge.

        Raises:
            StoreError: for a column that moments were not kept by, or values that no image has.
        """
        wanted = {name: [value] if isinstance(value, str) else list(value) for name, value in values.items()}
        unknown = [name for name in wanted if name not in self.columns]
        if unknown or not wanted:
            raise StoreError(
                f"values of the group columns {', '.join(self.columns) or '(none)'}",
                f"{', '.join(unknown) or 'none'}",
                "Extract again with groups=[…] naming the columns: there are no rows to distinguish any more.",
            )
        chosen = {
            key: cell
            for key, cell in self.cells.items()
            if all(key[self.columns.index(name)] in options for name, options in wanted.items())
        }
        if not chosen:
            occurring = "; ".join(f"{name}: {', '.join(self.values(name))}" for name in wanted)
            raise StoreError("images with these values", f"none with {wanted}", f"What occurs: {occurring}.")
        return _of(chosen, self.basis, self.columns, self.skipped, self.path, self.plan)

    def by(self, column: str) -> dict[str, MomentStore]:
        """The moments of the images of each value of a column; images without a value are in none."""
        return {value: self.subset(**{column: value}) for value in self.values(column)}

    def values(self, column: str) -> list[str]:
        """The values of a column that occur. Raises `StoreError` for a column that moments were not kept by."""
        if column not in self.columns:
            self.subset(**{column: ""})
        place = self.columns.index(column)
        return sorted({value for key in self.cells if (value := key[place]) is not None})

    def scores(
        self, directions: Float[Tensor, "direction embed"], column: str, values: Sequence[str] | None = None
    ) -> MomentScores:
        """Share, difference and gap of every head along concept vectors: see `states.moment_scores`.

        Args:
            directions: `locate.concept_directions(prototypes)`, with one prototype a value.
            column: the attribute's column.
            values: its values, in the order of the prototypes; all of them in alphabetical order by default.

        Raises:
            StoreError: for a column or a value without moments, or as many directions as the values do not ask for.
        """
        groups = [self.subset(**{column: value}) for value in (self.values(column) if values is None else values)]
        return moment_scores(self, groups, self.basis, directions)

    def average(self) -> Average:
        """The mean contributions, in the form that a correction is fitted on."""
        contributions = self.contribution_means(self.basis).to(self.basis.beta)
        return Average(self.mean_embedding[None].to(self.basis.beta), contributions, self.fingerprint, self.count)


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise `ManifestError` unless moments can be kept by these columns of a manifest."""
    missing = [name for name in columns if name not in frame.columns]
    if missing or isinstance(columns, str) or len(set(columns)) < len(columns):
        raise ManifestError(
            f"group columns among {', '.join(map(str, frame.columns))}, each once, as a list",
            f"{columns!r}",
            "Name columns of the manifest: groups=['label', 'place'].",
        )
    if columns:
        combinations = pd.DataFrame({name: as_text(frame[name]) for name in columns}).drop_duplicates()
        if len(combinations) > _MOST_CELLS:
            raise ManifestError(
                f"at most {_MOST_CELLS} combinations of the group columns",
                f"{len(combinations)} of {', '.join(columns)}",
                "Each takes layers × heads × d_head² numbers: leave out columns that distinguish single images.",
            )


def _of(
    cells: Mapping[Key, Cell],
    basis: HeadBasis,
    columns: tuple[str, ...],
    skipped: pd.DataFrame,
    path: Path | str,
    plan: Plan,
) -> MomentStore:
    total = merge_cells(cells.values())
    moments = total.moments
    return MomentStore(
        moments.count, moments.mean, moments.scatter, total.embedding, basis, columns, cells, skipped, path, plan
    )
