"""Which candidate does how much: the change of Cramér's V by each head alone, beside all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from headlens.errors import HeadlensError
from headlens.heads import HeadId
from headlens.metrics import AssociationChange
from headlens.plots import palette, style
from headlens.steps.fairness import HeadShare, TotalEffect


def shares(
    shares: Sequence[HeadShare],
    change: AssociationChange,
    total: TotalEffect | None = None,
    title: str = "",
    most: int = 20,
) -> go.Figure:
    """Bars of the change of Cramér's V: each of several candidates alone, all together, and inside the forward pass.

    To the left V falls. The bars of all candidates have their paired bootstrap interval; those of single heads need not
    add up to them. The direct effect changes what a head writes into the embedding; the total effect lets later layers
    react, and stands beside the direct one on the same images.

    Args:
        shares: `results.shares`.
        change: `results.change`, of all candidates together.
        total: `results.total`; None leaves it out.
        title: plain text.
        most: how many candidates are drawn, largest change first; the figure says how many were left out.

    Raises:
        HeadlensError: for no candidate, or no row to draw one in.
    """
    if not shares or most < 1:
        raise HeadlensError("at least one candidate and one row", f"{len(shares)} and {most}", "Pass results.shares.")
    ranked = sorted(shares, key=lambda share: -abs(share.change))
    rows = [_alone(share) for share in ranked[:most]] if len(shares) > 1 else []
    rows += _together([share.head for share in shares], change, total)
    figure = go.Figure()
    for kind, (colour, pattern) in _KINDS.items():
        places = [i for i, row in enumerate(rows) if row.kind == kind]
        if places:
            figure.add_trace(_bars(kind, [rows[i] for i in places], places, colour, pattern))
    figure.add_vline(x=0, line={"color": palette.AXIS[0], "width": 1})
    left_out = len(ranked) - len(ranked[:most])
    if left_out:
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-52, showarrow=False,
            text=f"{left_out} further candidates, which change V less, are not drawn.",
        )  # fmt: skip
    head, foot = 56 + (28 if title else 0), 52 + (24 if left_out else 0)
    plot_height = (30 if total is None else 36) * len(rows) + 8
    return style.finish(
        figure,
        title,
        _alt(ranked, change, total),
        height=head + plot_height + foot,
        min_width=460,
        margin={"t": head, "b": foot, "r": 40},
        bargap=0.3,
        barmode="overlay",
        legend={"y": 1 + 6 / plot_height},
        xaxis={"title": {"text": "change of Cramér's V"}, "tickformat": ".2~f", "nticks": 7},
        yaxis={
            "range": [len(rows) - 0.5, -0.5],
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": [row.name for row in rows],
            "showgrid": False,
        },
    )


_KINDS: dict[str, tuple[str, str]] = {
    "one head alone": (palette.METHODS[1][0], ""),
    "direct effect": (palette.METHODS[2][0], ""),
    "total effect": (palette.METHODS[4][0], "/"),
}


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    change: float
    interval: tuple[float, float] | None
    written: str
    hover: str


def _alone(share: HeadShare) -> _Row:
    part = "" if share.share is None else f"{share.share:.0%}"
    told = f", {part} of what all do together" if part else ""
    hover = f"<b>head {share.head}</b> alone: V {share.change:+.3f}, to {share.cramers_v:.3f}{told}"
    return _Row(
        "one head alone", f"head {share.head}", share.change, None, part,
        f"{hover}<br>accuracy {share.accuracy:.1%}",
    )  # fmt: skip


def _together(named: Sequence[HeadId], change: AssociationChange, total: TotalEffect | None) -> list[_Row]:
    heads = f"head {named[0]}" if len(named) == 1 else f"all {len(named)} heads"
    rows = [_effect("direct effect", heads, change)]
    if total is not None:
        same = f"{total.images} images"
        if total.direct.difference != change.difference:
            rows.append(_effect("direct effect", f"{heads}<br>on {same}", total.direct))
        where = "class token" if total.tokens == "class" else "all tokens"
        rows.append(_effect("total effect", f"{heads}<br>on {same}, {where}", total.total))
    return rows


def _effect(kind: str, name: str, change: AssociationChange) -> _Row:
    value, (low, high) = change.difference["cramers_v"], change.interval["cramers_v"]
    hover = (
        f"<b>{name.replace('<br>', ' ')}</b>, {kind}: V {value:+.3f} ({low:+.3f} to {high:+.3f})"
        f"<br>{change.before.cramers_v:.3f} before, {change.after.cramers_v:.3f} after"
    )
    return _Row(kind, name, value, (low, high), "", hover)


def _bars(kind: str, rows: list[_Row], places: list[int], colour: str, pattern: str) -> go.Bar:
    ends = [row.interval or (row.change, row.change) for row in rows]
    bars = go.Bar(
        x=[row.change for row in rows],
        y=places,
        orientation="h",
        name=kind,
        marker={
            "color": colour,
            "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": palette.PAPER[0], "size": 6},
        },
        text=[row.written for row in rows],
        textposition="auto",
        textangle=0,
        customdata=[row.hover for row in rows],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )
    if any(row.interval for row in rows):
        bars.error_x = {
            "type": "data",
            "symmetric": False,
            "array": [max(high - row.change, 0.0) for row, (_, high) in zip(rows, ends, strict=True)],
            "arrayminus": [max(row.change - low, 0.0) for row, (low, _) in zip(rows, ends, strict=True)],
            "thickness": 1.4,
            "width": 4,
            "color": palette.INK[0],
        }
    return bars


def _alt(ranked: Sequence[HeadShare], change: AssociationChange, total: TotalEffect | None) -> str:
    told = ", ".join(
        f"{one.head} {one.change:+.3f}" + ("" if one.share is None else f" ({one.share:.0%})") for one in ranked[:8]
    )
    further = f" and {len(ranked) - 8} more" if len(ranked) > 8 else ""
    low, high = change.interval["cramers_v"]
    text = (
        f"Bars of the change of Cramér's V. Each candidate alone: {told}{further}. All together:"
        f" {change.difference['cramers_v']:+.3f} ({change.level:.0%} interval {low:+.3f} to {high:+.3f})."
    )
    if total is not None:
        text += (
            f" On {total.images} images passed again, {total.direct.difference['cramers_v']:+.3f} direct and"
            f" {total.total.difference['cramers_v']:+.3f} in total."
        )
    return text
