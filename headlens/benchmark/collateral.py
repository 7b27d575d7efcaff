"""What methods do to questions that they were not made for, asked of the same images.

- `elsewhere`: zero-shot accuracy on other classes and other attributes, from the manifest's further columns.
- `attribute_left`: the same for the corrected attribute itself, which a correction may well take away.
- `retrieval`: recall@k, from texts to images and from images to texts. Where the manifest has a column `caption`, the
  relevant images are those whose caption has these very words; other images that it fits as well count as misses, as
  usual. Without captions, what zero-shot ranks first for neutral texts of the bank counts as relevant: zero-shot
  reaches 1 by definition.

The questions are those of `headlens.steps.collateral`; recall is `headlens.metrics.retrieval_recall`. A method that
changes the task's classifier alone (a probe, a calibrated one) leaves every other question as it was, and has no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from headlens.audit import Audit
from headlens.benchmark.measures import Extra, Scored, joined, only, over_units
from headlens.manifest import as_text
from headlens.metrics import SMALL, Measures, retrieval_recall
from headlens.metrics.bootstrap import bootstrap_cells
from headlens.metrics.clusters import Clusters
from headlens.metrics.collateral import accuracy, one_cell
from headlens.prompts import Attribute
from headlens.steps.collateral import OtherQuestion, question_of

MEAN = "mean"
_SHOWN = 4  # tasks with columns of their own; of more, the table shows the mean
_MOST = 1000  # images and texts that are ranked against each other
_TEXTS = 200  # of the bank


@dataclass(frozen=True)
class Question:
    """A question that a column of the manifest holds the answers to.

    Attributes:
        column: the column.
        prompt: a template with {} for each of the column's values.
        words: what stands in the template for a value, where not the value itself.
        heading: what the table calls it; the column's name by default.
        prompts: the prompt or prompts of each value, in place of a template; images of other values are left out.
    """

    column: str
    prompt: str = "a photo of a {}"
    words: Mapping[str, str] | None = None
    heading: str = ""
    prompts: Mapping[str, str | Sequence[str]] | None = None

    def asked_of(self, audit: Audit) -> Attribute | None:
        """The values that the scored images have, with their prompts; None where there are fewer than two."""
        manifest = audit.data.test.manifest
        if self.column not in manifest.columns:
            return None
        values = sorted(map(str, as_text(manifest[self.column]).dropna().unique()))
        prompts = {value: prompt for value in values if (prompt := self._prompt(value)) is not None}
        return Attribute(self.column, prompts) if len(prompts) > 1 else None

    def _prompt(self, value: str) -> str | Sequence[str] | None:
        if self.prompts is not None:
            return self.prompts.get(value)
        return self.prompt.format((self.words or {}).get(value, value))


def celeba_questions() -> tuple[Question, ...]:
    """CelebA's other attributes, each with a prompt for no and for yes."""
    text = resources.files(__package__).joinpath("celeba_attributes.yaml").read_text("utf-8")
    prompts = yaml.safe_load(text)
    return tuple(Question(column, prompts={"no": no, "yes": yes}) for column, (no, yes) in prompts.items())


def elsewhere(questions: Sequence[Question]) -> Extra:
    """Zero-shot accuracy on other classes and attributes, and its mean over them."""
    named = {one.column: one.heading or one.column for one in questions}
    many = len(questions) > _SHOWN
    columns = {} if many else named
    if len(questions) > 1:
        columns = {**columns, MEAN: "mean"}

    def measure(one: Scored) -> Measures | None:
        attributes = [found for question in questions if (found := question.asked_of(one.audit)) is not None]
        return _answered(one, [question_of(one.audit.data, each, "other", True) for each in attributes])

    listed = ", ".join(f"{one.heading} ({one.column})" if one.heading else one.column for one in questions[:_SHOWN])
    more = f" and {len(questions) - _SHOWN} more, each in the CSV file" if many else ""
    return Extra(
        "Other classes and attributes",
        columns,
        f"Zero-shot accuracy on further columns of the manifest: {listed}{more}; the change is against zero-shot, "
        "paired. Methods that change the classifier alone leave this as it is.",
        measure,
    )


def attribute_left() -> Extra:
    """Accuracy of the attribute's own zero-shot task, from the corrected embedding."""

    def measure(one: Scored) -> Measures | None:
        if one.audit.data.inferred:
            return None
        attribute = one.audit.attribute
        found = _answered(one, [question_of(one.audit.data, attribute, "attribute", True)])
        return None if found is None else only(found, attribute.name, "accuracy")

    return Extra(
        "What is left of the attribute",
        {"accuracy": "accuracy"},
        "How often the attribute's own zero-shot task predicts its value from the corrected embedding; methods that "
        "change the classifier alone leave it as it is.",
        measure,
    )


def _answered(one: Scored, questions: Sequence[OtherQuestion]) -> Measures | None:
    """Each question's accuracy, and of several the mean over the images that have an answer to every one."""
    if one.embedding is None or not questions:
        return None
    embeddings = [one.embedding] if one.before is None else [one.audit.data.test.embedding, one.embedding]
    answered = {question.task.name: question.truth >= 0 for question in questions}
    hits = [[question.answers(each) == question.truth for each in embeddings] for question in questions]
    parts = []
    for name, own in zip(answered, hits, strict=True):
        has = answered[name]
        right = [each[has] for each in own]
        clusters = None if one.cluster is None else Clusters.of(one.cluster[has])
        found = Measures(one.method, *bootstrap_cells(one_cell(right), (1,), right, accuracy, one.bootstrap, clusters))
        parts.append(replace(only(found, "accuracy", name), sizes={name: int(has.sum())}))
    together = np.logical_and.reduce(list(answered.values()))
    if len(parts) > 1 and together.any():
        right = np.asarray(hits, dtype=float)[:, :, together].mean(axis=0).T
        parts.append(over_units(one, MEAN, right, MEAN, None if one.cluster is None else one.cluster[together]))
    return joined(parts)


def retrieval(k: int = 10) -> Extra:
    """Recall@k from texts to images and from images to texts."""

    def measure(one: Scored) -> Measures | None:
        if one.embedding is None:
            return None
        captioned = "caption" in one.audit.data.test.manifest.columns
        return _by_captions(one, k) if captioned else _by_bank(one, k)

    return Extra(
        "Retrieval",
        {"image": f"text to image, recall@{k}", "text": f"image to text, recall@{k}"},
        f"Where images have captions: how often an image with a caption is among its first {k} images, and an image's "
        f"caption among its first {k} captions. Else, of {_TEXTS} neutral texts of the bank: how much of zero-shot's "
        f"first {k} is still among the first {k}. At most {_MOST} images, drawn with the seed; ranked by cosine.",
        measure,
    )


def _by_captions(one: Scored, k: int) -> Measures | None:
    captions = as_text(one.audit.data.test.manifest["caption"])
    rows = _drawn(np.flatnonzero(captions.notna().to_numpy()), one.audit.question.seed, _MOST)
    described = [str(captions.iloc[row]) for row in rows]
    texts = list(dict.fromkeys(described))
    if len(texts) < 2:
        return None
    relevant = np.asarray([[caption == text for text in texts] for caption in described])
    return _recalls(one, rows, texts, k, (relevant, relevant.T), "any")


def _by_bank(one: Scored, k: int) -> Measures | None:
    rows = _drawn(np.arange(len(one.predictions)), one.audit.question.seed, _MOST)
    bank = one.audit.data.bank.texts
    texts = [bank[i] for i in _drawn(np.arange(len(bank)), one.audit.question.seed, _TEXTS)]
    if len(texts) < 2:
        return None
    first = _scores(one.audit.data.test.embedding, one, rows, texts)
    return _recalls(one, rows, texts, k, (_top(first, k), _top(first.T, k)), "share")


def _recalls(
    one: Scored,
    rows: Int[np.ndarray, "row"],
    texts: list[str],
    k: int,
    relevant: tuple[Bool[np.ndarray, "row text"], Bool[np.ndarray, "text row"]],
    found: Literal["share", "any"],
) -> Measures:
    """Both directions, each with its change from zero-shot."""
    assert one.embedding is not None
    scores = _scores(one.embedding, one, rows, texts)
    before = None if one.before is None else _scores(one.audit.data.test.embedding, one, rows, texts)
    measured = []
    for wanted, turned in zip(relevant, (False, True), strict=True):
        baseline = before.T if before is not None and turned else before
        top = min(k, len(wanted))
        recall = retrieval_recall(
            scores.T if turned else scores,
            wanted,
            top,
            method=one.method,
            found=found,
            baseline=baseline,
            cluster=one.cluster[rows] if turned and one.cluster is not None else None,
            bootstrap=one.bootstrap,
        )
        measured.append(only(recall, f"recall@{top}", "text" if turned else "image"))
    sizes = {"texts": len(texts), "images": len(rows)}
    return replace(joined(measured), sizes=sizes, small=tuple(name for name, size in sizes.items() if size < SMALL))


def _scores(
    embedding: Float[Tensor, "image embed"], one: Scored, rows: Int[np.ndarray, "row"], texts: list[str]
) -> Float[Tensor, "row text"]:
    """Cosines, since a correction may leave images of different lengths."""
    queries = normalize(one.audit.data.texts(texts).to(embedding), dim=-1)
    return normalize(embedding[torch.as_tensor(rows)], dim=-1) @ queries.T


def _top(scores: Float[Tensor, "item query"], k: int) -> Bool[np.ndarray, "item query"]:
    """Which items are among the k highest scored of each query; of equal ones the first, as recall has it."""
    order = np.argsort(-scores.cpu().numpy(), axis=0, kind="stable")[:k]
    inside = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(inside, order, True, axis=0)
    return inside


def _drawn(rows: Int[np.ndarray, "row"], seed: int, most: int) -> Int[np.ndarray, "drawn"]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
