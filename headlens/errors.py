"""The errors that headlens raises.

Every one of them says three things in one paragraph: what was expected, what came, and what to do about it. The three
are kept apart as attributes so that the shell and a notebook can lay them out, and so that a test can hold each of
them to its promise.
"""


class HeadlensError(Exception):
    """The base of every error that headlens raises on purpose.

    Args:
        expected: the invariant, as a clause that can follow "Expected", without a closing full stop.
        received: what came instead, as a clause that can follow "but got", without a closing full stop.
        remedy: what the reader can do, as one or more whole sentences.
    """

    def __init__(self, expected: str, received: str, remedy: str):
        super().__init__(expected, received, remedy)
        self.expected = expected
        self.received = received
        self.remedy = remedy

    def __str__(self) -> str:
        return f"Expected {self.expected}, but got {self.received}. {self.remedy}"


class ModelError(HeadlensError):
    """A model that cannot be found, loaded, converted or trusted."""


class VocabularyError(HeadlensError):
    """A prompt with words that the model's tokenizer has never seen."""


class ManifestError(HeadlensError):
    """A table of images that does not have the columns or the values that were asked of it."""


class ImageError(HeadlensError):
    """An image file that is missing, broken or of a kind that cannot be read."""


class StoreError(HeadlensError):
    """A store of head states that is missing, incomplete, or belongs to another model or manifest."""


class TaskError(HeadlensError):
    """Classes, templates or attribute prompts from which no classifier can be made."""


class LocateError(HeadlensError):
    """Data from which heads cannot be located: nothing to contrast, an empty group, values that are not numbers."""


class ExplainError(HeadlensError):
    """Contributions, texts or sizes from which no explanation can be made."""


class CorrectionError(HeadlensError):
    """A correction that is not fitted, does not fit the model, or was given unusable prompts or heads."""


class MetricError(HeadlensError):
    """A measure that its input does not determine."""


class OutputError(HeadlensError):
    """An output folder or file that must not be written to."""
