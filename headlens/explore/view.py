"""The explorer's widgets: they pass on what is typed and clicked to an `ExplorerState`, and show what it says."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets

from headlens.document.correction import ablation_section, accuracy_section
from headlens.errors import HeadlensError
from headlens.explore import tables
from headlens.explore.panes import CopyButton, Pane
from headlens.explore.state import ExplorerState
from headlens.explore.typed import attribute_text
from headlens.locate import OBJECTIVES as OBJECTIVE_NAMES
from headlens.progress import listening
from headlens.steps import LOCATORS, SCORES
from headlens.steps.locate import OBJECTIVES

_SCORES = {
    "attribution": "attribution of a pair",
    "contrastive": "contrastive V_W − V_C",
    "concept": "concept score",
    "effect": "effect of ablating it alone",
}
_WIDE: dict[str, Any] = {"layout": {"width": "98%"}, "style": {"description_width": "90px"}, "continuous_update": False}
_AUTO: dict[str, Any] = {"layout": {"width": "auto"}}
_TABS = ("Images", "Texts", "Token map", "Ablation", "Steps and code")
_HOW = "Click a head to see what it does; shift-click, or press 'Add to selection', to select several."
_NOT_ABLATED = (
    "Select heads in the heatmap and press 'Ablate the selection'. You will then see here the accuracy of every group "
    "and Cramér's V before and after, and the same for random heads."
)
_EVERY = 0.3  # seconds between notes on how far a long step has come


def _row(*parts: Any) -> Any:
    row = ipywidgets.Box(parts)
    row.add_class("headlens-row")
    return row


class Explorer(ipywidgets.VBox):
    """An audit to look at, ask and intervene on. `state` is the same without widgets.

    Args:
        state: what is shown.
        folder: proposed for saving.
        trouble: what went wrong on opening, to be said.
    """

    def __init__(self, state: ExplorerState, folder: Path | None = None, trouble: str = ""):
        self.state = state
        # Notebooks may answer each widget in a thread of its own: a click during a step waits for its turn.
        self._turn = threading.Lock()
        self._at_work: int | None = None
        self._make(folder)
        super().__init__(self._arranged(), layout={"width": "100%"})
        self.add_class("headlens-explorer")
        self._step("Opening", self._everything)
        if state.ablated is not None:
            self.tabs.selected_index = _TABS.index("Ablation")
        if trouble:
            self.message.value = tables.trouble(trouble)

    # ---- the parts --------------------------------------------------------------------------------------------------

    def _make(self, folder: Path | None) -> None:
        self.undo = ipywidgets.Button(description="Undo", tooltip="Show what the step before showed", **_AUTO)
        self.redo = ipywidgets.Button(description="Redo", tooltip="Show again what was undone", **_AUTO)
        self.attribute = ipywidgets.Combobox(description="Attribute", **_WIDE)
        self.attribute.placeholder = "name:value=prompt|prompt,value=prompt, or a column of the manifest"
        self.classes = ipywidgets.Text(description="Classes", **_WIDE)
        self.templates = ipywidgets.Text(description="Templates", **_WIDE)
        self.locator = ipywidgets.Dropdown(options=list(LOCATORS), description="Located by")
        self.locate = ipywidgets.Button(description="Locate heads", button_style="primary", **_AUTO)
        named = [(_SCORES.get(name, name), name) for name in SCORES]
        self.score = ipywidgets.Dropdown(options=named, description="Score")
        self.first, self.second = (ipywidgets.Dropdown(description=name) for name in ("of", "over"))
        self.objective = ipywidgets.Dropdown(
            options=[(OBJECTIVES.get(name, name), name) for name in OBJECTIVE_NAMES], description="on"
        )
        self.add = ipywidgets.ToggleButton(description="Add to selection", **_AUTO)
        self.selection = ipywidgets.Text(description="Selected", continuous_update=False)
        self.located = ipywidgets.Button(description="Select located", **_AUTO)
        self.along = ipywidgets.Dropdown(description="Ordered by")
        self.image = ipywidgets.BoundedIntText(min=0, max=len(self.state.audit.store) - 1, description="Image")
        self.ablate = ipywidgets.Button(description="Ablate the selection", button_style="primary", **_AUTO)
        self.folder = ipywidgets.Text(
            str(folder or f"audit-{self.state.audit.attribute.name}"), description="Folder", continuous_update=False
        )
        self.save = ipywidgets.Button(description="Save the audit", **_AUTO)
        self.copy = CopyButton(label="Copy the Python")
        self.code = ipywidgets.Textarea(disabled=True, rows=12, layout={"width": "98%"})
        self.history = ipywidgets.Select(description="Steps", rows=8, layout={"width": "98%"})
        self.status, self.message, self.question, self.groups, self.effect = (ipywidgets.HTML() for _ in range(5))
        self.details = ipywidgets.Output()
        self.heatmap = Pane(library=True, heads=True, on_click=self._head_clicked)
        self.texts, self.tokens, self.accuracies, self.random, self.random_v = (Pane() for _ in range(5))
        self.pictures = Pane(on_click=self._picture_clicked)
        for box in (self.attribute, self.classes, self.templates, self.locator):
            box.observe(self._asked, "value")
        # Typing ends with Enter or by leaving the box; who looks for a button to press finds one that does the same.
        self.locate.on_click(self._asked)
        for box in (self.score, self.first, self.second, self.objective):
            box.observe(self._scored, "value")
        self.selection.observe(self._selected, "value")
        self.located.on_click(lambda _: self._step("Selecting the located heads", self._located))
        self.along.observe(self._ordered, "value")
        self.image.observe(self._image_chosen, "value")
        self.ablate.on_click(lambda _: self._step("Ablating the selection", self._ablated))
        self.save.on_click(lambda _: self._step("Saving", self._saved))
        self.undo.on_click(lambda _: self._step("Undoing", self._to(self.state.undo)))
        self.redo.on_click(lambda _: self._step("Redoing", self._to(self.state.redo)))
        self.history.observe(self._step_chosen, "value")

    def _arranged(self) -> list[Any]:
        prompts = ipywidgets.Accordion(
            [ipywidgets.VBox([self.classes, self.templates])], titles=("Classes and templates",)
        )
        heads = ipywidgets.VBox([
            _row(self.score, self.first, self.second, self.objective),
            self.heatmap,
            _row(self.selection, self.located, self.add, self.ablate),
        ])  # fmt: skip
        heads.add_class("headlens-heads")
        self.tabs = ipywidgets.Tab(
            [
                ipywidgets.VBox([_row(self.along), self.pictures, self.groups]),
                self.texts,
                ipywidgets.VBox([_row(self.image), self.tokens]),
                ipywidgets.VBox([self.effect, self.accuracies, self.random, self.random_v]),
                ipywidgets.VBox([self.history, _row(self.folder, self.save, self.copy), self.code]),
            ],
            titles=_TABS,
        )
        main = ipywidgets.Box([heads, self.tabs])
        main.add_class("headlens-main")
        return [
            self.question,
            self.attribute,
            _row(self.locator, self.locate, self.undo, self.redo),
            prompts,
            self.status,
            self.message,
            main,
            self.details,
        ]

    # ---- what a person does -----------------------------------------------------------------------------------------

    def _asked(self, _: object) -> None:
        # Read now: by its turn, a step before may have filled the boxes in anew.
        asked = (self.attribute.value, self.classes.value, self.templates.value, self.locator.value)

        def ask() -> None:
            self.state.ask(*asked)
            self._everything()

        self._step("Asking", ask)

    def _scored(self, _: object) -> None:
        chosen = (self.score.value, (self.first.value, self.second.value), self.objective.value)

        def show() -> None:
            self.state.show(*chosen)
            self._scores()

        self._step("Scoring the heads", show)

    def _head_clicked(self, x: Any, y: Any, _: int, add: bool) -> None:
        def click() -> None:
            self.state.click((int(y), int(x)), add or self.add.value)
            self._selection()

        self._step(f"Looking at head L{y}H{x}", click)

    def _selected(self, _: object) -> None:
        heads = self.selection.value

        def select() -> None:
            self.state.select(heads)
            self._selection()

        self._step("Selecting", select)

    def _located(self) -> None:
        self.state.select(self.state.located)
        self._selection()

    def _ordered(self, _: object) -> None:
        along = self.along.value

        def order() -> None:
            self.state.order_images(along)
            self._draw(self.pictures, self.state.images)

        self._step("Ordering the images", order)

    def _picture_clicked(self, _: Any, __: Any, number: int, ___: bool) -> None:
        def choose() -> None:
            rows = self.state.rows_of_images()
            if 0 <= number < len(rows):
                self.state.choose_image(rows[number])
                self._tokens()
                self.tabs.selected_index = _TABS.index("Token map")

        self._step("Looking at a picture", choose)

    def _to(self, go: Callable[[], None]) -> Callable[[], None]:
        def step() -> None:
            go()
            self._everything()

        return step

    def _step_chosen(self, _: object) -> None:
        step = self.history.value
        if step is not None:
            self._step("Going to a step", self._to(lambda: self.state.go_to(step)))

    def _image_chosen(self, _: object) -> None:
        row = self.image.value

        def choose() -> None:
            self.state.choose_image(row)
            self._tokens()

        self._step(f"Looking at image {row}", choose)

    def _ablated(self) -> None:
        self.state.ablate()
        self._ablation()
        self.tabs.selected_index = _TABS.index("Ablation")

    def _saved(self) -> None:
        folder = self.state.save(self.folder.value)
        self.message.value = tables.soft(
            f"Saved to {folder}. hl.Audit.load({str(folder)!r}, clip=clip).explore() goes on from here."
        )

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def _step(self, what: str, do: Callable[[], None]) -> None:
        """Do one thing: say so first, then how long it took, or what was wrong with it."""
        if self._at_work == threading.get_ident():
            return  # a box that a step fills in is not a person typing
        with self._turn:
            self._at_work = threading.get_ident()
            try:
                self._take(what, do)
            finally:
                self._at_work = None

    def _take(self, what: str, do: Callable[[], None]) -> None:
        self.message.value = ""
        started = shown_at = time.perf_counter()

        def note(so_far: str) -> None:
            nonlocal shown_at
            if (now := time.perf_counter()) - shown_at > _EVERY:
                shown_at = now
                self._say(f"{what} … {so_far}, {now - started:.0f} s so far")

        self._say(f"{what} …")
        with self.details, listening(note):
            self.details.clear_output()
            try:
                do()
            except HeadlensError as problem:
                self.message.value = tables.error(problem)
            except Exception as problem:
                self.message.value = tables.trouble(
                    f"Not done: {type(problem).__name__}: {problem}. Details at the bottom."
                )
                self.details.append_stderr(traceback.format_exc())
        self.copy.text = self.code.value = self.state.code()
        steps = self.state.steps
        self.history.options = [(f"{i + 1}. {said}", i) for i, said in enumerate(steps)]
        self.history.value = self.state.step
        self.undo.disabled, self.redo.disabled = self.state.step == 0, self.state.step == len(steps) - 1
        self._say(f"{what}: {time.perf_counter() - started:.2f} s. {_HOW}")

    def _say(self, status: str) -> None:
        self.status.value = tables.status(status)

    def _everything(self) -> None:
        state = self.state
        self.question.value = tables.question(state)
        self.attribute.options = [*map(attribute_text, state.attributes), *state.columns]
        self.attribute.value, self.classes.value = state.attribute_text, state.classes_text
        self.templates.value, self.locator.value = state.templates_text, state.locator
        self.first.options = self.second.options = state.audit.task.classes
        values = state.audit.attribute.value_names
        self.along.options = [
            (f"{state.audit.attribute.name}: {values[0]} over {values[1]}", "attribute"),
            ("the two classes of the score", "classes"),
            ("distance from the head's mean", "norm"),
        ]
        self.along.value = state.along
        self._scores()
        self.groups.value = tables.section(accuracy_section(state.zero_shot), "headlens-groups")
        self._selection(heatmap=False)

    def _scores(self) -> None:
        state = self.state
        self.score.value, self.objective.value = state.score, state.objective
        self.first.value, self.second.value = state.between
        for box, of in ((self.first, "attribution"), (self.second, "attribution"), (self.objective, "effect")):
            box.layout.display = None if state.score == of else "none"
        self.heatmap.draw(state.heatmap(), state.selection)

    def _selection(self, heatmap: bool = True) -> None:
        state = self.state
        self.selection.value = ", ".join(map(str, state.selection))
        if heatmap:
            self.heatmap.draw(state.heatmap(), state.selection)
        self._ablation()
        if state.head is None:
            for pane in (self.texts, self.pictures, self.tokens):
                pane.draw(None)
            return
        self._say(f"Head {state.head} … its images")
        self._draw(self.pictures, state.images)
        self._say(f"Head {state.head} … where it reads")
        self._tokens()
        explained = bool(state.audit.explanations)
        # Last, because it takes longest: the first time, every head and all texts of the bank are gone through.
        self._say(f"Head {state.head} … its texts" + ("" if explained else ", once for all heads"))
        self._draw(self.texts, state.textspans)
        if not explained and state.audit.explanations:
            self.heatmap.draw(state.heatmap(), state.selection)  # whose pointer can now tell the heads' texts

    def _tokens(self) -> None:
        state = self.state
        self.image.value = state.image
        if state.head is not None:
            self._draw(self.tokens, state.tokens)

    def _draw(self, pane: Pane, figure: Callable[[], Any]) -> None:
        """Draw a figure that needs the model or the image files: without them, everything else still works."""
        try:
            pane.draw(figure())
        except HeadlensError as problem:
            pane.draw(None)
            self.message.value = tables.error(problem)

    def _ablation(self) -> None:
        state = self.state
        self.effect.value = (
            tables.soft(_NOT_ABLATED)
            if state.ablated is None
            else tables.section(ablation_section(state.ablated), "headlens-ablated")
        )
        self.accuracies.draw(state.accuracies())
        for pane, figure in zip((self.random, self.random_v), state.controls(), strict=True):
            pane.draw(figure)
