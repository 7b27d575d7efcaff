"""What heads encode in words: a head's texts and their categories, and shares of a caption's words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.explain import Explanation
from headlens.plots import palette, style
from headlens.tables import listed

_ROW = 24  # pixels of a text's row
_MOST_CATEGORIES = 12


def textspan(explanation: Explanation, title: str | None = None) -> go.Figure:
    """Bars of a head's texts in the order of choice, and bars of the same variance by category.

    A mark on a category's bar is its share of the bank, scaled to what the texts explain together: a category whose
    bar ends beyond its mark is there more than a blind choice among the bank's texts would have it.

    Args:
        explanation: of one head, `audit.explain()[head]`.
        title: plain text; None for the head and its label. Without a title the figure leaves out what its texts explain
            together, for a page that says so.
    """
    one = explanation
    figure = make_subplots(
        cols=2, column_widths=[0.58, 0.42], horizontal_spacing=0.24,
        subplot_titles=("texts, in the order of choice", "the same by category"),
    )  # fmt: skip
    together = np.cumsum(one.share)
    again = (
        [""] * len(one.texts) if one.again is None else [f"<br>chosen again in {v:.0%} of samples" for v in one.again]
    )
    hover = [
        f"<b>{style.label(text, 90)}</b><br>{style.label(category)}: {share:.2%} of the variance,"
        f" {so_far:.1%} up to here<br>chosen by {count} of {one.n_heads} heads{more}"
        for text, category, share, so_far, count, more in zip(
            one.texts, one.categories, one.share, together, one.shared, again, strict=True
        )
    ]
    texts = style.bars(
        one.share, range(len(one.texts)), hover, palette.METHODS[1], showlegend=False, cliponaxis=False,
        text=[f"{v:.1%} {style.label(c, 18)}" for v, c in zip(one.share, one.categories, strict=True)],
        textposition="outside", textfont={"size": 11, "color": palette.INK_SOFT},
    )  # fmt: skip
    figure.add_trace(texts, row=1, col=1)
    shown = dict(list(one.by_category.items())[:_MOST_CATEGORIES])
    names = [style.label(name, 24) for name in shown]
    hover = [
        f"<b>{style.label(name)}</b>: {value:.2%} of the variance, {one.categories.count(name)} of its texts"
        f"<br>{one.bank.get(name, 0.0):.1%} of the bank"
        for name, value in shown.items()
    ]
    values = list(shown.values())
    if left := len(one.by_category) - len(shown):
        values.append(one.explained - sum(values))
        names.append(f"{left} further")
        hover.append(f"<b>{names[-1]}</b>: {values[-1]:.2%} of the variance")
    figure.add_trace(style.bars(values, range(len(names)), hover, palette.METHODS[3], showlegend=False), row=1, col=2)
    share_of_bank = [one.bank.get(name, 0.0) for name in shown]
    figure.add_trace(
        style.dots(
            "share of the bank, of what is explained", [share * one.explained for share in share_of_bank],
            range(len(shown)),
            [f"{style.label(n)}: {share:.1%} of the bank" for n, share in zip(shown, share_of_bank, strict=True)],
            palette.INK, marker={"symbol": "line-ns-open", "size": 16, "line": {"width": 2.5}},
        ),
        row=1, col=2,
    )  # fmt: skip
    rows = max(len(one.texts), len(names), 3)
    for col, labels in ((1, [style.label(text, 42) for text in one.texts]), (2, names)):
        figure.update_yaxes({**style.row_axis(labels), "range": [rows - 0.4, -0.6]}, col=col)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=5, title_text="share of the head's variance")
    # Room for the names that stand after the bars.
    figure.update_xaxes(range=[0, 1.65 * (max(one.share, default=0) or 1.0)], col=1)
    figure.update_annotations(font_size=13)
    explained = f"{one.explained:.0%} of its variance explained by {len(one.texts)} texts{_chance(one)}"
    figure.add_annotation(
        x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=30, showarrow=False,
        text="<br>".join((*([] if title == "" else [explained]), _stability(one))),
        font={"color": palette.INK_SOFT}, align="left",
    )  # fmt: skip
    parts = "; ".join(f"{t} ({c}, {s:.1%})" for t, c, s in zip(one.texts, one.categories, one.share, strict=True))
    by = ", ".join(f"{name} {value:.1%}" for name, value in list(one.by_category.items())[:5])
    return style.finish(
        figure,
        f"{one.head}: {one.label}" if title is None else title,
        f"{one.head}, {one.label}: {len(one.texts)} texts explain {one.explained:.1%} of its variance."
        f" In the order of choice: {parts or 'none'}. By category: {by or 'none'}.",
        plot=(_ROW * rows, 740),
        margin={"t": 60 if title == "" else 96, "b": 84, "l": 60},
        bargap=0.28,
    ).update_layout(showlegend=True, legend={"y": -52 / (_ROW * rows), "yanchor": "top", "x": 1, "xanchor": "right"})


def _chance(one: Explanation) -> str:
    if not one.chance:
        return ""
    count = len(one.chance)
    own = sum(one.share[:count])
    return f"<br>the first {count} explain {own:.0%}, random directions {one.chance[-1]:.0%}"


def _stability(one: Explanation) -> str:
    known = (
        ("{:.0%} of what they explain is chosen again in samples of the images", one.image_stability),
        ("halves of the bank agree by {:.0%}", one.bank_stability),
    )
    return "; ".join(form.format(value) for form, value in known if value is not None)


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
    style.refuse(
        numbers.size > 0
        and all(list(shares[name]) == kinds for name in sets)
        and bool(((numbers >= 0) & (numbers <= 1 + 1e-6)).all()),
        f"The shares of {listed(map(repr, sets))} are not numbers from 0 to 1 of the same kinds of words.",
        "Pass the shares that headlens.explain.caption_shares gives.",
    )
    figure = go.Figure()
    for i, kind in enumerate(kinds):
        hover = [
            f"<b>{style.label(name, 50)}</b><br>{style.label(kind, 30)}: {share:.1%}"
            for name, share in zip(sets, numbers[:, i], strict=True)
        ]
        figure.add_trace(
            style.bars(
                numbers[:, i], range(len(sets)), hover, (*palette.METHODS[1:5], palette.METHODS[0])[i % 5],
                width=0.7, name=style.label(kind, 30), marker={"line": {"color": palette.PAPER, "width": 1}},
                text=[f"{share:.0%}" if share >= 0.07 else "" for share in numbers[:, i]], textposition="inside",
                insidetextanchor="middle", textangle=0, textfont={"color": palette.INK_STRONG, "size": 12},
            )
        )  # fmt: skip
    parts = [
        f"{name}: {', '.join(f'{k} {v:.0%}' for k, v in zip(kinds, own, strict=True))}."
        for name, own in zip(sets, numbers, strict=True)
    ]
    return style.finish(
        figure,
        title,
        f"Stacked bars of the share of Shapley values by kind of word, means of {captions} captions. {' '.join(parts)}",
        plot=(46 * len(sets), 480),
        margin={"b": 56, "l": 24},
        legend=True,
        barmode="stack",
        xaxis={
            "range": [0, 1],
            "tickformat": ".0%",
            "title": {"text": f"share of the words' Shapley values, mean of {captions} captions"},
        },
        yaxis=style.row_axis([style.label(name, 34) for name in sets]),
    )
