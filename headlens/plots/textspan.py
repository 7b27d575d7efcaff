"""What one head encodes: its texts with the variance that each explains, beside their categories."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from headlens.explain import Explanation
from headlens.plots import palette, style

_ROW = 24  # pixels of a text's row
_MOST_CATEGORIES = 12


def textspan(explanation: Explanation, title: str | None = None) -> go.Figure:
    """Bars of a head's texts in the order of choice, and bars of the same variance by category.

    A mark on a category's bar is its share of the bank, brought to what the texts explain together: a category whose
    bar ends beyond its mark is there more than a blind choice among the bank's texts would have it.

    Args:
        explanation: of one head, `audit.explain()[head]`.
        title: plain text; None for the head, its label and the share of variance explained.
    """
    one = explanation
    figure = make_subplots(
        cols=2,
        column_widths=[0.58, 0.42],
        horizontal_spacing=0.24,
        subplot_titles=("texts, in the order of choice", "the same by category"),
    )
    figure.add_trace(_texts(one), row=1, col=1)
    shown = dict(list(one.by_category.items())[:_MOST_CATEGORIES])
    rest = one.explained - sum(shown.values())
    names = [style.label(name, 24) for name in shown]
    if left := len(one.by_category) - len(shown):
        names.append(f"{left} further")
    figure.add_trace(_categories(one, shown, names, rest), row=1, col=2)
    figure.add_trace(_expected(one, shown), row=1, col=2)
    rows = max(len(one.texts), len(names), 3)
    for col, labels in ((1, [style.label(text, 42) for text in one.texts]), (2, names)):
        figure.update_yaxes(
            range=[rows - 0.4, -0.6], tickmode="array", tickvals=list(range(len(labels))), ticktext=labels,
            showgrid=False, col=col,
        )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", nticks=5, title_text="share of the head's variance")
    # Room for the names that stand after the bars.
    longest = max(one.share, default=0) or 1.0
    figure.update_xaxes(range=[0, 1.65 * longest], col=1)
    figure.update_annotations(font_size=13)
    if title is None:
        title = f"Head {one.head}: {one.label}"
    figure.add_annotation(
        x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=34, showarrow=False,
        text=f"{one.explained:.0%} of its variance explained by {len(one.texts)} texts<br>{_stability(one)}",
        font={"color": palette.INK_SOFT[0]}, align="left",
    )  # fmt: skip
    return style.finish(
        figure,
        title,
        _alt(one),
        height=132 + _ROW * rows + 84,
        min_width=860,
        margin={"t": 132, "b": 84, "l": 60, "r": 24},
        bargap=0.28,
        legend={"y": -52 / (_ROW * rows), "yanchor": "top", "x": 1, "xanchor": "right"},
    )


def _texts(one: Explanation) -> go.Bar:
    again = (
        [""] * len(one.texts) if one.again is None else [f"<br>chosen again in {v:.0%} of samples" for v in one.again]
    )
    together = [sum(one.share[: i + 1]) for i in range(len(one.texts))]
    return go.Bar(
        x=list(one.share),
        y=list(range(len(one.texts))),
        orientation="h",
        marker={"color": palette.METHODS[1][0]},
        text=[f"{v:.1%} {style.label(c, 18)}" for v, c in zip(one.share, one.categories, strict=True)],
        textposition="outside",
        textfont={"size": 11, "color": palette.INK_SOFT[0]},
        cliponaxis=False,
        customdata=[
            f"<b>{style.label(text, 90)}</b><br>{style.label(category)}: {share:.2%} of the variance,"
            f" {so_far:.1%} up to here<br>chosen by {count} of {one.n_heads} heads{more}"
            for text, category, share, so_far, count, more in zip(
                one.texts, one.categories, one.share, together, one.shared, again, strict=True
            )
        ],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _categories(one: Explanation, shown: dict[str, float], names: list[str], rest: float) -> go.Bar:
    values = [*shown.values(), *([rest] if len(names) > len(shown) else [])]
    told = [
        f"<b>{style.label(name)}</b>: {value:.2%} of the variance, {one.categories.count(name)} of its texts"
        f"<br>{one.bank.get(name, 0.0):.1%} of the bank"
        for name, value in shown.items()
    ]
    told += [f"<b>{names[-1]}</b>: {rest:.2%} of the variance"] if len(names) > len(shown) else []
    return go.Bar(
        x=values,
        y=list(range(len(names))),
        orientation="h",
        marker={"color": palette.METHODS[3][0]},
        customdata=told,
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _expected(one: Explanation, shown: dict[str, float]) -> go.Scatter:
    return go.Scatter(
        x=[one.bank.get(name, 0.0) * one.explained for name in shown],
        y=list(range(len(shown))),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 16, "color": palette.INK[0], "line": {"width": 2.5}},
        name="share of the bank, of what is explained",
        text=[f"{style.label(name)}: {one.bank.get(name, 0.0):.1%} of the bank" for name in shown],
        hovertemplate="%{text}<extra></extra>",
    )


def _stability(one: Explanation) -> str:
    known = (
        ("{:.0%} of that chosen again in samples of the images", one.image_stability),
        ("halves of the bank agree by {:.0%}", one.bank_stability),
    )
    return "; ".join(told.format(value) for told, value in known if value is not None)


def _alt(one: Explanation) -> str:
    first = "; ".join(f"{t} ({c}, {s:.1%})" for t, c, s in zip(one.texts, one.categories, one.share, strict=True))
    by = ", ".join(f"{name} {value:.1%}" for name, value in list(one.by_category.items())[:5])
    return (
        f"Head {one.head}, {one.label}: {len(one.texts)} texts explain {one.explained:.1%} of its variance."
        f" In the order of choice: {first or 'none'}. By category: {by or 'none'}."
    )
