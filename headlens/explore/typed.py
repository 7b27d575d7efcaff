"""From what is typed into the explorer to a task and an attribute, and back."""

from __future__ import annotations

import pandas as pd

from headlens.errors import TaskError
from headlens.manifest import parse_attribute
from headlens.prompts import Attribute, ZeroShotTask


def attribute_text(attribute: Attribute) -> str:
    """An attribute as the shell writes it: name:value=prompt|prompt,value=prompt."""
    values = ",".join(f"{value}={'|'.join(prompts)}" for value, prompts in attribute.values.items())
    return f"{attribute.name}:{values}"


def read_attribute(text: str, manifest: pd.DataFrame, known: tuple[Attribute, ...]) -> Attribute:
    """The attribute that was typed or chosen; one of those `known` where it is written as one of them, whose prompts
    may hold commas that no text can.

    Raises:
        TaskError, ManifestError: as the shell does.
    """
    for one in known:
        if text.strip() == attribute_text(one):
            return one
    if not text.strip():
        raise TaskError(
            "The box of the attribute is empty.",
            "Write one, such as age:young=a young person,old=an old person, or choose a column of the manifest.",
        )
    name, values = parse_attribute(text, manifest)
    return Attribute(name, dict(values))


def class_text(task: ZeroShotTask) -> str:
    """The classes, separated by commas."""
    return ", ".join(task.classes)


def template_text(task: ZeroShotTask) -> str:
    """The templates, separated by vertical bars."""
    return " | ".join(task.templates)


def read_task(classes: str, templates: str, present: ZeroShotTask) -> ZeroShotTask:
    """The task that was typed; `present` where nothing changed.

    Raises:
        TaskError: for fewer than two classes, a repeated one, or a template without a place for the name.
    """
    if (classes.strip(), templates.strip()) == (class_text(present), template_text(present)):
        return present
    names, texts = (
        [part.strip() for part in text.split(by) if part.strip()] for text, by in ((classes, ","), (templates, "|"))
    )
    return ZeroShotTask(names, texts)
