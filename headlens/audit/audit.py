"""One audit: a model, a data set, a task and an attribute, and what was found about them.

The pixels were seen once, when the store was filled. From there an audit locates the heads that carry the attribute
into the task's mistakes, fits corrections on one part of the data, scores them on another part, and judges them against
random heads.

    audit = hl.Audit(clip, store, task, attribute)
    audit.locate()            # which heads
    audit.explain()           # what they encode
    audit.correct("ltc")      # fitted on the reference split
    audit.evaluate()          # scored on the test split, against random heads
    audit.fairness()          # Cramér's V before and after ablating its own candidates, against random heads
    audit.collateral()        # what the corrections cost elsewhere: other attributes, other classes
    audit.report("report.html")

Each call adds a step to `audit.record`, its call and its result side by side; a call that was made before returns the
result that still stands. Only `locate` with other heads, and `correct(..., replace=True)`, drop steps that rest on what
they replace, and name them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headlens.correct import Correction, Tokens
from headlens.document.figures import Figures
from headlens.errors import CorrectionError, HeadlensWarning, LocateError, TaskError, check_type
from headlens.explain import Explanation, LabelRule, explain_heads
from headlens.extraction import HeadStore
from headlens.findings import check_values
from headlens.heads import ByHead, HeadId, HeadLike, HeadScores, as_heads
from headlens.locate import ConceptRule, Located
from headlens.manifest import named_groups
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, TextBank, ZeroShotTask
from headlens.registry import Registry
from headlens.serialization import digest
from headlens.steps import record as calls
from headlens.steps.ablate import HeadAblation, ablate
from headlens.steps.audited import Audited
from headlens.steps.collateral import CollateralResults, measure_collateral, task_as_attribute
from headlens.steps.data import AuditData, asking, check_inputs
from headlens.steps.evaluate import Cache, Evaluated, Fitted, FitWith, evaluate, fit_method, question_of
from headlens.steps.fairness import FairnessResults, fairness
from headlens.steps.locate import (
    LOCATORS,
    SCORES,
    LocatedHeads,
    check_options,
    head_scores,
    locate,
    locator_options,
)
from headlens.steps.methods import METHODS, Method
from headlens.steps.null import Relocate
from headlens.steps.question import Question, as_pairs
from headlens.steps.record import GIVEN, Call, Record, Step, corrections, in_words, known, last, with_step
from headlens.steps.saved import load, save
from headlens.steps.texts import TextEmbeddings
from headlens.steps.verdicts import Asked, FairnessRule


class Audit(Audited):
    """Ask a filled store which heads carry an attribute into a task, and what correcting them does.

    Args:
        clip: the model whose text tower reads the prompts; None for an audit that was loaded and asks nothing new.
        store: head states of the data set, with its manifest.
        task: the classes; the manifest's `label` column holds their names.
        attribute: the attribute; the manifest's column of that name holds its values. Without such a column they are
            inferred zero-shot, which every result then says.
        reference: the split on which heads are located and corrections are fitted.
        test: the split that is scored.
        pairs: text pairs that distinguish the classes by true features, for knowledge injection. By default the class
            prompts themselves, pair by pair, or of many classes the directions along which their prompts differ most;
            either is a weak stand-in.
        spurious_pairs: text pairs that distinguish the attribute's values. By default the values' first prompts.
        crossed_pairs: text pairs that name one class and differ in the attribute's value, for classifier calibration.
            By default a class prompt joined with two values' prompts.
        bank: the general texts that heads are explained by; by default headlens' own, in words that the model knows.
        seed: of every draw.
        skip_unlabelled: leave out images whose value of the attribute is missing or not among its values, and say so;
            by default they are an error.

    Raises:
        ManifestError: for a manifest without the label or the splits, with labels that are not classes, or a split
            without two values of the attribute.
        StoreError: where the store was made with another model.

    Warns:
        HeadlensWarning: for a rare value of the attribute that looks like a frequent one misspelt.

    What was asked and found so far are its attributes: see `headlens.steps.audited.Audited`.
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
        pairs: Sequence[Sequence[str]] | None = None,
        spurious_pairs: Sequence[Sequence[str]] | None = None,
        crossed_pairs: Sequence[Sequence[str]] | None = None,
        bank: TextBank | None = None,
        seed: int = 0,
        skip_unlabelled: bool = False,
    ):
        check_inputs(clip, store)
        if clip is not None:
            store.check_model(clip)
        question = Question(
            model=store.model_name,
            fingerprint=store.fingerprint,
            manifest=store.manifest_digest,
            task=task,
            attribute=attribute,
            reference=reference,
            test=test,
            pairs=as_pairs(pairs),
            spurious_pairs=as_pairs(spurious_pairs),
            crossed_pairs=as_pairs(crossed_pairs),
            bank=bank,
            seed=seed,
            skip_unlabelled=skip_unlabelled,
        )
        texts = TextEmbeddings(None if clip is None else clip.encode_text)
        super().__init__(AuditData(question, store, clip, texts))
        if not self.data.inferred:
            for doubt in check_values(store.manifest[attribute.name]):
                warnings.warn(doubt.sentence, HeadlensWarning, stacklevel=2)

    @classmethod
    def of(cls, data: AuditData, record: Record = (), methods: Registry[Method] = METHODS) -> Audit:
        """An audit of a question whose arrays are there, with the steps of a record.

        Args:
            data: the question's arrays.
            record: the steps that were taken.
            methods: where methods are looked up by name; `METHODS.with_entries({...})` for methods of one run.
        """
        audit = cls.__new__(cls)
        Audited.__init__(audit, data, record, methods)
        return audit

    # ---- the steps --------------------------------------------------------------------------------------------------

    def locate(
        self,
        locator: str | Located = "contrastive",
        *,
        conflicting: Sequence[tuple[str, str] | str] | None = None,
        rule: ConceptRule | None = None,
        spurious: Iterable[HeadLike] | None = None,
        salient: Iterable[HeadLike] = (),
        source: str = "",
        n_bootstrap: int = 50,
        **options: Any,
    ) -> Located:
        """Find the heads that carry the attribute into the task.

        Args:
            locator: a name of `headlens.steps.LOCATORS`; or another audit's result. "contrastive" and its variants look
                at the conflicting groups' incorrectly and correctly classified images; "concept", "textspan" and
                "concept+textspan" ask what the heads encode.
            conflicting: groups in which attribute and class conflict, (class, value) or "class/value". By default every
                group whose value is not the one that its class mostly occurs with; where the reference split is
                balanced, the groups that the zero-shot classifier gets wrong more often than its class as a whole.
            rule: the thresholds of the concept test.
            spurious, salient: heads that were located elsewhere; then no locator is run.
            source: where these come from, in a few words; of no heads at all, why there are none.
            n_bootstrap: resamples of the reference images behind the locator's stability, how often each head is
                named, where it reads class scores alone; 0 leaves it out.
            options: the locator's other options, such as `first=5`.

        Raises:
            UnknownNameError: for an unknown locator.
            LocateError: for an unknown option or group; `NothingLocatedError` where there is nothing to contrast.
        """
        groups = None
        if conflicting is not None:
            groups = named_groups(conflicting, self.task.classes, self.attribute.value_names)
        if not isinstance(locator, str):
            how = f"Pass one of {', '.join(LOCATORS)}; heads that you name go to spurious= and salient=."
            check_type("The locator", locator, Located, how, LocateError)
            spurious, salient, source = locator.spurious, locator.salient, source or locator.method
        if isinstance(locator, str) and spurious is None and not salient:
            check_options(LOCATORS, locator, locator_options(rule, options))
            call = calls.Locate(locator, groups, rule, tuple(options.items()), n_bootstrap=n_bootstrap)
        else:
            given = self._heads(spurious or ()), self._heads(salient)
            call = calls.Locate(GIVEN, spurious=given[0], salient=given[1], source=source)
        self._take(call, lambda: locate(self.data, call))
        assert self.location is not None
        return self.location

    def explain(
        self,
        heads: Iterable[HeadLike] | None = None,
        *,
        k: int = 10,
        n_bootstrap: int = 5,
        rule: LabelRule | None = None,
    ) -> ByHead[Explanation]:
        """Say what heads encode: what they distinguish in the reference images, in texts of the bank, tested on others.

        A head's principal directions have texts at both ends; a head is labelled by a pair of them where these predict
        its part of the scored images better than random directions would, else it has no clear meaning.

        Args:
            heads: the heads to explain; all by default. Uniqueness is among these.
            k: texts a head, at most.
            n_bootstrap: bootstrap samples of the images behind the texts' stability; 0 leaves it out.
            rule: how a label is made.

        Raises:
            LocateError: for a head outside the tower.
        """
        chosen = None if heads is None else self._heads(heads)
        call = calls.Explain(chosen, k, n_bootstrap, rule or LabelRule())
        return ByHead(self._take(call, lambda: self._explain(call)))

    def correct(
        self,
        method: str | Correction = "ltc",
        *,
        name: str | None = None,
        replace: bool = False,
        fit: FitWith | None = None,
    ) -> Correction:
        """Fit a correction on the reference split and keep it under its name for `evaluate`.

        A method that uses the located heads takes those of the contrastive locator where nothing was located yet.

        Args:
            method: a registered method's name, or a correction of your own.
            name: what to call it in tables; by default the method's name, or the correction's type, numbered.
            replace: replace another correction of that name, and drop the evaluation that scored it.
            fit: fits a registered method's correction on the reference split, for a run that keeps what it fitted.

        Raises:
            UnknownNameError: for an unknown method.
            CorrectionError: where another correction has that name already.
        """
        if isinstance(method, str):
            own, call = None, calls.Correct(name or method, method, self.methods[method].located)
        else:
            how = "Pass one method's name, audit.correct('ltc'), or several to audit.evaluate(['ltc', 'ablation'])."
            check_type("The method", method, Correction, how, CorrectionError)
            own = method.fit(self.data.reference)
            call = calls.Correct(name or self._new_name(type(method).__name__), None)
        found = self._standing(call, own, replace)
        if found is None:
            found = self._fit(self.methods[str(method)], fit) if own is None else Fitted(own)
            self._add(Step(call, found))
        return found.correction

    def evaluate(
        self,
        methods: Sequence[str] = ("ablation", "ltc"),
        *,
        controls: Sequence[str] | None = None,
        judged: str | None = None,
        n_random_sets: int = 100,
        n_bootstrap: int = 1000,
        n_null: int = 50,
        total: int = 500,
        cache: Cache | None = None,
    ) -> Evaluated:
        """Score zero-shot, every fitted correction and `methods` on the test split, with intervals and controls.

        Args:
            methods: registered methods, fitted where they are not fitted yet.
            controls: the methods that are compared with random heads; by default all of `methods` that use heads.
            judged: the method that the verdict is about; by default "ltc", else the last one of `methods`.
            n_random_sets: random head sets a method is compared with; all of them where no more exist.
            n_bootstrap: resamples behind the interval of what the judged method takes from the dependence on the
                attribute; accuracies and their differences have intervals in closed form.
            n_null: how often the verdict is repeated with the attribute permuted within the true classes; 0 for none.
            total: scored images that are passed through the model again for the total effect; 0 leaves it out.
            cache: keeps what random heads predict, for a run that may be interrupted.

        Raises:
            UnknownNameError: for a method that is neither fitted nor registered.
            CorrectionError: for a control or a judged method that is not scored, or that uses no located heads.
        """
        names = _names("methods", methods)
        scored = tuple(dict.fromkeys([*self.fitted, *names]))
        built = {name: entry for name in scored if (entry := self._method_of(name)) is not None}
        wanted = (
            [name for name in names if name in built and built[name].roles]
            if controls is None
            else _names("controls", controls)
        )
        self._check_scored(scored, built, wanted, judged)
        for name in names:
            if name not in self.fitted:
                self.correct(name)
        if judged is None and scored:
            judged = "ltc" if "ltc" in names else (names or scored)[-1]
        call = calls.Evaluate(scored, tuple(wanted), judged, n_random_sets, n_bootstrap, n_null, total)
        before, relocate = last(self.record, calls.Evaluate), self._relocate(built.get(str(judged)))
        found = self._take(
            call,
            lambda: evaluate(
                self.data,
                call,
                self.fitted,
                built,
                before=before,
                cache=cache,
                relocate=relocate,
                asked=self.asked,
            ),
        )
        if judged is not None:
            self._count(question_of(self.data, judged, self.fitted[judged]))
        return found

    def fairness(
        self,
        candidates: str | Iterable[HeadLike] = "concept+textspan",
        *,
        n_random_sets: int = 100,
        n_bootstrap: int = 1000,
        n_permutations: int = 1000,
        n_null: int = 50,
        total: int = 500,
        tokens: Tokens = "class",
        verdict_rule: FairnessRule | None = None,
        rule: ConceptRule | None = None,
        **options: Any,
    ) -> FairnessResults:
        """Ablate candidate heads and judge whether the attribute's hold on the predictions is focal.

        The candidates are this call's own: what `locate` found before does not matter to it.

        Args:
            candidates: the locator that names them; or the heads themselves.
            n_random_sets: layer-matched random head sets; all of them where no more exist.
            n_bootstrap: resamples behind every interval.
            n_permutations: of the attribute within each class.
            n_null: how often the verdict is repeated with the attribute permuted within the true classes; 0 for none.
            total: scored images that are passed through the model again for the total effect; 0 leaves it out.
            tokens: at which tokens the total ablation replaces the heads: "class" or "all"; all in a tower without a
                class token.
            verdict_rule: the thresholds of the verdict.
            rule: the thresholds of the concept test.
            options: the locator's other options.

        Returns:
            The association before and after, controls, shares, classes and the verdict in words.
        """
        heads, locator = None, candidates
        if isinstance(locator, str):
            check_options(LOCATORS, locator, locator_options(rule, options))
        else:
            heads, locator = self._heads(locator), GIVEN
        call = calls.Fairness(
            locator,
            rule,
            tuple(options.items()),
            heads,
            n_random_sets,
            n_bootstrap,
            n_permutations,
            total,
            tokens,
            verdict_rule or FairnessRule(),
            n_null,
        )
        again = None if heads is not None else calls.Locate(locator, None, rule, call.options, n_bootstrap=0)
        relocate = None if again is None else lambda data: locate(data, again).located
        found = self._take(call, lambda: fairness(self.data, call, self._candidates(call), relocate, asked=self.asked))
        self._count(Asked(self.attribute.name, call.locator, "fairness", found.candidates))
        return found

    def collateral(
        self,
        attributes: Attribute | Sequence[Attribute] = (),
        tasks: Mapping[str, ZeroShotTask] | None = None,
        *,
        methods: Sequence[str] | None = None,
        heads: Iterable[HeadLike] | None = None,
        k: int = 10,
        n_bootstrap: int = 1000,
    ) -> CollateralResults:
        """Measure what fitted corrections, and the mean ablation of chosen heads, cost elsewhere.

        Scored are other attributes and tasks, each class of the audited task, the audited attribute itself, and how
        many of every image's nearest images stay so, all on the scored images. Images whose value is not among those
        named are left out.

        Args:
            attributes: further attributes, named after the manifest's columns that hold their values.
            tasks: further tasks, by the column that holds their labels. Where neither is given, further columns of few
                values in words are asked in the audited task's templates, where the model can tell them at all.
            methods: the corrections; by default all that are fitted, and where none is and there are no heads either,
                ablation and LTC.
            heads: heads whose mean ablation is measured, too; by default the candidates of `fairness`.
            k: how many neighbours.
            n_bootstrap: resamples behind every interval.

        Raises:
            TaskError: for an attribute or task without a column, or whose values no scored image has.
        """
        found = self.fairness_results
        chosen = self._heads(heads if heads is not None else [] if found is None else found.candidates)
        if methods is None:
            methods = list(self.fitted) or ([] if chosen else ["ablation", "ltc"])
        for name in (methods := _names("methods", methods)):
            if name not in self.fitted:
                self.correct(name)
        attributes = list(attributes) if isinstance(attributes, Iterable) else [attributes]
        for one in attributes:
            check_type("One of the attributes", one, Attribute, "Pass a list of hl.Attribute(…).", TaskError)
        others = [*attributes, *(task_as_attribute(column, task) for column, task in (tasks or {}).items())]
        call = calls.Collateral(tuple(methods), chosen, tuple(others) or None, k, n_bootstrap)
        return self._take(call, lambda: measure_collateral(self.data, call, self.fitted))

    def ablate(self, heads: Iterable[HeadLike], *, n_random_sets: int = 100, n_bootstrap: int = 1000) -> HeadAblation:
        """Replace heads by their reference means, and score the test split before and after, against random heads.

        Args:
            heads: the heads, from any locator or none.
            n_random_sets: layer-matched random sets to compare with; 0 for no control.
            n_bootstrap: resamples behind every interval.

        Raises:
            LocateError: for no head, a head outside the tower, or one named twice.
        """
        call = calls.Ablate(self._heads(heads), n_random_sets, n_bootstrap)
        return self._take(call, lambda: ablate(self.data, call))

    def scores(self, score: str, **options: Any) -> HeadScores:
        """A number for every head, over the reference split, as the heatmap shows it.

        Args:
            score: a name of `headlens.steps.SCORES`: "attribution", "contrastive", "concept" or "effect".
            options: the score's own, such as `between=("landbird", "waterbird")`.
        """
        check_options(SCORES, score, options)
        return head_scores(self.evidence, score, **options)

    # ---- variations -------------------------------------------------------------------------------------------------

    def with_attribute(self, attribute: Attribute) -> Audit:
        """The same audit of another attribute, from the same store: no image is looked at again."""
        return self.asking(attribute=attribute)

    def asking(self, **changes: Any) -> Audit:
        """An audit that differs in some fields of the question: `task`, `attribute`, `seed`, `bank`, …

        Text pairs that distinguish classes do not outlive the classes, nor those of an attribute the attribute.
        """
        other = Audit.of(self.data.of(asking(self.question, **changes)), methods=self.methods)
        (reference, test), own = (self.splits.reference, self.splits.test), other.splits
        if np.array_equal(own.test, test):
            other.asked = self.asked
        same_images = np.array_equal(own.reference, reference) and np.array_equal(own.test, test)
        was, now = self.question, other.question
        if same_images and (was.bank, was.seed) == (now.bank, now.seed):
            # What a head encodes does not depend on the task or the attribute.
            other.record = tuple(step for step in self.record if isinstance(step.call, calls.Explain))
        return other

    # ---- keeping and showing ----------------------------------------------------------------------------------------

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the audit to a folder: JSON for what a person reads, safetensors for arrays. See `Audit.load`.

        Args:
            folder: where.
            overwrite: replace an audit of another question.

        Raises:
            OutputError: for a folder that holds another audit; the message names what differs.
        """
        self.folder = save(self.data, self.record, self.asked, Path(folder), overwrite)
        return self.folder

    @classmethod
    def load(cls, folder: str | Path, clip: HookedCLIP | None = None, store: HeadStore | None = None) -> Audit:
        """Open a saved audit. Without `clip` it answers what it was asked before; new prompts need the model.

        Args:
            folder: where it was saved.
            clip: the model.
            store: the store, where it is no longer where it was.
        """
        data, record, asked = load(Path(folder), clip, store)
        audit = cls.of(data, record)
        audit.folder, audit.asked = Path(folder), asked
        return audit

    @property
    def plot(self) -> Figures:
        """The audit's figures, as plotly figures: see `headlens.audit.Figures`."""
        return Figures(self)

    def explore(self, folder: str | Path | None = None) -> Any:
        """The interactive explorer, as a widget for JupyterLab, Notebook and VS Code; see `headlens.explore`.

        Args:
            folder: what an explorer saved, to go on from; by default the folder that the audit was loaded from.

        Raises:
            HeadlensError: where the extra `headlens[notebook]` is not installed.
        """
        from headlens.explore import explore

        return explore(self, folder)

    def report(self, path: str | Path, images: int = 4) -> Path:
        """Write everything that was found as one self-contained HTML file. Steps that were not taken are named.

        Args:
            path: the file to write.
            images: how many images to draw per-token maps for; 0 where the image files are gone.
        """
        from headlens.document.audit import write_report

        return write_report(self, Path(path), images)

    def card(self) -> str:
        """The same, short, as a Markdown section for a model card: the verdict first, tables with intervals, limits.

        Names from a manifest or a prompt are escaped.
        """
        from headlens.document.markdown import card

        return card(self)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _heads(self, heads: Iterable[HeadLike]) -> tuple[HeadId, ...]:
        return as_heads(heads, self.store.n_layers, self.store.n_heads)

    def _count(self, one: Asked) -> None:
        if one not in self.asked:
            self.asked.append(one)

    def _take(self, call: Call, make: Callable[[], Any]) -> Any:
        """The result of a call: the one that still stands, or a new one, which joins the record."""
        step = known(self.record, call)
        if step is None:
            step = Step(call, make())
            self._add(step)
        return step.result

    def _add(self, step: Step) -> None:
        self.record, dropped = with_step(self.record, step)
        if dropped:
            what = ", ".join(in_words(one.call) for one in dropped)
            warnings.warn(
                f"{in_words(step.call).capitalize()} changed: {what} no longer hold and were dropped. Call "
                f"{'them' if len(dropped) > 1 else 'it'} again.",
                HeadlensWarning,
                stacklevel=4,
            )

    def _explain(self, call: calls.Explain) -> dict[HeadId, Explanation]:
        evidence = self.evidence
        return explain_heads(
            evidence.store,
            evidence.bank,
            evidence.bank_embeddings,
            min(call.k, len(evidence.bank)),
            heads=call.heads,
            basis=evidence.store.basis,
            held_out=self.data.test,
            parts=None if call.n_bootstrap else [evidence.moments],
            draws=call.n_bootstrap,
            seed=self.question.seed,
            rule=call.rule,
        )

    @cached_property
    def _also_located(self) -> dict[str, LocatedHeads]:
        return {}

    def _located_by(self, call: calls.Locate) -> LocatedHeads:
        """What a locator finds, for a step that does not use the audit's own located heads; found once."""
        step, key = known(self.record, call), digest(call)
        if step is not None:
            return step.result
        if key not in self._also_located:
            self._also_located[key] = locate(self.data, call)
        return self._also_located[key]

    def _candidates(self, call: calls.Fairness) -> LocatedHeads | None:
        if call.heads is not None:
            return None
        return self._located_by(calls.Locate(call.locator, None, call.rule, call.options, n_bootstrap=0))

    def _fit(self, entry: Method, fit: FitWith | None) -> Fitted:
        located: Located | None = None
        if entry.located:
            located = self.location or self.locate()
        elif entry.roles:
            assert entry.locator is not None
            located = self._located_by(calls.Locate(entry.locator, n_bootstrap=0)).located
        return fit_method(self.data, entry, located, fit)

    def _relocate(self, entry: Method | None) -> Relocate | None:
        """How a method's heads are located in other data, as they were in this."""
        step = last(self.record, calls.Locate)
        if entry is None or not entry.roles or (entry.located and step is None):
            return None
        call = calls.Locate(str(entry.locator))
        if step is not None and isinstance(step.call, calls.Locate) and entry.located:
            call = step.call
        call = replace(call, n_bootstrap=0)
        return lambda data: locate(data, call).located

    def _method_of(self, name: str) -> Method | None:
        """How a scored correction is built; None for one of the user's own."""
        step = corrections(self.record).get(name)
        method = name if step is None else step.call.method  # type: ignore[union-attr]
        return None if method is None else self.methods[method]

    def _standing(self, call: calls.Correct, own: Correction | None, replace: bool) -> Fitted | None:
        """The very correction that is asked for, where it is there; an error for another one of its name, which
        `replace` leaves to be replaced."""
        step = corrections(self.record).get(call.name)
        if step is None:
            return None
        if step.call == call and (own is None or digest(step.result.correction) == digest(own)):
            found: Fitted = step.result
            return found
        if not replace:
            raise CorrectionError(
                f"Another correction is already named {call.name!r}.",
                "Pass another name=, or replace=True to drop that one and the evaluation that scored it.",
            )
        return None

    def _new_name(self, kind: str) -> str:
        number = 1
        while (name := kind if number == 1 else f"{kind} {number}") in self.fitted:
            number += 1
        return name

    def _check_scored(
        self, scored: tuple[str, ...], built: Mapping[str, Method], controls: Sequence[str], judged: str | None
    ) -> None:
        for what, name in (*(("control", one) for one in controls), *([("judged method", judged)] if judged else ())):
            if name not in scored:
                raise CorrectionError(
                    f"The {what} {name!r} is not among the scored methods: {', '.join(scored)}.",
                    "Add it to the methods, or leave it out.",
                )
            if what == "control" and not (name in built and built[name].roles):
                raise CorrectionError(
                    f"{name!r} uses no located heads, so that random heads cannot replace them.",
                    "Leave it out of the controls.",
                )


def _names(what: str, names: str | Iterable[str]) -> list[str]:
    """Names without repetition, of which a single one may stand alone."""
    found = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    for one in found:
        how = "Pass names, such as 'ltc'. A correction of your own: audit.correct(correction, name='mine') before."
        check_type(f"One of the {what}", one, str, how, CorrectionError)
    return list(dict.fromkeys(found))
