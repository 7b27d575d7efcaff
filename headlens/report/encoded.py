"""What heads encode: their texts, and the images with the most and the least of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from headlens import plots
from headlens.errors import ImageError
from headlens.explain import Explanation, TopImages, top_images
from headlens.heads import HeadId
from headlens.images import read_image
from headlens.locate import Candidates
from headlens.manifest import image_files
from headlens.plots.gallery import SIDE
from headlens.report.asked import attribute_name
from headlens.report.content import Section
from headlens.report.words import percent

if TYPE_CHECKING:
    from headlens.audit import Audit
    from headlens.states import HeadStore

MOST_HEADS = 4
"""Heads with sections of their own: each brings its pictures, and the report is one file."""


def encoded_sections(audit: Audit, images: int = 8) -> list[Section]:
    """An overview of the explained heads; then, for each of the first candidates, its texts and its images.

    Args:
        audit: with located heads.
        images: how many images stand at each end of a gallery; 0 for none.
    """
    location = audit.location
    heads = [HeadId(*head) for head in location.spurious[:MOST_HEADS]] if location is not None else []
    sections = []
    if len(audit.explanations) > 1:
        sections.append(_overview(audit))
    for head in heads:
        if head in audit.explanations:
            sections.append(_texts(audit, audit.explanations[head]))
        if images:
            sections.append(_gallery(audit, head, images))
    return sections


def _overview(audit: Audit) -> Section:
    shape = (audit.store.n_layers, audit.store.n_heads)
    few = f" The first {MOST_HEADS} candidates follow by themselves." if _left_out(audit) else ""
    return Section(
        "What heads encode",
        "For each head the share of its variance that a few texts of the bank explain, with its label. A label is a "
        f"summary to check against the head's images, not a finding.{few}",
        plots.overview(audit.explanations, shape=shape),
        caption="A stroke marks a head without a clear meaning: its first texts explain too little of it.",
    )


def _left_out(audit: Audit) -> bool:
    return audit.location is not None and len(audit.location.spurious) > MOST_HEADS


def _texts(audit: Audit, one: Explanation) -> Section:
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
    return Section(
        f"What head {one.head} encodes",
        f"Label: {one.label}. {len(one.texts)} texts explain {percent(one.explained)} % of its variance over the "
        "reference images.",
        plots.textspan(one),
        caption="Each text counts for what is left when its turn comes. The bank can only name what is in it.",
        table=table,
        table_caption=f"The texts of head {one.head}, in the order of choice.",
    )


def _gallery(audit: Audit, head: HeadId, images: int) -> Section:
    direction, up, down = concept_vector(audit, head)
    count = min(images, max(1, len(audit.test) // 2))
    top = top_images(audit.test, head, direction, count)
    name = attribute_name(audit)
    along = f"along the concept vector of {name}" if direction is not None else "by its distance from its mean"
    rows = {up: (top.highest, top.highest_scores), down: (top.lowest, top.lowest_scores)}
    pictures = {end: thumbnails(audit.test, list(places)) for end, (places, _) in rows.items()}
    groups = [audit.groups[row] for row in audit.splits.test]
    captions = {
        end: [f"{groups[place]} {score:+.3f}" for place, score in zip(places, scores, strict=True)]
        for end, (places, scores) in rows.items()
    }
    gone = sum(picture is None for row in pictures.values() for picture in row)
    note = f" {gone} of them could not be read again." if gone else ""
    return Section(
        f"Images of head {head}",
        f"The scored images to which the head contributes most and least {along}.{note}",
        plots.gallery(pictures, captions),
        caption=f"Below each its class and {name}, and the head's contribution less its mean.",
        table=_places(audit, top, (up, down), groups),
        table_caption=f"The files of head {head}'s images.",
    )


def concept_vector(audit: Audit, head: HeadId) -> tuple[Tensor | None, str, str]:
    """The concept vector that a head was flagged by, and the names of its ends; None where no such test was made."""
    location = audit.location
    if not isinstance(location, Candidates) or location.concept is None:
        return None, "most", "least"
    concept, values = location.concept, audit.attribute.value_names
    if len(concept.directions) == 1:
        return concept.directions[0], f"towards {values[1]}", f"towards {values[0]}"
    value = int(concept.value[head])
    return concept.directions[value], f"towards {values[value]}", f"away from {values[value]}"


def _places(audit: Audit, top: TopImages, ends: tuple[str, str], groups: list[str]) -> pd.DataFrame:
    paths = audit.test.manifest["path"]
    rows = [
        {"end": end, "file": str(paths.iloc[place]), "group": groups[place], "score": f"{score:+.4f}"}
        for end, places, scores in zip(
            ends, (top.highest, top.lowest), (top.highest_scores, top.lowest_scores), strict=True
        )
        for place, score in zip(places, scores, strict=True)
    ]
    return pd.DataFrame(rows)


def thumbnails(store: HeadStore, rows: list[int]) -> list[Image.Image | np.ndarray | None]:
    """The pictures of some rows, cut to their boxes and made small; None where a file cannot be read."""
    manifest = store.manifest.iloc[rows]
    manifest.attrs.update(store.manifest.attrs)
    pictures: list[Image.Image | np.ndarray | None] = []
    for path, box in image_files(manifest):
        try:
            picture = read_image(path, box)
        except ImageError:
            pictures.append(None)
        else:
            picture.thumbnail((SIDE, SIDE))
            pictures.append(picture)
    return pictures
