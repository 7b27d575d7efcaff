"""What the explorer shows, as plain Python: every step is a method, every number comes from a public call.

The widgets of `headlens.explore.view` only pass on what is typed and clicked, so this class is the explorer without a
browser. A step that fails raises and leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from headlens.audit import Audit
from headlens.errors import LocateError, StoreError, TaskError
from headlens.explore import record
from headlens.explore.code import reproduce
from headlens.explore.typed import attribute_text, class_text, read_attribute, read_task, template_text
from headlens.heads import HeadId, HeadScores, as_heads
from headlens.locate import OBJECTIVES
from headlens.metrics import Bootstrap, Evaluation, evaluate
from headlens.prompts import Attribute, ZeroShotTask
from headlens.steps import LOCATORS, HeadAblation


class ExplorerState:
    """An audit that is being explored.

    Args:
        audit: where to begin. It is never changed but for a first `locate`, where nothing was located, and for
            explanations; every other question is a new audit of the same store.
        draws: layer-matched random sets that a selection is compared with.
        bootstrap: resamples behind every interval.

    Attributes:
        audit: the audit of the present question.
        locator: whose located heads are shown.
        score: the heatmap's score, a name of `headlens.steps.SCORES`.
        between: the two classes or texts of the score "attribution".
        objective: of the score "effect".
        selection: the heads chosen, in the order of choice.
        head: the head whose texts and images are shown; None for none.
        image: the row of the store whose token map is shown.
        ablated: what ablating the selection did; None where that was not asked, or the selection changed since.
        note: why nothing was located, where nothing was; else "".
    """

    def __init__(self, audit: Audit, *, draws: int = 100, bootstrap: int = 1000):
        self.draws, self.bootstrap = draws, bootstrap
        self._origin = audit
        self.audit = audit
        method = "contrastive" if audit.location is None else audit.location.method
        self.locator = method if method in LOCATORS else "contrastive"
        self.note = "" if audit.location is not None else _locate(audit, self.locator)
        self.score = "attribution"
        self.between: tuple[str, str] = (audit.task.classes[0], audit.task.classes[1])
        self.objective: str = OBJECTIVES[0]
        self.selection: tuple[HeadId, ...] = self.located
        self.head: HeadId | None = self.selection[0] if self.selection else None
        self.ablated: HeadAblation | None = None
        self.image = self._first_mistake()

    # ---- the question -----------------------------------------------------------------------------------------------

    def ask(
        self,
        attribute: str | Attribute | None = None,
        classes: str | None = None,
        templates: str | None = None,
        locator: str | None = None,
    ) -> None:
        """Put another question to the same store. Heads are located anew, and become the selection.

        Args:
            attribute: an attribute, or as the shell takes it: name:value=prompt|prompt,value=prompt, or a column.
            classes: names separated by commas; every label of the manifest has to be among them.
            templates: texts with {} for the name, separated by vertical bars.
            locator: a name of `headlens.steps.LOCATORS`.

        Raises:
            HeadlensError: for prompts, classes or a locator that cannot be used; the state is left as it was.
        """
        old = self.audit
        if isinstance(attribute, str):
            attribute = read_attribute(attribute, old.store.manifest, old.attribute)
        attribute = old.attribute if attribute is None else attribute
        task = read_task(
            class_text(old.task) if classes is None else classes,
            template_text(old.task) if templates is None else templates,
            old.task,
        )
        locator = self.locator if locator is None else locator
        _ = LOCATORS[locator]
        if (attribute, task, locator) == (old.attribute, old.task, self.locator):
            return
        audit = self._audit_of(attribute, task, locator)
        note = "" if audit.location is not None and audit.location.method == locator else _locate(audit, locator)
        self.audit, self.locator, self.note = audit, locator, note
        if task.classes != old.task.classes:
            self.between = (task.classes[0], task.classes[1])
        self._forget()
        self.selection, self.ablated = self.located, None
        if self.selection:
            self.head = self.selection[0]

    @property
    def attribute_text(self) -> str:
        """The present attribute, as it would be typed."""
        return attribute_text(self.audit.attribute)

    @property
    def classes_text(self) -> str:
        """The present classes, as they would be typed."""
        return class_text(self.audit.task)

    @property
    def templates_text(self) -> str:
        """The present templates, as they would be typed."""
        return template_text(self.audit.task)

    @property
    def located(self) -> tuple[HeadId, ...]:
        """The located heads; none where nothing could be located, see `note`."""
        location = self.audit.location
        return () if location is None else tuple(HeadId(*head) for head in location.spurious)

    # ---- the heatmap ------------------------------------------------------------------------------------------------

    def show(
        self, score: str | None = None, between: Sequence[str] | None = None, objective: str | None = None
    ) -> HeadScores:
        """Choose the heatmap's score and its options.

        Raises:
            HeadlensError: for a score that is not known, or cannot be had of these data.
        """
        score = self.score if score is None else score
        pair = self.between if between is None else tuple(text.strip() for text in between)
        objective = self.objective if objective is None else objective
        if len(pair) != 2:
            raise TaskError("two classes or texts to compare", repr(pair), "Name one for each end.")
        scores = self.audit.scores(score, **_options(score, pair, objective))
        self.score, self.between, self.objective = score, (pair[0], pair[1]), objective
        self._shown = scores
        return scores

    @property
    def scores(self) -> HeadScores:
        """What the heatmap shows."""
        return self.show() if self._shown is None else self._shown

    @property
    def options(self) -> dict[str, Any]:
        """The options that `audit.plot.heatmap` is to be given beside the score."""
        return _options(self.score, self.between, self.objective)

    def heatmap(self) -> go.Figure:
        """The heatmap, located and selected heads outlined."""
        return self.audit.plot.heatmap(self.scores, self.selection)

    # ---- heads and images -------------------------------------------------------------------------------------------

    def click(self, head: tuple[int, int], add: bool = False) -> None:
        """Show a head, and select it: alone, or added to (or taken out of) the selection.

        Raises:
            LocateError: for a head outside the tower.
        """
        (one,) = as_heads([head], self.audit.store.n_layers, self.audit.store.n_heads)
        if not add:
            self.select([one])
        elif one in self.selection:
            self.select([other for other in self.selection if other != one])
        else:
            self.select([*self.selection, one])
        self.head = one

    def select(self, heads: Iterable[tuple[int, int]] | str) -> None:
        """Select these heads and no others; as pairs, or written "3.1, 3.4".

        Raises:
            LocateError: for a head outside the tower, one named twice, or text that names no head.
        """
        if isinstance(heads, str):
            heads = [HeadId.of(part) for part in heads.split(",") if part.strip()]
        chosen = as_heads(heads, self.audit.store.n_layers, self.audit.store.n_heads)
        if chosen != self.selection:
            self.selection, self.ablated = chosen, None

    def choose_image(self, row: int) -> None:
        """Choose the image whose token map is shown, by its row in the store.

        Raises:
            StoreError: for a row that the store does not have.
        """
        if not 0 <= row < len(self.audit.store):
            raise StoreError(f"a row from 0 to {len(self.audit.store) - 1}", str(row), "Rows count from zero.")
        self.image = int(row)

    def explain(self) -> None:
        """Explain every head by the general texts, where that was not done: hover and text spans then name them."""
        if not self.audit.explanations:
            self.audit.explain(n_bootstrap=0)

    def textspans(self) -> go.Figure:
        """The texts of the head that is shown."""
        self.explain()
        return self.audit.plot.textspans(self._head())

    def images(self) -> go.Figure:
        """The images with the most and the least of the head that is shown."""
        return self.audit.plot.images(self._head())

    def rows_of_images(self) -> list[int]:
        """The rows of the store behind the pictures of `images`, in their order."""
        from headlens.explain import top_images

        top = top_images(self.audit.data.test, self._head(), None, min(6, len(self.audit.data.test)))
        return self.audit.splits.test[[*top.highest, *top.lowest]].tolist()

    def tokens(self) -> go.Figure:
        """Where in the chosen image the selected heads read; the shown head alone where none is selected."""
        return self.audit.plot.tokens(self.image, self.selection[:6] or [self._head()])

    # ---- ablation ---------------------------------------------------------------------------------------------------

    def ablate(self) -> HeadAblation:
        """Ablate the selection: accuracies and V before and after, against layer-matched random heads.

        Raises:
            LocateError: where nothing is selected.
        """
        self.ablated = self.audit.ablate(self.selection, n_random_sets=self.draws, n_bootstrap=self.bootstrap)
        return self.ablated

    def accuracies(self) -> go.Figure | None:
        """Group accuracies before and after; None where nothing was ablated."""
        return None if self.ablated is None else self.audit.plot.groups([self.ablated.before, self.ablated.after])

    def controls(self) -> tuple[go.Figure | None, go.Figure | None]:
        """The selection against random heads, by worst-group accuracy and by V; None where there is no control."""
        control = None if self.ablated is None else self.ablated.control
        if control is None:
            return None, None
        plot = self.audit.plot
        return plot.controls_of(control), plot.controls_of(control, of_v=True)

    @cached_property
    def zero_shot(self) -> Evaluation:
        """Accuracy of every group of the present question, nothing ablated."""
        data = self.audit.data
        resampling = Bootstrap(self.bootstrap, seed=data.question.seed)
        return evaluate(
            data.test_labels, data.zero_shot, groups=data.test_groups, method="zero-shot", bootstrap=resampling
        )

    # ---- taking away ------------------------------------------------------------------------------------------------

    def code(self) -> str:
        """Python that reproduces the present state."""
        return reproduce(self)

    def save(self, folder: str | Path) -> Path:
        """Save the audit of the present question, and beside it explorer.json: see `headlens.explore.record`.

        Raises:
            OutputError: for a folder that holds another audit.
        """
        self.audit.save(folder)
        return record.write(self, Path(folder))

    def restore(self, folder: str | Path) -> bool:
        """Take up again what `save` wrote; False where the folder has no explorer.json.

        Raises:
            OutputError: for an explorer.json that is damaged, or of another audit.
        """
        return record.read(self, Path(folder))

    # ---- inside -----------------------------------------------------------------------------------------------------

    _shown: HeadScores | None = None

    def _forget(self) -> None:
        """Drop what was computed for the question before."""
        self._shown = None
        self.__dict__.pop("zero_shot", None)

    def _audit_of(self, attribute: Attribute, task: ZeroShotTask, locator: str) -> Audit:
        origin, old = self._origin, self.audit
        asked = (attribute, task)
        for known in (origin, old):
            if asked == (known.attribute, known.task) and _method(known) in (locator, None):
                return known
        return old.asking(task=task, attribute=attribute)

    def _head(self) -> HeadId:
        if self.head is None:
            raise LocateError("a head to show", "none", "Click one in the heatmap, or name one.")
        return self.head

    def _first_mistake(self) -> int:
        data = self.audit.data
        wrong = np.flatnonzero(data.zero_shot != data.test_labels)
        return int(data.splits.test[wrong[0] if len(wrong) else 0])


def _method(audit: Audit) -> str | None:
    return None if audit.location is None else audit.location.method


def _locate(audit: Audit, locator: str) -> str:
    """Locate; where there is nothing to contrast, say so and go on: the other scores need no located heads."""
    try:
        audit.locate(locator)
    except LocateError as error:
        return f"Nothing is located. {error}"
    return ""


def _options(score: str, between: Sequence[str], objective: str) -> dict[str, Any]:
    if score == "attribution":
        return {"between": tuple(between)}
    return {"objective": objective} if score == "effect" else {}
