"""What a correction costs elsewhere: the scored images are asked other questions, before and after.

Three kinds of task, all zero-shot and all on the scored images, so that before and after are paired:

- other attributes and tasks: those that are given, or else the manifest's further columns of few values in words;
- the audited task's accuracy on each of its classes;
- the audited attribute itself: a correction that takes it out of the embedding lowers this, and is meant to.

And whether the embedding still finds the same images: of each image's k nearest, how many remain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.correct import Correction, MeanAblation
from headlens.errors import HeadlensError, ModelError, TaskError, VocabularyError
from headlens.manifest import as_text, value_indices
from headlens.metrics import SMALL, Bootstrap, Measures, collateral, retrieval_recall
from headlens.metrics import Collateral as Changes
from headlens.prompts import Attribute, ZeroShotTask
from headlens.steps.data import NO_ATTRIBUTES, AuditData
from headlens.steps.evaluate import Fitted, predict
from headlens.steps.record import Collateral
from headlens.tables import Column, Shown, Table
from headlens.tables import Kind as TableKind

CANDIDATES = "candidates ablated"
"""The name of the fairness audit's ablation among the methods."""

_MOST_COMPARED = 1000
_MOST_VALUES = 50
_LEAST_IMAGES = 10  # a value, on average: a column of names or places taken once asks nothing
_LONGEST = 40  # letters of a value that may stand in a template
_NO_WORDS = {"yes", "no", "true", "false", "none", "nan", "unknown", "other"}

Kind = Literal["other", "class", "attribute"]
Answers = tuple[Int[np.ndarray, "image"], Int[np.ndarray, "image"], Int[np.ndarray, "image"]]
"""Of some images, the true answer, the answer after, and the answer before."""


@dataclass(frozen=True)
class OtherTask:
    """A question that the scored images were asked beside the audited one.

    Attributes:
        name: a column of the manifest, "class NAME", or the audited attribute.
        kind: "other" for a further attribute or task; "class" for the audited task's accuracy on one class;
            "attribute" for telling the audited attribute itself, which a correction of it may well lower.
        images: how many scored images have an answer.
        guess: the share that guessing the most frequent answer gets right; None for a class.
        prompts: the prompts of each answer; empty for a class.
        given: whether the prompts were given, and not made from the column's values.
    """

    name: str
    kind: Kind
    images: int
    guess: float | None
    prompts: dict[str, tuple[str, ...]]
    given: bool


@dataclass(frozen=True, eq=False, repr=False)
class CollateralResults(Shown):
    """What each correction does to other tasks, and to what is near what.

    Attributes:
        tasks: the tasks, in the order of tables.
        methods: accuracy of the tasks before and after, by method. A method that only changes the audited task's
            classifier has its classes alone: all else is as it was.
        neighbours: of an image's `k` nearest images, the share that are still among its k nearest after the correction,
            by method, as the measure "recall@k".
        k: how many neighbours.
        compared: among how many scored images.
        notes: what could not be measured, and why, in sentences.
    """

    tasks: tuple[OtherTask, ...]
    methods: dict[str, Changes]
    neighbours: dict[str, Measures]
    k: int
    compared: int
    notes: tuple[str, ...]

    def table(self, wide: bool = False) -> pd.DataFrame:
        """One row a method and task: accuracy before and after in per cent, the difference with its paired interval.

        Args:
            wide: the numbers instead: `method`, `task`, `kind`, `before`, `after`, `difference`, the ends `low` and
                `high` of its interval, `images`, `guess`. Accuracies are fractions.
        """
        return self._numbers() if wide else self.shown().text()

    def shown(self) -> Table:
        """The table to be read: the audited attribute's own task and tasks of few images are marked."""
        frame = self._numbers()
        small = {name for one in self.methods.values() for name in one.small}
        frame["task"] = [
            f"{task}{' (audited)' * (kind == 'attribute')}{f' (under {SMALL} images)' * (task in small)}"
            for task, kind in zip(frame["task"], frame["kind"], strict=True)
        ]
        columns: dict[str, TableKind | Column] = {
            "task": "text",
            **({"method": "text"} if len(self.methods) > 1 else {}),
            "before": "percent",
            "after": "percent",
            "difference": Column("points", "change", ("low", "high")),
            "guess": Column("percent", "guessing"),
            "images": "count",
        }
        return Table(frame, columns, " ".join(("Accuracy on other tasks", *self.notes)))

    def _numbers(self) -> pd.DataFrame:
        rows = [
            (
                method, task.name, task.kind, one.before[task.name], one.after[task.name], one.difference[task.name],
                *one.interval[task.name], task.images, task.guess,
            )
            for task in self.tasks
            for method, one in self.methods.items()
            if task.name in one.before
        ]  # fmt: skip
        columns = ["method", "task", "kind", "before", "after", "difference", "low", "high", "images", "guess"]
        return pd.DataFrame(rows, columns=columns).astype({"guess": float})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tasks": [asdict(task) for task in self.tasks],
            "methods": {name: one.to_dict() for name, one in self.methods.items()},
            "neighbours": {name: one.to_dict() for name, one in self.neighbours.items()},
            "k": self.k,
            "compared": self.compared,
            "notes": list(self.notes),
        }


def measure_collateral(data: AuditData, call: Collateral, fitted: Mapping[str, Fitted]) -> CollateralResults:
    """Measure what fitted corrections, and the ablation of `call.heads`, do to other tasks.

    Raises:
        TaskError: for an attribute without a column, or whose values no scored image has.
    """
    questions, notes = ask(data, call.attributes)
    labels, seed, clusters = data.test_labels, data.question.seed, data.test_clusters
    classes = data.question.task.classes
    counts = np.bincount(labels, minlength=len(classes))
    by_class = [
        OtherTask(f"class {name}", "class", int(images), None, {}, True)
        for name, images in zip(classes, counts, strict=True)
    ]
    places = np.sort(np.random.default_rng(seed).permutation(len(labels))[:_MOST_COMPARED])
    k = min(call.k, (len(places) - 1) // 2)
    methods, neighbours = {}, {}
    for method, correction in _corrections(data, call, fitted).items():
        found: dict[str, Answers] = {}
        if correction.changes_classifier:
            notes.append(f"{method} changes the audited task's classifier alone: every other task stays as it was.")
        else:
            corrected = correction.apply(data.test).embedding
            found = {one.task.name: _answers(data, one, corrected) for one in questions}
            if k > 0:
                neighbours[method] = _kept(data, method, corrected, places, k, call.n_bootstrap)
        after = predict(data, correction)
        for number, task in enumerate(by_class):
            if task.images:
                mine = labels == number
                found[task.name] = (labels[mine], after[mine], data.zero_shot[mine])
        together = None
        if clusters is not None:
            truths = {one.task.name: one.truth >= 0 for one in questions}
            truths |= {task.name: labels == number for number, task in enumerate(by_class)}
            together = {name: clusters[truths[name]] for name in found}
        methods[method] = collateral(method, found, cluster=together, bootstrap=Bootstrap(call.n_bootstrap, seed=seed))
    if not methods:
        notes.append("No correction was made, so that nothing elsewhere can have changed.")
    others = [one.task for one in questions if one.task.kind == "other"]
    itself = [one.task for one in questions if one.task.kind == "attribute"]
    tasks = (*others, *(task for task in by_class if task.images), *itself)
    return CollateralResults(tasks, methods, neighbours, k, len(places), tuple(notes))


def _corrections(data: AuditData, call: Collateral, fitted: Mapping[str, Fitted]) -> dict[str, Correction]:
    found = {name: fitted[name].correction for name in call.methods}
    if call.heads:
        found[CANDIDATES] = MeanAblation(call.heads).fit(data.reference)
    return found


def _answers(data: AuditData, question: OtherQuestion, corrected: Float[Tensor, "scored embed"]) -> Answers:
    has = question.truth >= 0
    return question.truth[has], question.answers(corrected)[has], question.answers(data.test.embedding)[has]


def _kept(
    data: AuditData,
    method: str,
    corrected: Float[Tensor, "scored embed"],
    places: Int[np.ndarray, "image"],
    k: int,
    bootstrap: int,
) -> Measures:
    """How many of every image's k nearest images stay among its k nearest."""
    before, after = (_likeness(embedding[torch.as_tensor(places)]) for embedding in (data.test.embedding, corrected))
    near = torch.zeros(before.shape, dtype=torch.bool).scatter(0, before.topk(k, dim=0).indices, value=True)
    resampling = Bootstrap(bootstrap, seed=data.question.seed)
    together = data.clusters_of(data.splits.test[places])
    return retrieval_recall(after, near, k, method=method, cluster=together, bootstrap=resampling)


def _likeness(embedding: Float[Tensor, "image embed"]) -> Float[Tensor, "image image"]:
    """Cosines between images; an image is no neighbour of its own."""
    unit = normalize(embedding.detach().cpu().float(), dim=-1)
    return (unit @ unit.T).fill_diagonal_(-2.0)


@dataclass(frozen=True, eq=False)
class OtherQuestion:
    """A zero-shot question to the scored images.

    Attributes:
        task: the question as tables name it.
        prototypes: the embeddings of its answers.
        truth: each scored image's answer; −1 for none.
    """

    task: OtherTask
    prototypes: Float[Tensor, "value embed"]
    truth: Int[np.ndarray, "image"]

    @torch.no_grad()
    def answers(self, embedding: Float[Tensor, "image embed"]) -> Int[np.ndarray, "image"]:
        """Each scored image's nearest answer, from embeddings as they are or corrected."""
        return (embedding @ self.prototypes.to(embedding).T).argmax(dim=-1).cpu().numpy()


def ask(data: AuditData, attributes: Sequence[Attribute] | None) -> tuple[list[OtherQuestion], list[str]]:
    """The questions, the audited attribute itself last, and sentences on what could not be asked.

    Args:
        data: the question's arrays.
        attributes: named after the manifest's columns; None for the further columns of few values in words.

    Raises:
        TaskError: for an attribute that is not named after a column of the manifest, or that none of the scored images
            has an answer to.
    """
    given = list(attributes or ())
    columns = data.test.manifest.columns
    for one in given:
        if one.name not in columns:
            raise TaskError(
                f"The manifest has no column {one.name!r} with the true answers, but {', '.join(map(str, columns))}.",
                "Give the attribute the name of a column, or the task under it.",
            )
    questions = [question_of(data, one, "other", True) for one in given]
    notes: list[str] = []
    if attributes is None:
        questions, notes = _from_columns(data)
        if not questions:
            notes.append(
                "No other attribute or task was given, and no other column of the manifest could be asked about: the "
                "figures are of the audited classes and attribute alone."
            )
    if data.inferred:
        notes.append(f"The values of {data.question.attribute.name} are inferred: predicting them cannot be scored.")
        return questions, notes
    try:
        questions.append(question_of(data, data.question.attribute, "attribute", True))
    except (TaskError, ModelError) as error:
        notes.append(_skipped(f"{data.question.attribute.name} itself", error))
    return questions, notes


def _from_columns(data: AuditData) -> tuple[list[OtherQuestion], list[str]]:
    """Those of the manifest's further columns that the model can tell at all."""
    questions, notes = [], []
    for one in _column_attributes(data):
        try:
            made = question_of(data, one, "other", False)
        except (VocabularyError, TaskError, ModelError) as error:
            notes.append(_skipped(f"The column {one.name}", error))
            continue
        right = float((made.answers(data.test.embedding) == made.truth)[made.truth >= 0].mean())
        guess, images = made.task.guess or 0.0, made.task.images
        # Two standard errors: what the model cannot tell before a correction, a correction cannot take from it.
        if right > guess + 2 * np.sqrt(guess * (1 - guess) / images):
            questions.append(made)
        else:
            notes.append(
                f"On {one.name}, the model is correct on {100 * right:.1f} % of the images without any "
                f"correction, hardly more than guessing ({100 * guess:.1f} %): there is nothing to lose."
            )
    return questions, notes


def _skipped(what: str, error: HeadlensError) -> str:
    return f"{what} was left out. {error.problem}"


def _column_attributes(data: AuditData) -> list[Attribute]:
    """Columns of a few values in words, each value put into the audited task's templates."""
    manifest = data.test.manifest
    made = []
    for column in manifest.columns:
        if column in NO_ATTRIBUTES or column == data.question.attribute.name:
            continue
        counts = as_text(manifest[column]).value_counts()
        values = sorted(map(str, counts.index))
        if 2 <= len(values) <= _MOST_VALUES and counts.mean() >= _LEAST_IMAGES and all(map(_in_words, values)):
            made.append(task_as_attribute(str(column), ZeroShotTask(values, data.question.task.templates)))
    return made


def _in_words(value: str) -> bool:
    words = value.replace("-", " ").replace("'", " ").split()
    return bool(words) and len(value) <= _LONGEST and value.lower() not in _NO_WORDS and all(map(str.isalpha, words))


def task_as_attribute(column: str, task: ZeroShotTask) -> Attribute:
    """A task under its column: both are names with prompts."""
    return Attribute(column, {name: task.prompts_of(name) for name in task.classes})


def question_of(data: AuditData, attribute: Attribute, kind: Kind, given: bool) -> OtherQuestion:
    """The question which value of an attribute a scored image has, the true answers from the manifest's column.

    Raises:
        TaskError: where no scored image has one of the values.
    """
    truth = value_indices(data.test.manifest[attribute.name], attribute.value_names, missing=True)
    counts = pd.Series(truth[truth >= 0]).value_counts()
    if counts.empty:
        raise TaskError(
            f"No scored image has {attribute.name} {' or '.join(attribute.value_names)}.",
            "Name the values as the manifest's column does.",
        )
    images = int(counts.sum())
    prompts = {value: tuple(texts) for value, texts in attribute.values.items()}
    task = OtherTask(attribute.name, kind, images, float(counts.max() / images), prompts, given)
    return OtherQuestion(task, attribute.prototypes(data.texts), truth)
