"""What all figures share: the template, the theme, the treatment of labels, the text alternative.

Colours are written into a figure as those of light paper. `themed` replaces each by its counterpart, so that
a figure is drawn once and shown on either paper.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from headlens.plots import palette
from headlens.plots.palette import Theme

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def template() -> go.layout.Template:
    """The template of every figure, in light colours."""
    ink, soft, grid, line = palette.INK[0], palette.INK_SOFT[0], palette.GRID[0], palette.AXIS[0]
    axis = {
        "gridcolor": grid,
        "linecolor": line,
        "tickcolor": line,
        "zeroline": False,
        "tickfont": {"size": 12, "color": soft},
        "title": {"font": {"size": 13, "color": ink}, "standoff": 8},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "title": {
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yanchor": "top",
                "pad": {"l": 8, "t": 12},
                "font": {"size": 16},
            },
            "paper_bgcolor": palette.PAPER[0],
            "plot_bgcolor": palette.PAPER[0],
            "colorway": [light for light, _ in palette.METHODS],
            "xaxis": axis,
            "yaxis": axis,
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"size": 12, "color": ink},
            },
            "hoverlabel": {
                "bgcolor": palette.PAPER[0],
                "bordercolor": line,
                "font": {"family": FONT, "size": 13, "color": ink},
                "align": "left",
            },
            "margin": {"l": 56, "r": 24, "t": 56, "b": 48},
            "dragmode": False,
            "bargap": 0.02,
        }
    )


def finish(
    figure: go.Figure,
    title: str,
    alt: str,
    height: int,
    min_width: int,
    width: int | None = None,
    **layout: Any,
) -> go.Figure:
    """Give a figure the template, its title, size and text alternative.

    Args:
        figure: changed in place.
        title: plain text, escaped here; "" for none.
        alt: what the figure shows, in words, plain text.
        height: in pixels.
        min_width: the width below which a page should scroll sideways rather than squeeze the figure.
        width: a fixed width; None to fill the page.
        **layout: further properties of plotly's layout.

    Returns:
        The same figure.
    """
    figure.update_layout(template=template(), height=height, meta={"alt": plain(alt), "min_width": min_width})
    if title:
        figure.update_layout(title_text=label(title, 120))
    if width is not None:
        figure.update_layout(width=width)
    figure.update_layout(**layout)
    return figure


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


def plain(text: object) -> str:
    """Anything as one line of text that every encoder takes: bytes of a file name that are no text are spelt out."""
    return " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())


def shorten(text: str, width: int) -> str:
    """A text of at most `width` characters, with an ellipsis in the place of what was cut from its middle."""
    if len(text) <= width:
        return text
    head = width // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


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
