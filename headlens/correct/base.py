"""What every correction is: fitted once, saved to a folder, loaded again, applied to one image or a million alike.

A correction is a frozen dataclass. Every field of it is saved, and counts in its `headlens.serialization.digest`; what
`fit` learns is a field too, marked `LEARNT`. `fit` returns a fitted copy; `apply` takes any form of target that
`headlens.correct.views` describes and returns the same form, a view for a view.

Three kinds: `HeadCorrection` gives some heads new contributions, `EmbeddingCorrection` moves whole embeddings, and
`ClassifierCorrection` leaves both alone and replaces the classifier it is given.

Target and reference have to follow one convention (both parts of the unit embedding, or both not): the arrays do not
say which, but a width or a model that differs is refused.

Saved: `correction.json` with the values, `correction.safetensors` with the arrays. A subclass with a `name` is known to
`load_correction` from then on, also one in a notebook cell.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor

from headlens.correct.format_1 import upgraded
from headlens.correct.views import (
    View,
    along,
    contribution,
    described,
    detached,
    embedding_of,
    fingerprint_of,
    is_decomposition,
    is_view,
    logits_of,
    project_head,
    tower_of,
)
from headlens.errors import CorrectionError, LocateError, NotImportedError, OutputError
from headlens.heads import HeadId, HeadLike, as_heads
from headlens.registry import Registry
from headlens.serialization import Arrays, family, pack, read_arrays, reasons, unpack, write_arrays, write_json

CORRECTIONS: Registry[type[Correction]] = Registry("correction")
"""Every correction by its name. A subclass of `Correction` that has one is added when it is defined."""

Own = TypeVar("Own", bound="Correction")

LEARNT = {"learnt": True}
"""The metadata of a field that `fit` fills: `field(default=None, kw_only=True, metadata=LEARNT)`."""

_JSON, _ARRAYS, _FORMAT = "correction.json", "correction.safetensors", 2


@dataclass(frozen=True, eq=False, repr=False)
class Correction(ABC):
    """The base of every correction; see the module for what it promises.

    Attributes:
        name: what it is registered and saved as.
        fingerprint: the model that it was fitted on, where the reference said so; any other is then refused.
    """

    name: ClassVar[str]
    fingerprint: str | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            CORRECTIONS.add(cls.name, cls)

    def __post_init__(self) -> None:
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), Tensor):
                self._hold(**{one.name: detached(value)})

    def _hold(self, **values: Any) -> None:
        """Set fields, in `__post_init__` alone: the form that a field is kept in."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = [
            f"{one.name}={_short(value)}"
            for one in fields(self)
            if one.name != "fingerprint" and not one.metadata.get("learnt")
            for value in [getattr(self, one.name)]
            if isinstance(value, Tensor) or value != one.default
        ]
        return f"{type(self).__name__}({', '.join(shown if self.fitted else [*shown, 'not fitted'])})"

    def walk(self) -> Iterator[Correction]:
        """This correction, and every one that it is made of."""
        yield self
        for inner in self._inner():
            yield from inner.walk()

    def _inner(self) -> list[Correction]:
        values = [value for one in fields(self) if isinstance(value := getattr(self, one.name), tuple)]
        return [one for value in values for one in value if isinstance(one, Correction)]

    @property
    def fitted(self) -> bool:
        """Whether `apply` can be called: everything is there that `fit` learns, here and in what it is made of."""
        learnt = (getattr(self, one.name) for one in fields(self) if one.metadata.get("learnt"))
        return all(value is not None for value in learnt) and all(one.fitted for one in self._inner())

    @property
    def transductive(self) -> bool:
        """Whether one image's result depends on the other images that are corrected with it."""
        return any(one.transductive for one in self._inner())

    @property
    def changes_classifier(self) -> bool:
        """Whether `logits` rests on another classifier than the one that it is given."""
        return any(one.changes_classifier for one in self._inner())

    @property
    def edited(self) -> tuple[HeadId, ...]:
        """The heads that it was built on; none where it changes whole embeddings or the classifier."""
        return tuple(dict.fromkeys(head for one in self._inner() for head in one.edited))

    def fit(self: Own, reference: Any) -> Own:
        """A fitted copy, from a reference split in any of the forms that `apply` takes."""
        return replace(self, fingerprint=fingerprint_of(reference), **self.learn(reference))

    def learn(self, reference: Any) -> dict[str, Any]:
        """The values of the learnt fields, from a reference split. Raises `CorrectionError` for an unusable one."""
        return {}

    def apply(self, target: Any) -> Any:
        """The corrected target, in its own form.

        Raises:
            CorrectionError: where the correction is not fitted, or the target is of another model, width or form.
        """
        self._check_use(target)
        return self.change(target)

    @abstractmethod
    def change(self, target: Any) -> Any:
        """What `apply` returns, once it is known to be fitted, and on this model."""

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The corrected scores of every class: the corrected embedding · classifier row, unless overridden.

        Args:
            target: a view, embeddings of [image embed] where `apply` takes them, or a decomposition.
            classifier: the class embeddings, unit norm.

        Raises:
            CorrectionError: as `apply`, and for a classifier of another width.
        """
        return logits_of(self.apply(target), classifier)

    def _check_use(self, target: Any) -> None:
        if not self.fitted:
            raise CorrectionError(f"{self!r} cannot be used yet.", "Call .fit(reference), and keep what it returns.")
        theirs = fingerprint_of(target)
        if self.fingerprint is not None and theirs is not None and theirs != self.fingerprint:
            raise CorrectionError(
                f"head states of the model it was fitted on, {self.fingerprint}",
                f"those of {theirs}",
                "Fit the correction again on this model.",
            )

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the correction to a folder, bit for bit, and return the folder.

        Raises:
            OutputError: where the folder holds a correction already and `overwrite` is not set, or is a file.
            HeadlensError: for a correction without a registered `name`.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"A correction is saved to a folder, and {folder} is a file.", "Choose another name.")
        if (folder / _JSON).exists() and not overwrite:
            raise OutputError(f"{folder} holds a correction already.", "Choose another folder, or pass overwrite=True.")
        arrays: Arrays = {}
        record = {"format": _FORMAT, "correction": pack(self, Correction, arrays)}
        folder.mkdir(parents=True, exist_ok=True)
        # The JSON goes last: a folder with one is complete.
        (folder / _JSON).unlink(missing_ok=True)
        write_arrays(folder / _ARRAYS, arrays)
        write_json(folder / _JSON, record)
        return folder


family(Correction, CORRECTIONS)


def load_correction(folder: str | os.PathLike[str]) -> Correction:
    """Read a correction that `Correction.save` wrote, with this version or with an earlier one.

    Raises:
        CorrectionError: where the folder holds none, or one that is damaged or of an unknown format; as
            `NotImportedError`, one of a class that no imported code defines.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        arrays, form = read_arrays(folder / _ARRAYS), record["format"]
        saved = upgraded(record, arrays) if form == 1 else record["correction"]
        name = saved["type"]
    except Exception as error:  # safetensors raises an error type of its own for a damaged file
        beside = sorted(str(one.parent) for place in (folder, folder.parent) for one in place.glob(f"*/{_JSON}"))
        raise CorrectionError(
            f"{folder} holds no saved correction ({_JSON} and {_ARRAYS}): {error}.",
            f"There are {', '.join(beside[:6])}." if beside else "Save it again, or check the path.",
        ) from error
    if form not in (1, _FORMAT):
        raise CorrectionError(
            f"format {_FORMAT} of saved corrections",
            f"format {form!r} in {folder}",
            "It was saved by another version of headlens: load it with that one, or fit it again.",
        )
    if name not in CORRECTIONS:
        raise NotImportedError(
            f"The correction in {folder} is of the kind {name!r}, which nothing that is imported here defines.",
            f"Import the code that defines it before, in Python: the class with name = {name!r}. headlens itself has "
            f"{', '.join(CORRECTIONS)}.",
        )
    try:
        loaded: Correction = unpack(saved, Correction, arrays)
    except Exception as error:  # cattrs raises groups of whatever the classes raise
        raise CorrectionError(
            f"the values of a {name!r} correction in {folder}", reasons(error), "Save it again."
        ) from error
    return loaded


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"[{', '.join(str(one) if isinstance(one, HeadId) else _short(one) for one in value)}]"
    return repr(value)


# ---- the three kinds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class HeadCorrection(Correction):
    """A correction that gives each of some heads a new contribution, from its old one alone.

    Attributes:
        heads: the heads it changes, in any form that `HeadId.of` reads, and kept as `HeadId`s; none at all leaves
            everything as it is.

    Raises:
        CorrectionError: for a head named twice or below zero.
    """

    heads: Sequence[HeadLike]

    def __post_init__(self) -> None:
        super().__post_init__()
        top = 1 << 30  # the tower is not known yet; `apply` and `fit` check against it
        self._hold(heads=_checked_heads(self.heads, top, top))

    @property
    def edited(self) -> tuple[HeadId, ...]:
        """The heads that it changes."""
        return tuple(map(HeadId.of, self.heads))

    def fit(self: Own, reference: Any) -> Own:
        """A fitted copy. A correction without anything to learn checks that the heads exist in the reference."""
        _checked_heads(self.edited, *tower_of(reference))
        return super().fit(reference)

    @abstractmethod
    def edit(self, head: HeadId, x: Float[Tensor, "image embed"]) -> Float[Tensor, "_ embed"]:
        """The new contribution of a head, given its old one; one row where it is the same for every image."""

    def edited_logits(
        self, head: HeadId, view: Any, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "_ direction"]:
        """The new contribution of a head · each direction; one row where it is the same for every image.

        A subclass overrides it where that takes less than the whole contribution.
        """
        return along(self.edit(head, contribution(view, head)), directions)

    def change(self, target: Any) -> Any:
        """The target with its heads edited."""
        _checked_heads(self.edited, *tower_of(target))
        if isinstance(target, Tensor):
            edited = target.clone()
            for head in self.edited:
                edited[:, head.layer, head.head] = self.edit(head, target[:, head.layer, head.head])
            return edited
        if is_decomposition(target):
            return replace(target, heads=self.change(target.heads))
        return CorrectedView(target, self)


class CorrectedView(View):
    """A view with some heads edited: embedding ← embedding + Σ over edited heads of (new − old).

    A direct edit: later layers and the final LayerNorm saw the original, and nothing is normalised again. The edited
    heads are computed when they are asked for, so that nothing of the size of a store is copied.

    Args:
        base: the view underneath.
        correction: edits it; fitted.
    """

    def __init__(self, base: Any, correction: HeadCorrection):
        super().__init__(base)
        self.correction = correction

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The corrected embeddings, computed once."""
        total = embedding_of(self.base)
        for head in self.correction.edited:
            old = contribution(self.base, head)
            total = total + (self.correction.edit(head, old) - old).to(total.dtype)
        return total

    def heads(self, layer: int, head: int) -> Float[Tensor, "image embed"]:
        """The contribution of one head, as corrected."""
        old = super().heads(layer, head)
        edited = (layer, head) in self.correction.edited
        return self.correction.edit(HeadId(layer, head), old).expand_as(old) if edited else old

    def logits(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The corrected class scores: those of the view underneath, and what each edited head adds or takes away."""
        total = super().logits(classifier)
        for head in self.correction.edited:
            new = self.correction.edited_logits(head, self.base, classifier)
            total = total + (new - project_head(self.base, head, classifier)).to(total.dtype)
        return total

    def project_head(
        self, layer: int, head: int, directions: Float[Tensor, "direction embed"]
    ) -> Float[Tensor, "image direction"]:
        """The contribution of one head, as corrected, · each direction."""
        if (layer, head) not in self.correction.edited:
            return super().project_head(layer, head, directions)
        new = self.correction.edited_logits(HeadId(layer, head), self.base, directions)
        return new.expand(len(self), -1)

    def head_norms(self, layer: int, head: int) -> Float[Tensor, "image"]:
        """The norm of one head's contribution, as corrected."""
        if (layer, head) not in self.correction.edited:
            return super().head_norms(layer, head)
        return self.heads(layer, head).double().norm(dim=-1)

    def project(self, directions: Float[Tensor, "direction embed"]) -> Float[Tensor, "image layer head direction"]:
        """Every head's contribution, as corrected, · each direction."""
        if not callable(getattr(self.base, "project", None)):
            return super().project(directions)
        scores: Tensor = self.base.project(directions).clone()
        for head in self.correction.edited:
            scores[:, head.layer, head.head] = self.project_head(*head, directions).to(scores.dtype)
        return scores


@dataclass(frozen=True, eq=False, repr=False)
class EmbeddingCorrection(Correction):
    """A correction that moves whole embeddings, and knows nothing of heads.

    `apply` takes embeddings, [image embed], or a view, whose embedding is replaced while its heads stay as they were
    (so that it is no longer their sum).
    """

    @abstractmethod
    def move(self, x: Float[Tensor, "image embed"]) -> Float[Tensor, "image embed"]:
        """The new embeddings."""

    def change(self, target: Any) -> Any:
        """The corrected embeddings, or a view with them."""
        if isinstance(target, Tensor) and target.ndim == 2:
            return self.move(target)
        if is_view(target):
            return MovedView(target, self)
        raise CorrectionError(
            "embeddings of [image embed], or a store or view",
            described(target),
            f"{type(self).__name__} is of whole embeddings and not of single heads: pass d.total() of a decomposition.",
        )


class MovedView(View):
    """A view with other embeddings, which are not the sum of its heads and the rest.

    Args:
        base: the view underneath.
        correction: moves its embeddings; fitted.
    """

    def __init__(self, base: Any, correction: EmbeddingCorrection):
        super().__init__(base)
        self.correction = correction

    @cached_property
    def embedding(self) -> Float[Tensor, "image embed"]:
        """The corrected embeddings, computed once."""
        return self.correction.move(embedding_of(self.base))

    def logits(self, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The corrected embeddings · the classifier's rows."""
        return along(self.embedding, classifier)


@dataclass(frozen=True, eq=False, repr=False)
class ClassifierCorrection(Correction):
    """A correction that replaces the classifier that `logits` is given.

    `apply` returns what it is given.
    """

    @property
    def changes_classifier(self) -> bool:
        """Always."""
        return True

    def change(self, target: Any) -> Any:
        """The target as it is."""
        return target

    @abstractmethod
    def scores(
        self, embedding: Float[Tensor, "image embed"], classifier: Float[Tensor, "class embed"]
    ) -> Float[Tensor, "image class"]:
        """The scores of embeddings under the other classifier."""

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The embeddings' scores under the other classifier.

        Raises:
            CorrectionError: where unfitted, for another model, and for a classifier of other classes or width.
        """
        return self.scores(embedding_of(self.apply(target)), classifier)


def _checked_heads(heads: Sequence[Any], n_layers: int, n_heads: int) -> tuple[HeadId, ...]:
    try:
        return as_heads(heads, n_layers, n_heads)
    except LocateError as error:
        raise error.as_type(CorrectionError) from error
