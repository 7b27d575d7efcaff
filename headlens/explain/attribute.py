"""How a head encodes the audited attribute, before anything is said of what else it encodes.

With u_a a concept vector (the unit difference of a value's texts to the others'), P the projection on the space that
the head can write to and C the covariance of its contributions, the attribute's share of the head's variance is
(Pu_a)ᵀ C (Pu_a) / (‖Pu_a‖² tr C), and its rank is its place among the same number of every text of the bank (centred,
of unit norm): a rank of 1 says that no text of the bank has more of the head. The values' separation is the difference
of the two groups' mean projections in pooled standard deviations d, with the interval d ± 1.96 se of Hedges and Olkin
(1985), se² = (n₁ + n₀)/(n₁ n₀) + d²/(2(n₁ + n₀)); along the concept vector, and along each pole of the head, which
needs no words. The last finds a head that carries the attribute in a direction that the attribute's texts do not name.

A head that was selected for the attribute is **labelled by it** where its values lie clearly apart along their own
texts, in the texts' order, and the head writes that difference as the texts mean it: with Δ the difference of the
values' mean contributions, the cosine of Δ and Pu_a is larger than a random direction of the head's space would have.
That p is exact, (1 + cosine)/2 being Beta((r − 1)/2, (r − 1)/2) for random directions in r dimensions; times the number
of concept vectors, and Benjamini-Hochberg over the selected heads alone: they are few and were named before, so that a
true one is found where a test over all heads would miss it. What selected them may have looked at the same texts; the
rate that results on towers of random weights is in docs/explain.md. All of this is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import beta, false_discovery_control
from torch import Tensor

from headlens.errors import ExplainError
from headlens.explain.explanation import Explanation
from headlens.explain.label import NO_CLEAR_MEANING
from headlens.explain.poles import shares_along
from headlens.extraction import HeadStore
from headlens.heads import HeadId
from headlens.locate.textspan import row_space
from headlens.states import Moments

CLEARLY = 0.8
"""Standard deviations between two values' means from which a pole is said to separate them: a large effect in the
convention of Cohen (1988)."""
FALSE_DISCOVERIES = 0.05
"""The expected share of chance labels among the heads that are labelled by the attribute they were selected for."""


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
        other: the first of two values; "the others" of more.
        rank: of the attribute's share among the bank's texts, from 1.
        n_texts: texts of the bank.
        share: of the head's variance, along the attribute's concept vector.
        separation: along the concept vector, on the images that were given.
        along_poles: along each of the head's poles.
        label: of the head, by its poles.
        alignment: the cosine of the difference of the values' mean contributions with the concept vector, in the space
            that the head can write to.
        p: the probability of such a cosine, or a larger one, under a random direction in that space.
        q: p adjusted for the heads that were selected for the attribute; None for a head that was not.
    """

    head: HeadId
    attribute: str
    value: str
    other: str
    rank: int
    n_texts: int
    share: float
    separation: Separation
    along_poles: tuple[Separation, ...]
    label: str
    alignment: float
    p: float
    q: float | None = None

    @property
    def named(self) -> bool:
        """Whether the head is labelled by the attribute: selected for it, its values clearly apart along their texts,
        and written as the texts mean it."""
        clearly = self.separation.low > 0 and self.separation.difference >= CLEARLY
        return clearly and self.q is not None and self.q <= FALSE_DISCOVERIES

    @property
    def title(self) -> str:
        """The label by the attribute, then the one by the poles, 'background (land ↔ water); dry hills ↔ a pond'."""
        own = [f"{self.attribute} ({self.other} ↔ {self.value})"] if self.named else []
        return "; ".join([*own, *([] if own and self.label == NO_CLEAR_MEANING else [self.label])])

    @property
    def pole(self) -> int | None:
        """The pole along which the values lie furthest apart, where that is clearly so; else None."""
        far = [abs(one.difference) if one.shown else 0.0 for one in self.along_poles]
        return int(np.argmax(far)) if far and max(far) >= CLEARLY else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the numbers say, first of the attribute, then where the label says something else."""
        place = f"its rank among the {self.n_texts:,} texts of the bank is {self.rank}"
        said = [
            f"Along the texts of {self.attribute} lies {100 * self.share:.0f} % of what varies in head {self.head}; "
            f"{place}. "
            f"The images of {self.value} and the others lie {self.separation} standard deviations apart there."
        ]
        if self.q is not None:
            does = "writes" if self.named else "is not shown to write"
            said.append(
                f"It {does} that difference as the texts mean it: their cosine is {self.alignment:.2f}, random "
                f"directions of the head would reach it with p = {self.p:.2g} (q = {self.q:.2g} among the heads that "
                "were selected)."
            )
        if self.pole is not None:
            own = self.along_poles[self.pole]
            said.append(f"Along its pole {self.pole + 1} they lie {own} apart, whatever words the bank has for it.")
        elif self.q is not None and not self.separation.shown:
            said.append(
                f"The head was selected for {self.attribute}, but neither its texts nor the head's own directions "
                "separate the values clearly: selection and explanation disagree. Only an ablation decides."
            )
        if self.pole is not None and self.title == NO_CLEAR_MEANING:
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
        ExplainError: where no value is that of two images, with two or more of others.
    """
    head, others, two = explanation.head, explanation.along, len(directions) == 1
    own = shares_along(head, moments, store.basis, directions)
    parts = store.basis.of(*head).double()[None], moments.mean[head][None], moments.covariance(*head)[None]
    axes = row_space(*parts)[0][0]
    axes = axes[axes.norm(dim=1) > 0.5]  # those beyond the rank are zero
    poles = [pole.direction.double() for pole in explanation.poles]
    asked = torch.stack([*directions.double(), *poles, *axes])
    along, by_pole, inner = store.project_head(*head, asked).double().split([len(directions), len(poles), len(axes)], 1)
    found = []
    for place in range(len(directions)):
        inside = values == (1 if two else place)
        if two or inside.sum() > 1:
            found.append((separation(along[:, place].numpy(), inside, (values >= 0) & ~inside), place, inside))
    if not found:
        raise ExplainError("No value has two images.", "Take two or more images of each value.")
    best, place, inside = max(found, key=lambda one: abs(one[0].difference))
    outside = (values >= 0) & ~inside
    apart, texts = inner[inside].mean(0) - inner[outside].mean(0), axes @ directions[place].double()
    alignment = float(apart @ texts / (apart.norm() * texts.norm()).clamp_min(1e-300))
    half = (len(axes) - 1) / 2
    p = float(beta.sf((1 + alignment) / 2, half, half)) if half > 0 else 1.0  # one axis has no other direction
    return AttributeEncoding(
        head=head,
        attribute=names[0],
        value=names[1][1 if two else place],
        other=names[1][0] if two else "the others",
        rank=1 + int((others > own[place]).sum()),
        n_texts=len(others),
        share=float(own[place]),
        separation=best,
        along_poles=tuple(separation(one.numpy(), inside, outside) for one in by_pole.T),
        label=explanation.label,
        alignment=alignment,
        p=min(1.0, p * len(directions)),
    )


def among_selected(encodings: Sequence[AttributeEncoding]) -> list[AttributeEncoding]:
    """The encodings of the heads that were selected for the attribute, with `q`: their p adjusted for one another."""
    q = false_discovery_control([one.p for one in encodings]) if encodings else []
    return [replace(one, q=float(own)) for one, own in zip(encodings, q, strict=True)]


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
