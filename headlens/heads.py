"""A head's name, and scores over all heads.

A head is named by its layer and its index in the layer, both from zero. It is written `L10H3`, and read as `L10H3`,
`10.3` or `(10, 3)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from numbers import Integral
from typing import NamedTuple, TypeVar, cast

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from headlens.errors import LocateError

T = TypeVar("T")

HeadLike = tuple[int, int] | str
"""What names a head: a `HeadId`, a pair of integers, "L10H3" or "10.3"."""

_WRITTEN = re.compile(
    r"\s*(?:L(\d+)H(\d+)|(\d+)\.(\d+)|(\d+)\s*,\s*(\d+)|\(\s*(\d+)\s*,\s*(\d+)\s*\))\s*",
    re.IGNORECASE | re.ASCII,
)


class HeadId(NamedTuple):
    """One attention head: `HeadId(10, 3)` is head 3 of layer 10, written "L10H3". Equal to the plain tuple."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    @classmethod
    def of(cls, head: HeadLike) -> HeadId:
        """Read a head from any of its forms.

        Raises:
            LocateError: for anything else.
        """
        if isinstance(head, str):
            if (match := _WRITTEN.fullmatch(head)) is not None:
                layer, index = (text for text in match.groups() if text is not None)
                return cls(int(layer), int(index))
        else:
            try:
                layer, index = head
                if layer == int(layer) and index == int(index):
                    return cls(int(layer), int(index))
            except (TypeError, ValueError):
                pass
        raise LocateError(f"{head!r} names no head.", "Write a head as L10H3, 10.3 or (10, 3); both count from zero.")


class ByHead(dict[HeadId, T]):
    """One thing a head, found by any way to write the head: `found["L3H0"]`, `found["3.0"]`, `found[3, 0]`."""

    def __missing__(self, head: HeadLike) -> T:
        if (one := HeadId.of(head)) in self:
            return self[one]
        raise KeyError(str(one))


def _is_pair(heads: tuple) -> bool:
    return len(heads) == 2 and all(isinstance(each, Integral) for each in heads)


def as_heads(heads: Iterable[HeadLike] | HeadLike | None, n_layers: int, n_heads: int) -> tuple[HeadId, ...]:
    """Check that every head exists in a tower of `n_layers` × `n_heads`, and that none is named twice.

    A single text names heads separated by commas, as in the shell: "L3H0, 3.1". A pair of integers is one head, and
    None stands for all heads.

    Raises:
        LocateError: for what names no head, a head outside the tower, or a repeated one.
    """
    if heads is None:
        return tuple(HeadId(i, j) for i in range(n_layers) for j in range(n_heads))
    if isinstance(heads, str) and _WRITTEN.fullmatch(heads):
        heads = [heads]
    elif isinstance(heads, str):
        heads = [part for part in heads.split(",") if part.strip()]
    elif not isinstance(heads, Iterable) or (isinstance(heads, tuple) and _is_pair(heads)):
        heads = [heads]
    checked: list[HeadId] = []
    for head in cast(Iterable[HeadLike], heads):
        one = HeadId.of(head)
        if not (0 <= one.layer < n_layers and 0 <= one.head < n_heads):
            raise LocateError(
                f"There is no head {one} in a tower of {n_layers} layers with {n_heads} heads each.",
                f"Layers run from 0 to {n_layers - 1} and heads from 0 to {n_heads - 1}.",
            )
        if one in checked:
            raise LocateError(f"Head {one} is named twice.", "Name each head once.")
        checked.append(one)
    return tuple(checked)


@dataclass(frozen=True, repr=False)
class HeadScores:
    """A score for every head of a tower, with the rule that selected some of them.

    Attributes:
        name: what the score is, for a title or a column.
        values: the score of each head.
        threshold: a head is selected where its score exceeds this; None where the rule is another one.
        selection: the selected heads, largest score first.
    """

    name: str
    values: Float[Tensor, "layer head"]
    threshold: float | None = None
    selection: tuple[HeadId, ...] = field(default=())

    def __getitem__(self, head: HeadLike) -> float:
        return float(self.values[HeadId.of(head)])

    def __iter__(self) -> Iterator[tuple[HeadId, float]]:
        n_layers, n_heads = self.values.shape
        return ((HeadId(i, j), float(self.values[i, j])) for i in range(n_layers) for j in range(n_heads))

    def table(self) -> pd.DataFrame:
        """One row a head, largest score first: `head`, `layer`, `index`, the score under its name, `selected`."""
        rows = [
            {"head": str(h), "layer": h.layer, "index": h.head, self.name: v, "selected": h in self.selection}
            for h, v in self
        ]
        return pd.DataFrame(rows).sort_values(self.name, ascending=False, kind="stable", ignore_index=True)

    def __repr__(self) -> str:
        n_layers, n_heads = self.values.shape
        first = ", ".join(f"{row.head} {row[self.name]:+.3f}" for _, row in self.table().head(5).iterrows())
        chosen = ", ".join(map(str, self.selection)) or "none"
        return f"HeadScores({self.name}: {first}, … of {n_layers} × {n_heads} heads; selected: {chosen})"

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True, float_format="{:.3f}".format)
