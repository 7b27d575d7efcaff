"""How sure the right class is, group by group, under several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.plots import palette, style

_SPREAD = 0.82  # the share of a group's room that its boxes take
_ENDS = (5, 25, 50, 75, 95)


def margins(
    values: Mapping[str, np.ndarray], groups: Sequence[str], title: str = "", unit: str = "cosine similarity"
) -> go.Figure:
    """Boxes of the images' margins, one cluster a group, one box a method; above zero the image is right.

    An image's margin is the score of its true class less the best score of another. A box reaches from the first to
    the third quartile, its line is the median, its whiskers end at the 5th and the 95th percentile.

    Args:
        values: the margins of every image, by method.
        groups: the group of every image.
        title: plain text.
        unit: what the margins are measured in.

    Raises:
        HeadlensError: for no method or image, or margins that are not as many as the groups.
    """
    counts = {name: len(margins_of) for name, margins_of in values.items()}
    if not counts or not len(groups) or set(counts.values()) != {len(groups)}:
        raise HeadlensError(
            f"margins of {len(groups)} images, at least one, under one method or more",
            ", ".join(f"{count} of {name!r}" for name, count in counts.items()) or "no method",
            "Take margins and groups from the same images.",
        )
    member = np.asarray(groups, dtype=object)
    names = sorted(set(groups))
    height = _SPREAD / len(values)
    figure = go.Figure()
    medians: dict[str, list[float]] = {}
    for i, (method, of) in enumerate(values.items()):
        ends = np.stack([np.percentile(style.array(of)[member == name], _ENDS) for name in names], axis=1)
        medians[method] = ends[2].tolist()
        colour = palette.METHODS[i % len(palette.METHODS)][0]
        offset = (i - (len(values) - 1) / 2) * height
        figure.add_trace(
            go.Box(
                y=[j + offset for j in range(len(names))],
                lowerfence=ends[0],
                q1=ends[1],
                median=ends[2],
                q3=ends[3],
                upperfence=ends[4],
                orientation="h",
                width=0.86 * height,
                name=style.label(method, 40),
                line={"color": colour, "width": 1.5},
                hoverinfo="x",
            )
        )
    figure.add_vline(x=0, line={"color": palette.INK[0], "width": 1.5})
    sizes = [int((member == name).sum()) for name in names]
    room = max(34 * len(values), 44)
    return style.finish(
        figure,
        title,
        _alt(names, medians),
        height=120 + room * len(names) + (32 if title else 0),
        min_width=560,
        margin={"t": 56 + (32 if title else 0), "b": 56, "l": 150},
        xaxis={"title": {"text": f"margin of the true class, {style.label(unit)}"}, "zeroline": False},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": [
                f"{style.label(name, 24)}<br>{size:,} images" for name, size in zip(names, sizes, strict=True)
            ],
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
        },
    )


def _alt(names: Sequence[str], medians: Mapping[str, Sequence[float]]) -> str:
    told = "; ".join(
        f"{method}: " + ", ".join(f"{name} {value:+.3f}" for name, value in zip(names, of, strict=True))
        for method, of in medians.items()
    )
    return f"Boxes of the margins of the true class by group; below zero an image is wrong. Medians under {told}."
