"""An attribute: a name with values, each described by one or more prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from headlens.errors import TaskError
from headlens.prompts.encode import EncodeText, check_prompts, directions


class Attribute:
    """What may bias a decision, such as a background or a perceived gender presentation.

    Args:
        name: the attribute's name; the manifest's column of this name labels it, where there is one.
        values: for each value, in order, its prompt or prompts.

    Raises:
        TaskError: for an empty name, fewer than two values, or a value without a prompt.
    """

    def __init__(self, name: str, values: Mapping[str, str | Sequence[str]]):
        if not name.strip():
            raise TaskError("an attribute with a name", repr(name), "Use the manifest's column, such as 'background'.")
        if len(values) < 2:
            raise TaskError("two values or more", f"{list(values)}", "Say what the value is to be told apart from.")
        self.name = name
        self.values = {
            value: check_prompts(value, [prompts] if isinstance(prompts, str) else prompts)
            for value, prompts in values.items()
        }

    def __repr__(self) -> str:
        return f"Attribute({self.name!r}, {self.values})"

    def __eq__(self, other: object) -> bool:
        # The order of the values is part of what an attribute is: codes count them.
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
