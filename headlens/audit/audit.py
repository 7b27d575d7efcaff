"""One audit: a model, a data set, a task and an attribute, and what was found about them.

The pixels were seen once, when the store was filled. From there an audit locates the heads that carry the attribute
into the task's mistakes, fits corrections on one part of the data, scores them on another part, and judges them against
random heads. Every step can be taken alone; a later step takes the earlier ones where they are missing.

    audit = hl.Audit(clip, store, task, attribute)
    audit.locate()            # which heads
    audit.correct("ltc")      # fitted on the reference split
    audit.evaluate()          # scored on the test split, against random heads
    audit.report("report.html")
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.audit import folder as folder_of
from headlens.audit.casts import random_casts
from headlens.audit.controls import RandomHeads
from headlens.audit.methods import Ingredients, build
from headlens.audit.methods import method as registered
from headlens.audit.results import Results
from headlens.audit.splits import Splits, choose_splits
from headlens.audit.texts import TextEmbeddings
from headlens.audit.verdict import judge
from headlens.correct import Correction
from headlens.errors import LocateError, ManifestError, TaskError
from headlens.locate import ConflictingGroups, Location, conflicting_groups, locator
from headlens.manifest import as_text, check_manifest, class_indices
from headlens.metrics import Evaluation, evaluate, group_names, paired_difference
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.prompts import Attribute, ZeroShotTask, encode_pairs
from headlens.states import HeadStore

TextPairs = Sequence[Sequence[str]]


class Audit:
    """Ask a filled store which heads carry an attribute into a task, and what correcting them does.

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
        seed: of every draw.

    Raises:
        ManifestError: for a manifest without the label or the splits, or with labels that are not classes.
        StoreError: where the store was made with another model.
    """

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
        seed: int = 0,
        texts: TextEmbeddings | None = None,
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
        self.seed = seed
        self.texts = texts or TextEmbeddings(None if clip is None else clip.encode_text)
        self.inferred = attribute.name not in store.manifest.columns
        check_manifest(
            store.manifest,
            classes=task.classes,
            attribute=None if self.inferred else attribute.name,
            files=False,
        )
        self.splits: Splits = choose_splits(store.manifest, self.groups, reference, test, seed)
        self.location: Location | None = None
        self.location_note = ""
        self.corrections: dict[str, Correction] = {}
        self.results: Results | None = None

    # ---- what is asked, as arrays -----------------------------------------------------------------------------------

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
        column = self.store.manifest[self.attribute.name]
        return _value_codes(column, self.attribute.value_names, self.attribute.name)

    @cached_property
    def groups(self) -> list[str]:
        """The group of every image, written class/value."""
        names = self.attribute.value_names
        return group_names([self.task.classes[c] for c in self.labels], [names[v] for v in self.values]).tolist()

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

    # ---- the steps --------------------------------------------------------------------------------------------------

    def locate(self, method: str = "contrastive", *, conflicting: Sequence[tuple[str, str]] | None = None) -> Location:
        """Find the heads that push the conflicting groups' images wrong (spurious) or right (salient).

        Args:
            method: a locator's name; see `headlens.locate.LOCATORS`.
            conflicting: (class, value) groups in which attribute and class conflict. By default every group whose value
                is not the one that its class mostly occurs with; where the reference split is balanced, the groups that
                the zero-shot classifier gets wrong more often than its class as a whole.

        Raises:
            LocateError: for an unknown locator or group, or where there is nothing to contrast.
        """
        locate = locator(method)
        logits = self.logits(self.reference.embedding)
        groups = self._conflicting(logits.argmax(dim=-1).numpy(), conflicting)
        labels = torch.as_tensor(self.labels[self.splits.reference])
        self.location = locate(self.reference.project(self.classifier), logits, labels, groups.mask)
        self.location_note = _conflict_note(groups)
        self.corrections, self.results = {}, None
        return self.location

    def correct(self, method: str | Correction = "ltc", *, name: str | None = None) -> Correction:
        """Fit a correction on the reference split and keep it under its name for `evaluate`.

        Args:
            method: a registered method's name, or a correction of your own.
            name: what to call it in tables; a registered method keeps its own name by default.
        """
        correction = build(method, self.ingredients) if isinstance(method, str) else method
        fitted = correction.fit(self.reference)
        self.corrections[name or (method if isinstance(method, str) else type(method).__name__)] = fitted
        self.results = None
        return fitted

    def evaluate(
        self, methods: Sequence[str] = ("ablation", "ltc"), *, draws: int = 100, bootstrap: int = 1000
    ) -> Results:
        """Score zero-shot, the fitted corrections and `methods` on the test split, with intervals and controls.

        Args:
            methods: registered methods to fit where they are not fitted yet.
            draws: random head sets a method is compared with; all of them where no more exist.
            bootstrap: resamples behind every interval.
        """
        for method in methods:
            if method not in self.corrections:
                self.correct(method)
        labels = self.labels[self.splits.test]
        groups = [self.groups[row] for row in self.splits.test]
        predictions = {"zero-shot": self._predict(None)}
        predictions |= {name: self._predict(correction) for name, correction in self.corrections.items()}
        evaluations = {
            name: evaluate(name, predicted, labels, groups, draws=bootstrap, seed=self.seed)
            for name, predicted in predictions.items()
        }
        controls = {
            name: control
            for name in methods
            if (control := self._control(name, evaluations, labels, groups, draws)) is not None
        }
        judged = "ltc" if "ltc" in evaluations else next(reversed(evaluations))
        difference = paired_difference(
            predictions["zero-shot"], predictions[judged], labels, groups, draws=bootstrap, seed=self.seed
        )
        verdict = judge(
            judged,
            len(self._located().spurious),
            difference.difference["worst_group"],
            difference.interval["worst_group"],
            controls.get(judged),
        )
        self.results = Results(evaluations, predictions, controls, verdict)
        return self.results

    # ---- variations -------------------------------------------------------------------------------------------------

    def with_attribute(self, attribute: Attribute) -> Audit:
        """The same audit of another attribute, from the same store: no image is looked at again."""
        return Audit(
            self.clip,
            self.store,
            self.task,
            attribute,
            reference=self.reference_name,
            test=self.test_name,
            pairs=self.pairs if self.pairs_given else None,
            seed=self.seed,
            texts=self.texts,
        )

    # ---- keeping and showing ----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the audit to a folder: JSON for what a person reads, safetensors for arrays. See `Audit.load`."""
        return folder_of.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, clip: HookedCLIP | None = None, store: HeadStore | None = None) -> Audit:
        """Open a saved audit. Without `clip` it answers what it was asked before; new prompts need the model."""
        return folder_of.load(Path(folder), clip, store)

    def report(self, path: str | Path, images: int = 4) -> Path:
        """Write everything that was found as one self-contained HTML file.

        Args:
            path: the file to write.
            images: how many images to draw per-token maps for; 0 where the image files are gone.
        """
        from headlens.report.from_audit import write_report

        return write_report(self, Path(path), images)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _conflicting(
        self, predicted: Int[np.ndarray, "image"], named: Sequence[tuple[str, str]] | None
    ) -> ConflictingGroups:
        rows = self.splits.reference
        classes = np.asarray(self.task.classes, dtype=object)
        labels = classes[self.labels[rows]]
        values = np.asarray(self.attribute.value_names, dtype=object)[self.values[rows]]
        if named is not None:
            return conflicting_groups(labels, values, groups=named)
        try:
            return conflicting_groups(labels, values)
        except LocateError:
            # A balanced reference split has no majority to conflict with. What the classifier gets wrong still tells
            # the direction of its bias, and the heads are judged on other images.
            return conflicting_groups(labels, values, rule="accuracy", predictions=classes[predicted], margin=0.0)

    def _located(self) -> Location:
        return self.location if self.location is not None else self.locate()

    @property
    def ingredients(self) -> Ingredients:
        """What registered methods build on; locates first where that has not been done."""
        return Ingredients(
            location=self._located(),
            pairs=encode_pairs(self.pairs, self.texts),
            spurious_pairs=encode_pairs(self.spurious_pairs, self.texts),
            classifier=self.classifier,
        )

    def _predict(self, correction: Correction | None) -> Int[np.ndarray, "image"]:
        view = self.test if correction is None else correction.apply(self.test)
        return self.logits(view.embedding).argmax(dim=-1).numpy()

    def _control(
        self,
        method: str,
        evaluations: dict[str, Evaluation],
        labels: np.ndarray,
        groups: list[str],
        draws: int,
    ) -> RandomHeads | None:
        known = self.ingredients
        casts, exhaustive = random_casts(
            known, registered(method).roles, self.store.n_layers, self.store.n_heads, draws, self.seed
        )
        if not casts:
            return None
        names = sorted(set(groups))
        membership = np.stack([np.asarray(groups) == name for name in names]).astype(float)
        rows, averages = [], []
        with progress(f"Random heads for {method}", len(casts), unit="sets") as advance:
            for cast in casts:
                correction = build(method, known.recast(cast)).fit(self.reference)
                right = self._predict(correction) == labels
                rows.append(membership @ right / membership.sum(axis=1))
                averages.append(right.mean())
                advance(1)
        return RandomHeads(
            method=method,
            sets=tuple(tuple(head for heads in cast.values() for head in heads) for cast in casts),
            groups=tuple(names),
            group_accuracy=np.stack(rows),
            average=np.asarray(averages),
            observed=evaluations[method].worst_group,
            baseline=evaluations["zero-shot"].worst_group,
            exhaustive=exhaustive,
            seed=self.seed,
        )


def _neighbours(prompts: Sequence[str]) -> list[tuple[str, str]]:
    if len(prompts) < 2:
        raise TaskError("at least two prompts to tell apart", f"{len(prompts)}", "Name two or more classes or values.")
    return list(pairwise(prompts))


def _conflict_note(groups: ConflictingGroups) -> str:
    how = {
        "named": "as named",
        "majority": "each class's rarer values in the reference split",
        "accuracy": "the values on which each class is classified worse, because the reference split is balanced",
    }[groups.rule]
    listed = ", ".join(f"{c}/{v} ({n} images)" for (c, v), n in zip(groups.groups, groups.sizes, strict=True))
    return f"Conflicting groups: {listed}; {how}."


def _value_codes(column: pd.Series, names: Sequence[str], attribute: str) -> Int[np.ndarray, "image"]:
    index = {name: i for i, name in enumerate(names)}
    written = as_text(column)
    unknown = sorted({str(name) for name in written if name not in index})
    if unknown:
        raise ManifestError(
            f"every {attribute} among {', '.join(names)}",
            f"{', '.join(map(repr, unknown[:5]))}{' and more' if len(unknown) > 5 else ''}",
            f"Correct the manifest's column {attribute!r}, or give these values prompts too.",
        )
    return written.map(index).to_numpy(dtype=np.int64)
