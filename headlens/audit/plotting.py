"""`audit.plot`: the figures of an audit, as plotly figures that stand alone.

    audit.plot.heatmap()                  # the located heads' scores; or "attribution", "concept", "effect", …
    audit.plot.textspans((3, 1))          # what a head encodes
    audit.plot.images((3, 1))             # the images with the most and the least of it
    audit.plot.tokens(17, [(3, 1)])       # where in image 17 it reads
    audit.plot.groups(); audit.plot.margins(); audit.plot.controls(); audit.plot.collateral()

Each call takes the audit's steps that it needs and that were not taken yet, as the report does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from headlens import plots
from headlens.audit.controls import RandomHeads
from headlens.audit.fairness_results import RandomAssociation
from headlens.audit.head_scores import direction_between, head_scores
from headlens.audit.pictures import thumbnails, token_figure
from headlens.errors import HeadlensError, StoreError
from headlens.explain import Explanation, top_images
from headlens.heads import HeadId, HeadLike, HeadScores, as_heads
from headlens.metrics import Evaluation

if TYPE_CHECKING:
    from headlens.audit.audit import Audit

_MOST_MAPS = 6


class Plots:
    """The figures of one audit; made by `Audit.plot`."""

    def __init__(self, audit: Audit):
        self._audit = audit

    def heatmap(
        self,
        score: str | HeadScores | None = None,
        selected: Iterable[HeadLike] | None = None,
        title: str | None = None,
        **options: Any,
    ) -> go.Figure:
        """One number a head, centred on zero; selected heads with a full outline, located ones with a dotted one.

        The pointer shows the number and, where `audit.explain` was called, the head's label and first texts.

        Args:
            score: a name of `headlens.audit.HEAD_SCORES`, or scores; by default those of the located heads.
            selected: heads to outline; by default those that the score selects.
            title: plain text; by default the score's name.
            options: the score's own, such as `between=("landbird", "waterbird")`.

        Raises:
            LocateError: for an unknown score or option, or a head outside the tower.
        """
        audit = self._audit
        if score is None:
            score = audit.located().scores()
        scores = head_scores(audit, score, **options) if isinstance(score, str) else score
        chosen = list(scores.selection if selected is None else selected)
        located = [] if audit.location is None else audit.location.spurious
        return plots.heatmap(scores, chosen, title, diverging=True, hover_extra=self._hover(), located=located)

    def textspans(self, head: HeadLike) -> go.Figure:
        """A head's texts with the variance that each explains, beside their categories.

        Raises:
            LocateError: for a head outside the tower.
        """
        return plots.textspan(self.explanation(head))

    def images(self, head: HeadLike, count: int = 6, between: Sequence[str] | None = None) -> go.Figure:
        """The scored images with the most and the least of a head; captions name group, score and row.

        Args:
            head: the head.
            count: images at each end.
            between: two classes or texts, to sort by the head's part along their difference; by default by the
                distance from the head's mean.

        Raises:
            LocateError, ExplainError: as `headlens.explain.top_images`.
        """
        audit = self._audit
        direction, names = (None, "") if between is None else direction_between(audit.evidence(), between)
        top = top_images(audit.test, HeadId.of(head), direction, min(count, len(audit.test)))
        ends = (f"most {names}", f"least {names}") if names else ("most", "least")
        rows = {ends[0]: (top.highest, top.highest_scores), ends[1]: (top.lowest, top.lowest_scores)}
        captions = {
            end: [f"{self._group(place)} {score:+.3f} #{self._row(place)}" for place, score in zip(*found, strict=True)]
            for end, found in rows.items()
        }
        return plots.gallery({end: thumbnails(audit.test, places) for end, (places, _) in rows.items()}, captions)

    def tokens(
        self, image: int, heads: Iterable[HeadLike] | None = None, between: Sequence[str] | None = None
    ) -> go.Figure:
        """Where in an image heads read, patch by patch; the image goes through the model again.

        Args:
            image: its row in the store.
            heads: the heads; by default the first located ones.
            between: two classes or texts, along whose difference a head's contribution is shown. By default the
                predicted class less the true one where the image is wrong, else the true class less the next best.

        Raises:
            StoreError: for a row that the store does not have; LocateError: for a head outside the tower.
            ModelError, ImageError: where the model or the image file is not at hand.
        """
        audit = self._audit
        if not 0 <= image < len(audit.store):
            raise StoreError(f"a row from 0 to {len(audit.store) - 1}", str(image), "Rows are those of store.manifest.")
        if heads is None:
            location = audit.located()
            heads = [*location.spurious, *location.salient][:_MOST_MAPS]
        chosen = as_heads(heads, audit.store.n_layers, audit.store.n_heads)
        if not chosen:
            raise HeadlensError("at least one head to map", "none", "Name heads, as [(layer, head), …].")
        if between is None:
            likely, other, said = self._margin_of(image)
            direction = audit.classifier[likely] - audit.classifier[other]
            unit = f"{audit.task.classes[likely]} − {audit.task.classes[other]}"
        else:
            direction, unit = direction_between(audit.evidence(), between)
            said = self._margin_of(image)[2]
        title = f"Contribution along {unit}"
        return token_figure(audit, [image], {str(head): head for head in chosen}, direction[None], [said], title)

    def margins(self) -> go.Figure:
        """The margins of the true class on the scored images, by group, before and after every fitted correction."""
        audit = self._audit
        if not audit.corrections:
            audit.correct("ablation")
        rows = audit.splits.test
        classifier = audit.classifier.to(audit.test.embedding)
        logits = {"zero-shot": audit.logits(audit.test.embedding)}
        logits |= {name: one.logits(audit.test, classifier) for name, one in audit.corrections.items()}
        values = {name: audit.margins(scores, rows) for name, scores in logits.items()}
        return plots.margins(values, [audit.groups[row] for row in rows])

    def groups(self, evaluations: Sequence[Evaluation] | None = None) -> go.Figure:
        """Accuracy of every group under several methods, with intervals.

        Args:
            evaluations: by default zero-shot and the methods that `audit.evaluate` scored.
        """
        if evaluations is None:
            evaluations = list((self._audit.results or self._audit.evaluate()).evaluations.values())
        return plots.groups(evaluations, chance=1 / len(self._audit.task.classes))

    def collateral(self) -> go.Figure:
        """What the corrections cost elsewhere: the change of other tasks' accuracy, with intervals."""
        return plots.collateral(self._audit.collateral_results or self._audit.collateral())

    def controls(self, method: str | None = None) -> go.Figure:
        """Located heads against layer-matched random ones: a method's worst-group accuracy; where only the fairness
        audit was made, Cramér's V.

        Args:
            method: an evaluated method; by default the one that the verdict judges.

        Raises:
            HeadlensError: where no random heads were drawn for it.
        """
        audit = self._audit
        found = audit.fairness_results
        if audit.results is None and found is not None and found.control is not None:
            return self.controls_of(found.control, "candidates ablated")
        results = audit.results or audit.evaluate()
        name = method or results.verdict.method
        if name not in results.controls:
            raise HeadlensError(
                f"a method with random heads: {', '.join(results.controls) or 'none was drawn any'}",
                repr(name),
                "Evaluate it with controls, or choose one of these.",
            )
        return self.controls_of(results.controls[name], name)

    def controls_of(self, control: RandomHeads | RandomAssociation, name: str = "heads ablated") -> go.Figure:
        """Heads against random ones: of an evaluation, a fairness audit, or `headlens.audit.ablate`.

        Args:
            control: the random sets.
            name: how the line of the heads themselves is called.
        """
        if isinstance(control, RandomHeads):
            return plots.controls(control.worst_group, control.observed, control.baseline, observed_name=name)
        return plots.controls(
            control.cramers_v,
            control.observed,
            control.baseline,
            observed_name=name,
            baseline_name="no head ablated",
            quantity=f"Cramér's V of {self._audit.attribute.name} and prediction",
            measure="cramers_v",
        )

    def explanation(self, head: HeadLike) -> Explanation:
        """What `audit.explain` found for a head; explains every head first where that was not done."""
        audit = self._audit
        (one,) = as_heads([head], audit.store.n_layers, audit.store.n_heads)
        if one not in audit.explanations:
            audit.explain()
        return audit.explanations[one]

    def _hover(self) -> list[list[str]] | None:
        audit = self._audit
        if not audit.explanations:
            return None

        def told(head: HeadId) -> str:
            one = audit.explanations.get(head)
            return "" if one is None else "; ".join((one.label, *one.texts[:2]))

        shape = range(audit.store.n_layers), range(audit.store.n_heads)
        return [[told(HeadId(layer, head)) for head in shape[1]] for layer in shape[0]]

    def _row(self, place: int) -> int:
        return int(self._audit.splits.test[place])

    def _group(self, place: int) -> str:
        return self._audit.groups[self._row(place)]

    def _margin_of(self, image: int) -> tuple[int, int, str]:
        """The more and the less likely of true and best other class of an image, and what happened to it in words."""
        audit = self._audit
        row = np.asarray([image])
        scores = audit.among(audit.logits(audit.store.subset(row).embedding), row)[0]
        true = int(audit.labels[image])
        best, second = scores.topk(2).indices.tolist()
        if best == true:
            return true, second, f"{image}: {audit.groups[image]}, classified rightly"
        return best, true, f"{image}: {audit.groups[image]}, taken for {audit.task.classes[best]}"
