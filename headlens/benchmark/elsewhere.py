"""Collateral: what methods do to questions that they were not made for, asked of the same images.

- `elsewhere`: zero-shot accuracy on other classes and other attributes, which the manifest's further columns hold.
- `attribute_left`: the same for the corrected attribute itself, which a correction may well take away.

A method that changes the task's classifier alone (a probe, a calibrated one) leaves every other question as it was, and
has no row there. Labels are read to score answers, never to give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.audit import Audit
from headlens.benchmark.measures import Extra, Scored
from headlens.manifest import as_text
from headlens.metrics import SMALL, Measures
from headlens.metrics.bootstrap import Bootstrap, bootstrap_cells, count_cells, interval
from headlens.prompts import Attribute
from headlens.steps.data import value_codes

MEAN = "mean"
_SHOWN = 4  # tasks with columns of their own; of more, the table shows the mean

_Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]
"""Values, their intervals, changes from zero-shot, and theirs."""


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
        rights = {}
        for question in questions:
            attribute = question.asked_of(one.audit)
            if attribute is not None:
                truth = value_codes(one.audit.data.test.manifest[attribute.name], attribute, missing=True)
                rights[question.column] = (_right(one, attribute, truth), truth >= 0)
        return _measures(one, {name: (hits, has) for name, (hits, has) in rights.items() if hits is not None})

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
        audit = one.audit
        if audit.data.inferred:
            return None
        truth = audit.data.values[audit.splits.test]
        hits = _right(one, audit.attribute, truth)
        return None if hits is None else _measures(one, {"accuracy": (hits, truth >= 0)})

    return Extra(
        "What is left of the attribute",
        {"accuracy": "accuracy"},
        "How often the attribute's own zero-shot task tells its value from the corrected embedding; methods that "
        "change the classifier alone leave it as it is.",
        measure,
    )


def _right(
    one: Scored, attribute: Attribute, truth: Int[np.ndarray, "image"]
) -> list[Bool[np.ndarray, "image"]] | None:
    """Which images are classified correctly: by zero-shot where the method is another one, and by the method."""
    if one.embedding is None:
        return None
    prototypes = attribute.prototypes(one.audit.data.texts)
    embeddings = [one.embedding] if one.before is None else [one.audit.data.test.embedding, one.embedding]
    return [_answers(each, prototypes) == truth for each in embeddings]


def _answers(
    embedding: Float[Tensor, "image embed"], prototypes: Float[Tensor, "value embed"]
) -> Int[np.ndarray, "image"]:
    with torch.no_grad():
        return (embedding @ prototypes.T.to(embedding)).argmax(dim=-1).cpu().numpy()


def _measures(one: Scored, rights: dict[str, tuple[list[np.ndarray], np.ndarray]]) -> Measures | None:
    """Each question's accuracy, and the mean over all of them on the images that have an answer to every one."""
    if not rights:
        return None
    parts: _Parts = ({}, {}, {}, {})
    sizes = {}
    for name, (hits, has) in rights.items():
        kept = [each[has] for each in hits]
        counts = count_cells([np.zeros(int(has.sum()), dtype=int)], (1,), kept)
        bootstrap = Bootstrap(one.draws, seed=one.audit.question.seed)
        found: _Parts = bootstrap_cells(counts, len(hits) > 1, _accuracy, bootstrap)
        for part, values in zip(parts, found, strict=True):
            if "accuracy" in values:
                part[name] = values["accuracy"]
        sizes[name] = int(has.sum())
    together = np.logical_and.reduce([has for _, has in rights.values()])
    if len(rights) > 1 and together.any():
        _add_mean(one, parts, np.stack([[each[together] for each in hits] for hits, _ in rights.values()]))
        sizes[MEAN] = int(together.sum())
    small = tuple(name for name, size in sizes.items() if size < SMALL)
    return Measures(one.method, *parts, sizes, small, 0.95, one.draws)


def _add_mean(one: Scored, parts: _Parts, hits: Bool[np.ndarray, "question model image"]) -> None:
    """The mean over questions, images drawn for all of them at once: a cell is how many of an image's are right."""
    values, intervals, changes, change_intervals = parts
    cells, counts = np.unique(hits.sum(axis=0).T, axis=0, return_counts=True)
    total = counts.sum()
    drawn = np.random.default_rng(one.audit.question.seed).multinomial(total, counts / total, size=one.draws)
    means, observed = (each @ cells / (total * len(hits)) for each in (drawn, counts))
    values[MEAN], intervals[MEAN] = float(observed[-1]), interval(means[:, -1])
    if hits.shape[1] > 1:
        changes[MEAN], change_intervals[MEAN] = float(observed[1] - observed[0]), interval(means[:, 1] - means[:, 0])


def _accuracy(right: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    return {"accuracy": right[..., 0] / images[..., 0]}
