"""What a model would say at each depth, and which components say it."""

from __future__ import annotations

import plotly.graph_objects as go

from headlens.explain import LogitLens
from headlens.explain.logit_lens import kind_of
from headlens.plots import palette, style

_ROW = 22
_KINDS = {"head": 1, "MLP": 2, "stem": 3, "pool": 4, "constant": 0}  # places among the colours of methods


def logit_lens(lens: LogitLens, image: int | None = None, title: str = "") -> go.Figure:
    """A line a text: the cosine of the residual stream's reading with it, layer by layer.

    Args:
        lens: of `headlens.explain.logit_lens`.
        image: one of its images; by default their mean.
        title: plain text.

    Raises:
        HeadlensError: for an image that is not there, or more than twelve texts, which no one could distinguish.
    """
    values = style.array(lens.lens)
    style.refuse(
        len(lens.texts) <= 2 * len(palette.METHODS),
        f"{len(lens.texts)} lines cannot be distinguished.",
        f"Ask for {2 * len(palette.METHODS)} texts or fewer.",
    )
    _check_image(image, len(values))
    shown = values.mean(0) if image is None else values[image]
    figure = go.Figure()
    for place, text in enumerate(lens.texts):
        name = style.label(text, 40)
        hover = [f"<b>{name}</b><br>{depth}: {v:+.3f}" for depth, v in zip(lens.depths, shown[:, place], strict=True)]
        figure.add_trace(
            go.Scatter(
                x=list(lens.depths), y=shown[:, place], mode="lines+markers", name=name, text=hover,
                hovertemplate="%{text}<extra></extra>",
                line={
                    "color": palette.METHODS[(place + 1) % len(palette.METHODS)], "width": 2,
                    "dash": "solid" if place < len(palette.METHODS) else "dash",
                },
            )
        )  # fmt: skip
    of = f"the mean of {len(values)} images" if image is None else f"image {image}"
    described = [
        f"{text}: {shown[0, i]:+.2f} at the stem, {shown[-1, i]:+.2f} at the end" for i, text in enumerate(lens.texts)
    ]
    return style.finish(
        figure,
        title,
        f"Cosine of the residual stream's reading with each text by layer, {of}. {'; '.join(described)}.",
        plot=(320, 560),
        legend=True,
        xaxis={"type": "category", "title": {"text": "residual stream after"}},
        yaxis={"title": {"text": f"cosine, {of}"}},
    )


def direct_effects(
    lens: LogitLens, text: int = 0, against: int | None = None, count: int = 20, title: str = ""
) -> go.Figure:
    """Bars: the components with the largest direct effects on a text, or on one text less another.

    Args:
        lens: of `headlens.explain.logit_lens`.
        text: the place of the text.
        against: of the text to subtract.
        count: components that are drawn; the note says what the others come to.
        title: plain text.

    Raises:
        HeadlensError: for a text that is not there.
    """
    for place in (text, against):
        style.refuse(
            place is None or 0 <= place < len(lens.texts), f"There is no text {place}.", f"There are {len(lens.texts)}."
        )
    table = lens.table(text, against)
    shown, rest = table.head(count), table.iloc[count:]
    what = f"“{lens.texts[text]}”" + ("" if against is None else f" less “{lens.texts[against]}”")
    figure = go.Figure()
    for kind, place in _KINDS.items():
        rows = [i for i, name in enumerate(shown["component"]) if kind_of(name) == kind]
        if rows:
            part = shown.iloc[rows]
            hover = [f"<b>{row.component}</b>: {row.effect:+.4f} ({row.share:.1%} of all)" for row in part.itertuples()]
            figure.add_trace(style.bars(part["effect"], rows, hover, palette.METHODS[place], name=kind))
    note = f"{len(rest)} further components add up to {rest['effect'].sum():+.3f}." if len(rest) else ""
    described = ", ".join(f"{row.component} {row.effect:+.3f}" for row in shown.itertuples())
    return style.finish(
        figure,
        title or f"Direct effect on {what}",
        f"Components ranked by direct effect on {what}, mean of {len(lens.effects)} images: {described}.",
        plot=(_ROW * len(shown), 560),
        legend=True,
        note=note,
        xaxis={"title": {"text": f"contribution to the cosine, mean of {len(lens.effects)} images"}},
        yaxis=style.row_axis(list(shown["component"])),
        barmode="overlay",
    )


def _check_image(image: int | None, count: int) -> None:
    style.refuse(
        image is None or 0 <= image < count, f"There is no image {image} among {count}.", "Number them from 0, or None."
    )
