"""What an audit asks, of which model and which images: the one place where prompts and manifest become arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from weakref import ref

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headlens.audit import folder as folder_of
from headlens.audit.codes import value_codes
from headlens.audit.conflicts import choose_conflicting
from headlens.audit.evidence import Evidence, as_indices
from headlens.audit.parts import Parts
from headlens.audit.splits import Splits, choose_splits
from headlens.audit.texts import TextEmbeddings
from headlens.errors import TaskError
from headlens.extraction import HeadStore
from headlens.manifest import candidate_indices, check_manifest, class_indices
from headlens.metrics import group_names
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, ZeroShotTask, cross_pairs, default_bank

TextPairs = Sequence[Sequence[str]]

_NEVER = -1e4  # finite, so that a score less a head's part stays a number; scores of unit embeddings are within ±1


class Question:
    """A task and an attribute, asked of a filled store.

    Args:
        clip: the model whose text tower reads the prompts; None for an audit that was loaded and asks nothing new.
        store: head states of the data set, with its manifest.
        task: the classes; the manifest's `label` column holds their names.
        attribute: the attribute; the manifest's column of that name holds its values, and where there is no such column
            they are inferred zero-shot, which every result then says.
        reference: the split on which heads are located and corrections are fitted.
        test: the split that is scored.
        pairs: text pairs that tell the classes apart by true features, for knowledge injection. By default the class
            prompts themselves, pair by pair, which is a weak stand-in.
        spurious_pairs: text pairs that tell the attribute's values apart. By default the values' first prompts.
        crossed_pairs: text pairs that name one class and differ in the attribute's value, for classifier calibration.
            By default a class prompt joined with two values' prompts.
        seed: of every draw.
        texts: prompts that were embedded before, to be used again.
        bank: the general texts that heads are explained by; by default headlens' own, in words that the model knows.
        skip_unlabelled: leave out images whose value of the attribute is missing or not among its values, and say so;
            by default they are an error.

    Raises:
        ManifestError: for a manifest without the label or the splits, with labels that are not classes, or a split
            without two values of the attribute.
        StoreError: where the store was made with another model.
    """

    # Not held by the audit itself: of many images and classes the parts are as large as the store.
    _parts: ref[Parts] | None = None

    def __init__(
        self,
        clip: HookedCLIP | None,
        store: HeadStore,
        task: ZeroShotTask,
        attribute: Attribute,
        *,
        reference: str = "val",
        test: str = "test",
        pairs: TextPairs | None = None,
        spurious_pairs: TextPairs | None = None,
        crossed_pairs: TextPairs | None = None,
        seed: int = 0,
        texts: TextEmbeddings | None = None,
        bank: TextBank | None = None,
        skip_unlabelled: bool = False,
    ):
        if clip is not None:
            store.check_model(clip)
        self.clip = clip
        self.store = store
        self.task = task
        self.attribute = attribute
        self.reference_name, self.test_name = reference, test
        self.pairs_given = pairs is not None
        self.pairs = list(pairs) if pairs is not None else _neighbours(task.prompts())
        self.spurious_pairs = (
            list(spurious_pairs) if spurious_pairs is not None else _neighbours(attribute.first_prompts())
        )
        self.crossed_given = None if crossed_pairs is None else list(crossed_pairs)
        self.seed = seed
        self.texts = texts or TextEmbeddings(None if clip is None else clip.encode_text)
        self.inferred = attribute.name not in store.manifest.columns
        self.bank_given = bank
        self.skip_unlabelled = skip_unlabelled
        check_manifest(
            store.manifest,
            classes=task.classes,
            attribute=None if self.inferred or skip_unlabelled else attribute.name,
            files=False,
        )
        self.splits: Splits = choose_splits(store.manifest, self.groups, reference, test, seed).labelled(self.values)

    @cached_property
    def identity(self) -> str:
        """A digest of model, images, questions, splits and seed: two audits that share it are the same audit."""
        return folder_of.identity(
            self.store.fingerprint,
            self.store.manifest_digest,
            self.task,
            self.attribute,
            (self.reference_name, self.test_name),
            self.seed,
        )

    @cached_property
    def crossed_pairs(self) -> TextPairs:
        """Text pairs that name one class and differ in the attribute's value: those that were given, or made."""
        return self.crossed_given if self.crossed_given is not None else cross_pairs(self.task, self.attribute)

    @cached_property
    def classifier(self) -> Float[Tensor, "class embed"]:
        """The zero-shot class embeddings, unit norm."""
        return self.task.classifier(self.texts)

    @cached_property
    def labels(self) -> Int[np.ndarray, "image"]:
        """The true class of every image of the store, as an index into the task's classes."""
        return class_indices(self.store.manifest["label"], self.task.classes)

    @cached_property
    def values(self) -> Int[np.ndarray, "image"]:
        """The attribute's value of every image, as an index: the manifest's, or inferred zero-shot."""
        if self.inferred:
            prototypes = self.attribute.prototypes(self.texts)
            return (self.store.embedding @ prototypes.T.to(self.store.embedding)).argmax(dim=-1).numpy()
        return value_codes(self.store.manifest[self.attribute.name], self.attribute, missing=self.skip_unlabelled)

    @cached_property
    def groups(self) -> list[str]:
        """The group of every image, written class/value."""
        names = (*self.attribute.value_names, "not labelled")  # where it is, the value is −1
        every = group_names(np.repeat(self.task.classes, len(names)), np.tile(names, len(self.task.classes)))
        return every.reshape(-1, len(names))[self.labels, self.values].tolist()

    @cached_property
    def bank(self) -> TextBank:
        """The general texts that heads are explained by: the one that was given, or headlens' own.

        A text tower of few words, which lists them as its tokenizer's `words`, gets the texts that it can read.
        """
        if self.bank_given is not None:
            return self.bank_given
        words = getattr(getattr(self.clip, "tokenizer", None), "words", None)
        return default_bank() if words is None else default_bank().within(words)

    @cached_property
    def reference(self) -> HeadStore:
        """The part of the store that corrections are fitted on."""
        return self.store.subset(self.splits.reference)

    @cached_property
    def test(self) -> HeadStore:
        """The part of the store that is scored."""
        return self.store.subset(self.splits.test)

    def logits(self, embedding: Float[Tensor, "image embed"]) -> Float[Tensor, "image class"]:
        """Cosine-scaled class scores of embeddings: only their order within an image matters here."""
        return embedding @ self.classifier.T.to(embedding)

    @cached_property
    def allowed(self) -> Bool[Tensor, "image class"] | None:
        """The classes that each image is weighed between, by the manifest's column `candidates`; None for all."""
        if "candidates" not in self.store.manifest.columns:
            return None
        allowed = torch.zeros(len(self.store), len(self.task.classes), dtype=torch.bool)
        for row, candidates in enumerate(candidate_indices(self.store.manifest, self.task.classes)):
            allowed[row, slice(None) if candidates is None else list(candidates)] = True
        return allowed

    def among(
        self, logits: Float[Tensor, "image class"], rows: Int[np.ndarray, "image"]
    ) -> Float[Tensor, "image class"]:
        """Class scores with the classes that an image is not weighed between far below all others.

        Args:
            logits: scores of these rows.
            rows: rows of the store.
        """
        if self.allowed is None:
            return logits
        return logits.masked_fill(~self.allowed[torch.as_tensor(rows)].to(logits.device), _NEVER)

    def margins(
        self, logits: Float[Tensor, "image class"], rows: Int[np.ndarray, "image"]
    ) -> Float[np.ndarray, "image"]:
        """An image's score of its true class less the best score of another that it is weighed against.

        Args:
            logits: class scores of these rows.
            rows: rows of the store.
        """
        true = torch.as_tensor(self.labels[rows])[:, None].to(logits.device)
        others = self.among(logits, rows).scatter(1, true, -torch.inf).amax(dim=1)
        return (logits.gather(1, true)[:, 0] - others).detach().cpu().numpy()

    def evidence(self, conflicting: Sequence[tuple[str, str]] | None = None) -> Evidence:
        """The reference split as locators and explanations read it."""
        rows = self.splits.reference
        labels, values = as_indices(self.labels[rows]), as_indices(self.values[rows])
        return Evidence(
            store=self.reference,
            task=self.task,
            attribute=self.attribute,
            classifier=self.classifier,
            labels=labels,
            values=values,
            texts=self.texts,
            bank_of=lambda: self.bank,
            conflicting_of=lambda predicted: choose_conflicting(
                self.task, self.attribute, labels, values, predicted, conflicting
            ),
            parts=self.parts(),
            seed=self.seed,
        )

    def parts(self) -> Parts:
        """What of the reference split does not depend on the attribute; the same object as long as one is held."""
        living = None if self._parts is None else self._parts()
        if living is None:
            rows = self.splits.reference
            living = Parts(self.reference, self.classifier, lambda logits: self.among(logits, rows))
            self._parts = ref(living)
        return living


def _neighbours(prompts: Sequence[str]) -> list[tuple[str, str]]:
    if len(prompts) < 2:
        raise TaskError("at least two prompts to tell apart", f"{len(prompts)}", "Name two or more classes or values.")
    return list(pairwise(prompts))
