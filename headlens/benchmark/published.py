"""Numbers that others published, with their source, to stand beside what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import yaml


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        model, pretrained: as open_clip names them.
        method: the registered method that it corresponds to.
        source: where the number stands.
        worst_group, average: in per cent; None where it is not told.
    """

    model: str
    pretrained: str
    method: str
    source: str
    worst_group: float | None = None
    average: float | None = None


def published_numbers(name: str, model: str | None = None, pretrained: str | None = None) -> tuple[Published, ...]:
    """The published rows of a suite, of one model where it is named; none where nothing was published of it."""
    text = resources.files(__package__).joinpath("published.yaml").read_text("utf-8")
    rows = (Published(**row) for row in (yaml.safe_load(text) or {}).get(name, ()))
    return tuple(
        row
        for row in rows
        if (model is None or row.model == model) and (pretrained is None or row.pretrained == pretrained)
    )
