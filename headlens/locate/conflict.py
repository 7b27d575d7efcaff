"""The conflicting groups, G_N: the (class, value) pairs in which the attribute goes against the class.

Ways to say which they are:

1. `groups`: the user names them.
2. rule "majority" (the default): for each class, every value but the one that the class mostly occurs with in the
   reference split. Where no value is clearly the commonest the rule has no answer, and says so: a validation split
   that was balanced within each class (Waterbirds') needs the training split as reference, or one of the other ways.
3. rule "rarer" (ours), for three values or more, of which several may go with a class (a meadow and a wood with a
   landbird): every value with a smaller share of the class's images than of all classes' images, classes counted alike.
   Where no value's share is larger than that by the margin in some class, the rule has no answer.
4. rule "accuracy" (ours): for each class, every value but the one on which the model's own predictions are most often
   correct; of three values or more, every value on which they are less often correct than in the class as a whole. It
   needs no correlated split, but it looks at the outcome: judge what it finds on another split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from headlens.errors import LocateError, NothingLocatedError, UnknownNameError

Column: TypeAlias = Sequence[Any] | np.ndarray | pd.Series | pd.Categorical | pd.Index | Tensor
Rule = Literal["majority", "rarer", "accuracy"]


@dataclass(frozen=True, eq=False)
class ConflictingGroups:
    """G_N: which images it holds, and how it was chosen.

    Attributes:
        mask: whether each image belongs to G_N.
        groups: the conflicting (class, value) pairs, by name.
        sizes: how many images of each pair there are.
        rule: "named", "majority", "rarer" or "accuracy".
        tied: classes in which no value leads by the margin; they have no conflicting group.
    """

    mask: Bool[Tensor, "image"]
    groups: tuple[tuple[str, str], ...]
    sizes: tuple[int, ...]
    rule: str
    tied: tuple[str, ...] = ()

    def table(self) -> pd.DataFrame:
        """One row a group: `class`, `value`, `images`."""
        rows = [(c, v, n) for (c, v), n in zip(self.groups, self.sizes, strict=True)]
        return pd.DataFrame(rows, columns=["class", "value", "images"])

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, escape=True)


def conflicting_groups(
    labels: Column,
    attribute: Column,
    *,
    groups: Iterable[tuple[Hashable, Hashable] | str] | None = None,
    rule: Rule = "majority",
    reference: tuple[Column, Column] | None = None,
    predictions: Column | None = None,
    margin: float = 0.05,
) -> ConflictingGroups:
    """Choose G_N among the images of a split.

    Args:
        labels: the class of each image, as names or numbers.
        attribute: the attribute's value of each image, as names or numbers.
        groups: conflicting groups by name, as (class, value) pairs or "class/value"; overrides `rule`.
        rule: see the module; "accuracy" needs `predictions`.
        reference: labels and attribute of the split that shares are taken from; by default this one.
        predictions: the predicted class of each image, for rule "accuracy".
        margin: the commonest value (or the best predicted one) must lead the next by this share of the class's
            images (or by this accuracy); of three values or more, the share over all classes (the class's accuracy).
            By accuracy, a class in which none does has no conflicting group.

    Raises:
        LocateError: for columns of different lengths or with missing values, one class or one value only, a named
            group that does not occur, a majority that some class lacks, or accuracies that tie in every class.
    """
    pairs = _pairs(labels, attribute, "this split")
    tied: tuple[str, ...] = ()
    if groups is not None:
        chosen, used = _named(groups, pairs), "named"
    else:
        along = _values_along(pairs, rule, reference, predictions, margin)
        chosen, used = _present_but(along, pairs), rule
        tied = tuple(label for label, values in along.items() if not values)
    if not chosen:
        raise NothingLocatedError(
            "No image is in a conflicting group: every class has one value alone.",
            "Take a split in which class and attribute do conflict.",
        )
    images, conflict = Counter(pairs), set(chosen)
    mask = torch.tensor([pair in conflict for pair in pairs])
    return ConflictingGroups(mask, tuple(chosen), tuple(images[group] for group in chosen), used, tied)


def _strings(column: Column) -> np.ndarray:
    values = column.detach().cpu().numpy() if isinstance(column, Tensor) else np.asarray(column, dtype=object)
    missing = pd.isna(values)
    if values.ndim != 1 or missing.any():
        found = f"has shape {values.shape}" if values.ndim != 1 else f"lacks {int(missing.sum())} values"
        raise LocateError(f"A column {found}.", "Give one value for each image, or leave those without one out.")
    return np.asarray([str(v) for v in values.tolist()], dtype=object)


def _pairs(labels: Column, attribute: Column, where: str) -> list[tuple[str, str]]:
    label, value = _strings(labels), _strings(attribute)
    if len(label) != len(value):
        raise LocateError(
            f"There are {len(value)} attribute values for {len(label)} labels in {where}.", "Use the same rows."
        )
    for name, column in (("classes", label), ("attribute values", value)):
        if len(set(column)) < 2:
            raise LocateError(
                f"There are fewer than two {name} in {where}.",
                "A conflict needs at least two; check the column and the split.",
            )
    return list(zip(label, value, strict=True))


def _named(groups: Iterable[tuple[Hashable, Hashable] | str], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    by_name = {"/".join(pair): pair for pair in sorted(set(pairs))}
    chosen: dict[tuple[str, str], None] = {}
    for group in groups:
        name = group if isinstance(group, str) else "/".join(map(str, group))
        if name not in by_name:
            raise LocateError(
                f"No image of this split is in the conflicting group {name!r}.", f"It has {', '.join(by_name)}."
            )
        chosen[by_name[name]] = None
    if not chosen:
        raise LocateError("No conflicting group was named.", f"Name some of {', '.join(by_name)}.")
    return list(chosen)


def _values_along(
    pairs: list[tuple[str, str]],
    rule: str,
    reference: tuple[Column, Column] | None,
    predictions: Column | None,
    margin: float,
) -> dict[str, set[str]]:
    """For each class, the values that it goes with by the rule; none for a tie."""
    if rule in ("majority", "rarer"):
        hits = Counter(pairs if reference is None else _pairs(*reference, "the reference split"))
        of_class: Counter[str] = Counter()
        for (label, _), count in hits.items():
            of_class[label] += count
        images = Counter({pair: of_class[pair[0]] for pair in hits})
    elif rule == "accuracy":
        if predictions is None or len(predictions) != len(pairs):
            given = "none" if predictions is None else str(len(predictions))
            raise LocateError(
                f"Rule 'accuracy' needs a prediction for each of {len(pairs)} images, and there are {given}.",
                "Pass predictions=, as class names.",
            )
        images = Counter(pairs)
        hits = Counter(pair for pair, guess in zip(pairs, _strings(predictions), strict=True) if guess == pair[0])
    else:
        raise UnknownNameError(
            f"There is no rule {rule!r}.", "Choose 'majority', 'rarer' or 'accuracy', or name the groups."
        )
    shares: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for label, value in sorted(images):
        shares[label][value] = hits[label, value] / images[label, value]
    several = len({value for _, value in images}) > 2

    def bar(label: str, value: str) -> float:
        """What the value's share has to reach for the class to go with it."""
        if rule == "rarer":
            return float(np.mean([of_value.get(value, 0.0) for of_value in shares.values()]))
        if rule == "accuracy" and several:
            own = [(label, each) for each in shares[label]]
            return sum(hits[pair] for pair in own) / sum(images[pair] for pair in own)
        return max((share for other, share in shares[label].items() if other != value), default=-1.0)

    along: dict[str, set[str]] = {}
    for label, of_value in shares.items():
        leads = {value: share - bar(label, value) for value, share in of_value.items()}
        tie = max(leads.values()) < max(margin, 1e-12)
        along[label] = set() if tie else {value for value, lead in leads.items() if lead >= 0}
        # A majority that holds in some classes alone would tilt the groups; accuracies tie by chance, class by class.
        last = len(along) == len(shares)
        if tie and (rule != "accuracy" or (last and not any(along.values()))):
            ranked = sorted(of_value.items(), key=lambda one: -one[1])[:2]
            lead = f", where a lead of {100 * margin:g} points is needed" if margin else ""
            if rule == "accuracy":
                shown = " and ".join(f"{share:.1%} of the images with {value!r}" for value, share in ranked)
                raise NothingLocatedError(
                    "In no class is one value of the attribute classified better than the others: in class "
                    f"{label!r}, {shown} are classified correctly{lead}.",
                    "Name the conflicting groups, or take the majority from a split that is not balanced.",
                )
            shown = " and ".join(f"{share:.1%} of its images have {value!r}" for value, share in ranked)
            what = "the commonest" if rule == "majority" else "commoner in it than over all classes"
            raise NothingLocatedError(
                f"Class {label!r} has no value that is clearly {what}: {shown}{lead}.",
                "Name the conflicting groups, take the majority from a split that is not balanced, or choose the rule "
                "'accuracy', with the model's predictions.",
            )
    return along


def _present_but(along: dict[str, set[str]], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    present = sorted(set(pairs))
    unknown = sorted({label for label, _ in present} - set(along))
    if unknown:
        raise LocateError(
            f"The reference split has no image of class {unknown[0]!r}.", "Use one with every class of this split."
        )
    return [(label, value) for label, value in present if along[label] and value not in along[label]]
