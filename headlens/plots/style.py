"""What all figures share: template and theme, size, labels, rows with intervals, the text alternative.

Colours are written into a figure as those of light paper. `themed` replaces each by its counterpart, so that
a figure is drawn once and shown on either paper.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from headlens.errors import HeadlensError
from headlens.plots import palette
from headlens.plots.palette import Theme
from headlens.tables import plain

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_TITLE, _LEGEND, _NOTE, _TOP = 30, 40, 26, 14  # pixels above and below a plot
_NOTE_LINE = 90  # letters of a line of the note


def template() -> go.layout.Template:
    """The template of every figure, in light colours."""
    axis = {
        "gridcolor": palette.GRID,
        "linecolor": palette.AXIS,
        "tickcolor": palette.AXIS,
        "zeroline": False,
        "tickfont": {"size": 12, "color": palette.INK_SOFT},
        "title": {"font": {"size": 13, "color": palette.INK}, "standoff": 8},
        "automargin": True,
    }
    font = {"family": FONT, "size": 13, "color": palette.INK}
    return go.layout.Template(
        layout={
            "font": font,
            "title": {
                "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yanchor": "top",
                "pad": {"l": 8, "t": 12}, "font": {"size": 16},
            },
            "paper_bgcolor": palette.PAPER,
            "plot_bgcolor": palette.PAPER,
            "colorway": palette.METHODS,
            "xaxis": axis,
            "yaxis": axis,
            "legend": {
                "orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
                "font": {"size": 12, "color": palette.INK},
            },
            "hoverlabel": {"bgcolor": palette.PAPER, "bordercolor": palette.AXIS, "font": font, "align": "left"},
            "dragmode": False,
            "bargap": 0.02,
        }
    )  # fmt: skip


def finish(
    figure: go.Figure,
    title: str,
    alt: str,
    *,
    plot: tuple[int, int],
    margin: Mapping[str, int] | None = None,
    legend: bool = False,
    note: str = "",
    **layout: Any,
) -> go.Figure:
    """Give a figure the template, its title, size and text alternative.

    Args:
        figure: changed in place.
        title: plain text, escaped here; "" for none.
        alt: what the figure shows, in words, plain text.
        plot: the height of the plot without its margins, and the width of the whole below which a page should scroll
            sideways rather than squeeze the figure, in pixels.
        margin: room beside the plot, in pixels, where not the usual; that for title, legend and note is added.
        legend: whether there is a legend above the plot.
        note: plain text below all, such as what was left out; of more than 90 letters in two lines.
        **layout: further properties of plotly's layout.

    Returns:
        The same figure.
    """
    room = {"l": 56, "r": 24, "t": _TOP, "b": 48} | dict(margin or {})
    foot = room["b"]
    room["t"] += _TITLE * bool(title) + _LEGEND * legend
    room["b"] += (_NOTE + 16 * (len(note) > _NOTE_LINE)) * bool(note)
    height, min_width = plot
    figure.update_layout(
        template=template(),
        height=room["t"] + height + room["b"],
        margin=room,
        meta={"alt": plain(f"{alt} {note}".strip()), "min_width": min_width},
    )
    if title:
        figure.update_layout(title_text=label(title, 120))
    if legend:
        figure.update_layout(legend_y=1 + 6 / height, legend_traceorder="normal")
    if note:
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-foot, showarrow=False,
            text=lines(note, _NOTE_LINE), align="left", font={"size": 12, "color": palette.INK_SOFT},
        )  # fmt: skip
    return figure.update_layout(**layout)


def describe(figure: go.Figure) -> str:
    """What a figure shows, in plain words; "" for a figure that is not headlens' own."""
    meta = figure.layout.meta
    return str(meta["alt"]) if isinstance(meta, Mapping) and "alt" in meta else ""


def label(text: object, width: int = 60) -> str:
    """Anything as text that plotly draws letter by letter.

    Plotly reads a subset of HTML in every text, formulae between dollar signs where a page holds MathJax, and
    `%{…}` as a place to fill in. All are written as character references, and a text longer than `width`
    characters is cut.
    """
    escaped = html.escape(shorten(plain(text), width), quote=False)
    return escaped.replace("$", "&#36;").replace("%{", "&#37;{")


def shorten(text: str, width: int) -> str:
    """A text of at most `width` characters, with an ellipsis instead of what was cut from its middle."""
    if len(text) <= width:
        return text
    head = width // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def lines(text: object, width: int, most: int = 2) -> str:
    """A text as a label of at most so many lines of `width` letters, broken after a space or a slash."""
    rest = shorten(plain(text), most * width)
    broken: list[str] = []
    while len(rest) > width and len(broken) < most - 1:
        cuts = [i + 1 for i in range(width // 3, width + 1) if rest[i] in " /" and len(rest[: i + 1].strip()) <= width]
        cut = cuts[-1] if cuts else width
        broken.append(rest[:cut].strip())
        rest = rest[cut:].strip()
    return "<br>".join(label(line, width) for line in (*broken, rest))


def refuse(unless: bool, problem: str, remedy: str) -> None:
    """Raise `HeadlensError` for data that cannot be drawn."""
    if not unless:
        raise HeadlensError(problem, remedy)


# ---- rows: one thing a row, the first on top ------------------------------------------------------------------------


def row_axis(names: Sequence[str]) -> dict[str, Any]:
    """The axis of rows 0, 1, …, the first on top; `names` are escaped."""
    return {
        "range": [len(names) - 0.4, -0.6],
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "showgrid": False,
    }


def beside(i: int, count: int, spread: float = 0.72) -> float:
    """How far the i-th of several marks in a row is from the row's middle."""
    return (i - (count - 1) / 2) * spread / count


def whiskers(values: Iterable[Any], ends: Iterable[tuple[Any, Any]], colour: str) -> dict[str, Any]:
    """Intervals as plotly's error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(high - value, 0.0) for value, (_, high) in zip(values, ends, strict=True)],
        "arrayminus": [max(value - low, 0.0) for value, (low, _) in zip(values, ends, strict=True)],
        "color": colour,
        "thickness": 2,
        "width": 4,
    }


def dots(name: str, x: Iterable[Any], y: Iterable[Any], hover: Iterable[str], colour: str, **more: Any) -> go.Scatter:
    """Marks with a name in the legend (plain text) and one hover text each (escaped)."""
    marker = {"color": colour, "size": 9} | more.pop("marker", {})
    return go.Scatter(
        x=list(x), y=list(y), mode="markers", name=label(name, 40), marker=marker, text=list(hover),
        hovertemplate="%{text}<extra></extra>", **more,
    )  # fmt: skip


def bars(x: Iterable[Any], y: Iterable[Any], hover: Iterable[str], colour: str, **more: Any) -> go.Bar:
    """Bars to the right, with one hover text each (escaped)."""
    marker = {"color": colour} | more.pop("marker", {})
    return go.Bar(
        x=list(x), y=list(y), orientation="h", marker=marker, customdata=list(hover),
        hovertemplate="%{customdata}<extra></extra>", **more,
    )  # fmt: skip


def pattern(shape: str) -> dict[str, Any]:
    """A bar's pattern, by which a kind is known without its colour; "" for none."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": palette.PAPER, "size": 6}


# ---- themes ---------------------------------------------------------------------------------------------------------


def themed(figure: go.Figure, theme: Theme) -> go.Figure:
    """A copy of a figure of headlens' in the colours of light or of dark paper."""
    parts = _mutable(figure.to_plotly_json())
    for path, colour in theme_patch(figure, theme):
        parent = parts
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = colour
    return go.Figure(parts)


def _mutable(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _mutable(value) for key, value in node.items()}
    return [_mutable(value) for value in node] if isinstance(node, list | tuple) else node


def theme_patch(figure: go.Figure, theme: Theme = "dark") -> list[tuple[list[str | int], str]]:
    """The colours that another theme changes: pairs of a path into the figure's JSON and the colour there."""
    table = palette.TO_DARK if theme == "dark" else palette.TO_LIGHT
    return [(path, table[colour]) for path, colour in _colours(figure.to_plotly_json(), [], False) if colour in table]


def _colours(node: Any, path: list[str | int], inside: bool) -> Iterator[tuple[list[str | int], str]]:
    """Every string under a property that holds colours; labels are never mistaken for one."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _colours(value, [*path, key], "color" in key)
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _colours(value, [*path, i], inside)
    elif inside and isinstance(node, str):
        yield path, node


def array(values: object) -> np.ndarray:
    """A tensor or an array as a float64 array, off the device and out of the graph."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
