"""Which words of a caption a head's output goes with: shares of Shapley values by kind of word."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.plots import palette, style

_ROW = 46


def shapley(shares: Mapping[str, Mapping[str, float]], captions: int, title: str = "") -> go.Figure:
    """Stacked bars: for each set of heads, how its captions' words share its cosine among them.

    Args:
        shares: for each set of heads, by name, the mean share of each kind of word; a set's shares sum to 1.
        captions: of how many captions the shares are means.
        title: plain text.

    Raises:
        HeadlensError: for no set of heads, sets with other kinds, or shares that are not numbers from 0 to 1.
    """
    sets = list(shares)
    kinds = list(shares[sets[0]]) if sets else []
    numbers = np.asarray([[shares[name].get(kind, np.nan) for kind in kinds] for name in sets], dtype=np.float64)
    same = all(list(shares[name]) == kinds for name in sets)
    if not numbers.size or not same or not ((numbers >= 0) & (numbers <= 1 + 1e-6)).all():
        raise HeadlensError(
            "shares from 0 to 1 of the same kinds of words, for at least one set of heads",
            f"{ {name: dict(own) for name, own in shares.items()} }",
            "Pass the shares that headlens.explain.caption_shares gives.",
        )
    places = list(range(len(sets)))[::-1]
    figure = go.Figure()
    for i, kind in enumerate(kinds):
        figure.add_trace(
            go.Bar(
                x=numbers[:, i],
                y=places,
                orientation="h",
                width=0.7,
                name=style.label(kind, 30),
                marker={"color": _COLOURS[i % len(_COLOURS)][0], "line": {"color": palette.PAPER[0], "width": 1}},
                text=[f"{share:.0%}" if share >= 0.07 else "" for share in numbers[:, i]],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": palette.INK_STRONG[0], "size": 12},
                customdata=[
                    f"<b>{style.label(name, 50)}</b><br>{style.label(kind, 30)}: {share:.1%}"
                    for name, share in zip(sets, numbers[:, i], strict=True)
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    head = 48 + (30 if title else 0)
    return style.finish(
        figure,
        title,
        _alt(sets, kinds, numbers, captions),
        height=head + 56 + _ROW * len(sets),
        min_width=480,
        margin={"t": head, "b": 56, "l": 24},
        barmode="stack",
        legend={"traceorder": "normal"},
        xaxis={
            "range": [0, 1],
            "tickformat": ".0%",
            "title": {"text": f"share of the words' Shapley values, mean of {captions} captions"},
        },
        yaxis={
            "tickmode": "array",
            "tickvals": places,
            "ticktext": [style.label(name, 34) for name in sets],
            "showgrid": False,
        },
    )


_COLOURS = (palette.METHODS[1], palette.METHODS[2], palette.METHODS[3], palette.METHODS[4], palette.METHODS[0])


def _alt(sets: list[str], kinds: list[str], numbers: np.ndarray, captions: int) -> str:
    parts = [f"Stacked bars of the share of Shapley values by kind of word, means of {captions} captions."]
    for name, own in zip(sets, numbers, strict=True):
        parts.append(f"{name}: " + ", ".join(f"{k} {v:.0%}" for k, v in zip(kinds, own, strict=True)) + ".")
    return " ".join(parts)
