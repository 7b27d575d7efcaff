"""What the explorer shows, as plain Python: every step is a method, every number comes from a public call.

The widgets of `headlens.explore.view` only pass on what is typed and clicked, so this class is the explorer without a
browser. A step that fails raises and leaves the state as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import plotly.graph_objects as go

from headlens.errors import HeadlensError, LocateError, OutputError, StoreError, TaskError
from headlens.explore.typed import attribute_text, class_text, read_attribute, read_task, template_text
from headlens.extraction import HeadStore
from headlens.heads import HeadId, HeadLike, HeadScores, as_heads
from headlens.locate import OBJECTIVES, Located
from headlens.metrics import Evaluation, evaluate
from headlens.prompts import Attribute, ZeroShotTask
from headlens.serialization import write_json
from headlens.steps import LOCATORS, HeadAblation
from headlens.steps.data import NO_ATTRIBUTES, AuditData

NAME = "explorer.json"
FORMAT = 2
_SHOWN = ("audit", "locator", "note", "score", "between", "objective", "along", "selection", "head", "ablated", "image")


@runtime_checkable
class Audit(Protocol):
    """What the explorer calls of `headlens.Audit`, which opens it and so cannot be imported here."""

    @property
    def ablate(self) -> Any: ...
    @property
    def asking(self) -> Any: ...
    @property
    def explain(self) -> Any: ...
    @property
    def locate(self) -> Any: ...
    @property
    def plot(self) -> Any: ...
    @property
    def save(self) -> Any: ...
    @property
    def scores(self) -> Any: ...
    @property
    def script(self) -> Any: ...
    @property
    def attribute(self) -> Attribute: ...
    @property
    def data(self) -> AuditData: ...
    @property
    def explanations(self) -> Mapping[HeadId, Any]: ...
    @property
    def folder(self) -> Path | None: ...
    @property
    def identity(self) -> str: ...
    @property
    def location(self) -> Located | None: ...
    @property
    def location_note(self) -> str: ...
    @property
    def store(self) -> HeadStore: ...
    @property
    def task(self) -> ZeroShotTask: ...


class ExplorerState:
    """An audit that is being explored.

    Args:
        audit: where to begin. It is never changed but for a first `locate`, where nothing was located, and for
            explanations; every other question is a new audit of the same store.
        n_random_sets: layer-matched random sets that a selection is compared with.
        n_bootstrap: resamples behind every interval.

    Attributes:
        audit: the audit of the present question.
        locator: whose located heads are shown.
        score: the heatmap's score, a name of `headlens.steps.SCORES`.
        between: the two classes or texts of the score "attribution".
        objective: of the score "effect".
        selection: the heads chosen, in the order of choice.
        head: the head whose texts and images are shown; None for none.
        along: what images are ordered by: "attribute", its first two values; "classes", the two of `between`; or
            "norm", how far the head is from its mean.
        image: the row of the store whose token map is shown.
        ablated: what ablating the selection did; None where that was not asked, or the selection changed since.
        note: why nothing was located, where nothing was; else "".
        steps: what was done, in words, the opening first.
        step: which of these is shown; `go_to` another.
    """

    def __init__(self, audit: Audit, *, n_random_sets: int = 100, n_bootstrap: int = 1000):
        self.n_random_sets, self.n_bootstrap = n_random_sets, n_bootstrap
        self._origin = audit
        self.audit = audit
        method = "contrastive" if audit.location is None else audit.location.method
        self.locator = method if method in LOCATORS else "contrastive"
        self.note = "" if audit.location is not None else _locate(audit, self.locator)
        self.score = self._telling_score()
        self.between: tuple[str, str] = (audit.task.classes[0], audit.task.classes[1])
        self.objective: str = OBJECTIVES[0]
        self.selection: tuple[HeadId, ...] = self.located
        self.head: HeadId | None = self.selection[0] if self.selection else None
        self.ablated: HeadAblation | None = None
        self.along = "attribute"
        self.image = self._first_mistake()
        self.steps: list[str] = []
        self.step = -1
        self._past: list[dict[str, Any]] = []
        self._done(f"opened on {self._asked()}")

    # ---- what was done ----------------------------------------------------------------------------------------------

    def go_to(self, step: int) -> None:
        """Show again what a step had shown, the first being 0. What came after stays until something else is done.

        Raises:
            TaskError: for a step that was not made.
        """
        if not 0 <= step < len(self.steps):
            raise TaskError(f"There is no step {step}: {len(self.steps)} were made.", "Steps count from zero.")
        self._forget()
        self.__dict__.update(self._past[step])
        self.step = step

    def undo(self) -> None:
        """Show what the step before had shown; nothing is done at the first."""
        self.go_to(max(0, self.step - 1))

    def redo(self) -> None:
        """Show again what was taken back; nothing is done at the last."""
        self.go_to(min(len(self.steps) - 1, self.step + 1))

    def _done(self, what: str) -> None:
        shown = {name: getattr(self, name) for name in _SHOWN}
        if self._past and shown == self._past[self.step]:
            return
        del self.steps[self.step + 1 :], self._past[self.step + 1 :]
        self.steps.append(what)
        self._past.append(shown)
        self.step += 1

    def _asked(self) -> str:
        return f"{self.audit.attribute.name} ({', '.join(self.audit.attribute.value_names)}), {self.locator}"

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
            attribute = read_attribute(attribute, old.store.manifest, self.attributes)
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
        another = locator != self.locator
        self.audit, self.locator, self.note = audit, locator, note
        if task.classes != old.task.classes:
            self.between = (task.classes[0], task.classes[1])
        self._forget()
        self.selection, self.ablated = self.located, None
        self.head = self.selection[0] if self.selection else None
        if another or self.note:
            self.score = self._telling_score()
        self._done(f"asked {self._asked()}")

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes that were asked so far, the present one first."""
        asked = [self.audit.attribute, *(shown["audit"].attribute for shown in reversed(self._past))]
        return tuple(one for i, one in enumerate(asked) if one not in asked[:i])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the manifest that can be asked about: those of 2 to 12 values, but for label and split."""
        manifest = self.audit.store.manifest
        rest = [str(name) for name in manifest.columns if name not in NO_ATTRIBUTES]
        return tuple(name for name in rest if 2 <= manifest[name].nunique() <= 12)

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
            raise TaskError(f"{pair!r} are not two classes or texts to compare.", "Name one for each end.")
        scores = self.audit.scores(score, **_options(score, pair, objective))
        self.score, self.between, self.objective = score, (pair[0], pair[1]), objective
        self._shown = scores
        self._done(f"shown: {scores.name}")
        return scores

    @property
    def scores(self) -> HeadScores:
        """What the heatmap shows."""
        if self._shown is None:
            self._shown = self.audit.scores(self.score, **self.options)
        return self._shown

    @property
    def options(self) -> dict[str, Any]:
        """The options that `audit.plot.heatmap` is to be given beside the score."""
        return _options(self.score, self.between, self.objective)

    def heatmap(self) -> go.Figure:
        """The heatmap, located and selected heads outlined."""
        figure: go.Figure = self.audit.plot.heatmap(self.scores, self.selection)
        return figure

    # ---- heads and images -------------------------------------------------------------------------------------------

    def click(self, head: HeadLike, add: bool = False) -> None:
        """Show a head, and select it: alone, or added to the selection.

        A head that is taken out of the selection is no longer shown: another selected one is, or none.

        Raises:
            LocateError: for a head outside the tower.
        """
        (one,) = as_heads([head], self.audit.store.n_layers, self.audit.store.n_heads)
        others = [other for other in self.selection if other != one]
        if add and one in self.selection:
            self._select(others, self.head if self.head in others else next(iter(others), None))
        else:
            self._select([*others, one] if add else [one], one)

    def select(self, heads: Iterable[HeadLike]) -> None:
        """Select these heads and no others, and show the first, unless the one that is shown is among them.

        Args:
            heads: as pairs, or written "L3H1, 3.4". With none, no head is shown either.

        Raises:
            LocateError: for a head outside the tower, one named twice, or text that names no head.
        """
        chosen = as_heads(heads, self.audit.store.n_layers, self.audit.store.n_heads)
        self._select(chosen, self.head if self.head in chosen else next(iter(chosen), None))

    def _select(self, heads: Iterable[HeadLike], shown: HeadId | None) -> None:
        chosen = as_heads(heads, self.audit.store.n_layers, self.audit.store.n_heads)
        if chosen != self.selection:
            self.selection, self.ablated = chosen, None
        self.head = shown
        self._done(
            f"selected {', '.join(map(str, chosen)) or 'no head'}" + f", shown {shown}" * (shown not in (None, *chosen))
        )

    def choose_image(self, row: int) -> None:
        """Choose the image whose token map is shown, by its row in the store.

        Raises:
            StoreError: for a row that the store does not have.
        """
        if not 0 <= row < len(self.audit.store):
            raise StoreError(f"There is no image {row} in a store of {len(self.audit.store)}.", "Rows count from zero.")
        self.image = int(row)
        self._done(f"image {row}")

    def order_images(self, along: str) -> None:
        """Order the images along the "attribute", the "classes", or by "norm".

        Raises:
            TaskError: for any other word.
        """
        if along not in ("attribute", "classes", "norm"):
            raise TaskError(f"Images cannot be ordered along {along!r}.", "Choose attribute, classes or norm.")
        self.along = along
        self._done(f"images ordered by {self.order_name}")

    @property
    def order_name(self) -> str:
        """What images are ordered by, in words."""
        ends = self.ends()
        return "distance from the head's mean" if ends is None else f"{ends[0]} over {ends[1]}"

    def ends(self) -> tuple[str, str] | None:
        """The two classes or values along which images are ordered; None for the distance from the head's mean."""
        if self.along == "norm":
            return None
        if self.along == "classes":
            return self.between
        first, second = self.audit.attribute.value_names[:2]
        return first, second

    def explain(self) -> None:
        """Explain every head by the general texts, where that was not done: hover and text spans then name them."""
        if not self.audit.explanations:
            self.audit.explain(n_bootstrap=0)

    def textspans(self) -> go.Figure:
        """The texts of the head that is shown."""
        self.explain()
        return self.audit.plot.textspans(self._head())

    def images(self) -> go.Figure:
        """The images at both ends of the head that is shown, ordered along the question: see `along`."""
        return self.audit.plot.images(self._head(), between=self.ends())

    def rows_of_images(self) -> list[int]:
        """The rows of the store behind the pictures of `images`, in their order."""
        top = self.audit.plot.ends_of(self._head(), between=self.ends())
        return self.audit.data.splits.test[[*top.highest, *top.lowest]].tolist()

    def tokens(self) -> go.Figure:
        """Where in the chosen image the selected heads read; the shown head alone where none is selected."""
        return self.audit.plot.tokens(self.image, self.selection[:6] or [self._head()])

    # ---- ablation ---------------------------------------------------------------------------------------------------

    def ablate(self) -> HeadAblation:
        """Ablate the selection: accuracies and V before and after, against layer-matched random heads.

        Raises:
            LocateError: where nothing is selected.
        """
        found: HeadAblation = self.audit.ablate(
            self.selection, n_random_sets=self.n_random_sets, n_bootstrap=self.n_bootstrap
        )
        self.ablated = found
        self._done(f"ablated {', '.join(map(str, found.heads))}")
        return found

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
        return evaluate(
            data.test_labels, data.zero_shot, groups=data.test_groups, method="zero-shot", cluster=data.test_clusters
        )

    # ---- taking away ------------------------------------------------------------------------------------------------

    def code(self) -> str:
        """Python that reproduces the present state: the audit from its store, then the figures and the ablation that
        are shown. It opens the model by the name that the store knows."""
        audit = self.audit
        lines = audit.script().splitlines()
        heads = [str(head) for head in self.selection]
        score = ", ".join([json.dumps(self.score), *(f"{name}={value!r}" for name, value in self.options.items())])
        lines += ["", f"figures = [audit.plot.heatmap({score}, selected={heads})]"]
        if self.head is not None:
            if audit.explanations:
                lines.append(f"figures.append(audit.plot.textspans({str(self.head)!r}))")
            lines.append(f"figures.append(audit.plot.images({str(self.head)!r}, between={self.ends()!r}))")
            lines.append(f"figures.append(audit.plot.tokens({self.image}, {heads[:6] or [str(self.head)]}))")
        if self.ablated is not None:
            lines.append("table = audit.ablation.table()")
        return "\n".join(lines) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Save the audit of the present question, and beside it explorer.json; return the folder.

        explorer.json holds what is shown, heads as "L3H1" and the image as its row in the store, and whether the
        selection was ablated, which is done again on opening. The question, its prompts and the locator are the
        audit's, in audit.json.

        Raises:
            OutputError: for a folder that holds another audit.
        """
        folder = Path(folder)
        self.audit.save(folder)
        kept: dict[str, Any] = {
            "format": FORMAT,
            "identity": self.audit.identity,
            "score": self.score,
            "between": list(self.between),
            "objective": self.objective,
            "selection": [str(head) for head in self.selection],
            "head": None if self.head is None else str(self.head),
            "image": self.image,
            "ablated": self.ablated is not None,
            "along": self.along,
            "n_random_sets": self.n_random_sets,
            "n_bootstrap": self.n_bootstrap,
        }
        write_json(folder / NAME, kept)
        return folder

    def restore(self, folder: str | Path) -> bool:
        """Take up again what `save` wrote; False where the folder has no explorer.json.

        Raises:
            OutputError: for an explorer.json that is damaged, or of another audit.
        """
        path = Path(folder) / NAME
        if not path.is_file():
            return False
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT or kept["identity"] != self.audit.identity:
                raise ValueError(f"format {kept['format']}, audit {kept['identity']}")
            selection = [HeadId.of(head) for head in kept["selection"]]
            head = None if kept["head"] is None else HeadId.of(kept["head"])
            counts = int(kept["n_random_sets"]), int(kept["n_bootstrap"])
            self.show(kept["score"], kept["between"], kept["objective"])
            self.choose_image(kept["image"])
            self.select(selection)
            self.order_images(kept["along"])
            ablated = bool(kept["ablated"])
        except (ValueError, KeyError, TypeError, HeadlensError) as error:
            raise OutputError(
                f"{path} is no {NAME} of this audit ({self.audit.identity}) in format {FORMAT}: {error}",
                "Remove that file, and the explorer opens with the audit alone.",
            ) from error
        self.head, (self.n_random_sets, self.n_bootstrap) = head, counts
        if ablated:
            self.ablate()
        return True

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
        asking: Audit = old.asking(task=task, attribute=attribute)
        return asking

    def _telling_score(self) -> str:
        """The score that shows what the locator went by."""
        if self.note:
            return "attribution"
        return "concept" if self.locator.startswith(("concept", "textspan")) else "contrastive"

    def _head(self) -> HeadId:
        if self.head is None:
            raise LocateError("No head is shown.", "Click one in the heatmap, or name one.")
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
