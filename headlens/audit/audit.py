"""One audit: a model, a data set, a task and an attribute, and what was found about them.

The pixels were seen once, when the store was filled. From there an audit locates the heads that carry the attribute
into the task's mistakes, fits corrections on one part of the data, scores them on another part, and judges them against
random heads. Every step can be taken alone; a later step takes the earlier ones where they are missing.

    audit = hl.Audit(clip, store, task, attribute)
    audit.locate()            # which heads
    audit.explain()           # what they encode
    audit.correct("ltc")      # fitted on the reference split
    audit.evaluate()          # scored on the test split, against random heads
    audit.fairness()          # Cramér's V before and after ablating the candidates, against random heads
    audit.collateral()        # what the corrections cost elsewhere: other attributes, other classes
    audit.report("report.html")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlens.audit import folder as folder_of
from headlens.audit.collateral import measure_collateral
from headlens.audit.collateral_results import CollateralResults
from headlens.audit.conflicts import conflict_note
from headlens.audit.evidence import as_indices, attribute_prompts
from headlens.audit.fairness import fairness
from headlens.audit.fairness_results import FairnessResults
from headlens.audit.fairness_verdict import FairnessRule
from headlens.audit.locators import run_locator
from headlens.audit.methods import Ingredients, build
from headlens.audit.methods import method as registered
from headlens.audit.question import Question
from headlens.audit.results import Results
from headlens.audit.scoring import Remember, score
from headlens.correct import Correction, Tokens
from headlens.explain import Explanation, LabelRule, explain_heads
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.locate import Located
from headlens.models import HookedCLIP
from headlens.prompts import Attribute, ZeroShotTask, encode_pairs

if TYPE_CHECKING:
    from headlens.audit.plotting import Plots


class Audit(Question):
    """Ask a filled store which heads carry an attribute into a task, and what correcting them does.

    The arguments are those of `Question`: model, store, task and attribute, the splits, text pairs, bank and seed.

    Attributes:
        location: the located heads; None before `locate`.
        location_note: a sentence on the groups that the locator compared.
        results: what `evaluate` found.
        fairness_results: what `fairness` found.
        collateral_results: what `collateral` found.
        folder: where the audit was last saved to or loaded from.
    """

    # As class attributes, so that the signature of an audit is that of its question.
    location: Located | None = None
    location_note: str = ""
    results: Results | None = None
    fairness_results: FairnessResults | None = None
    collateral_results: CollateralResults | None = None
    folder: Path | None = None

    @cached_property
    def corrections(self) -> dict[str, Correction]:
        """The fitted corrections, by name."""
        return {}

    @cached_property
    def explanations(self) -> dict[HeadId, Explanation]:
        """What `explain` found, by head."""
        return {}

    @cached_property
    def _ingredients(self) -> dict[str | None, Ingredients]:
        return {}

    # ---- the steps --------------------------------------------------------------------------------------------------

    def locate(
        self, method: str = "contrastive", *, conflicting: Sequence[tuple[str, str]] | None = None, **options: Any
    ) -> Located:
        """Find the heads that carry the attribute into the task.

        Args:
            method: a locator's name; see `headlens.audit.LOCATORS`. "contrastive" and its variants look at the
                conflicting groups' wrongly and rightly classified images; "concept", "textspan" and "concept+textspan"
                ask what the heads encode.
            conflicting: (class, value) groups in which attribute and class conflict. By default every group whose value
                is not the one that its class mostly occurs with; where the reference split is balanced, the groups that
                the zero-shot classifier gets wrong more often than its class as a whole.
            options: the locator's own, such as `rule=ConceptRule(...)` or `first=5`.

        Raises:
            LocateError: for an unknown locator, option or group, or where there is nothing to contrast.
        """
        self.location, self.location_note = self._run_locator(method, conflicting, options)
        self._ingredients = {}
        self.corrections, self.results, self.fairness_results, self.collateral_results = {}, None, None, None
        return self.location

    def located(self) -> Located:
        """What was located; by the contrastive locator where nothing was asked yet."""
        return self.location if self.location is not None else self.locate()

    def explain(
        self,
        heads: Iterable[tuple[int, int]] | None = None,
        *,
        count: int = 10,
        draws: int = 5,
        rule: LabelRule | None = None,
    ) -> dict[HeadId, Explanation]:
        """Say what heads encode, by the texts of the bank that span their contributions to the reference images.

        Args:
            heads: the heads to explain; all by default. Uniqueness is among these.
            count: texts a head, at most.
            draws: bootstrap samples of the images behind the texts' stability; 0 leaves it out.
            rule: how a label is made.

        Raises:
            ExplainError: for a count larger than the bank; LocateError: for a head outside the tower.
        """
        evidence = self.evidence()
        explained = explain_heads(
            evidence.store if draws else evidence.moments,
            evidence.bank,
            evidence.bank_embeddings,
            count,
            heads=heads,
            basis=evidence.store.basis,
            draws=draws,
            seed=self.seed,
            rule=rule,
        )
        self.explanations = explained
        return explained

    def correct(self, method: str | Correction = "ltc", *, name: str | None = None) -> Correction:
        """Fit a correction on the reference split and keep it under its name for `evaluate`.

        Args:
            method: a registered method's name, or a correction of your own.
            name: what to call it in tables; a registered method keeps its own name by default.
        """
        correction = build(method, self.ingredients_of(method)) if isinstance(method, str) else method
        fitted = correction.fit(self.reference)
        self.corrections[name or (method if isinstance(method, str) else type(method).__name__)] = fitted
        self.results = self.collateral_results = None
        return fitted

    def evaluate(
        self,
        methods: Sequence[str] = ("ablation", "ltc"),
        *,
        draws: int = 100,
        bootstrap: int = 1000,
        controls: Sequence[str] | None = None,
        remember: Remember | None = None,
    ) -> Results:
        """Score zero-shot, the fitted corrections and `methods` on the test split, with intervals and controls.

        Args:
            methods: registered methods to fit where they are not fitted yet.
            draws: random head sets a method is compared with; all of them where no more exist.
            bootstrap: resamples behind every interval.
            controls: the methods that are compared with random heads; all of `methods` by default.
            remember: keeps what random heads predict, for a run that may be interrupted.
        """
        for method in methods:
            if method not in self.corrections:
                self.correct(method)
        self.results = score(self, methods if controls is None else controls, draws, bootstrap, remember)
        self.collateral_results = None
        return self.results

    def fairness(
        self,
        *,
        draws: int = 100,
        bootstrap: int = 1000,
        permutations: int = 1000,
        total: int = 500,
        tokens: Tokens = "class",
        rule: FairnessRule | None = None,
    ) -> FairnessResults:
        """Ablate the located heads and judge whether the attribute's hold on the predictions is focal.

        Where nothing was located yet, the candidates are the heads on which both concept tests agree.

        Args:
            draws: layer-matched random head sets; all of them where no more exist.
            bootstrap: resamples behind every interval.
            permutations: of the attribute within each class.
            total: scored images that are passed through the model again for the total effect; 0 leaves it out. It is
                left out, too, where the model or the image files are not at hand.
            tokens: at which tokens the total ablation replaces the heads: "class" or "all".
            rule: the thresholds of the verdict.

        Returns:
            The association before and after, controls, shares, classes and the verdict in words.
        """
        if self.location is None:
            self.locate("concept+textspan")
        self.fairness_results = fairness(self, draws, bootstrap, permutations, total, tokens, rule)
        self.collateral_results = None
        return self.fairness_results

    def collateral(
        self,
        attributes: Sequence[Attribute] = (),
        tasks: Mapping[str, ZeroShotTask] | None = None,
        *,
        k: int = 10,
        bootstrap: int = 1000,
    ) -> CollateralResults:
        """Measure what `evaluate`'s methods and `fairness`'s ablation cost elsewhere, on the scored images.

        Scored are other attributes and tasks, each class of the audited task, the audited attribute itself, and how
        many of every image's nearest images stay so. Images whose value is not among those named are left out.

        Args:
            attributes: further attributes, named after the manifest's columns that hold their values.
            tasks: further tasks, by the column that holds their labels. Where neither is given, further columns of few
                values in words are asked in the audited task's templates, where the model can tell them at all.
            k: how many neighbours.
            bootstrap: resamples behind every interval.

        Raises:
            TaskError: for an attribute or task without a column, or whose values no scored image has.
        """
        if self.results is None and self.fairness_results is None:
            self.evaluate()
        self.collateral_results = measure_collateral(self, attributes, tasks or {}, k, bootstrap)
        return self.collateral_results

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
            bank=self.bank_given,
            skip_unlabelled=self.skip_unlabelled,
        )

    # ---- keeping and showing ----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the audit to a folder: JSON for what a person reads, safetensors for arrays. See `Audit.load`."""
        self.folder = folder_of.save(self, Path(folder))
        return self.folder

    @classmethod
    def load(cls, folder: str | Path, clip: HookedCLIP | None = None, store: HeadStore | None = None) -> Audit:
        """Open a saved audit. Without `clip` it answers what it was asked before; new prompts need the model."""
        audit = folder_of.load(Path(folder), clip, store)
        audit.folder = Path(folder)
        return audit

    @cached_property
    def plot(self) -> Plots:
        """The audit's figures, as plotly figures: see `headlens.audit.plotting`."""
        from headlens.audit.plotting import Plots

        return Plots(self)

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
        """Write everything that was found as one self-contained HTML file.

        Args:
            path: the file to write.
            images: how many images to draw per-token maps for; 0 where the image files are gone.
        """
        from headlens.report.from_audit import write_report

        return write_report(self, Path(path), images)

    def card(self) -> str:
        """The same, short, as a Markdown section for a model card: the verdict first, tables with intervals, limits.

        Steps that were not taken yet are taken first. Names from a manifest or a prompt are escaped.
        """
        from headlens.report.card import card

        return card(self)

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _run_locator(
        self, method: str, conflicting: Sequence[tuple[str, str]] | None, options: dict[str, Any]
    ) -> tuple[Located, str]:
        evidence = self.evidence(conflicting)
        location = run_locator(method, evidence, options)
        # A locator that did not ask for conflicting groups has nothing to say about them.
        return location, conflict_note(evidence.conflicting) if "conflicting" in vars(evidence) else ""

    def ingredients(self, locator: str | None = None) -> Ingredients:
        """What registered methods build on; locates first where that has not been done.

        Args:
            locator: whose heads, where not the audit's own.
        """
        location = self.located() if locator is None else self._run_locator(locator, None, {})[0]
        rows = self.splits.reference
        return Ingredients(
            location=location,
            pairs=encode_pairs(self.pairs, self.texts),
            spurious_pairs=encode_pairs(self.spurious_pairs, self.texts),
            classifier=self.classifier,
            spurious_prompts=self.texts(attribute_prompts(self.attribute)),
            labels=as_indices(self.labels[rows]),
            values=as_indices(self.values[rows]),
            seed=self.seed,
            cross_pairs=encode_pairs(self.crossed_pairs, self.texts),
        )

    def ingredients_of(self, method: str) -> Ingredients:
        """What the registered method of that name builds on: its own locator's heads where it has one."""
        locator = registered(method).locator
        if locator not in self._ingredients:
            self._ingredients[locator] = self.ingredients(locator)
        return self._ingredients[locator]
