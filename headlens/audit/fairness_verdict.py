"""What a fairness audit allows one to say, by a rule that is written down.

**Shown or not.** A bias is shown where the attribute goes together with the predictions beyond what the true classes
account for: V exceeds its mean under permutations of the attribute within each class by `minimum_excess` or more, and
no more than `alpha` of the permutations reach it. Else the bias is **not shown**.

**Focal.** A shown bias is focal where a locator named candidates, these are at most `largest_share` of the tower's
heads, their ablation lowers V reliably (the paired 95 % interval of the change lies below zero) and by
`minimum_removed` of the excess or more, and no more than `alpha` of the layer-matched random sets lower V as much.
Where so few sets exist that the p-value cannot reach `alpha`, the sentence says so: then the word rests on the few.

**Diffuse.** A shown bias that is not focal: no head was named, or too many, or ablating them does no more than chance.

The cost in accuracy is told beside it and does not change the word. Not shown is not absent: another attribute, other
prompts or more images may show it. Diffuse says that these locators found no few heads, not that there are none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from headlens.metrics import AssociationChange, WithinClass

MINIMUM_EXCESS = 0.1
ALPHA = 0.05
LARGEST_SHARE = 0.125
MINIMUM_REMOVED = 0.2

Word = Literal["focal", "diffuse", "not shown"]


@dataclass(frozen=True)
class FairnessRule:
    """The thresholds of this module's rule.

    Attributes:
        minimum_excess: of V over what the true classes account for; 0.1 is a small effect after Cohen 1988.
        alpha: of the permutation test and of the random control.
        largest_share: of the tower's heads that a focal bias may take.
        minimum_removed: of the excess that ablating them has to take away.
    """

    minimum_excess: float | int = MINIMUM_EXCESS
    alpha: float | int = ALPHA
    largest_share: float | int = LARGEST_SHARE
    minimum_removed: float | int = MINIMUM_REMOVED


@dataclass(frozen=True)
class FairnessVerdict:
    """The rule's outcome.

    Attributes:
        word: "focal", "diffuse" or "not shown".
        sentence: the outcome in words, with the numbers.
        cost: the accuracy's change in words, with its interval.
        rule: the thresholds.
    """

    word: Word
    sentence: str
    cost: str
    rule: FairnessRule

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge_fairness(
    attribute: str,
    candidates: int,
    n_heads: int,
    change: AssociationChange,
    within: WithinClass,
    beaten: float | None,
    p_random: float | None,
    n_sets: int,
    rule: FairnessRule | None = None,
) -> FairnessVerdict:
    """Apply the rule of this module.

    Args:
        attribute: its name, for the sentence.
        candidates: how many heads were ablated.
        n_heads: of the tower.
        change: V and accuracy before and after.
        within: the permutation test within the true classes.
        beaten: share of the layer-matched random sets that lower V by less; None where none could be drawn.
        p_random: the control's p-value.
        n_sets: how many random sets.
        rule: the thresholds.
    """
    rule = rule or FairnessRule()
    before = change.before.cramers_v
    about = (
        f"Cramér's V of {attribute} and prediction is {before:.3f}, against {within.expected:.3f} "
        f"that the true classes account for (p = {within.p:.3f})"
    )
    removed = -change.difference["cramers_v"] / within.excess if within.excess > 0 else 0.0
    if within.p > rule.alpha or within.excess < rule.minimum_excess:
        weak = "chance reaches it too often" if within.p > rule.alpha else f"less than {rule.minimum_excess} above it"
        word: Word = "not shown"
        sentence = f"A bias by {attribute} is not shown: {about}, {weak}."
    elif (reason := _not_focal(candidates, n_heads, change, removed, beaten, n_sets, rule)) is not None:
        word = "diffuse"
        sentence = f"The bias by {attribute} is shown, and diffuse as far as this locator sees: {about}; {reason}."
    else:
        assert beaten is not None
        assert p_random is not None
        word = "focal"
        as_much = round((1 - beaten) * n_sets)
        few = f"; so few sets cannot give p below {1 / (1 + n_sets):.3f}" if rule.alpha * (1 + n_sets) < 1 else ""
        sets = f"{as_much or 'none'} of {n_sets} layer-matched random sets lowers it as much"
        sentence = (
            f"The bias by {attribute} is focal: {about}; {_effect(candidates, change)}, "
            f"{100 * removed:.0f} % of the excess; {sets} (p = {p_random:.3f}{few})."
        )
    return FairnessVerdict(word, sentence, _cost(change), rule)


def _not_focal(
    candidates: int,
    n_heads: int,
    change: AssociationChange,
    removed: float,
    beaten: float | None,
    n_sets: int,
    rule: FairnessRule,
) -> str | None:
    """Why a bias that is shown is not focal; None where it is."""
    if candidates == 0:
        return "the locator names no head"
    if candidates > rule.largest_share * n_heads:
        return f"the locator names {candidates} of {n_heads} heads, more than {100 * rule.largest_share:.0f} %"
    effect = _effect(candidates, change)
    if change.interval["cramers_v"][1] >= 0:
        return f"{effect}, which is not reliably a fall"
    if removed < rule.minimum_removed:
        return f"{effect}, {100 * removed:.0f} % of the excess, less than {100 * rule.minimum_removed:.0f} %"
    if beaten is None:
        return f"{effect}, but no layer-matched random heads exist to compare with"
    if beaten < 1 - rule.alpha:
        return f"{effect}, but {100 * (1 - beaten):.0f} % of {n_sets} layer-matched random sets do as much"
    return None


def _effect(candidates: int, change: AssociationChange) -> str:
    low, high = change.interval["cramers_v"]
    return (
        f"ablating {_count(candidates)} changes V by {change.difference['cramers_v']:+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f})"
    )


def _count(candidates: int) -> str:
    return "the one candidate" if candidates == 1 else f"the {candidates} candidates"


def _cost(change: AssociationChange) -> str:
    low, high = (100 * end for end in change.interval["accuracy"])
    return (
        f"Accuracy changes by {100 * change.difference['accuracy']:+.1f} points "
        f"(95 % interval {low:+.1f} to {high:+.1f})."
    )
