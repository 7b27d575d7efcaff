"""What a benchmark asks: a data set with the task, attribute, text pairs and measures that it is asked with.

Adding a suite is one decorated function, also in a notebook cell:

    @hl.benchmark.register_suite("my birds")
    def mine():
        return hl.benchmark.Suite("my birds", read, ("a photo of a {}",), hl.Attribute("background", {...}))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from headlens.audit import Audit
from headlens.benchmark.head_transfer import TransferredHeads
from headlens.benchmark.measures import Extra
from headlens.datasets import Dataset
from headlens.prompts import Attribute, ZeroShotTask
from headlens.registry import Registry

TextPairs = Sequence[Sequence[str]]
Conflicting = Callable[[Audit], list[tuple[str, str]] | None]


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        model, pretrained: as open_clip names them.
        method: the registered method that it corresponds to.
        source: where the number stands.
        worst_group, average: in per cent; None where it is not known.
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


@dataclass(frozen=True)
class Suite:
    """What a benchmark asks, of which images.

    Attributes:
        name: of the suite; published numbers are kept under it.
        read: from the data set's folder to images and class names.
        templates: prompts for a class.
        attribute: the attribute.
        pairs, spurious, crossed: text pairs; None for an audit's own defaults. Where the images have `candidates`,
            pairs may hold {first} and {second}: each image gets those of its own two classes. Under `salient_on` these
            are the class that an image is taken for and that class's rival.
        reference, test: the splits.
        conflicting: names the groups in which class and attribute conflict; None for the audit's own rule.
        salient_on: for many classes: the attribute's value on whose reference images salient heads are located class by
            class; see `headlens.benchmark.per_image`. "" for one list over all classes.
        heads_from: heads that were located elsewhere, in place of locating here; see `headlens.benchmark.read_heads`.
        extras: measures beside average, worst group and gap.
        notes: what to know about how the suite asks, a sentence each.
        model: the model that is meant where none is named; "" where one has to be.
        caption_kinds: words of captions by kind, where the manifest has a column `caption`; None for the names of
            classes and values.
        options: further arguments of `Audit`, such as `skip_unlabelled`.
    """

    name: str
    read: Callable[[Path], Dataset]
    templates: tuple[str, ...]
    attribute: Attribute
    pairs: TextPairs | None = None
    spurious: TextPairs | None = None
    crossed: TextPairs | None = None
    reference: str = "val"
    test: str = "test"
    conflicting: Conflicting | None = None
    salient_on: str = ""
    heads_from: str | Path | TransferredHeads | None = None
    extras: tuple[Extra, ...] = ()
    notes: tuple[str, ...] = ()
    model: str = ""
    caption_kinds: Mapping[str, Sequence[str]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def task(self, data: Dataset) -> ZeroShotTask:
        """The task over the data set's classes."""
        return ZeroShotTask(list(data.classes), list(self.templates))


SUITES: Registry[Callable[[], Suite]] = Registry("suite")
"""What makes each suite, by its name: what it needs is read when it is asked for."""
register_suite = SUITES.register


def suite(name: str) -> Suite:
    """The suite of that name. Raises `UnknownNameError` for an unknown one."""
    return SUITES[name]()
