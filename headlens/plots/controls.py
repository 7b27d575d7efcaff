"""Do other heads do as much? Located heads against random ones from the same layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from headlens.errors import HeadlensError
from headlens.plots import palette, style


def controls(
    values: Float[np.ndarray, "draw"] | Sequence[float],
    observed: float,
    baseline: float,
    title: str = "",
    observed_name: str = "located heads",
    baseline_name: str = "zero-shot",
    quantity: str = "worst-group accuracy",
    others: Mapping[str, float] | None = None,
    unit: Literal["per cent", "number"] = "per cent",
    smaller_is_better: bool = False,
) -> go.Figure:
    """A histogram of a measure over layer-matched random sets of heads, with lines for comparison.

    Args:
        values: the measure under each random set, a fraction.
        observed: the measure under the located heads.
        baseline: the measure with no head touched.
        title: plain text.
        observed_name: how the line at `observed` is called.
        baseline_name: how the line at `baseline` is called.
        quantity: the measure's name, for the axis.
        others: further lines by name.
        unit: how values are written: "per cent" for shares such as accuracies, "number" for measures such as
            Cramér's V, to three decimals.
        smaller_is_better: whether a random set does as well by a value at most, or at least, the observed one.

    Raises:
        HeadlensError: for no random set, or a value that is not a number.
    """
    draws = style.array(values).reshape(-1)
    lines = [
        (baseline_name, baseline, palette.INK[0], "dash"),
        (observed_name, observed, palette.METHODS[2][0], "solid"),
        *(
            (name, value, palette.METHODS[(i + 3) % len(palette.METHODS)][0], "dot")
            for i, (name, value) in enumerate((others or {}).items())
        ),
    ]
    everything = np.array([*draws, *(value for _, value, _, _ in lines)])
    if not draws.size or not np.isfinite(everything).all():
        raise HeadlensError(
            "the measure of at least one random set, and numbers only",
            f"{draws.size} random sets, {int((~np.isfinite(everything)).sum())} values that are not numbers",
            "Leave out the figure where no control was drawn.",
        )
    low, high = float(everything.min()), float(everything.max())
    margin = max(0.05 * (high - low), 0.02)
    start, stop = max(low - margin, 0.0), high + margin
    bin_width = max((stop - start) / 50, 0.004)
    counts, edges = np.histogram(draws, bins=np.arange(start, stop + bin_width, bin_width))
    top = max(int(counts.max()), 1)
    write = _per_cent if unit == "per cent" else _number
    digits = (2 if unit == "number" else 0) + (0 if stop - start > 0.08 else 1)
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=bin_width * 0.94,
            name=f"{draws.size} random sets of heads, same layers",
            marker={"color": palette.METHODS[1][0]},
            text=[
                f"{n} of {draws.size} sets: {write(a)} to {write(b)}"
                for n, a, b in zip(counts, edges, edges[1:], strict=False)
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    )
    for name, value, colour, dash in lines:
        figure.add_trace(
            go.Scatter(
                x=[value, value],
                y=[0, 1.08 * top],
                mode="lines",
                line={"color": colour, "width": 3, "dash": dash},
                name=f"{style.label(name, 40)} {write(value)}",
                hovertemplate=f"{style.label(name, 40)} {write(value)}<extra></extra>",
            )
        )
    return style.finish(
        figure,
        title,
        _alt(draws, lines, quantity, unit, smaller_is_better),
        height=320 + (32 if title else 0),
        min_width=420,
        margin={"t": 56 + (32 if title else 0)},
        xaxis={
            "title": {"text": style.label(quantity)},
            "tickformat": f".{digits}{'f' if unit == 'number' else '%'}",
            "range": [start, stop],
        },
        yaxis={"title": {"text": "random sets"}, "range": [0, 1.1 * top], "tickformat": "d"}
        | ({"dtick": 1} if top <= 6 else {"nticks": 6}),
    )


def _per_cent(value: float) -> str:
    return f"{value:.1%}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _alt(
    draws: np.ndarray, lines: Sequence[tuple[str, float, str, str]], quantity: str, unit: str, smaller_is_better: bool
) -> str:
    write = _per_cent if unit == "per cent" else _number
    named = ", ".join(f"{name} {write(value)}" for name, value, _, _ in lines)
    located, observed = lines[1][0], lines[1][1]
    reach = int((draws <= observed if smaller_is_better else draws >= observed).sum())
    how = f"are as low as {located}" if smaller_is_better else f"reach {located}"
    return (
        f"A histogram of {quantity} over {draws.size} layer-matched random sets of heads,"
        f" from {write(draws.min())} to {write(draws.max())}, with lines at {named}."
        f" {reach} of {draws.size} random sets {how}."
    )
