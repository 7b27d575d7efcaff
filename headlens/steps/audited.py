"""What an audit holds: the question's arrays, the record of the steps that were taken, and what they found."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pandas as pd

from headlens.correct import Correction
from headlens.errors import CorrectionError, ExplainError
from headlens.explain import AttributeEncoding, Explanation, among_selected, attribute_encoding
from headlens.extraction import HeadStore
from headlens.findings import Finding
from headlens.heads import ByHead, HeadId, HeadLike, as_heads
from headlens.locate import Located
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, ZeroShotTask
from headlens.registry import Registry
from headlens.steps import record as calls
from headlens.steps.ablate import HeadAblation
from headlens.steps.collateral import CollateralResults
from headlens.steps.data import AuditData, Splits
from headlens.steps.evaluate import Evaluated, Fitted
from headlens.steps.fairness import FairnessResults
from headlens.steps.locate import Evidence, LocatedHeads
from headlens.steps.methods import METHODS, Method
from headlens.steps.question import Question
from headlens.steps.record import Record, corrections, in_words, result_of
from headlens.steps.reproduce import commands, script
from headlens.steps.verdicts import Asked, FairnessVerdict, Verdict
from headlens.tables import Table, listed


class Audited:
    """A question and what was found so far; the report, the model card and the figures read nothing else.

    `headlens.Audit` adds the steps that find more.

    Attributes:
        data: the arrays of the question.
        record: the steps that were taken.
        methods: the registry that methods' names are looked up in.
        folder: where the audit was last saved to or loaded from.
        asked: every question that a verdict answered on these test images, also in audits that this one was made from
            or that were made from it.
    """

    def __init__(self, data: AuditData, record: Record = (), methods: Registry[Method] = METHODS):
        self.data = data
        self.record: Record = record
        self.methods = methods
        self.folder: Path | None = None
        self.asked: list[Asked] = []
        self._encoded: tuple[Record | None, dict[HeadId, AttributeEncoding]] = None, {}  # of that record

    # ---- the question -----------------------------------------------------------------------------------------------

    @property
    def question(self) -> Question:
        """What is asked."""
        return self.data.question

    @property
    def clip(self) -> HookedCLIP | None:
        """The model; None where the audit was loaded without it."""
        return self.data.clip

    @property
    def store(self) -> HeadStore:
        """Head states of the data set."""
        return self.data.store

    @property
    def task(self) -> ZeroShotTask:
        """The classes."""
        return self.question.task

    @property
    def attribute(self) -> Attribute:
        """The attribute."""
        return self.question.attribute

    @property
    def splits(self) -> Splits:
        """The reference and the test part, by row numbers."""
        return self.data.splits

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is doubtful in the data: images in both parts, empty groups, rare spellings."""
        return self.data.findings

    @property
    def identity(self) -> str:
        """A digest of model, images, texts, splits and seed: two audits that share it ask the same."""
        return self.question.identity

    @cached_property
    def evidence(self) -> Evidence:
        """The reference split as scores and explanations read it."""
        return Evidence(self.data)

    # ---- the results ------------------------------------------------------------------------------------------------

    @property
    def location(self) -> Located | None:
        """The located heads; None before `locate`."""
        found: LocatedHeads | None = result_of(self.record, calls.Locate)
        return None if found is None else found.located

    @property
    def location_note(self) -> str:
        """The groups that the locator compared, in a sentence."""
        found: LocatedHeads | None = result_of(self.record, calls.Locate)
        return "" if found is None else found.note

    @property
    def fitted(self) -> dict[str, Fitted]:
        """The fitted corrections with the heads that each was built on, by name."""
        return {name: step.result for name, step in corrections(self.record).items()}

    @property
    def corrections(self) -> dict[str, Correction]:
        """The fitted corrections, by name."""
        return {name: fitted.correction for name, fitted in self.fitted.items()}

    def encoding(self, head: HeadLike) -> AttributeEncoding:
        """How an explained head encodes the audited attribute: its share, its rank, the separation of its values, and,
        where the head was located for the attribute, whether it is labelled by it.

        Shares are of the reference images, everything else is measured on the scored ones.

        Raises:
            ExplainError: for a head that was not explained, or a value of fewer than two scored images.
        """
        (one,) = as_heads([head], self.store.n_layers, self.store.n_heads)
        if one not in self.explanations:
            raise ExplainError(f"Head {one} was not explained.", f"Call audit.explain(['{one}']) first.")
        return self.encodings.get(one) or self._encoding(one)

    @property
    def encodings(self) -> dict[HeadId, AttributeEncoding]:
        """How the heads that were located for the attribute, and explained, encode it; judged together.

        Empty where the values were inferred from the same texts, by whole embeddings with these heads' parts in them:
        what a head writes then agrees with the texts by construction.
        """
        if self._encoded[0] is not self.record:  # a page asks once for every head and every sentence
            self._encoded = self.record, self._encode()
        return self._encoded[1]

    def _encode(self) -> dict[HeadId, AttributeEncoding]:
        if self.data.inferred:
            return {}
        if self.location is not None:
            selected = self.location.spurious
        else:
            selected = () if self.fairness_results is None else self.fairness_results.candidates
        heads = [HeadId(*head) for head in selected]
        found = among_selected([self._encoding(head) for head in heads if head in self.explanations])
        return {one.head: one for one in found}

    @property
    def titles(self) -> dict[HeadId, str]:
        """What each explained head is called: by the attribute that it was located for, and by its poles."""
        named = {head: one.label for head, one in self.explanations.items()}
        with suppress(ExplainError):  # too few scored images of a value
            named |= {head: one.title for head, one in self.encodings.items()}
        return named

    def _encoding(self, head: HeadId) -> AttributeEncoding:
        return attribute_encoding(
            self.explanations[head],
            self.data.test,
            self.data.images.moments,
            self.data.directions,
            self.data.test_values,
            (self.attribute.name, self.attribute.value_names),
        )

    @property
    def explanations(self) -> ByHead[Explanation]:
        """What `explain` found, by head."""
        return ByHead(result_of(self.record, calls.Explain) or {})

    @property
    def results(self) -> Evaluated | None:
        """What `evaluate` found."""
        return result_of(self.record, calls.Evaluate)

    @property
    def fairness_results(self) -> FairnessResults | None:
        """What `fairness` found."""
        return result_of(self.record, calls.Fairness)

    @property
    def collateral_results(self) -> CollateralResults | None:
        """What `collateral` found."""
        return result_of(self.record, calls.Collateral)

    @property
    def ablation(self) -> HeadAblation | None:
        """What `ablate` found last."""
        return result_of(self.record, calls.Ablate)

    @property
    def verdict(self) -> Verdict | FairnessVerdict | None:
        """What the numbers allow one to say: of the correction that `evaluate` judged, else of `fairness`."""
        if self.results is not None and self.results.verdict is not None:
            return self.results.verdict
        return None if self.fairness_results is None else self.fairness_results.verdict

    # ---- written down -----------------------------------------------------------------------------------------------

    def script(self) -> str:
        """Python that repeats this audit from its store."""
        return script(self.data, self.record, self.folder, self.asked)

    def commands(self, out: str | Path = "audit-again") -> str:
        """Shell commands that repeat this audit from its store, once it was saved.

        Args:
            out: the folder that they write to.

        Raises:
            CorrectionError: where the audit was not saved, and nothing can be read from its folder.
        """
        if self.folder is None:
            raise CorrectionError("This audit was not saved yet.", "Call audit.save(folder) first.")
        return commands(self.data, self.record, self.folder, str(out))

    def _repr_html_(self) -> str:
        verdict = "none yet" if self.verdict is None else self.verdict.sentence
        rows = {
            "Model": self.question.model,
            "Classes": listed(self.task.classes, 12),
            "Attribute": f"{self.attribute.name}: {listed(self.attribute.value_names, 12)}",
            "Images": f"{len(self.splits.reference)} reference, {len(self.splits.test)} scored",
            "So far": ", ".join(in_words(step.call) for step in self.record) or "nothing yet",
            "Located": "none yet" if self.location is None else listed(self.location.spurious),
            "Verdict": verdict,
        }
        return Table(pd.DataFrame(rows.items(), columns=["audit", self.identity]))._repr_html_()

    def __repr__(self) -> str:
        taken = ", ".join(in_words(step.call) for step in self.record) or "nothing yet"
        return (
            f"Audit({self.question.model}: {listed(self.task.classes, 6)} by {self.attribute.name}, "
            f"{len(self.splits.reference)} reference and {len(self.splits.test)} scored images; so far: {taken})"
        )
