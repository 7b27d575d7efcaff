"""A question applied to a store: the one place where prompts and manifest become arrays.

Everything here is derived from the question, the store and the text tower, made when it is first read, and never
changed. `ReferenceImages` holds what depends on the reference images alone, `ReferenceScores` what depends on the
classes, too, and neither on the attribute: the next question of the same images, or classes, has them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.cells import listed
from headlens.correct import KnownLogits, leading_pairs
from headlens.errors import LocateError, ManifestError, ModelError, StoreError, TaskError, check_type
from headlens.extraction import HeadStore
from headlens.findings import Finding, check_prompts, check_splits, check_values
from headlens.heads import HeadLike
from headlens.locate import (
    MAX_BYTES,
    ConflictingGroups,
    Decisions,
    HeadEffects,
    check_finite,
    concept_directions,
    conflicting_groups,
    decide,
)
from headlens.manifest import as_text, candidate_indices, check_manifest, class_indices, cluster_indices, value_indices
from headlens.metrics import group_names
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, cross_pairs, default_bank, encode_pairs
from headlens.states import Moments, contribution_variance, head_moments
from headlens.steps.controls import Predictions, ScoredImages
from headlens.steps.question import PAIRS, Pairs, Question, as_pairs
from headlens.steps.texts import TextEmbeddings
from headlens.testbed import pairs_for

NO_ATTRIBUTES = {"path", "label", "split", "cluster", "id", "box", "candidates", "caption"}
"""Columns of a manifest that are no attribute."""
_MOST_VALUES = 10
_SHOWN = 5  # values of those that are left out
_NEVER = -1e4  # finite, so that a score minus a head's part stays a number; scores of unit embeddings are within ±1


@dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """Row numbers of the two parts, and how they came about.

    Attributes:
        reference: rows that heads are located on and corrections are fitted on.
        test: rows that are scored. The two must not overlap: a mean taken from the scored images would make each
            image's result depend on the others.
        note: one sentence or more on where the parts come from, and what was left out.
    """

    reference: Int[np.ndarray, "reference_image"]
    test: Int[np.ndarray, "test_image"]
    note: str

    def __repr__(self) -> str:
        return f"Splits({len(self.reference)} reference and {len(self.test)} scored images: {self.note})"


class ReferenceImages:
    """What an audit reads of its reference split whatever the classes and the attribute, each made when first read.

    Args:
        store: head states of the reference split.
    """

    def __init__(self, store: HeadStore):
        self.store = store

    @cached_property
    def moments(self) -> Moments:
        """Mean and scatter of every head."""
        return head_moments(self.store)

    @cached_property
    def mean(self) -> Float[Tensor, "layer head d_state"]:
        """The mean of every head's z, in float64."""
        if "moments" in vars(self):
            return self.moments.mean
        total = sum(z.sum(0, dtype=torch.float64) for _, z in self.store.blocks())
        return torch.as_tensor(total) / len(self.store)

    @cached_property
    def variance(self) -> Float[Tensor, "layer head"]:
        """The total variance of every head's contributions."""
        return contribution_variance(self.store, self.store.basis)


class ReferenceScores:
    """What an audit reads of its reference split whatever the attribute, each made when it is first read.

    Args:
        store: head states of the reference split.
        classifier: the class embeddings.
        allowed: the candidate classes of each image; None for all.
        labels: the true class of each image, as an index.
    """

    def __init__(
        self,
        store: HeadStore,
        classifier: Float[Tensor, "class embed"],
        allowed: Bool[Tensor, "image class"] | None,
        labels: Int[np.ndarray, "image"],
    ):
        self.store, self.classifier, self._allowed, self._labels = store, classifier, allowed, labels

    @cached_property
    def logits(self) -> Float[Tensor, "image class"]:
        """Class scores of the unit embeddings."""
        return among(self.store.embedding @ self.classifier.T.to(self.store.embedding), self._allowed)

    @cached_property
    def head_logits(self) -> Float[Tensor, "image layer head class"]:
        """Every head's part of them, which grows with heads × classes: for few classes."""
        return self.store.project(self.classifier)

    @cached_property
    def margins(self) -> tuple[Float[Tensor, "image layer head"], Decisions]:
        """Each head's part of the score of the predicted class minus that of the class compared with it."""
        return margins_along(self.store, self.classifier, self.logits, torch.as_tensor(self._labels))

    @cached_property
    def effects(self) -> HeadEffects:
        """What ablating any heads does to the class scores of these images."""
        numbers = self.logits.numel() * self.store.n_layers * self.store.n_heads
        if numbers * self.logits.element_size() <= MAX_BYTES:
            return HeadEffects.of(self.logits, self.head_logits, self.head_logits)
        return HeadEffects.of_view(self.logits, self.store, self.store, self.classifier)


@dataclass(frozen=True, eq=False)
class AuditData:
    """The arrays of one question.

    Attributes:
        question: what is asked.
        store: head states of the data set, with its manifest.
        clip: the model; None where an audit was loaded without it.
        texts: embeds prompts, and remembers them.

    Raises:
        ManifestError: for a manifest without the label or the splits, with labels that are not classes, or a split
            without two values of the attribute.
    """

    question: Question
    store: HeadStore
    clip: HookedCLIP | None
    texts: TextEmbeddings

    def __post_init__(self) -> None:
        question = self.question
        check_manifest(
            self.store.manifest,
            classes=question.task.classes,
            attribute=None if self.inferred or question.skip_unlabelled else question.attribute.name,
            files=False,
        )
        width = self.store.basis.shape[-1]
        for what, pairs in (("pairs", question.pairs), ("spurious pairs", question.spurious_pairs)):
            if pairs is not None and len(pairs) >= width:
                raise TaskError(
                    f"{len(pairs)} {what} span all {width} directions of the embeddings, and injecting or rejecting "
                    "every direction distinguishes nothing.",
                    f"Give fewer than {width}: those that matter most. Without pairs of the classes, the directions in "
                    "which the class prompts differ most are taken.",
                )
        _ = self.splits  # so that a split that is missing is an error now, and not after the first long step

    def of(self, question: Question) -> AuditData:
        """The arrays of another question of the same store; what does not depend on the difference is kept."""
        other = AuditData(question, self.store, self.clip, self.texts)
        if np.array_equal(other.splits.reference, self.splits.reference):
            # The objects themselves: what either question makes, the other has.
            vars(other)["images"] = self.images
            if question.task == self.question.task:
                vars(other)["scores"] = self.scores
        return other

    def with_values(self, values: Int[np.ndarray, "image"]) -> AuditData:
        """The same arrays and parts with other values of the attribute, for a null; what they do not change is kept."""
        other = copy(self)
        for name in ("groups", "findings"):
            vars(other).pop(name, None)
        vars(other)["values"] = values
        return other

    # ---- what is known of each image of the store -------------------------------------------------------------------

    @property
    def inferred(self) -> bool:
        """Whether the attribute's values are inferred zero-shot, for want of a column of its name."""
        return self.question.attribute.name not in self.store.manifest.columns

    @cached_property
    def labels(self) -> Int[np.ndarray, "image"]:
        """The true class of every image of the store, as an index into the task's classes."""
        return class_indices(self.store.manifest["label"], self.question.task.classes)

    @cached_property
    def values(self) -> Int[np.ndarray, "image"]:
        """The attribute's value of every image, as an index: the manifest's, or inferred zero-shot; −1 for none."""
        attribute = self.question.attribute
        if self.inferred:
            return nearest(self.store.embedding, attribute.prototypes(self.texts))
        column, names = self.store.manifest[attribute.name], attribute.value_names
        return value_indices(column, names, self.question.skip_unlabelled)

    @cached_property
    def groups(self) -> np.ndarray:
        """The group of every image, written class/value."""
        classes, values = self.question.task.classes, (*self.question.attribute.value_names, "not labelled")
        every = group_names(np.repeat(classes, len(values)), np.tile(values, len(classes)))
        return every.reshape(-1, len(values))[self.labels, self.values]  # −1 is the last name

    @cached_property
    def clusters(self) -> Int[np.ndarray, "image"] | None:
        """Which images show one person or scene; see `headlens.manifest.cluster_indices`."""
        return cluster_indices(self.store.manifest)

    def clusters_of(self, rows: Int[np.ndarray, "some_image"]) -> Int[np.ndarray, "some_image"] | None:
        """The same of some rows of the store."""
        return None if self.clusters is None else self.clusters[rows]

    @cached_property
    def splits(self) -> Splits:
        """The reference and the test part."""
        question = self.question
        return choose_splits(
            self.store.manifest,
            self.groups,
            self.values,
            question.reference,
            question.test,
            question.seed,
            clusters=self.clusters,
            attribute=None if self.inferred else question.attribute,
        )

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is doubtful in the two parts, such as an image that is in both, and in the attribute's column."""
        manifest, question, splits = self.store.manifest, self.question, self.splits
        parts = {question.reference: splits.reference, question.test: splits.test}
        if len(parts) == 1:
            parts = {"reference": splits.reference, "test": splits.test}
        doubts = check_splits(
            manifest, parts, self.labels, self.values, question.task.classes, question.attribute.value_names
        )
        task, attribute = question.task, question.attribute
        doubts += check_prompts("classes", {name: task.prompts_of(name) for name in task.classes})
        doubts += check_prompts(attribute.name, attribute.values)
        return doubts if self.inferred else (*doubts, *check_values(manifest[attribute.name]))

    @cached_property
    def allowed(self) -> Bool[Tensor, "image class"] | None:
        """The candidate classes of each image, by the manifest's column `candidates`; None for all classes."""
        manifest, classes = self.store.manifest, self.question.task.classes
        if "candidates" not in manifest.columns:
            return None
        allowed = torch.zeros(len(self.store), len(classes), dtype=torch.bool)
        for row, candidates in enumerate(candidate_indices(manifest, classes)):
            allowed[row, slice(None) if candidates is None else list(candidates)] = True
        return allowed

    # ---- texts ------------------------------------------------------------------------------------------------------

    @cached_property
    def classifier(self) -> Float[Tensor, "class embed"]:
        """The zero-shot class embeddings, unit norm."""
        return self.question.task.classifier(self.texts)

    @cached_property
    def pairs(self) -> Pairs:
        """Text pairs that distinguish the classes: those given, or the class prompts, pair by pair."""
        given = self.question.pairs
        return _neighbours(self.question.task.prompts()) if given is None else given

    @property
    def testbed_pairs(self) -> bool:
        """Whether the pairs are those that the testbed model's card has for these classes; the shell takes them where
        none are given."""
        pairs = self.question.pairs
        return pairs is not None and pairs == pairs_for(self.question.model, self.question.task.classes)

    @cached_property
    def spurious_pairs(self) -> Pairs:
        """Text pairs that distinguish the attribute's values: those given, or the values' first prompts."""
        given = self.question.spurious_pairs
        return _neighbours(self.question.attribute.first_prompts()) if given is None else given

    @cached_property
    def crossed_pairs(self) -> Pairs:
        """Text pairs that name one class and differ in the attribute's value: those given, or made."""
        question = self.question
        if question.crossed_pairs is not None:
            return question.crossed_pairs
        return as_pairs(cross_pairs(question.task, question.attribute)) or ()

    @property
    def too_many_pairs(self) -> bool:
        """Whether the pairs of class prompts would span more than half of the embedding space."""
        return self.question.pairs is None and 2 * len(self.pairs) > self.store.basis.shape[-1]

    @cached_property
    def encoded_pairs(self) -> Float[Tensor, "pair 2 embed"]:
        """The embeddings of `pairs`, not normalised; where these are too many, the directions along which the class
        prompts differ most (see `leading_pairs`)."""
        if self.too_many_pairs:
            return leading_pairs(self.texts(self.question.task.prompts()))
        return self.encoded(self.pairs)

    def encoded(self, pairs: Pairs) -> Float[Tensor, "pair 2 embed"]:
        """The embeddings of text pairs, not normalised."""
        return encode_pairs(pairs, self.texts)

    @property
    def attribute_prompts(self) -> list[str]:
        """All prompts of all values, one after the other."""
        return [prompt for prompts in self.question.attribute.values.values() for prompt in prompts]

    @cached_property
    def directions(self) -> Float[Tensor, "direction embed"]:
        """The attribute's concept vectors."""
        return concept_directions(self.question.attribute.prototypes(self.texts))

    @cached_property
    def bank(self) -> TextBank:
        """The general texts that heads are explained by: those given, or headlens' own.

        A text tower of few words, which lists them as its tokenizer's `words`, gets the texts that it can read.
        """
        if self.question.bank is not None:
            return self.question.bank
        words = getattr(getattr(self.clip, "tokenizer", None), "words", None)
        return default_bank() if words is None else default_bank().within(words)

    # ---- the two parts ----------------------------------------------------------------------------------------------

    @cached_property
    def images(self) -> ReferenceImages:
        """What is read of the reference split whatever is asked."""
        return ReferenceImages(self.store.subset(self.splits.reference))

    @property
    def reference(self) -> HeadStore:
        """The part of the store that corrections are fitted on."""
        return self.images.store

    @cached_property
    def test(self) -> HeadStore:
        """The part of the store that is scored."""
        return self.store.subset(self.splits.test)

    @cached_property
    def scored(self) -> KnownLogits:
        """The same, with its class scores and those of some heads kept: any number of corrections is tried on it."""
        return KnownLogits(self.test, self.classifier.to(self.test.embedding), max_bytes=MAX_BYTES)

    @cached_property
    def scores(self) -> ReferenceScores:
        """What is read of the reference split whatever the attribute."""
        rows = self.splits.reference
        allowed = None if self.allowed is None else self.allowed[torch.as_tensor(rows)]
        return ReferenceScores(self.reference, self.classifier, allowed, self.labels[rows])

    @property
    def test_labels(self) -> Int[np.ndarray, "image"]:
        """The true class of every scored image."""
        return self.labels[self.splits.test]

    @property
    def test_values(self) -> Int[np.ndarray, "image"]:
        """The attribute's value of every scored image."""
        return self.values[self.splits.test]

    @property
    def test_clusters(self) -> Int[np.ndarray, "image"] | None:
        """The cluster of every scored image; see `clusters`."""
        return self.clusters_of(self.splits.test)

    @property
    def test_groups(self) -> np.ndarray:
        """The group of every scored image."""
        return self.groups[self.splits.test]

    @property
    def scored_images(self) -> ScoredImages:
        """The scored images' classes, values, groups and clusters, by which predictions are scored."""
        return ScoredImages(self.test_labels, self.test_values, self.test_groups, self.test_clusters)

    @property
    def further_columns(self) -> dict[str, np.ndarray]:
        """Columns of the manifest that may be further attributes: those of 2 to 10 values among the scored images, as
        text, "" for none."""
        frame = self.test.manifest.drop(columns=[*NO_ATTRIBUTES, self.question.attribute.name], errors="ignore")
        columns = {str(name): as_text(frame[name]).fillna("").astype(str).to_numpy() for name in frame.columns}
        return {name: one for name, one in columns.items() if 2 <= len({*one} - {""}) <= _MOST_VALUES}

    @cached_property
    def effects(self) -> HeadEffects:
        """What ablating any heads does to the scored images' classes, means being those of the reference split."""
        logits = self.logits(self.test.embedding, self.splits.test)
        return HeadEffects.of_view(logits, self.test, self.reference, self.classifier)

    def ablated(self, heads: Iterable[HeadLike]) -> Predictions:
        """The class of every scored image with heads replaced by their means over the reference split."""
        return predicted(self.effects.without(heads))

    # ---- scores -----------------------------------------------------------------------------------------------------

    def logits(
        self, embedding: Float[Tensor, "image embed"], rows: Int[np.ndarray, "image"] | None = None
    ) -> Float[Tensor, "image class"]:
        """Class scores of embeddings, up to a positive factor.

        Args:
            embedding: of some images.
            rows: which images of the store these are; where given, a class that is no candidate of an image scores far
                below all others.
        """
        return self.among(embedding @ self.classifier.T.to(embedding), rows)

    def among(
        self, logits: Float[Tensor, "image class"], rows: Int[np.ndarray, "image"] | None
    ) -> Float[Tensor, "image class"]:
        """Class scores of these rows of the store, with classes that are no candidate far below all others."""
        if rows is None or self.allowed is None:
            return logits
        return among(logits, self.allowed[torch.as_tensor(rows)])

    @cached_property
    def zero_shot(self) -> Int[np.ndarray, "image"]:
        """The class that zero-shot predicts for every scored image."""
        return predicted(self.logits(self.test.embedding, self.splits.test))

    def margins(
        self, logits: Float[Tensor, "image class"], rows: Int[np.ndarray, "image"]
    ) -> Float[np.ndarray, "image"]:
        """Each image's score of its true class minus the best score of another candidate.

        Args:
            logits: class scores of these rows.
            rows: rows of the store.
        """
        true = torch.as_tensor(self.labels[rows])[:, None].to(logits.device)
        others = self.among(logits, rows).scatter(1, true, -torch.inf).amax(dim=1)
        return (logits.gather(1, true)[:, 0] - others).detach().cpu().numpy()

    def conflicting(
        self, named: Sequence[tuple[str, str]] | None = None, values: Int[np.ndarray, "image"] | None = None
    ) -> ConflictingGroups:
        """The groups of the reference split in which attribute and class conflict.

        Those named; else each class's rarer values (of three values or more, those rarer in it than over all classes);
        else, where the reference split is balanced, the values on which a class is classified worse.

        Args:
            named: (class, value) groups.
            values: other values of the reference images, such as inferred ones.

        Raises:
            LocateError: for a named group that does not exist, or where no group is classified worse than its class.
        """
        values = self.values[self.splits.reference] if values is None else values
        classes = np.asarray(self.question.task.classes, dtype=object)
        names = np.asarray(self.question.attribute.value_names, dtype=object)
        true, held = classes[self.labels[self.splits.reference]], names[values]
        if named is not None:
            return conflicting_groups(true, held, groups=named)
        try:
            return conflicting_groups(true, held, rule="majority" if len(set(held)) == 2 else "rarer")
        except LocateError:
            guess = classes[predicted(self.scores.logits)]
            return conflicting_groups(true, held, rule="accuracy", predictions=guess, margin=0.0)


def check_inputs(clip: HookedCLIP | None, store: HeadStore | None) -> None:
    """Raise `ModelError` or `StoreError` for arguments of other types, such as the two in the other order."""
    order = "The order is hl.Audit(clip, store, task, attribute)."
    how = f"Pass hl.load(…), or None for an audit that asks nothing new. {order}"
    check_type("clip", clip, (HookedCLIP, type(None)), how, ModelError)
    how = f"Open a store by its path, hl.HeadStore.open('acts.zarr', clip), or fill one with hl.extract. {order}"
    check_type("store", store, (HeadStore, type(None)), how, StoreError)


def among(
    logits: Float[Tensor, "image class"], allowed: Bool[Tensor, "image class"] | None
) -> Float[Tensor, "image class"]:
    """Class scores with those that are not allowed far below all others."""
    return logits if allowed is None else logits.masked_fill(~allowed.to(logits.device), _NEVER)


def margins_along(
    store: HeadStore,
    classifier: Float[Tensor, "class embed"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
) -> tuple[Float[Tensor, "image layer head"], Decisions]:
    """`margins_of` of a store's images, without the heads' scores of any class that no image needs.

    Raises:
        LocateError: as `margins_of`.
    """
    decisions = decide(logits, labels)
    margins = store.project_between(classifier, decisions.predicted, decisions.other)
    check_finite(margins, "head logits")
    return margins, decisions


def predicted(logits: Float[Tensor, "image class"]) -> Int[np.ndarray, "image"]:
    """The class with the highest score."""
    return logits.argmax(dim=-1).cpu().numpy()


def nearest(
    embedding: Float[Tensor, "image embed"], prototypes: Float[Tensor, "value embed"]
) -> Int[np.ndarray, "image"]:
    """The prototype with the highest score for each image."""
    return predicted(embedding @ prototypes.T.to(embedding))


def choose_splits(
    manifest: pd.DataFrame,
    groups: np.ndarray,
    values: Int[np.ndarray, "image"],
    reference: str = "val",
    test: str = "test",
    seed: int = 0,
    *,
    clusters: Int[np.ndarray, "image"] | None = None,
    attribute: Attribute | None = None,
) -> Splits:
    """Take the two named splits from the manifest's `split` column, or draw halves of every group without one.

    Args:
        manifest: the table of images.
        groups: the group of every row; drawn halves keep its proportions.
        values: the attribute's value of every row; rows of −1 are left out, which the note counts.
        reference: the split to fit on.
        test: the split to score.
        seed: of the draw.
        clusters: images that show one person or scene, which a draw keeps together.
        attribute: which the manifest's column of its name labels; None for one that is inferred.

    Raises:
        ManifestError: where the column is there but a named split is not, where both names are the same, and where a
            part has fewer than two values of the attribute.
    """
    if "split" in manifest.columns:
        parts = {name: _named_split(manifest["split"], name) for name in (reference, test)}
        if reference == test:
            raise ManifestError(
                f"The split {reference!r} is named both as reference and as test.",
                "Name one split to fit on and another to score, or remove the column 'split' to have halves drawn.",
            )
        rows = (parts[reference], parts[test])
        note = f"Heads are located and corrections fitted on the split {reference!r}; {test!r} is scored."
    else:
        rows = _halves(groups, seed, clusters)
        together = "" if clusters is None else ", images of one cluster together,"
        note = (
            f"The manifest names no splits: half of every group{together} (seed {seed}) is the reference, on which "
            "heads are located and corrections fitted; the rest is scored."
        )
    kept = [part[values[part] >= 0] for part in rows]
    for name, part, every in zip(("reference", "test"), kept, rows, strict=True):
        if (held := len(np.unique(values[part]))) < 2:
            absent = () if attribute is None else np.delete(attribute.value_names, np.unique(values[part]))
            raise ManifestError(
                f"The {name} part has {len(part)} labelled images with {held} value{'' if held == 1 else 's'} of the "
                "attribute; at least two are needed."
                + (f" None of its images has {listed(map(str, absent))}." if len(absent) else "")
                + _left_out(manifest, attribute, every[values[every] < 0]),
                "Use other splits or add images: an attribute that never varies cannot be distinguished from the rest.",
            )
    note += _left_out(manifest, attribute, np.concatenate([part[values[part] < 0] for part in rows]))
    return Splits(kept[0], kept[1], note)


def _left_out(manifest: pd.DataFrame, attribute: Attribute | None, rows: Int[np.ndarray, "unlabelled"]) -> str:
    """The images that are left out for want of a value, counted by what their cells hold, as a sentence."""
    if attribute is None or not len(rows):
        return ""
    written = as_text(manifest[attribute.name].iloc[rows])
    empty, others = int(written.isna().sum()), written.value_counts()
    counted = [(empty, "without a value")] if empty else []
    counted += [(count, f"with {value!r}") for value, count in others.head(_SHOWN).items()]
    if rest := others[_SHOWN:].sum():
        counted.append((rest, "with other values"))
    many, what = counted[0]
    said = [
        f"{many} {'image' if many == 1 else 'images'} {what}",
        *(f"{count} {which}" for count, which in counted[1:]),
    ]
    unnamed = ", which the attribute does not name," if len(others) else ""
    joined = " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    return f" {joined}{unnamed} {'is' if len(rows) == 1 else 'are'} left out."


def _named_split(column: pd.Series, name: str) -> Int[np.ndarray, "of_split"]:
    rows = np.flatnonzero((column.astype(str) == name).to_numpy())
    if not len(rows):
        there = ", ".join(f"{one} ({count})" for one, count in column.value_counts().items())
        raise ManifestError(
            f"The manifest's column 'split' has no {name!r}; it has {there}.",
            "Name the two splits to use (--split REFERENCE,TEST in the shell), or remove the column to have halves "
            "drawn.",
        )
    return rows


def _halves(
    groups: np.ndarray, seed: int, clusters: Int[np.ndarray, "image"] | None
) -> tuple[Int[np.ndarray, "reference_image"], Int[np.ndarray, "test_image"]]:
    """Halves of the images of every group, or of the clusters whose first image is of that group."""
    generator = np.random.default_rng(seed)
    units = np.arange(len(groups)) if clusters is None else clusters
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    taken = np.zeros(len(first), dtype=bool)
    for group in np.unique(groups):
        rows = generator.permutation(np.flatnonzero(groups[first] == group))
        taken[rows[: len(rows) // 2]] = True
    chosen = taken[unit]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _neighbours(prompts: Sequence[str]) -> Pairs:
    if len(prompts) < 2:
        raise TaskError(f"There are {len(prompts)} prompts to distinguish.", "Name two or more classes or values.")
    return tuple(pairwise(prompts))


def asking(question: Question, **changes: Any) -> Question:
    """Another question of the same model and images; pairs of the classes do not outlive the classes.

    Pairs that distinguish the attribute's values, and those that cross both, go with the attribute likewise.
    """
    changes |= {name: as_pairs(changes[name]) for name in PAIRS if name in changes}
    task, attribute = changes.get("task", question.task), changes.get("attribute", question.attribute)
    if task.classes != question.task.classes:
        changes = {"pairs": None, "crossed_pairs": None} | changes
    if attribute != question.attribute:
        changes = {"spurious_pairs": None, "crossed_pairs": None} | changes
    return replace(question, **changes)
