"""The head states of a whole data set, read from disk: what every later question is answered from.

Everything that a store hands out is a part of the *unit* embedding f/‖f‖: heads, MLPs, stem and constant of
one image add up to its unit embedding. On disk lie z and the other head states in the units of f.

A text direction t is folded through the weights once, B_lh t, and then meets only the d numbers that a head has for an
image: (z_lh/‖f‖) · (B_lh t), which is the same number as the head's contribution · t at a d/D of the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import zarr
from jaxtyping import Float
from torch import Tensor

from headlens.errors import StoreError
from headlens.extraction.identity import check_model
from headlens.extraction.layout import StoreFolder
from headlens.extraction.numbers import from_disk
from headlens.extraction.place import place_of
from headlens.extraction.plan import HasFingerprint, Plan
from headlens.manifest import as_manifest, images_digest, manifest_digest, manifest_root, split_mask
from headlens.states.basis import HeadBasis
from headlens.states.projection import Projection

_BLOCK = 1024  # images at a time, so that what is computed on the way stays small beside the data


class HeadStore:
    """Head states of the images of a manifest. Made by `extract`, opened by `HeadStore.open`; `subset` gives
    views.

    Attributes:
        path: the folder, or its address.
        manifest: one row for every image of the store, in its order, numbered from 0.
        manifest_digest: identifies the manifest that the store was made from.
        skipped: the rows of that manifest that could not be read, with `row`, `path` and `reason`.
        basis: the weights that z is read through.
        plan: identity and sizes.
    """

    def __init__(
        self,
        folder: StoreFolder,
        rows: np.ndarray,
        manifest: pd.DataFrame,
        basis: HeadBasis,
        skipped: pd.DataFrame,
        memory: dict[str, Tensor] | None,
    ):
        self.path: Any = folder.path  # a Path, or text where it is an address
        self.manifest = manifest
        self.skipped = skipped
        self.basis = basis
        self.plan: Plan = folder.plan
        self.manifest_digest = folder.plan.manifest
        self._folder = folder
        self._rows = rows
        self._memory = memory

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], clip: HasFingerprint | None = None, in_memory: bool = True
    ) -> HeadStore:
        """Open a complete store.

        Args:
            path: its folder, or its address (`s3://…`).
            clip: a model; the store then has to be this model's.
            in_memory: keep each array after its first use; False reads blocks from disk every time, for
                stores that are larger than memory.

        Raises:
            StoreError: no store, one that is not complete, or one of another model.
        """
        folder = StoreFolder.open(place_of(path))
        if not folder.complete:
            raise StoreError(
                f"a complete store at {str(path)!r}",
                f"one with {len(folder.missing())} of {folder.plan.n_blocks} blocks missing",
                "Run extract with the same model and manifest again: it goes on after the blocks that are whole.",
            )
        skips = folder.skipped()
        whole = folder.manifest()
        rows = np.delete(np.arange(folder.plan.rows), [skip.row for skip in skips])
        if len(rows) == 0:
            raise StoreError(
                "at least one image that could be read",
                f"{len(skips)} that could not, the first because: {skips[0].reason}",
                "Correct the paths in the manifest and extract into another folder.",
            )
        store = cls(
            folder,
            rows,
            whole.iloc[rows].reset_index(drop=True),
            folder.basis(),
            pd.DataFrame([vars(skip) for skip in skips], columns=["row", "path", "reason"]),
            {} if in_memory else None,
        )
        if clip is not None:
            store.check_model(clip)
        return store

    def check_model(self, clip: HasFingerprint) -> None:
        """Raise `StoreError` unless the store was made with this model and preprocessing."""
        check_model(self.path, self.plan, clip.name, clip.fingerprint)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        size = f"{len(self)} images, {self.n_layers} layers × {self.n_heads} heads of {self.plan.sizes['d_head']}"
        return f"HeadStore({str(self.path)!r}: {size}, {self.plan.dtype}, {self.model_name} {self.fingerprint})"

    @property
    def model_name(self) -> str:
        return self.plan.model

    @property
    def fingerprint(self) -> str:
        return self.plan.fingerprint

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

    @property
    def mlps(self) -> Float[Tensor, "image layer embed"]:
        """What every MLP contributes."""
        return self._read("mlps") / self.norm[:, None, None]

    @property
    def stem(self) -> Float[Tensor, "image embed"]:
        """What the token embeddings contribute."""
        if not self.plan.stem:
            return self._read("scale")[:, None] * cast(Tensor, self.basis.stem).to(self.norm) / self.norm[:, None]
        return self._read("stem") / self.norm[:, None]

    @property
    def constant(self) -> Float[Tensor, "image embed"]:
        """What the attention layers' output biases and the final LayerNorm's shift contribute."""
        bias, beta = self.basis.bias.to(self.norm), self.basis.beta.to(self.norm)
        return (self._read("scale")[:, None] * bias + beta) / self.norm[:, None]

    def z(self, layer: int, head: int) -> Float[Tensor, "image d_head"]:
        """What one head mixed from its values, z/‖f‖: its contribution is `z @ basis.B[layer, head]`."""
        self._check_head(layer, head)
        if self._memory is None:
            values = self._from_disk("z", (self._rows, layer, head))
        else:
            values = self._whole("z")[torch.from_numpy(self._rows), layer, head]
        return self._full(values) / self.norm[:, None]

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """What one head contributes to every image's unit embedding."""
        z = self.z(layer, head)
        return z @ self.basis.B[layer, head].to(z)

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """What one head contributes along every direction, without its whole contribution."""
        z = self.z(layer, head)
        return z @ (self.basis.B[layer, head].to(z) @ directions.T.to(z))

    def head_norms(self, layer: int, head: int) -> Float[Tensor, "image"]:
        """The norm of what one head contributes, in float64: ‖z B‖ = √(z B Bᵀ zᵀ)."""
        z, basis = self.z(layer, head).double(), self.basis.B[layer, head].double()
        return ((z @ (basis @ basis.T)) * z).sum(dim=1).clamp(min=0).sqrt()

    def project(
        self, directions: Float[Tensor, "direction embed"], constants: str = "separate"
    ) -> Float[Tensor, "image layer head direction"]:
        """Every head's contribution along every direction: (z_lh/‖f‖) · (B_lh t).

        Nothing of the size image × layer × head × embed is ever made; a block of images is held at a time.

        Args:
            directions: taken as they are, neither centred nor normalised.
            constants: "separate", or "spread" for the published convention (see `decompose`), in which
                biases and the final LayerNorm's mean and shift are shared among the heads.

        Raises:
            StoreError: for directions of another width, or an unknown `constants`.
        """
        projection = Projection(self.basis, directions, constants)
        result = self.norm.new_empty(len(self), self.n_layers, self.n_heads, len(directions))
        for where, z in self.blocks(unit=False):
            rows = self._rows[where]
            projection.into(result[where], z, self._read("scale", rows), self._read("shift", rows), self.norm[where])
        return result

    def blocks(self, unit: bool = True) -> Iterator[tuple[slice, Float[Tensor, "image layer head d_head"]]]:
        """z of all heads, a block of images at a time, with the block's place; divided by ‖f‖ if `unit`."""
        for start in range(0, len(self), _BLOCK):
            where = slice(start, min(start + _BLOCK, len(self)))
            z = self._read("z", self._rows[where])
            yield where, z / self.norm[where, None, None, None] if unit else z

    def subset(self, rows: Any = None, *, split: str | None = None) -> HeadStore:
        """A view of some images; nothing is copied or read.

        Args:
            rows: a mask or indices: a list, an array, a tensor or a pandas column.
            split: the name of a split, in place of rows.

        Raises:
            StoreError: a mask of another length, an index outside the store, no image at all, or not exactly
                one way of choosing.
            ManifestError: a split that the manifest does not have.
        """
        if (rows is None) == (split is None):
            raise StoreError("either rows or a split", "both" if rows is not None else "neither", "Give one of them.")
        chosen = np.flatnonzero(split_mask(self.manifest, split)) if split is not None else self._positions(rows)
        return self._view(self._rows[chosen], self.manifest.iloc[chosen], self.manifest_digest)

    def with_manifest(self, manifest: pd.DataFrame) -> HeadStore:
        """The same images with other columns: new labels, splits or attributes need no new extraction.

        Args:
            manifest: rows for the same images in the same order, as in `store.manifest`.

        Raises:
            StoreError: where paths or boxes differ.
        """
        manifest = manifest.copy()
        manifest.attrs.setdefault("root", manifest_root(self.manifest))  # which pandas loses in some joins
        manifest = as_manifest(manifest)
        if len(manifest) != len(self) or images_digest(manifest) != images_digest(self.manifest):
            raise StoreError(
                f"a manifest of the store's {len(self)} images in their order",
                f"{len(manifest)} rows" + ("" if len(manifest) != len(self) else " of other images"),
                "Start from store.manifest and add or change columns other than path and box.",
            )
        return self._view(self._rows, manifest, manifest_digest(manifest))

    def _view(self, rows: np.ndarray, manifest: pd.DataFrame, digest: str) -> HeadStore:
        manifest = manifest.reset_index(drop=True)
        view = HeadStore(self._folder, rows, manifest, self.basis, self.skipped, self._memory)
        view.manifest_digest = digest
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
                "Check how the rows are chosen; a group that may be empty is to be asked for its size first.",
            )
        return np.arange(len(self))[given.astype(np.int64)]

    def _check_head(self, layer: int, head: int) -> None:
        if not (0 <= layer < self.n_layers and 0 <= head < self.n_heads):
            raise StoreError(
                f"a head within {self.n_layers} layers of {self.n_heads} heads",
                f"head {layer}.{head}",
                "Both count from zero.",
            )

    def _read(self, name: str, rows: np.ndarray | None = None) -> Tensor:
        rows = self._rows if rows is None else rows
        if self._memory is None:
            return self._full(self._from_disk(name, (rows,)))
        whole = self._whole(name)
        first, last = int(rows[0]), int(rows[-1])
        together = len(rows) == last - first + 1 and bool((np.diff(rows) == 1).all())
        return self._full(whole[first : last + 1] if together else whole[torch.from_numpy(rows)])

    def _whole(self, name: str) -> Tensor:
        memory = cast(dict[str, Tensor], self._memory)
        if name not in memory:
            memory[name] = from_disk(np.asarray(self._array(name)[...]), self.plan.type_of(name))
        return memory[name]

    def _from_disk(self, name: str, selection: tuple) -> Tensor:
        rows, *rest = selection
        first, last = int(rows.min()), int(rows.max())
        if last - first >= 2 * len(rows):
            values = np.asarray(self._array(name).oindex[(rows, *rest)])
        else:
            values = np.asarray(self._array(name)[(slice(first, last + 1), *rest)])[rows - first]
        return from_disk(values, self.plan.type_of(name))

    def _array(self, name: str) -> zarr.Array:
        return cast(zarr.Array, self._folder.arrays[name])

    @staticmethod
    def _full(values: Tensor) -> Tensor:
        return values.to(torch.promote_types(values.dtype, torch.float32))
