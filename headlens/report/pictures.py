"""The pictures of a report that need the model and the pixels again: per-token maps."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Int
from torch import Tensor

from headlens.errors import ImageError, ModelError
from headlens.explain import top_images
from headlens.heads import HeadId
from headlens.report.asked import location_of
from headlens.report.encoded import concept_vector
from headlens.report.figures import token_figure as token_maps_figure

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

_MOST_HEADS = 6


def token_figure(audit: Audited, count: int) -> go.Figure | None:
    """Per-token maps of the located heads on a few images that zero-shot gets wrong.

    None where there is nothing to draw: no model at hand, no located head, no mistake, or image files that are gone.
    """
    location, results = location_of(audit), audit.results
    heads = [*location.spurious, *location.salient][:_MOST_HEADS] if location else []
    if results is None or not heads:
        return None
    rows = _examples(audit, count)
    position = {row: i for i, row in enumerate(audit.splits.test)}
    predicted = results.predictions["zero-shot"][[position[row] for row in rows]]
    true = audit.data.labels[rows]
    directions = audit.data.classifier[predicted] - audit.data.classifier[true]
    spurious = set(location.spurious) if location else set()
    names = [f"{head} {'spurious' if head in spurious else 'salient'}" for head in heads]
    titles = [
        f"{audit.data.groups[row]}, taken for {audit.task.classes[wrong]}"
        for row, wrong in zip(rows, predicted, strict=True)
    ]
    return _maps(audit, rows, dict(zip(names, heads, strict=True)), directions, titles)


def concept_figure(audit: Audited, count: int) -> go.Figure | None:
    """Per-token maps of the first candidates along the first one's concept vector, on images from both of its ends.

    None where there is nothing to draw: no model at hand, no concept test, or image files that are gone.
    """
    location = location_of(audit)
    heads = [HeadId(*head) for head in location.spurious[:_MOST_HEADS]] if location else []
    direction, up, down = concept_vector(audit, heads[0]) if heads else (None, "", "")
    if direction is None or count < 1:
        return None
    top = top_images(audit.data.test, heads[0], direction, min((count + 1) // 2, len(audit.data.test)))
    places = [*top.highest, *top.lowest][:count]
    ends = [up] * len(top.highest) + [down] * len(top.lowest)
    rows = audit.splits.test[places]
    titles = [f"{audit.data.groups[row]}, {end}" for row, end in zip(rows, ends[:count], strict=True)]
    return _maps(audit, rows, {str(head): head for head in heads}, direction.expand(len(rows), -1), titles)


def _maps(
    audit: Audited, rows: Int[np.ndarray, "image"], heads: dict[str, HeadId], directions: Tensor, titles: list[str]
) -> go.Figure | None:
    """Maps of heads on some rows of the store; None without the model or an image."""
    if not len(rows):
        return None
    with suppress(ModelError, ImageError):
        return token_maps_figure(audit.data, rows.tolist(), heads, directions, titles)
    return None


def _examples(audit: Audited, count: int) -> np.ndarray:
    """Rows of the store: mistakes of zero-shot that the judged method corrects first, spread over the groups."""
    assert audit.results is not None
    rows = audit.splits.test
    truth = audit.data.labels[rows]
    wrong = audit.results.predictions["zero-shot"] != truth
    verdict = audit.results.verdict
    fixed = audit.results.predictions["zero-shot" if verdict is None else verdict.method] == truth
    names = audit.data.groups[rows].tolist()
    seen: dict[str, int] = {}
    order = []
    for i in np.flatnonzero(wrong):
        rank = seen.get(names[i], 0)
        seen[names[i]] = rank + 1
        order.append((not fixed[i], rank, i))
    return rows[[i for _, _, i in sorted(order)[:count]]]
