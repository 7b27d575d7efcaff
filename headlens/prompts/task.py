"""From prompts to directions: the classes of a zero-shot task, and the values of an attribute.

A direction is the mean of the text embeddings of an entry's prompts, not normalised one by one, then brought to unit
norm. Names follow the rule for cells (`headlens.cells`), so that they are those of a manifest's columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from headlens.cells import cell_text, listed, nearest
from headlens.errors import TaskError

_SLOT = re.compile(r"(?<![%{])\{(|0|c|class|classname|label|name|value)\}(?!\})")  # not braces of other kinds
EncodeText = Callable[[list[str]], Tensor]


@dataclass(frozen=True, init=False)
class ZeroShotTask:
    """Classes to choose between, by name.

    The embedding of class c is the mean over templates of the text embeddings of template(c), not normalised one by
    one, then brought to unit norm.

    Attributes:
        classes: the names, in the order in which labels count them.
        templates: one or more texts with {} where the name goes.

    Raises:
        TaskError: for fewer than two classes, an empty or repeated name, no template, or one without exactly one {}.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def __init__(self, classes: Sequence[str], templates: str | Sequence[str] = "a photo of a {}"):
        if isinstance(classes, str | Mapping | Set) or not isinstance(classes, Iterable) or len(classes) < 2:
            raise TaskError(
                f"A task is a list of two classes or more, not {classes!r}.", "Write ['landbird', 'waterbird']."
            )
        names = [_name(name, "a class") for name in classes]
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if repeated:
            raise TaskError(f"These classes are named more than once: {listed(repeated)}.", "Name every class once.")
        written = check_prompts("the templates", templates)
        for template in written:
            if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
                raise TaskError(
                    f"The template {template!r} does not have one {{}} where the class name goes.",
                    "Write for example 'a photo of a {}'.",
                )
        object.__setattr__(self, "classes", tuple(names))
        object.__setattr__(self, "templates", written)

    def prompts(self) -> tuple[str, ...]:
        """One text a class, from the first template."""
        return tuple(self.prompts_of(name)[0] for name in self.classes)

    def prompts_of(self, name: str) -> tuple[str, ...]:
        """The texts of one class, one a template."""
        return tuple(template.format(name) for template in self.templates)

    def classifier(self, encode_text: EncodeText) -> Float[Tensor, "class embed"]:
        """The class embeddings, rows of norm one. `encode_text` is `clip.encode_text`.

        Raises:
            TaskError: for two classes whose embeddings coincide, or embeddings that are not finite.
        """
        return directions([(name, self.prompts_of(name)) for name in self.classes], encode_text, "classes")

    def index(self, labels: Sequence[str]) -> list[int]:
        """The numbers of labels given by name. Raises `TaskError` for one that is not among the classes."""
        number = {name: i for i, name in enumerate(self.classes)}
        for label in labels:
            if label not in number:
                near = nearest(label, self.classes)
                raise TaskError(
                    f"The label {label!r} is not among the classes {', '.join(self.classes)}.",
                    (f"Did you mean {near!r}? " if near else "") + "Correct the label, or add the class.",
                )
        return [number[label] for label in labels]

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values for JSON; `ZeroShotTask(**plain)` reads them back."""
        return {"classes": list(self.classes), "templates": list(self.templates)}


@dataclass(frozen=True, init=False, eq=False)
class Attribute:
    """What may bias a decision, such as a background or a perceived gender presentation.

    Attributes:
        name: the attribute's name; the manifest's column of this name labels it, where there is one.
        values: for each value, in order, its prompt or prompts. Their order counts: two attributes with the same values
            in another order differ.

    Raises:
        TaskError: for an empty name, fewer than two values, or a value without a prompt.
    """

    name: str
    values: Mapping[str, tuple[str, ...]]

    def __init__(self, name: str, values: Mapping[str, str | Sequence[str]]):
        if not isinstance(values, Mapping) or len(values) < 2:
            raise TaskError(
                f"An attribute is a mapping of two values or more, each with its prompts, not {values!r}.",
                "Write {'land': 'a photo of the land', 'water': 'a photo of the water'}, for example.",
            )
        checked: dict[str, tuple[str, ...]] = {}
        for value, prompts in values.items():
            text = _name(value, "a value")
            if text in checked:
                raise TaskError(f"The value {text!r} is there twice.", "Give all of its prompts in one list.")
            checked[text] = check_prompts(text, prompts)
            if slot := next((found for one in checked[text] if (found := _SLOT.search(one))), None):
                raise TaskError(
                    f"A prompt of {text!r} has the slot {slot[0]}, which nothing fills: {slot.string!r}.",
                    "Write the prompt out for each value.",
                )
        object.__setattr__(self, "name", _name(name, "an attribute"))
        object.__setattr__(self, "values", checked)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attribute):
            return NotImplemented
        return (self.name, list(self.values.items())) == (other.name, list(other.values.items()))

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.values.items())))

    @property
    def value_names(self) -> tuple[str, ...]:
        """The values, in the order in which codes count them."""
        return tuple(self.values)

    def first_prompts(self) -> tuple[str, ...]:
        """One text a value, its first."""
        return tuple(prompts[0] for prompts in self.values.values())

    def prototypes(self, encode_text: EncodeText, unit: bool = True) -> Float[Tensor, "value embed"]:
        """One row a value: the mean of its prompts' embeddings, of norm one unless `unit` is off.

        Raises:
            TaskError: for two values whose embeddings coincide, or embeddings that are not finite.
        """
        return directions(list(self.values.items()), encode_text, "values", unit)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; `Attribute(**plain)` reads them back."""
        return {"name": self.name, "values": {value: list(prompts) for value, prompts in self.values.items()}}


def directions(
    entries: Sequence[tuple[str, Sequence[str]]], encode_text: EncodeText, what: str, unit: bool = True
) -> Float[Tensor, "entry embed"]:
    """One row for each (name, prompts): the mean of the prompts' embeddings, of norm one unless `unit` is off.

    Raises:
        TaskError: for embeddings that are not [text embed] or not finite, and for two entries whose directions
            coincide, which no image could then distinguish.
    """
    texts = [prompt for _, prompts in entries for prompt in prompts]
    encoded = encode_text(texts)
    if encoded.ndim != 2 or encoded.shape[0] != len(texts):
        raise TaskError(
            f"{len(texts)} embeddings of [text embed]", f"shape {tuple(encoded.shape)}", "Pass clip.encode_text."
        )
    if not bool(torch.isfinite(encoded).all()):
        raise TaskError("Text embeddings are NaN or infinite.", "Check the text tower's weights.")
    means = torch.stack([part.mean(dim=0) for part in encoded.split([len(prompts) for _, prompts in entries])])
    unit_rows = normalize(means, dim=1)
    closeness = unit_rows.float() @ unit_rows.float().T
    closeness.fill_diagonal_(-1.0)
    if float(closeness.max()) > 1 - 1e-6:
        first, second = divmod(int(closeness.argmax()), len(entries))
        raise TaskError(
            f"The text tower does not distinguish the {what} {entries[first][0]!r} and {entries[second][0]!r}.",
            "Reword one of them; the tokenizer may drop what is different about them.",
        )
    return unit_rows if unit else means


def check_prompts(name: str, prompts: str | Iterable[str]) -> tuple[str, ...]:
    """The prompts of one entry. Raises `TaskError` where there is none, or one is empty or not Unicode text."""
    prompts = [prompts] if isinstance(prompts, str) or not isinstance(prompts, Iterable) else list(prompts)
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip() or not _is_unicode(prompt):
            raise TaskError(f"A prompt of {name!r} is not a text of at least one word: {prompt!r}.", "Write a prompt.")
    if not prompts:
        raise TaskError(f"There is no prompt for {name!r}.", "Write a prompt of at least one word.")
    return tuple(map(str, prompts))


def _name(name: object, what: str) -> str:
    text = cell_text(name)
    if text is None or not _is_unicode(text):
        raise TaskError(f"The name of {what} is not a text of at least one word: {name!r}.", "Name it in words.")
    return text


def _is_unicode(text: str) -> bool:
    """Whether a text has an encoding: half a surrogate pair has none, and no tokenizer reads it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
