"""What every correction is: fitted once, saved to a folder, loaded again, applied to one image or a million alike.

A correction is an immutable value. `fit` returns a fitted copy; `apply` takes any of three forms of target and returns
the same form:

- a `HeadView` (a store, or another correction's result) → a `CorrectedView`;
- a dense tensor of head contributions, [image layer head embed] → an edited copy;
- a decomposition (an object with `heads`, `mlps`, `stem`, `constant`) → one with edited heads.

`logits` is what scores are made of: by default the corrected embeddings along the classifier's rows. A correction that
puts another classifier in its place (a calibrated one, a probe) overrides it and says `changes_classifier`; its `apply`
then leaves the target as it is.

Target and reference have to follow one convention (both parts of the unit embedding, or both not): the arrays do not
say which, but a width or a model that differs is refused.

Saved: `correction.json` for what a person reads, `correction.safetensors` for arrays. Adding a correction is adding a
file with a subclass and an entry of `CORRECTIONS`, which subclassing makes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from headlens.correct.targets import check_width, embedding_of
from headlens.errors import CorrectionError, HeadlensError, OutputError

CORRECTIONS: dict[str, type[Correction]] = {}
"""Every correction by its name: what `load_correction`, the command line and the benchmark iterate over."""

_JSON, _ARRAYS, _FORMAT = "correction.json", "correction.safetensors", 1


class Correction(ABC):
    """The base of every correction; see the module for what it promises."""

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            CORRECTIONS[cls.name] = cls

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether `apply` can be called."""

    @property
    def transductive(self) -> bool:
        """Whether one image's result depends on the other images that are corrected with it."""
        return False

    @property
    def changes_classifier(self) -> bool:
        """Whether `logits` rests on another classifier than the one that it is given."""
        return False

    @abstractmethod
    def fit(self, reference: Any) -> Correction:
        """A fitted copy, from a reference split in any of the forms that `apply` takes."""

    @abstractmethod
    def apply(self, target: Any) -> Any:
        """The corrected target, in its own form. Raises `CorrectionError` where unfitted or unfitting."""

    def logits(self, target: Any, classifier: Float[Tensor, "class embed"]) -> Float[Tensor, "image class"]:
        """The corrected scores of every class: the corrected embedding · classifier row, unless overridden.

        Args:
            target: a view, embeddings of [image embed] where `apply` takes them, or a decomposition.
            classifier: the class embeddings, unit norm.

        Raises:
            CorrectionError: as `apply`, and for a classifier of another width.
        """
        embedding = embedding_of(self.apply(target))
        check_width("classifier", classifier.shape[-1], embedding)
        return embedding @ classifier.T.to(embedding)

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What is saved: values for JSON, and arrays."""

    @classmethod
    @abstractmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, Tensor]) -> Correction:
        """The inverse of `state`."""

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the correction to a folder, bit for bit, and return the folder.

        Raises:
            OutputError: where the folder holds a correction already and `overwrite` is not set, or is a file.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError("a folder to save to", f"the file {folder}", "Choose another name.")
        if (folder / _JSON).exists() and not overwrite:
            raise OutputError(
                "a folder without a correction", f"{folder}", "Choose another folder, or pass overwrite=True."
            )
        folder.mkdir(parents=True, exist_ok=True)
        values, arrays = self.state()
        # The JSON goes last and is moved into place: a folder with one is complete.
        (folder / _JSON).unlink(missing_ok=True)
        (folder / _ARRAYS).unlink(missing_ok=True)  # a reader may have the old file mapped
        save_file({name: a.detach().cpu().contiguous().clone() for name, a in arrays.items()}, folder / _ARRAYS)
        text = json.dumps({"format": _FORMAT, "correction": self.name, **values}, indent=2)
        partial = folder / f"{_JSON}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(folder / _JSON)
        return folder

    @staticmethod
    def load(folder: str | Path) -> Correction:
        """`load_correction`."""
        return load_correction(folder)


def load_correction(folder: str | Path) -> Correction:
    """Read a correction that `Correction.save` wrote.

    Raises:
        CorrectionError: where the folder holds none, or one that is damaged or of an unknown name or format.
    """
    folder = Path(folder)
    try:
        values = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        arrays = load_file(folder / _ARRAYS)
        name, form = values.pop("correction"), values.pop("format")
    except Exception as error:  # safetensors raises an error type of its own for a damaged file
        raise CorrectionError(
            f"a saved correction ({_JSON} and {_ARRAYS}) in {folder}", f"{error}", "Save it again, or check the path."
        ) from error
    if form != _FORMAT or name not in CORRECTIONS:
        raise CorrectionError(
            f"format {_FORMAT} and one of the corrections {', '.join(sorted(CORRECTIONS))}",
            f"format {form!r} and {name!r}",
            "It was saved by another version of headlens: load it with that one.",
        )
    try:
        return CORRECTIONS[name].from_state(values, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, HeadlensError) as error:
        raise CorrectionError(
            f"the values of a {name!r} correction in {folder}", f"{type(error).__name__}: {error}", "Save it again."
        ) from error
