"""The two widgets of the explorer's own: a plotly figure that is drawn anew in place, and a button that copies.

plotly's FigureWidget merges a new figure into the old one and sends plotly.js, 5 MB, with every figure. A `Pane` draws
whatever figure it is given, in the colours of the notebook's theme, and all panes of a page share one plotly.js.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

from headlens.plots.style import theme_patch

_FOLDER = Path(__file__).parent


@cache
def _library() -> str:
    return str(get_plotlyjs())


class Pane(anywidget.AnyWidget):
    """A figure.

    Args:
        library: whether this pane brings plotly.js; one pane of every explorer does.
        heads: whether the figure is a heatmap of heads. Each cell is then a button "head 3.1", which the keyboard
            reaches and a screen reader names.
        on_click: called with the point's x and y, its number in the trace (-1 in a heatmap), and whether shift, control
            or command was held.
    """

    _esm = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in ("cells.js", "pane.js"))
    _css = (_FOLDER / "pane.css").read_text(encoding="utf-8")
    figure = traitlets.Unicode("").tag(sync=True)
    dark = traitlets.List([]).tag(sync=True)
    library = traitlets.Unicode("").tag(sync=True)
    heads = traitlets.Bool(False).tag(sync=True)
    pressed = traitlets.List([]).tag(sync=True)

    def __init__(
        self,
        library: bool = False,
        heads: bool = False,
        on_click: Callable[[Any, Any, int, bool], None] | None = None,
    ):
        super().__init__(library=_library() if library else "", heads=heads)
        if on_click is not None:
            self.on_msg(lambda _, said, __: on_click(said["x"], said["y"], said["number"], said["add"]))

    def draw(self, figure: go.Figure | None, pressed: Iterable[tuple[int, int]] = ()) -> None:
        """Replace the figure; None for an empty pane.

        Args:
            figure: what to draw.
            pressed: of a heatmap of heads: those that are selected.
        """
        with self.hold_sync():
            self.pressed = [list(head) for head in pressed]
            self.dark = [] if figure is None else [[path, colour] for path, colour in theme_patch(figure)]
            self.figure = "" if figure is None else str(figure.to_json())


class CopyButton(anywidget.AnyWidget):
    """A button that puts `text` on the clipboard."""

    _esm = (_FOLDER / "copy.js").read_text(encoding="utf-8")
    label = traitlets.Unicode("Copy").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
