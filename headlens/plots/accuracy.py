"""Accuracies as rows of dots with intervals: by group, by class, of other tasks; margins; confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int
from plotly.subplots import make_subplots

from headlens.metrics import SMALL, Evaluation
from headlens.plots import palette, style
from headlens.steps.collateral import CollateralResults, OtherTask
from headlens.steps.fairness import ClassEffect
from headlens.tables import listed

MOST = 20
"""Rows of a figure: of more, the worst are drawn, and a table has the rest."""
_ALL_SHOWN = 4  # classes of a confusion matrix whose every cell has its number; of more, those above half a per cent
_SYMBOLS = ("circle", "diamond", "square")
_ENDS = (5, 25, 50, 75, 95)  # percentiles of a box and its whiskers


def groups(
    evaluations: Sequence[Evaluation],
    title: str = "",
    chance: float | None = None,
    average: bool = True,
    most: int = MOST,
) -> go.Figure:
    """One row a group, one mark a method with its interval; the worst group of each method is marked.

    Args:
        evaluations: methods, all over the same groups.
        title: plain text.
        chance: the accuracy of guessing, drawn as a line; None for none.
        average: begin with the accuracy over all images.
        most: how many groups are drawn; of more, those with the lowest accuracy under any method, and the figure says
            how many were left out.

    Raises:
        HeadlensError: for no evaluation, or evaluations over different groups.
    """
    style.refuse(bool(evaluations), "There is no evaluation to draw.", "Evaluate a method first.")
    first = evaluations[0]
    for one in evaluations[1:]:
        style.refuse(
            set(one.groups) == set(first.groups),
            f"{one.method!r} was evaluated on other groups than {first.method!r}.",
            "Evaluate every method on the same images.",
        )
    lowest = {name: min(one.groups[name] for one in evaluations) for name in first.groups}
    names = list(first.groups)
    if len(names) > most:
        # Each method's worst group is marked, so that it is drawn whatever ties with it.
        marked = {_worst(one) for one in evaluations}
        drawn = sorted(names, key=lambda name: (name not in marked, lowest[name]))[:most]
        names = sorted(drawn, key=lambda name: lowest[name])
    over = "all images" if first.weighting == "images" else f"average over {first.weighting}"
    rows = [style.label(over)] * average + [_sized(name, first.sizes[name], name in first.small) for name in names]
    figure = go.Figure()
    worst: list[tuple[float, float, str]] = []
    for i, one in enumerate(evaluations):
        values = [one.average] * average + [one.groups[name] for name in names]
        keys = ["average"] * average + [f"groups.{name}" for name in names]
        ends = [one.interval.get(key, (value, value)) for key, value in zip(keys, values, strict=True)]
        y = [row + style.beside(i, len(evaluations)) for row in range(len(rows))]
        hover = [
            f"<b>{style.label(one.method, 40)}</b><br>{style.label(name)}: {value:.1%} ({low:.1%} to {high:.1%})"
            for name, value, (low, high) in zip([over] * average + names, values, ends, strict=True)
        ]
        figure.add_trace(_marks(i, one.method, values, y, hover, ends))
        row = names.index(_worst(one)) + average
        worst.append((max(ends[row][1], values[row]) + 0.02, y[row], f"worst group of {style.label(one.method, 40)}"))
    marker = {"symbol": "triangle-left"}
    at, rows_of, described = [one[0] for one in worst], [one[1] for one in worst], [one[2] for one in worst]
    figure.add_trace(style.dots("worst group of the method", at, rows_of, described, palette.INK, marker=marker))
    if chance is not None:
        figure.add_vline(x=chance, line={"color": palette.INK_SOFT, "width": 1.5, "dash": "dot"})
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name=f"chance {chance:.0%}",
            line={"color": palette.INK_SOFT, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
    if average:
        figure.add_hline(y=0.5, line={"color": palette.AXIS, "width": 1})
    left = len(first.groups) - len(names)
    return style.finish(
        figure,
        title,
        " ".join(
            [f"Accuracy of {len(first.groups)} groups with {len(evaluations)} methods.", *map(_described, evaluations)]
        ),
        plot=(max(28, 15 * len(evaluations)) * len(rows) + 10, 480),
        legend=True,
        note=f"{left} further groups, which no method classifies worse, are not drawn." if left else "",
        xaxis={"title": {"text": "accuracy"}, "tickformat": ".0%", "range": [-0.02, 1.06], "tickvals": _FIFTHS},
        yaxis=style.row_axis(rows),
    )


_FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def _marks(
    i: int,
    method: str,
    x: Sequence[float | int],
    y: Sequence[float | int],
    hover: Sequence[str],
    ends: Sequence[tuple[float | int, float | int]],
) -> go.Scatter:
    """A method's marks with their intervals; the first method is grey, as zero-shot is everywhere."""
    colour = palette.METHODS[i % len(palette.METHODS)]
    symbol = _SYMBOLS[i % len(_SYMBOLS)]
    return style.dots(
        method, x, y, hover, colour, marker={"symbol": symbol}, error_x=style.whiskers(x, ends, colour)
    )  # fmt: skip


def _worst(one: Evaluation) -> str:
    return min(one.groups, key=lambda name: one.groups[name])


def _described(one: Evaluation) -> str:
    interval = one.interval.get("worst_group")
    among = f" ({one.level:.0%} interval {interval[0]:.1%} to {interval[1]:.1%})" if interval else ""
    return (
        f"{one.method}: average {one.average:.1%}, worst group {_worst(one)} at {one.worst_group:.1%}{among}, "
        f"gap {one.gap:.1%}."
    )


def _sized(name: str, images: int, few: bool) -> str:
    return f"{style.lines(name, 26)}  n = {images:,}{' (few)' if few else ''}"


def collateral(results: CollateralResults, title: str = "", most: int = MOST) -> go.Figure:
    """One row a task, one mark a method: the change of accuracy, with its interval; left of zero is a loss.

    Args:
        results: `audit.collateral()`.
        title: plain text.
        most: how many tasks are drawn; of more, those of other attributes, the audited attribute, and the classes that
            change most; the figure says how many were left out.

    Raises:
        HeadlensError: where no method was measured, or fewer than one row is asked for.
    """
    style.refuse(
        bool(results.methods) and most > 0,
        f"There are {len(results.methods)} methods and {most} rows to draw.",
        "Correct something first: audit.evaluate() or audit.fairness().",
    )
    moved = {
        task.name: max((abs(m.difference.get(task.name, 0.0)) for m in results.methods.values()), default=0.0)
        for task in results.tasks
    }
    ranked = sorted(results.tasks, key=lambda task: (task.kind == "class", -moved[task.name]))[:most]
    drawn = [task for task in results.tasks if task in ranked]
    figure = go.Figure()
    for i, (method, found) in enumerate(results.methods.items()):
        rows = [row for row, task in enumerate(drawn) if task.name in found.difference]
        x = [100 * found.difference[drawn[row].name] for row in rows]
        ends = [(100 * low, 100 * high) for low, high in (found.interval[drawn[row].name] for row in rows)]
        hover = [
            f"<b>{style.label(drawn[row].name)}</b>, {style.label(method, 40)}"
            f"<br>{found.before[drawn[row].name]:.1%} before, {found.after[drawn[row].name]:.1%} after"
            f"<br>change {value:+.1f} points, interval {low:+.1f} to {high:+.1f}"
            for row, value, (low, high) in zip(rows, x, ends, strict=True)
        ]
        y = [row + style.beside(i, len(results.methods)) for row in rows]
        figure.add_trace(_marks(i + 1, method, x, y, hover, ends))
    figure.add_vline(x=0, line={"color": palette.INK, "width": 1.5})
    left = len(results.tasks) - len(drawn)
    return style.finish(
        figure,
        title,
        f"Change of accuracy in points, with intervals. {'; '.join(_changes(results, drawn))}.",
        plot=(max(30, 20 * len(results.methods)) * len(drawn) + 10, 480),
        margin={"b": 56},
        legend=True,
        note=f"{left} further classes, which change less, are not drawn." if left else "",
        showlegend=True,
        xaxis={"title": {"text": "change of accuracy, in points; left of zero is a loss"}, "tickformat": "+~f"},
        yaxis=style.row_axis(
            [f"{style.label(task.name, 28)}{' (audited)' if task.kind == 'attribute' else ''}" for task in drawn]
        ),
    )


def _changes(results: CollateralResults, drawn: Sequence[OtherTask]) -> list[str]:
    return [
        f"{method}: "
        + ", ".join(
            f"{task.name} {100 * found.difference[task.name]:+.1f} ({100 * found.interval[task.name][0]:+.1f} to "
            f"{100 * found.interval[task.name][1]:+.1f})"
            for task in drawn
            if task.name in found.difference
        )
        for method, found in results.methods.items()
    ]


# ---- classes before and after ---------------------------------------------------------------------------------------

Measure = Literal["v", "gap", "accuracy"]
MEASURES: dict[Measure, tuple[str, str]] = {
    "v": ("Cramér's V", ".3f"),
    "gap": ("accuracy gap between values", ".1%"),
    "accuracy": ("accuracy", ".1%"),
}
"""The panels from left to right: each measure's name, and how it is written."""


def classes(
    effects: Sequence[ClassEffect], title: str = "", by: Measure = "v", most: int = MOST, after: str = "after ablation"
) -> go.Figure:
    """One row a class, one panel a measure: a ring before, a disc after, a line between.

    Classes are sorted by the change of one measure, largest fall on top; a class without images has no accuracy, and
    comes last. Classes of fewer than 30 images are marked, in words and by squares instead of circles.

    Args:
        effects: `results.by_class` of a fairness audit.
        title: plain text.
        by: the measure whose change sorts the classes.
        most: how many classes are drawn; of more, those whose measure changes most, and the figure says how many were
            left out.
        after: what came between, for the legend.

    Raises:
        HeadlensError: for no class, fewer than one row, or an unknown measure.
    """
    style.refuse(
        bool(effects) and most > 0 and by in MEASURES,
        f"{len(effects)} classes, {most} rows and by={by!r} cannot be drawn.",
        f"Pass results.by_class, and sort by one of {', '.join(MEASURES)}.",
    )
    change = {one.name: _ends(one, by)[1] - _ends(one, by)[0] for one in effects}
    unknown = {name for name, value in change.items() if not np.isfinite(value)}
    kept = sorted(effects, key=lambda one: (one.name in unknown, 0 if one.name in unknown else -abs(change[one.name])))
    drawn = sorted(
        kept[:most], key=lambda one: (one.name in unknown, 0 if one.name in unknown else change[one.name], one.name)
    )
    rows = range(len(drawn))
    figure = make_subplots(
        cols=len(MEASURES), shared_yaxes=True, horizontal_spacing=0.035,
        subplot_titles=[name for name, _ in MEASURES.values()],
    )  # fmt: skip
    colour = palette.METHODS[1]
    symbols = ["square" if one.images < SMALL else "circle" for one in drawn]
    for col, measure in enumerate(MEASURES, start=1):
        ends = [_ends(one, measure) for one in drawn]
        hover = [_hover(one, measure) for one in drawn]
        figure.add_scatter(
            x=[v for pair in ends for v in (*pair, None)], y=[v for row in rows for v in (row, row, None)],
            mode="lines", line={"color": palette.AXIS, "width": 3}, hoverinfo="skip", showlegend=False,
            row=1, col=col,
        )  # fmt: skip
        for which, name in enumerate(("before", after)):
            marker = {"symbol": symbols, "line": {"color": colour, "width": 2}}
            fill = colour if which else palette.PAPER
            dots = style.dots(name, [pair[which] for pair in ends], list(rows), hover, fill, marker=marker)
            figure.add_trace(dots.update(showlegend=col == 1, legendgroup=("before", "after")[which]), row=1, col=col)
        figure.update_xaxes(_measure_axis(measure, ends), col=col)
    if "square" in symbols:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=f"squares: fewer than {SMALL} images",
            marker={"symbol": "square-open", "size": 9, "color": palette.INK_SOFT}, row=1, col=1,
        )  # fmt: skip
    axis = style.row_axis([_sized(one.name, one.images, one.images < SMALL) for one in drawn])
    figure.update_yaxes({**axis, "showgrid": True})
    # The panels' names are above the ticks, which are on top, so that they are seen before a long list is scrolled.
    figure.update_annotations(font_size=13, yshift=22)
    left = len(effects) - len(drawn)
    height = (26 if len(drawn) <= MOST else 19) * len(drawn) + 10
    return style.finish(
        figure,
        title,
        _classes_in_words(effects, drawn, by),
        plot=(height, 760),
        margin={"t": 52, "b": 16, "l": 60, "r": 20},
        legend=True,
        note=f"{left} further classes, whose {MEASURES[by][0]} changes less, are not drawn." if left else "",
    ).update_layout(legend_y=1 + 50 / height)


def _ends(effect: ClassEffect, measure: str) -> tuple[float, float]:
    return float(getattr(effect, f"{measure}_before")), float(getattr(effect, f"{measure}_after"))


def _measure_axis(measure: Measure, ends: Sequence[tuple[float, float]]) -> dict[str, object]:
    finite = [v for pair in ends for v in pair if np.isfinite(v)] or [0.0, 1.0]
    top = max(*finite, 0.1)
    # A small V deserves its own scale; accuracies are read against the whole of theirs.
    low, high = (-0.04, 1.04) if measure == "accuracy" else (-0.06 * top, 1.08 * top)
    return {
        "range": [min(low, min(finite) - 0.02), high],
        "side": "top",
        "tickformat": ".2~f" if measure == "v" else ".0%",
        "nticks": 6,
        "zeroline": True,
        "zerolinecolor": palette.AXIS,
        "zerolinewidth": 1,
    }


def _hover(effect: ClassEffect, measure: Measure) -> str:
    name, form = MEASURES[measure]
    before, after = _ends(effect, measure)
    described = f"{before:{form}} before, {after:{form}} after" if np.isfinite(before + after) else "not known"
    return (
        f"<b>{style.label(effect.name)}</b>, {effect.images} images<br>{name}: {described}"
        f"<br>{effect.changed} predictions changed: {effect.corrected} corrected, {effect.newly_wrong} newly wrong"
    )


def _classes_in_words(effects: Sequence[ClassEffect], drawn: Sequence[ClassEffect], by: Measure) -> str:
    name, form = MEASURES[by]
    known = [one for one in drawn if np.isfinite(sum(_ends(one, by)))]
    change = [after - before for before, after in (_ends(one, by) for one in known)]
    fallen, risen = sum(value < 0 for value in change), sum(value > 0 for value in change)
    parts = [
        f"{name}, before and after, of {len(drawn)} of {len(effects)} classes, sorted by the change of {name}:"
        f" it falls for {fallen} and rises for {risen}."
    ]
    for word, one in (("Largest fall", known[0] if fallen else None), ("Largest rise", known[-1] if risen else None)):
        if one is not None:
            parts.append(f"{word}: {one.name}, {' to '.join(f'{v:{form}}' for v in _ends(one, by))}.")
    if few := [one.name for one in drawn if one.images < SMALL]:
        parts.append(f"Fewer than {SMALL} images: {listed(few, MOST)}.")
    return " ".join(parts)


# ---- margins and confusions -----------------------------------------------------------------------------------------


def margins(
    values: Mapping[str, np.ndarray], groups: Sequence[str], title: str = "", unit: str = "cosine similarity"
) -> go.Figure:
    """Boxes of the images' margins, one cluster a group, one box a method; above zero the image is correct.

    An image's margin is the score of its true class minus the best score of another. A box reaches from the first to
    the third quartile, its line is the median, its whiskers end at the 5th and the 95th percentile.

    Args:
        values: the margins of every image, by method.
        groups: the group of every image.
        title: plain text.
        unit: what the margins are measured in.

    Raises:
        HeadlensError: for no method or image, or margins that are not as many as the groups.
    """
    counts = {name: len(own) for name, own in values.items()}
    style.refuse(
        bool(counts) and len(groups) > 0 and set(counts.values()) == {len(groups)},
        f"There are {len(groups)} groups for {listed(f'{n} margins of {name!r}' for name, n in counts.items())}.",
        "Take margins and groups from the same images, at least one.",
    )
    member = np.asarray(groups, dtype=object)
    names = sorted(set(groups))
    figure = go.Figure()
    medians = []
    for i, (method, own) in enumerate(values.items()):
        ends = np.stack([np.percentile(style.array(own)[member == name], _ENDS) for name in names], axis=1)
        described = ", ".join(f"{name} {value:+.3f}" for name, value in zip(names, ends[2], strict=True))
        medians.append(f"{method}: {described}")
        figure.add_box(
            y=[row + style.beside(i, len(values), 0.82) for row in range(len(names))],
            **dict(zip(("lowerfence", "q1", "median", "q3", "upperfence"), ends, strict=True)),
            orientation="h", width=0.7 / len(values), name=style.label(method, 40), hoverinfo="x",
            line={"color": palette.METHODS[i % len(palette.METHODS)], "width": 1.5},
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": palette.INK, "width": 1.5})
    return style.finish(
        figure,
        title,
        "Boxes of the margins of the true class by group; below zero an image is classified incorrectly. Medians with "
        f"{'; '.join(medians)}.",
        plot=(max(34 * len(values), 44) * len(names), 480),
        margin={"b": 56},
        legend=True,
        xaxis={"title": {"text": f"margin of the true class, {style.label(unit)}"}},
        yaxis=style.row_axis([_sized(name, int((member == name).sum()), False) for name in names]),
    )


def confusion(
    counts: Mapping[str, Int[np.ndarray, "class class_predicted"]],
    classes: Sequence[str],
    title: str = "",
    most: int = MOST,
) -> go.Figure:
    """Confusion matrices side by side: the true class of each row, predicted as each column, in per cent of the row.

    Args:
        counts: by name, such as an attribute's value: how many images of a true class are predicted as each class.
        classes: the classes' names.
        title: plain text.
        most: how many classes are drawn; of more, those with the lowest accuracy in any matrix.

    Raises:
        HeadlensError: for no matrix, or one that is not classes × classes.
    """
    shape = (len(classes), len(classes))
    style.refuse(
        bool(counts) and all(matrix.shape == shape for matrix in counts.values()),
        f"The confusion matrices are not all of {len(classes)} × {len(classes)} classes, or there is none.",
        "Count true and predicted classes with headlens.metrics.confusion.",
    )
    shares = {name: matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for name, matrix in counts.items()}
    correct = np.min(
        [np.where(m.sum(axis=1) > 0, np.diagonal(s), 2) for m, s in zip(counts.values(), shares.values(), strict=True)],
        axis=0,
    )
    drawn = np.sort(np.argsort(correct, kind="stable")[:most])
    taken = sum(matrix[drawn].sum(axis=0) for matrix in counts.values())
    columns = np.sort(np.argsort(-taken, kind="stable")[:most])  # else the images of rows would be out of sight
    figure = make_subplots(
        cols=len(counts), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[style.label(name, 30) for name in counts],
    )  # fmt: skip
    shown_from = 0 if len(classes) <= _ALL_SHOWN else 0.005
    names, predicted = ([style.label(classes[i], 22) for i in some] for some in (drawn, columns))
    for col, (name, matrix) in enumerate(counts.items(), start=1):
        part = shares[name][np.ix_(drawn, columns)]
        figure.add_heatmap(
            z=part, x=list(range(len(predicted))), y=list(range(len(names))), xgap=1, ygap=1, coloraxis="coloraxis",
            text=[[f"{100 * v:.0f}" if len(names) <= 12 and v >= shown_from else "" for v in row] for row in part],
            texttemplate="%{text}", textfont={"size": 11},
            customdata=[
                [
                    f"<b>{style.label(name, 30)}</b><br>{style.label(classes[i])} predicted as "
                    f"{style.label(classes[j])}: {int(matrix[i, j])} of {int(matrix[i].sum())}"
                    for j in columns
                ]
                for i in drawn
            ],
            hovertemplate="%{customdata}<extra></extra>", row=1, col=col,
        )  # fmt: skip
        figure.update_xaxes(
            {
                **style.row_axis(predicted),
                "range": [-0.5, len(predicted) - 0.5],
                "tickangle": -45,
                "tickfont_size": 12 if len(names) <= 12 else 10,
            },
            title_text="predicted",
            col=col,
        )
    figure.update_yaxes({**style.row_axis(names), "range": [len(names) - 0.5, -0.5]})
    figure.update_yaxes(title_text="true class", col=1)
    figure.update_annotations(font_size=13)
    left = len(classes) - len(drawn)
    # Pixels of a cell: on a wide page four matrices stand side by side without a scroll bar.
    side = min(30, max(24, 896 // (len(counts) * len(names)))) if len(names) <= 12 else 20
    described = [
        f"{name}: " + ", ".join(f"{classes[i]} {shares[name][i, i]:.0%}" for i in drawn if matrix[i].sum())
        for name, matrix in counts.items()
    ]
    return style.finish(
        figure,
        title,
        f"Confusion matrices, each in per cent of its true classes. Correct with {'; '.join(described)}.",
        plot=(max(120, side * len(names)), max(420, 130 + len(counts) * max(140, side * len(names)))),
        # Names stand aslant below the plot, and the axis' title below them.
        margin={"t": 34, "b": max(96, 60 + 5 * max(map(len, predicted)))},
        note=f"{left} further classes, no worse than these, are not drawn; columns: what the rest is classified as."
        if left
        else "",
        coloraxis={
            "colorscale": palette.scale(palette.SEQUENTIAL), "cmin": 0, "cmax": 1,
            "colorbar": {"thickness": 12, "outlinewidth": 0, "tickformat": ".0%", "tickfont": {"size": 11}},
        },
    )  # fmt: skip
