"""The errors that headlens raises.

Each reads as sentences: what is wrong, then how to fix it. The two are kept apart as attributes, so that the shell and
a notebook can lay them out. Where one value was expected and another came, three arguments give
"Expected …, but got …."; everywhere else two arguments give the problem as a sentence of its own.

Every error is a `ValueError` too, and one about an unknown name also a `KeyError`.
"""

from __future__ import annotations


class HeadlensError(ValueError):
    """The base of every error that headlens raises on purpose.

    Args:
        problem: what is wrong, as a whole sentence; with `received`, what was expected, a clause without a full stop.
        received: what came instead, as a clause without a full stop. Left out in the form of two arguments.
        remedy: how to fix it, as one or more whole sentences.
    """

    def __init__(self, problem: str, received: str, remedy: str | None = None):
        super().__init__(*([problem, received] if remedy is None else [problem, received, remedy]))
        self.expected = None if remedy is None else problem
        self.received = None if remedy is None else received
        self.problem = problem if remedy is None else f"Expected {problem}, but got {received}."
        self.remedy = received if remedy is None else remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"

    def as_type(self, kind: type[HeadlensError]) -> HeadlensError:
        """The same message as an error of another type."""
        return kind(*self.args)


class UnknownNameError(HeadlensError, KeyError):
    """A name that is not among those known."""


class ModelError(HeadlensError):
    """A model that cannot be found, loaded, converted or trusted."""


class HeadlensWarning(UserWarning):
    """Something that was assumed, left out or dropped, and that a result does not show by itself."""


class ModelWarning(HeadlensWarning):
    """What a model was found to be, where that is not what its name says, or had to be assumed."""


class StoreWarning(HeadlensWarning):
    """A store that is accepted, although something about it could not be compared."""


class VocabularyError(HeadlensError):
    """A prompt with words that the model's tokenizer has never seen."""


class ManifestError(HeadlensError):
    """A table of images without the columns or the values that were asked of it."""


class ImageError(HeadlensError):
    """An image file that is missing, broken or of a kind that cannot be read."""


class StoreError(HeadlensError):
    """A store of head states that is missing, incomplete, or belongs to another model or manifest."""


class TaskError(HeadlensError):
    """Classes, templates or attribute prompts from which no classifier can be made."""


class LocateError(HeadlensError):
    """Data from which heads cannot be located: nothing to contrast, an empty group, values that are not numbers."""


class NothingLocatedError(LocateError):
    """Data that give a locator nothing to go by: no mistake, no group in conflict. The question itself is sound."""


class ExplainError(HeadlensError):
    """Contributions, texts or sizes from which no explanation can be made."""


class CorrectionError(HeadlensError):
    """A correction that is not fitted, does not fit the model, or was given unusable prompts or heads."""


class NotImportedError(CorrectionError):
    """A saved correction of a class that no imported code defines. The file itself is sound."""


class MetricError(HeadlensError):
    """A measure that its input does not determine."""


class OutputError(HeadlensError):
    """An output folder or file that must not be written to."""


def check_type(
    what: str,
    value: object,
    kinds: type | tuple[type, ...],
    remedy: str,
    error: type[HeadlensError] = HeadlensError,
) -> None:
    """Raise for an argument of another type than a public call needs.

    Args:
        what: the argument, as the beginning of a sentence.
        value: what was passed.
        kinds: the types that it may have.
        remedy: what to pass, as whole sentences.
        error: the type of the error.
    """
    if not isinstance(value, kinds):
        names = " or ".join(one.__name__ for one in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise error(f"{what} has the type {type(value).__name__}, not {names}.", remedy)
