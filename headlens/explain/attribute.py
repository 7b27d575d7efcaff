"""How a head encodes the audited attribute, before anything is said of what else it encodes.

With u_a a concept vector (the unit difference of a value's texts to the others'), P the projection on the space that
the head can write to and C the covariance of its contributions, the attribute's share of the head's variance is
(Pu_a)ᵀ C (Pu_a) / (‖Pu_a‖² tr C), and its rank is its place among the same number of every text of the bank (centred,
of unit norm): a rank of 1 says that no text of the bank has more of the head. The values' separation is the difference
of the two groups' mean projections in pooled standard deviations d, with the interval d ± 1.96 se of Hedges and Olkin
(1985), se² = (n₁ + n₀)/(n₁ n₀) + d²/(2(n₁ + n₀)); along the concept vector, and along each pole of the head, which
needs no words. The last finds a head that carries the attribute in a direction that the attribute's texts do not name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import ExplainError
from headlens.explain.explanation import Explanation
from headlens.explain.label import NO_CLEAR_MEANING
from headlens.explain.poles import shares_along
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.states import Moments

CLEARLY = 0.8
"""Standard deviations between two values' means from which a pole is said to separate them: a large effect in the
convention of Cohen (1988)."""


@dataclass(frozen=True)
class Separation:
    """How far two values lie apart: the difference of means in pooled standard deviations, and its 95 % interval."""

    difference: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.difference:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class AttributeEncoding:
    """How a head encodes an attribute.

    Attributes:
        head: the head.
        attribute: its name.
        value: the value that is compared with the others; of two values the second.
        rank: of the attribute's share among the bank's texts, from 1.
        n_texts: texts of the bank.
        share: of the head's variance, along the attribute's concept vector.
        separation: along the concept vector, on the images that were given.
        along_poles: along each of the head's poles.
        label: of the head.
    """

    head: HeadId
    attribute: str
    value: str
    rank: int
    n_texts: int
    share: float
    separation: Separation
    along_poles: tuple[Separation, ...]
    label: str

    @property
    def pole(self) -> int | None:
        """The pole along which the values lie furthest apart, where that is clearly so; else None."""
        far = [abs(one.difference) if one.shown else 0.0 for one in self.along_poles]
        return int(np.argmax(far)) if far and max(far) >= CLEARLY else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the numbers say, first of the attribute, then where the label says something else."""
        place = f"its rank among the {self.n_texts} texts of the bank is {self.rank}"
        said = [
            f"Along the texts of {self.attribute} lies {self.share:.0%} of what varies in head {self.head}; {place}. "
            f"The images of {self.value} and the others lie {self.separation} standard deviations apart there."
        ]
        if self.pole is not None:
            own = self.along_poles[self.pole]
            said.append(f"Along its pole {self.pole + 1} they lie {own} apart, whatever words the bank has for it.")
        elif not self.separation.shown:
            said.append(
                f"The head was selected for {self.attribute}, but neither its texts nor the head's own directions "
                "separate the values clearly: selection and explanation disagree. Only an ablation decides."
            )
        if self.pole is not None and self.label == NO_CLEAR_MEANING:
            said.append("The bank's texts do not name what the head encodes; its images do.")
        elif self.pole not in (None, 0) and self.label != NO_CLEAR_MEANING:
            said.append(f"The label ({self.label}) names another direction of the head, one that varies more.")
        return tuple(said)

    def table(self) -> pd.DataFrame:
        """One row a direction: `direction`, `separation`, its interval's ends."""
        rows = [("texts", self.separation), *((f"pole {i}", one) for i, one in enumerate(self.along_poles, 1))]
        return pd.DataFrame(
            [(name, one.difference, one.low, one.high) for name, one in rows],
            columns=["direction", "separation", "low", "high"],
        )


def attribute_encoding(
    explanation: Explanation,
    store: HeadStore,
    moments: Moments,
    directions: Float[Tensor, "direction embed"],
    values: Int[np.ndarray, "image"],
    names: tuple[str, Sequence[str]],
) -> AttributeEncoding:
    """How a head encodes an attribute.

    Args:
        explanation: of the head.
        store: the images that the values' separation is measured on, best ones that chose nothing.
        moments: of the images that the head was explained on.
        directions: `locate.concept_directions(prototypes)`: one for two values, else one a value.
        values: each image's value as an index, −1 where it has none.
        names: of the attribute, and of its values.

    Raises:
        ExplainError: where fewer than two images have a value, or fewer than two have another.
    """
    head, others = explanation.head, explanation.along
    own = shares_along(head, moments, store.basis, directions)
    contributions = store.heads(*head).double()
    along = contributions @ directions.double().mT
    found = []
    for place in range(len(directions)):
        inside = values == (1 if len(directions) == 1 else place)
        found.append((separation(along[:, place].numpy(), inside, (values >= 0) & ~inside), place, inside))
    best, place, inside = max(found, key=lambda one: abs(one[0].difference))
    outside = (values >= 0) & ~inside
    return AttributeEncoding(
        head=head,
        attribute=names[0],
        value=names[1][1 if len(directions) == 1 else place],
        rank=1 + int((others > own[place]).sum()),
        n_texts=len(others),
        share=float(own[place]),
        separation=best,
        along_poles=tuple(
            separation((contributions @ pole.direction.double()).numpy(), inside, outside) for pole in explanation.poles
        ),
        label=explanation.label,
    )


def separation(along: Float[np.ndarray, "image"], inside: np.ndarray, outside: np.ndarray) -> Separation:
    """The groups' difference of means in pooled standard deviations, with its interval.

    Raises:
        ExplainError: for fewer than two images in a group.
    """
    n1, n0 = int(inside.sum()), int(outside.sum())
    if min(n1, n0) < 2:
        raise ExplainError(f"{n1} and {n0} images cannot be distinguished.", "Take two or more images of each value.")
    squares = along[inside].var() * n1 + along[outside].var() * n0
    pooled = sqrt(squares / (n1 + n0 - 2))
    d = float(along[inside].mean() - along[outside].mean()) / pooled if pooled > 0 else 0.0
    step = 1.959964 * sqrt((n1 + n0) / (n1 * n0) + d * d / (2 * (n1 + n0)))
    return Separation(d, d - step, d + step)
