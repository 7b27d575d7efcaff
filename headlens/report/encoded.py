"""What heads encode: their texts, and the images with the most and the least of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from headlens import plots
from headlens.explain import Explanation, TopImages, top_images
from headlens.heads import HeadId
from headlens.locate import Candidates
from headlens.report.asked import attribute_name, location_of
from headlens.report.content import Section
from headlens.report.figures import thumbnails
from headlens.report.words import percent

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

MOST_HEADS = 4
"""Heads with sections of their own: each brings its pictures, and the report is one file."""
_TITLE = 40  # pixels of a figure's title


def shown_heads(audit: Audited) -> list[HeadId]:
    """The located heads that have sections of their own, spurious ones first."""
    location = location_of(audit)
    located = [] if location is None else [*location.spurious, *location.salient]
    return [HeadId(*head) for head in located[:MOST_HEADS]]


def encoded_sections(audit: Audited, images: int = 8) -> list[Section]:
    """An overview of the explained heads; then, for each of the first located heads, its texts and its images.

    Args:
        audit: with located heads.
        images: how many images stand at each end of a gallery; 0 for none.
    """
    heads = shown_heads(audit)
    sections = []
    if set(audit.explanations) - set(heads):
        sections.append(_overview(audit))
    for head in heads:
        if head in audit.explanations:
            sections.append(_texts(audit, audit.explanations[head]))
        if images:
            sections.append(_gallery(audit, head, images))
    return sections


def _overview(audit: Audited) -> Section:
    shape = (audit.store.n_layers, audit.store.n_heads)
    location = location_of(audit)
    many = location is not None and len(location.spurious) + len(location.salient) > MOST_HEADS
    few = f" The first {MOST_HEADS} located heads follow by themselves." if many else ""
    return Section(
        "What heads encode",
        "Each cell is a head. Its colour is the share of its variation over the images that a few short texts explain; "
        "its word is the kind of text that explains most. A label is a summary to check against the head's images, not "
        f"a finding.{few}",
        plots.overview(audit.explanations, shape=shape),
        caption="A stroke marks a head without a clear meaning: its first texts explain too little of it.",
    )


def _texts(audit: Audited, one: Explanation) -> Section:
    table = pd.DataFrame(
        {
            "text": one.texts,
            "category": one.categories,
            "variance, %": [percent(value) for value in one.share],
            "heads with it": [str(count) for count in one.shared],
        }
    )
    if one.again is not None:
        table["chosen again, %"] = [percent(value) for value in one.again]
    figure = plots.textspan(one, title="")  # the heading and the label say it
    figure.update_layout(height=figure.layout.height - _TITLE, margin_t=figure.layout.margin.t - _TITLE)
    return Section(
        f"What head {one.head} encodes",
        f"Label: {one.label}. {len(one.texts)} texts of a bank of general ones explain {percent(one.explained)} % of "
        "what varies in the head over the reference images: what it tells images apart by.",
        figure,
        caption="Each text counts for what is left when its turn comes. The bank can only name what is in it.",
        table=table,
        table_caption=f"The texts of head {one.head}, in the order of choice.",
        table_folded=True,
    )


def _gallery(audit: Audited, head: HeadId, images: int) -> Section:
    direction, up, down = concept_vector(audit, head)
    name = attribute_name(audit)
    told = f"that the head pushes hardest along the concept vector of {name}, towards one end and the other"
    if direction is None:
        direction, up, down, told = _class_direction(audit)
    count = min(images, max(1, len(audit.data.test) // 2))
    top = top_images(audit.data.test, head, direction, count)
    rows = {up: (top.highest, top.highest_scores), down: (top.lowest, top.lowest_scores)}
    pictures = {end: thumbnails(audit.data.test, list(places)) for end, (places, _) in rows.items()}
    groups = [audit.data.groups[row] for row in audit.splits.test]
    captions = {
        end: [f"{groups[place]} {score:+.3f}" for place, score in zip(places, scores, strict=True)]
        for end, (places, scores) in rows.items()
    }
    gone = sum(picture is None for row in pictures.values() for picture in row)
    note = f" {gone} of them could not be read again." if gone else ""
    return Section(
        f"Images of head {head}",
        f"The scored images {told}.{note}",
        plots.gallery(pictures, captions),
        caption=f"Below each its class and {name}, and the head's contribution less its mean.",
        table=_places(audit, top, (up, down), groups),
        table_caption=f"The files of head {head}'s images.",
        table_folded=True,
    )


def concept_vector(audit: Audited, head: HeadId) -> tuple[Tensor | None, str, str]:
    """The concept vector that a head was flagged by, and the names of its ends; None where no such test was made."""
    location = location_of(audit)
    if not isinstance(location, Candidates) or location.concept is None:
        return None, "most", "least"
    concept, values = location.concept, audit.attribute.value_names
    if len(concept.directions) == 1:
        return concept.directions[0], f"towards {values[1]}", f"towards {values[0]}"
    value = int(concept.value[head])
    return concept.directions[value], f"towards {values[value]}", f"away from {values[value]}"


def _class_direction(audit: Audited) -> tuple[Tensor | None, str, str, str]:
    """Of two classes, from the first to the second, with the names of its ends and of the images; of more, none."""
    classes = audit.task.classes
    if len(classes) != 2:
        return None, "most", "least", "in which the head is furthest from its mean, and nearest to it"
    first, second = audit.data.classifier
    ends = f"towards {classes[1]}", f"towards {classes[0]}"
    return second - first, *ends, f"that the head pushes hardest towards {classes[1]} and towards {classes[0]}"


def _places(audit: Audited, top: TopImages, ends: tuple[str, str], groups: list[str]) -> pd.DataFrame:
    paths = audit.data.test.manifest["path"]
    rows = [
        {"end": end, "file": str(paths.iloc[place]), "group": groups[place], "score": f"{score:+.4f}"}
        for end, places, scores in zip(
            ends, (top.highest, top.lowest), (top.highest_scores, top.lowest_scores), strict=True
        )
        for place, score in zip(places, scores, strict=True)
    ]
    return pd.DataFrame(rows)
