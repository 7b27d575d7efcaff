"""Which other questions the scored images can be asked: what is given, and what the manifest's further columns hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit.codes import value_codes
from headlens.audit.collateral_results import Kind, OtherTask
from headlens.correct import Correction
from headlens.errors import HeadlensError, ModelError, TaskError, VocabularyError
from headlens.manifest import as_text
from headlens.prompts import Attribute, ZeroShotTask

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

_NOT_TASKS = {"path", "label", "split", "id", "box", "candidates", "caption"}
_MOST_VALUES = 50
_LEAST_IMAGES = 10  # a value, on average: a column of names or places taken once asks nothing
_LONGEST = 40  # letters of a value that may stand in a template
_NO_WORDS = {"yes", "no", "true", "false", "none", "nan", "unknown", "other"}


@dataclass(frozen=True, eq=False)
class Asked:
    """A zero-shot question to the scored images.

    Attributes:
        task: the question as it is told of.
        prototypes: the embeddings of its answers.
        truth: each scored image's answer; −1 for none.
    """

    task: OtherTask
    prototypes: Float[Tensor, "value embed"]
    truth: Int[np.ndarray, "image"]

    def answers(self, audit: Audit, correction: Correction | None = None) -> Int[np.ndarray, "image"]:
        """Each scored image's nearest answer, from the embedding as it is, or corrected."""
        rows = self.prototypes.to(audit.test.embedding)
        scores = audit.test.embedding @ rows.T if correction is None else correction.logits(audit.test, rows)
        return scores.argmax(dim=-1).cpu().numpy()


def ask(
    audit: Audit, attributes: Sequence[Attribute], tasks: Mapping[str, ZeroShotTask]
) -> tuple[list[Asked], list[str]]:
    """The questions, the audited attribute itself last, and sentences on what could not be asked.

    Raises:
        TaskError: for an attribute or task that is not named after a column of the manifest, or that none of the scored
            images has an answer to.
    """
    given = [*attributes, *(_as_attribute(column, task) for column, task in tasks.items())]
    columns = audit.test.manifest.columns
    for one in given:
        if one.name not in columns:
            raise TaskError(
                f"a column {one.name!r} of the manifest, which holds the true answers",
                f"columns {', '.join(map(str, columns))}",
                "Give the attribute the name of a column, or the task under it.",
            )
    asked = [_question(audit, one, "other", True) for one in given]
    notes: list[str] = []
    if not given:
        asked, notes = _from_columns(audit)
        if not asked:
            notes.append(
                "No other attribute or task was given, and no other column of the manifest could be asked: what is "
                "told here is of the audited classes and attribute alone."
            )
    if audit.inferred:
        notes.append(f"The values of {audit.attribute.name} are inferred, so that telling them cannot be scored.")
        return asked, notes
    try:
        asked.append(_question(audit, audit.attribute, "attribute", True))
    except (TaskError, ModelError) as error:
        notes.append(_not_asked(f"{audit.attribute.name} itself", error))
    return asked, notes


def _from_columns(audit: Audit) -> tuple[list[Asked], list[str]]:
    """Those of the manifest's further columns that the model can tell at all."""
    asked, notes = [], []
    for one in _column_attributes(audit):
        try:
            made = _question(audit, one, "other", False)
        except (VocabularyError, TaskError, ModelError) as error:
            notes.append(_not_asked(f"The column {one.name}", error))
            continue
        right = float((made.answers(audit) == made.truth)[made.truth >= 0].mean())
        guess, images = made.task.guess or 0.0, made.task.images
        # Two standard errors: what the model cannot tell before a correction, a correction cannot take from it.
        if right > guess + 2 * np.sqrt(guess * (1 - guess) / images):
            asked.append(made)
        else:
            notes.append(
                f"Asked for {one.name}, the model is right in {100 * right:.1f} % of the images without any "
                f"correction, hardly more than guessing ({100 * guess:.1f} %): there is nothing to lose."
            )
    return asked, notes


def _not_asked(what: str, error: HeadlensError) -> str:
    return f"{what} was not asked. {error.problem}"


def _column_attributes(audit: Audit) -> list[Attribute]:
    """Columns of a few values in words, each value put into the audited task's templates."""
    manifest = audit.test.manifest
    made = []
    for column in manifest.columns:
        if column in _NOT_TASKS or column == audit.attribute.name:
            continue
        counts = as_text(manifest[column]).value_counts()
        values = sorted(map(str, counts.index))
        if 2 <= len(values) <= _MOST_VALUES and counts.mean() >= _LEAST_IMAGES and all(map(_in_words, values)):
            made.append(_as_attribute(str(column), ZeroShotTask(values, audit.task.templates)))
    return made


def _in_words(value: str) -> bool:
    words = value.replace("-", " ").replace("'", " ").split()
    return bool(words) and len(value) <= _LONGEST and value.lower() not in _NO_WORDS and all(map(str.isalpha, words))


def _as_attribute(column: str, task: ZeroShotTask) -> Attribute:
    return Attribute(column, {name: task.prompts_of(name) for name in task.classes})


def _question(audit: Audit, attribute: Attribute, kind: Kind, given: bool) -> Asked:
    truth = value_codes(audit.test.manifest[attribute.name], attribute, missing=True)
    counts = pd.Series(truth[truth >= 0]).value_counts()
    if counts.empty:
        raise TaskError(
            f"scored images of {attribute.name} {' or '.join(attribute.value_names)}",
            "none",
            "Name the values as the manifest's column does.",
        )
    images = int(counts.sum())
    prompts = {value: tuple(texts) for value, texts in attribute.values.items()}
    task = OtherTask(attribute.name, kind, images, float(counts.max() / images), prompts, given)
    return Asked(task, attribute.prototypes(audit.texts), truth)
