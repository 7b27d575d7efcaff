"""The head states of a whole data set, read from disk: what every later question is answered from.

Everything that a store hands out is a part of the *unit* embedding f/‖f‖: heads, MLPs, stem and constant of
one image add up to its unit embedding. On disk lie z and the other head states in the units of f.

A text direction t is folded through the weights once, B_lh t, and then meets only the d numbers that a head has for an
image: (z_lh/‖f‖) · (B_lh t), which is the same number as the head's contribution · t at a d/D of the work.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import StoreError, StoreWarning
from headlens.extraction.plan import UNKNOWN_MODEL, HasFingerprint, Plan, Planned, block_sizes, from_disk, to_disk
from headlens.extraction.storage import Storage
from headlens.extraction.store_folder import StoreFolder, damaged, in_full, reading, skipped_images
from headlens.manifest import (
    as_manifest,
    check_manifest,
    image_files,
    images_digest,
    manifest_digest,
    manifest_root,
    split_mask,
)
from headlens.states.basis import HeadBasis
from headlens.states.projection import Projection

_NUMBERS = 1 << 22  # of z at a time: the allocator reuses blocks of less than 32 MB, and clearing new ones costs more
_SHOWN = 3
_CONVENTIONS = ("separate", "spread")


class HeadStore(Planned):
    """Head states of the images of a manifest.

    Made by `extract`, opened by `HeadStore.open`, or taken from another tool's arrays by `HeadStore.from_arrays`;
    `subset` and `with_manifest` give views, and `save` writes any of them.

    Attributes:
        path: the folder, or its address; None where the store lies in memory alone.
        manifest: one row for every image of the store, in its order, numbered from 0.
        manifest_digest: identifies the manifest that the store was made from.
        skipped: the rows of that manifest that could not be read, with `row`, `path` and `reason`.
        basis: the weights that z is read through.
        plan: identity and sizes.
        rows: the store's own number of each image.
        constants: where biases and the final LayerNorm's mean go in the heads' contributions: "separate" or "spread";
            see `with_constants`.
    """

    path: Any  # a Path, or text where it is an address

    def __init__(
        self,
        plan: Plan,
        manifest: pd.DataFrame,
        basis: HeadBasis,
        arrays: Any,
        *,
        rows: np.ndarray,
        skipped: pd.DataFrame,
        memory: dict[str, Tensor] | None,
        path: Path | str | None,
    ):
        self.path, self.plan, self.manifest, self.basis, self.skipped = path, plan, manifest, basis, skipped
        self.manifest_digest = plan.manifest
        self._arrays, self.rows, self._memory = arrays, rows, memory
        self.constants = plan.convention or "separate"

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], clip: HasFingerprint | None = None, in_memory: bool = True
    ) -> HeadStore:
        """Open a complete store.

        Args:
            path: the folder, or an address that fsspec reaches.
            clip: a model; the store then has to be this model's.
            in_memory: read each array whole when it is first used, and answer everything after that from memory;
                otherwise read from disk every time, for stores larger than memory.

        Raises:
            StoreError: no store, one that is not complete, or one of another model.
        """
        folder = StoreFolder.open(Storage(path))
        if not folder.complete:
            raise StoreError(
                f"The store at {str(path)!r} is not complete: {len(folder.missing())} of {folder.plan.n_blocks} blocks "
                "are missing.",
                "Run extract with the same model and manifest again: it goes on after the blocks that are whole.",
            )
        folder.check_intact()
        skips = folder.skipped()
        whole = folder.manifest()
        rows = np.delete(np.arange(folder.plan.rows), [skip.row for skip in skips])
        store = cls(
            folder.plan,
            whole.iloc[rows].reset_index(drop=True),
            folder.basis(),
            folder.arrays,
            rows=rows,
            skipped=skipped_images(skips, len(rows)),
            memory={} if in_memory else None,
            path=folder.path,
        )
        if clip is not None:
            store.check_model(clip)
        return store

    @classmethod
    def from_arrays(
        cls,
        heads: Float[Tensor, "image layer head embed"] | Float[np.ndarray, "image layer head embed"],
        rest: Float[Tensor, "image embed"] | Float[np.ndarray, "image embed"],
        manifest: pd.DataFrame | str | os.PathLike[str],
        *,
        convention: str,
        normalized: bool,
        fingerprint: str | None = None,
    ) -> HeadStore:
        """A store, in memory, of activations that another tool exported; `save` writes it.

        Args:
            heads: the direct contribution of every head to the image embedding.
            rest: whatever else adds up to it: MLPs, stem and constant terms, summed.
            manifest: a row for each image, in their order.
            convention: where biases and the final LayerNorm's mean went: "spread" over heads and other components, as
                the code published with TextSpan and LTC exports them, or kept "separate" (then they are in `rest`).
            normalized: whether both are parts of the unit embedding already.
            fingerprint: of the model (`clip.fingerprint`), where it is known for certain. Without it a later
                `check_model` warns that the model is taken on trust.

        Raises:
            StoreError: shapes or sizes that do not belong together, values that are not numbers, parts that do not add
                up to unit embeddings though they are said to, or an unknown convention.
            ManifestError: a manifest without `path`.
        """
        if convention not in _CONVENTIONS:
            raise StoreError(
                f"convention as one of {', '.join(_CONVENTIONS)}", repr(convention), "Choose one of the two."
            )
        frame = as_manifest(manifest)
        check_manifest(frame, files=False)
        z, others = (in_full(torch.as_tensor(values).cpu()) for values in (heads, rest))
        if z.ndim != 4 or others.shape != (len(z), z.shape[3]) or len(frame) != len(z):
            raise StoreError(
                "heads [image layer head embed], rest [image embed] and a manifest of the same images",
                f"shapes {list(z.shape)} and {list(others.shape)} and {len(frame)} rows",
                "Sum the other components over their own axis, and take the rows in the order of the export.",
            )
        embedding = z.sum((1, 2)) + others
        lengths = embedding.norm(dim=-1)
        if not (torch.isfinite(lengths) & (lengths > 0)).all():
            raise StoreError(
                "Some images have values that are NaN, infinite, or all zero.", "Leave these images out of the export."
            )
        if normalized and (worst := float((lengths - 1).abs().max())) > 0.02:
            raise StoreError(
                f"The parts do not add up to unit embeddings: a length is off by {worst:.3g}.",
                "Pass normalized=False, or check that `rest` holds every component that is not a head.",
            )
        if fingerprint is None:
            fingerprint = UNKNOWN_MODEL + hashlib.sha256(cast(Any, z.contiguous().numpy())).hexdigest()[:16]
        count, n_layers, n_heads, width = z.shape
        block, chunk = block_sizes(count, None)
        plan = Plan(
            model="exported arrays",
            fingerprint=fingerprint,
            manifest=manifest_digest(frame),
            images=images_digest(frame),
            rows=count,
            block=block,
            chunk=chunk,
            dtype=str(z.dtype).removeprefix("torch."),
            sizes={"layer": n_layers, "head": n_heads, "d_head": width, "embed": width},
            stem=False,
            convention=convention,
        )
        return cls(
            plan,
            frame.reset_index(drop=True),
            HeadBasis.identity(n_layers, n_heads, width, z.dtype),
            {},
            rows=np.arange(count),
            skipped=pd.DataFrame(columns=["row", "path", "reason"]),
            memory={"z": z, "rest": others, "embedding": embedding},
            path=None,
        )

    def save(self, path: str | os.PathLike[str]) -> HeadStore:
        """Write the images of this store, or view, with their manifest, into a folder of its own, and open that.

        Raises:
            StoreError: a folder that holds something, or a disk that is full.
        """
        storage = Storage(path)
        block, chunk = block_sizes(len(self), None)
        plan = replace(
            self.plan,
            rows=len(self),
            block=block,
            chunk=chunk,
            manifest=manifest_digest(self.manifest),
            images=images_digest(self.manifest),
        )
        with storage.only_writer():
            folder = StoreFolder.create(storage, plan, self.manifest, self.basis)
            for number in range(plan.n_blocks):
                rows = self.rows[plan.rows_of(number)]
                arrays = {name: to_disk(self._read(name, rows), plan.type_of(name))[0] for name in plan.names}
                folder.write(number, arrays, [])
            folder.finish()
        return HeadStore.open(path)

    def check_model(self, clip: HasFingerprint) -> None:
        """Raise `StoreError` unless the store was made with this model and preprocessing."""
        self.plan.check_model(self.path or "This store in memory", clip)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        width = self.plan.sizes["embed" if self.plan.convention else "d_head"]
        size = f"{len(self)} images, {self.n_layers} layers × {self.n_heads} heads of {width}"
        where = "in memory" if self.path is None else repr(str(self.path))
        return f"HeadStore({where}: {size}, {self.plan.dtype}, {self.model_name} {self.fingerprint})"

    @property
    def n_layers(self) -> int:
        return self.plan.sizes["layer"]

    @property
    def n_heads(self) -> int:
        return self.plan.sizes["head"]

    @cached_property
    def norm(self) -> Float[Tensor, "image"]:
        """‖f‖ of every image, the only trace here of the embedding's length."""
        return self._read("embedding").norm(dim=-1)

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The unit embeddings f/‖f‖."""
        return self._read("embedding") / self.norm[:, None]

    def with_constants(self, constants: str) -> HeadStore:
        """A view whose heads' contributions follow another convention; nothing is copied or read.

        Contributions, their scores along directions and `rest` follow it; z and the basis stay as they are.

        Args:
            constants: "separate", or "spread" for the published convention (see `decompose`), in which biases and the
                final LayerNorm's mean and shift are shared among the heads and the other components.

        Raises:
            StoreError: for an unknown convention, or one that another tool's arrays were not exported in.
        """
        if constants not in _CONVENTIONS:
            raise StoreError(
                f"constants as one of {', '.join(_CONVENTIONS)}", repr(constants), "Choose one of the two."
            )
        if self.plan.convention and constants != self.plan.convention:
            raise StoreError(
                f"These arrays were exported with constants={self.plan.convention!r}: no other convention follows from "
                "them.",
                f"Leave out constants={constants!r}, or extract with headlens.",
            )
        view = self._view(self.rows, self.manifest, self.manifest_digest)
        view.constants = constants
        return view

    @property
    def mlps(self) -> Float[Tensor, "image layer embed"]:
        """What every MLP contributes."""
        return self._component("mlps") / self.norm[:, None, None]

    @property
    def stem(self) -> Float[Tensor, "image embed"]:
        """What the token embeddings contribute."""
        if not self.plan.stem:
            return self._component("scale")[:, :1] * cast(Tensor, self.basis.stem).to(self.norm) / self.norm[:, None]
        return self._component("stem") / self.norm[:, None]

    @property
    def constant(self) -> Float[Tensor, "image embed"]:
        """What the attention layers' output biases and the final LayerNorm's shift contribute."""
        bias, beta = self.basis.bias.to(self.norm), self.basis.beta.to(self.norm)
        return (self._component("scale") @ bias + beta) / self.norm[:, None]

    @property
    def pool(self) -> Float[Tensor, "image embed"]:
        """What the MLP inside an attention pool contributes; zeros for a tower without one."""
        if self.plan.convention or not self.plan.pool:
            return torch.zeros_like(self.embedding)
        return self._read("pool") / self.norm[:, None]

    @property
    def rest(self) -> Float[Tensor, "image embed"]:
        """What everything but the heads contributes."""
        if self.plan.convention:
            return self._read("rest") / self.norm[:, None]
        if self._spread:
            others = self.embedding.clone()
            for layer in range(self.n_layers):
                for head in range(self.n_heads):
                    others -= self.heads(layer, head)
            return others
        return self.mlps.sum(1) + self.stem + self.constant + self.pool

    def z(self, layer: int, head: int) -> Float[Tensor, "image d_head"]:
        """What one head mixed from its values, z/‖f‖: its contribution is `z @ basis.of(layer, head)`."""
        self._check_head(layer, head)
        if self._memory is None:
            values = self._from_disk("z", (self.rows, layer, head))
        else:
            values = self._whole("z")[:, layer, head].index_select(0, torch.from_numpy(self.rows))
        return in_full(values) / self.norm[:, None]

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """What one head contributes to every image's unit embedding."""
        if self._spread:
            return self.project_head(layer, head, torch.eye(self.basis.shape[-1]))
        z = self.z(layer, head)
        return z if self.basis.is_identity else z @ self.basis.of(layer, head).to(z)

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """What one head contributes along every direction, without its whole contribution."""
        if self._spread:
            self._check_head(layer, head)
            result = self.norm.new_empty(len(self), 1, 1, len(directions))
            z = (self.z(layer, head) * self.norm[:, None])[:, None, None]
            scale, shift = self._read("scale"), self._read("shift")
            Projection(self.basis, directions, self.constants, (layer, head)).into(result, z, scale, shift, self.norm)
            return result[:, 0, 0]
        z = self.z(layer, head)
        return z @ (self.basis.of(layer, head).to(z) @ directions.T.to(z))

    def head_norms(self, layer: int, head: int) -> Float[Tensor, "image"]:
        """The norm of what one head contributes, in float64: ‖z B‖ = √(z B Bᵀ zᵀ)."""
        if self._spread:
            return self.heads(layer, head).double().norm(dim=-1)
        z, basis = self.z(layer, head).double(), self.basis.of(layer, head).double()
        return ((z @ (basis @ basis.T)) * z).sum(dim=1).clamp(min=0).sqrt()

    def project(
        self, directions: Float[Tensor, "direction embed"], constants: str | None = None
    ) -> Float[Tensor, "image layer head direction"]:
        """Every head's contribution along every direction: (z_lh/‖f‖) · (B_lh t).

        Nothing of the size image × layer × head × embed is ever made; a block of images is held at a time.

        Args:
            directions: taken as they are, neither centred nor normalised.
            constants: as in `with_constants`; by default the view's own.

        Raises:
            StoreError: for directions of another width, an unknown `constants`, or one that another tool's arrays were
                not exported in.
        """
        if constants not in (None, self.constants):
            return self.with_constants(constants).project(directions)
        within = "separate" if self.plan.convention else self.constants
        projection = Projection(self.basis, directions, within)
        result = self.norm.new_empty(len(self), self.n_layers, self.n_heads, len(directions))
        for where, z in self.blocks(unit=False):
            rows, norm = self.rows[where], self.norm[where]
            scale, shift = (
                (norm[:, None],) * 2 if self.plan.convention else (self._read(n, rows) for n in ("scale", "shift"))
            )
            projection.into(result[where], z, scale, shift, norm)
        return result

    def project_between(
        self,
        directions: Float[Tensor, "direction embed"],
        first: Int[Tensor, "image"],
        second: Int[Tensor, "image"],
    ) -> Float[Tensor, "image layer head"]:
        """Every head's contribution along t_first − t_second, each image with directions of its own.

        Equals `project(directions)` of the first minus that of the second, and takes the memory and the time of one
        direction, however many there are.

        Args:
            directions: as in `project`.
            first, second: for every image, the row of each of its two directions.

        Raises:
            StoreError: for directions of another width.
        """
        projection = Projection(self.basis, directions)
        result = self.norm.new_empty(len(self), self.n_layers, self.n_heads)
        for where, z in self.blocks(unit=False):
            result[where] = projection.between(z, self.norm[where], first[where], second[where])
        return result

    def head_mean(self, layer: int, head: int) -> Float[Tensor, "embed"]:
        """The mean of what one head contributes, (Σ_i z_i / n) B, summed in float64."""
        mean = self.z(layer, head).mean(0, dtype=torch.float64)
        return (mean if self.basis.is_identity else mean @ self.basis.of(layer, head).double()).to(self.norm)

    def blocks(self, unit: bool = True) -> Iterator[tuple[slice, Float[Tensor, "image layer head d_head"]]]:
        """z of all heads, a block of images at a time, with the block's place; divided by ‖f‖ if `unit`."""
        step = max(1, _NUMBERS // prod(self.basis.shape[:3]))
        for start in range(0, len(self), step):
            where = slice(start, min(start + step, len(self)))
            z = self._read("z", self.rows[where])
            yield where, z / self.norm[where, None, None, None] if unit else z

    def subset(self, rows: Any = None, *, split: str | None = None) -> HeadStore:
        """A view of some images; nothing is copied or read.

        Args:
            rows: a mask or indices: a list, an array, a tensor or a pandas column.
            split: the name of a split, instead of rows.

        Raises:
            StoreError: a mask of another length, an index outside the store, no image at all, or not exactly
                one way of choosing.
            ManifestError: a split that the manifest does not have.
        """
        if (rows is None) == (split is None):
            raise StoreError("either rows or a split", "both" if rows is not None else "neither", "Give one of them.")
        chosen = np.flatnonzero(split_mask(self.manifest, split)) if split is not None else self._positions(rows)
        return self._view(self.rows[chosen], self.manifest.iloc[chosen], self.manifest_digest)

    def with_manifest(self, manifest: pd.DataFrame | str | os.PathLike[str]) -> HeadStore:
        """A view with another table: other labels, splits, attributes, classes, order, or fewer rows.

        Rows are matched by image (file and box), so that nothing has to be extracted again. Where a table lies apart
        from its images, or all of them were moved, paths are compared as they are written. A warning says which rows of
        the table have no states here and are left out, and how many of the store's images are not in the table.

        Args:
            manifest: the table, or the CSV file that holds it.

        Raises:
            StoreError: where the table names no image of the store.
            ManifestError: a table without `path`, or a file that cannot be read.
        """
        if isinstance(manifest, pd.DataFrame):
            manifest = manifest.copy()
            manifest.attrs.setdefault("root", manifest_root(self.manifest))  # which pandas loses in some joins
        frame = as_manifest(manifest)
        check_manifest(frame, files=False)
        places = self.places_of(frame)
        known = places >= 0
        if not known.any():
            raise StoreError(
                f"The table names none of the {len(self)} images of this store.",
                f"Its paths have to be those of store.manifest, such as {self.manifest['path'].iloc[0]!r}, "
                f"below {manifest_root(self.manifest)!r}.",
            )
        unused = len(self) - len(np.unique(places[known]))
        if not known.all() or unused:
            unknown = frame["path"][~known]
            parts = [f"{unused} of the store's {len(self)} images are not in the table and left out"] * bool(unused)
            if len(unknown):
                named = ", ".join(map(str, unknown[:_SHOWN])) + ", …" * (len(unknown) > _SHOWN)
                parts.append(
                    f"{len(unknown)} of the table's {len(frame)} rows have no states and are left out: {named}"
                )
            warnings.warn("; ".join(parts) + ".", StoreWarning, stacklevel=2)
        return self._view(self.rows[places[known]], frame[known], manifest_digest(frame[known]))

    @property
    def edited(self) -> bool:
        """Whether this is a view: of some of the store's images, or with another table than it was extracted with."""
        return self.manifest_digest != self.plan.manifest or len(self.rows) < self.plan.rows - len(self.skipped)

    def places_of(self, frame: pd.DataFrame) -> np.ndarray:
        """Where in the store the image of each row of a table is; -1 where it is not."""
        if images_digest(frame) == images_digest(self.manifest):
            return np.arange(len(self))
        keys, ours = _image_keys(frame), _image_keys(self.manifest)
        if not set(keys) & set(ours) and not any(isinstance(place, str) or place.is_file() for place, _ in keys):
            # The table lies apart from its images: their paths as they are written are all that there is.
            keys, ours = _written_keys(frame), _written_keys(self.manifest)
        where = {key: place for place, key in reversed(list(enumerate(ours)))}
        return np.array([where.get(key, -1) for key in keys], dtype=np.int64)

    def _view(self, rows: np.ndarray, manifest: pd.DataFrame, digest: str) -> HeadStore:
        view = HeadStore(
            self.plan,
            manifest.reset_index(drop=True),
            self.basis,
            self._arrays,
            rows=rows,
            skipped=self.skipped,
            memory=self._memory,
            path=self.path,
        )
        view.manifest_digest, view.constants = digest, self.constants
        return view

    def _positions(self, rows: object) -> np.ndarray:
        given = np.asarray(rows)
        if given.dtype == bool:
            if given.shape != (len(self),):
                raise StoreError(
                    f"a mask of {len(self)} images", f"one of shape {list(given.shape)}", "Make it from store.manifest."
                )
            given = np.flatnonzero(given)
        whole_numbers = given.ndim == 1 and (given.dtype.kind in "iu" or given.size == 0)
        if not whole_numbers or given.size == 0 or given.min() < -len(self) or given.max() >= len(self):
            raise StoreError(
                f"a mask of {len(self)} images, or indices from 0 to {len(self) - 1}, choosing at least one image",
                f"{'none' if given.size == 0 else given.tolist()[:5]}",
                "Check how the rows are chosen; ask a group that may be empty for its size first.",
            )
        return np.arange(len(self))[given.astype(np.int64)]

    @property
    def _spread(self) -> bool:
        """Whether contributions differ from those of the states on disk."""
        return self.constants == "spread" and not self.plan.convention

    def _check_head(self, layer: int, head: int) -> None:
        if not (0 <= layer < self.n_layers and 0 <= head < self.n_heads):
            raise StoreError(
                f"a head within {self.n_layers} layers of {self.n_heads} heads",
                f"head L{layer}H{head}",
                "Both count from zero.",
            )

    def _component(self, name: str) -> Tensor:
        if self._spread:
            raise StoreError(
                "Under constants='spread' the components beside the heads are known as one sum alone.",
                "Take store.rest, or with_constants('separate') for MLPs, stem and constant apart.",
            )
        if self.plan.convention:
            raise StoreError(
                "Arrays of another tool hold the heads' contributions and one sum of everything else.",
                "Take store.rest, or extract with headlens for MLPs, stem and constant apart.",
            )
        return self._read(name)

    def _read(self, name: str, rows: np.ndarray | None = None) -> Tensor:
        rows = self.rows if rows is None else rows
        if self._memory is None:
            return _by_source(name, in_full(self._from_disk(name, (rows,))))
        whole = self._whole(name)
        first, last = int(rows[0]), int(rows[-1])
        together = len(rows) == last - first + 1 and bool((np.diff(rows) == 1).all())
        # index_select takes a third of the time of indexing by a tensor.
        chosen = whole[first : last + 1] if together else whole.index_select(0, torch.from_numpy(rows))
        return _by_source(name, in_full(chosen))

    def _whole(self, name: str) -> Tensor:
        memory = cast(dict[str, Tensor], self._memory)
        if name not in memory:
            values = self._decoded(name, lambda array: array[...])
            # All images, not those of this view: the memory is shared with other views.
            there = np.delete(np.arange(self.plan.rows), self.skipped["row"].to_numpy(dtype=np.int64))
            self._check_there(name, values.reshape(self.plan.rows, -1)[:, :1].index_select(0, torch.from_numpy(there)))
            memory[name] = values
        return memory[name]

    def _from_disk(self, name: str, selection: tuple) -> Tensor:
        rows, *rest = selection
        first, last = int(rows.min()), int(rows.max())
        if last - first >= 2 * len(rows):
            values = self._decoded(name, lambda array: array.oindex[(rows, *rest)])
        else:
            values = self._decoded(name, lambda array: array[(slice(first, last + 1), *rest)])[rows - first]
        self._check_there(name, values)
        return values

    def _decoded(self, name: str, select: Callable[[Any], Any]) -> Tensor:
        with reading(self.path, f"the array {name}"):
            return from_disk(np.asarray(select(self._arrays[name])), self.plan.type_of(name))

    def _check_there(self, name: str, values: Tensor) -> None:
        """Zarr takes a file that is gone for one that holds nothing but NaN."""
        if bool(torch.isnan(values.reshape(len(values), -1)[:, :1]).any()):
            raise damaged(self.path, f"images have no values in the array {name}")


def _by_source(name: str, values: Tensor) -> Tensor:
    """Scales and shifts with the axis of sources, which a store with a single one does not have on disk."""
    return values[:, None] if name in ("scale", "shift") and values.ndim == 1 else values


def _image_keys(frame: pd.DataFrame) -> list[tuple[Path | str, object]]:
    return [(Path(os.path.normpath(one)) if isinstance(one, Path) else one, box) for one, box in image_files(frame)]


def _written_keys(frame: pd.DataFrame) -> list[tuple[Path | str, object]]:
    return [(str(path), box) for path, (_, box) in zip(frame["path"], image_files(frame), strict=True)]
