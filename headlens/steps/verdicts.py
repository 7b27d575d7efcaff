"""What the numbers allow one to say, by two rules that are written down.

**Correction.** A correction is *supported* when all of this holds on the scored images:

1. it rests on spurious heads, where it rests on heads at all;
2. the paired 95 % bootstrap interval of the gain in worst-group accuracy lies above `minimum_gain`;
3. no more than `alpha` of the layer-matched random sets do as well (the control's p-value): as many heads of the same
   layers, instead of all located heads that the method uses.

Otherwise it is *not supported*, and the verdict says which of the three failed. A method without heads has no control
of heads, and its verdict speaks of the method alone.

**Fairness.** A bias is *shown* where the attribute goes together with the predictions beyond what the true classes
account for: V exceeds its mean under permutations of the attribute within each class by `minimum_excess` or more, and
no more than `alpha` of the permutations reach it. A shown bias is *focal* where the candidates are at most
`largest_share` of the tower's heads, their ablation lowers V reliably (the paired 95 % interval of the change lies
below zero) and by `minimum_removed` of the excess or more, and no more than `alpha` of the layer-matched random sets
lower V as much; else *diffuse*. Not shown is not absent, and diffuse says that this locator found no few heads, not
that there are none.

Either rule judges one data set and one model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from headlens.heads import HeadId
from headlens.metrics import AssociationChange, WithinClass
from headlens.steps.controls import RandomHeads

MINIMUM_GAIN = 0.05
ALPHA = 0.05

Word = Literal["focal", "diffuse", "not shown"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of the rule on a correction.

    Attributes:
        supported: whether all conditions hold.
        method: the method that was judged.
        heads: the heads that this method used, spurious ones first; none for a method without heads.
        gain: its worst-group accuracy minus zero-shot's.
        gain_interval: paired 95 % bootstrap interval of the gain.
        random_p: p-value against layer-matched random heads; None where no control was possible.
        sentence: the outcome in words, with the numbers.
        minimum_gain, alpha: the rule's thresholds.
    """

    supported: bool
    method: str
    heads: tuple[HeadId, ...]
    gain: float
    gain_interval: tuple[float, float]
    random_p: float | None
    sentence: str
    minimum_gain: float = MINIMUM_GAIN
    alpha: float = ALPHA

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"gain_interval": list(self.gain_interval), "heads": [list(head) for head in self.heads]}


@dataclass(frozen=True)
class Judged:
    """The method that a verdict is about.

    Attributes:
        name: of the method.
        of_heads: whether it rests on located heads.
        n_spurious: how many spurious heads it was given.
        heads: all heads that it was given.
    """

    name: str
    of_heads: bool
    n_spurious: int
    heads: tuple[HeadId, ...]


def judge(judged: Judged, gain: float, gain_interval: tuple[float, float], control: RandomHeads | None) -> Verdict:
    """Apply this module's rule to a correction."""
    low, high = gain_interval
    change = (
        f"worst-group accuracy changes by {100 * gain:+.1f} points "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    )
    random = None if control is None else control.comparison()
    supported = False
    if judged.of_heads and judged.n_spurious == 0:
        reason = "no head stands out among the incorrectly classified images of the conflicting groups"
    elif low <= MINIMUM_GAIN:
        reason = f"{change}, which is not reliably more than {100 * MINIMUM_GAIN:.0f} points"
    elif not judged.of_heads:
        supported, reason = True, f"{change}; the method uses no heads, so that no random heads are compared"
    elif control is None or random is None:
        reason = f"{change}, but no layer-matched random heads exist to compare with"
    elif random.p > ALPHA and random.best < random.observed:
        reason = (
            f"{change} and no random set does as well, but {len(control.sets)} layer-matched sets are too few to tell "
            f"(p = {random.p:.3f})"
        )
    elif random.p > ALPHA:
        reason = f"{change}, but random heads of the same layers do as well (p = {random.p:.3f})"
    else:
        supported = True
        sets = f"all {len(control.sets)}" if control.exhaustive else f"{len(control.sets)} random"
        reason = (
            f"{change}; of {sets} layer-matched head sets, the best reaches {100 * random.best:.1f} % compared with "
            f"{100 * random.observed:.1f} % (p = {random.p:.3f})"
        )
    what = "Head-level correction" if judged.of_heads else "Correction"
    listed = f" of {', '.join(map(str, judged.heads))}" if judged.heads else ""
    opening = f"{what} by {judged.name!r}{listed} is {'supported' if supported else 'not supported'}"
    p = None if random is None else random.p
    return Verdict(supported, judged.name, judged.heads, gain, gain_interval, p, f"{opening}: {reason}.")


@dataclass(frozen=True)
class FairnessRule:
    """The thresholds of this module's rule on fairness.

    Attributes:
        minimum_excess: of V over what the true classes account for; 0.1 is a small effect after Cohen 1988.
        alpha: of the permutation test and of the random control.
        largest_share: of the tower's heads that a focal bias may take.
        minimum_removed: of the excess that ablating them has to take away.
    """

    minimum_excess: float | int = 0.1
    alpha: float | int = ALPHA
    largest_share: float | int = 0.125
    minimum_removed: float | int = 0.2


@dataclass(frozen=True)
class FairnessVerdict:
    """The outcome of the rule on fairness.

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
    candidates: tuple[HeadId, ...],
    n_heads: int,
    change: AssociationChange,
    within: WithinClass,
    control: RandomHeads | None,
    rule: FairnessRule,
) -> FairnessVerdict:
    """Apply this module's rule to a fairness audit.

    Args:
        attribute: its name.
        candidates: the ablated heads.
        n_heads: how many heads the tower has.
        change: of the association by the ablation.
        within: what the true classes account for.
        control: layer-matched random heads; None where none can be drawn.
        rule: the thresholds.
    """
    about = (
        f"Cramér's V of {attribute} and prediction is {change.before.cramers_v:.3f}, compared with "
        f"{within.expected:.3f} that the true classes account for (p = {within.p:.3f})"
    )
    removed = -change.difference["cramers_v"] / within.excess if within.excess > 0 else 0.0
    word: Word
    if within.p > rule.alpha or within.excess < rule.minimum_excess:
        weak = "chance reaches it too often" if within.p > rule.alpha else f"less than {rule.minimum_excess} above it"
        word, sentence = "not shown", f"A bias by {attribute} is not shown: {about}, {weak}."
    elif (reason := _not_focal(candidates, n_heads, change, removed, control, rule)) is not None:
        word = "diffuse"
        sentence = f"The bias by {attribute} is shown, and diffuse as far as this locator sees: {about}; {reason}."
    else:
        assert control is not None
        random = control.comparison("cramers_v")
        n_sets = len(control.sets)
        as_much = round(random.share_at_least * n_sets)
        few = f"; so few sets cannot give p below {1 / (1 + n_sets):.3f}" if rule.alpha * (1 + n_sets) < 1 else ""
        word = "focal"
        sentence = (
            f"The bias by {attribute} is focal: {about}; {_effect(candidates, change)}, {100 * removed:.0f} % of the "
            f"excess; {as_much or 'none'} of {n_sets} layer-matched random sets lowers it as much "
            f"(p = {random.p:.3f}{few})."
        )
    low, high = (100 * end for end in change.interval["accuracy"])
    cost = (
        f"Accuracy changes by {100 * change.difference['accuracy']:+.1f} points "
        f"(95 % interval {low:+.1f} to {high:+.1f})."
    )
    return FairnessVerdict(word, sentence, cost, rule)


def _not_focal(
    candidates: tuple[HeadId, ...],
    n_heads: int,
    change: AssociationChange,
    removed: float,
    control: RandomHeads | None,
    rule: FairnessRule,
) -> str | None:
    """Why a bias that is shown is not focal; None where it is."""
    if not candidates:
        return "the locator names no head"
    if len(candidates) > rule.largest_share * n_heads:
        return f"the locator names {len(candidates)} of {n_heads} heads, more than {100 * rule.largest_share:.0f} %"
    effect = _effect(candidates, change)
    if change.interval["cramers_v"][1] >= 0:
        return f"{effect}, which is not reliably a fall"
    if removed < rule.minimum_removed:
        return f"{effect}, {100 * removed:.0f} % of the excess, less than {100 * rule.minimum_removed:.0f} %"
    if control is None:
        return f"{effect}, but no layer-matched random heads exist to compare with"
    if (as_much := control.comparison("cramers_v").share_at_least) > rule.alpha:
        return f"{effect}, but {100 * as_much:.0f} % of {len(control.sets)} layer-matched random sets do as much"
    return None


def _effect(candidates: tuple[HeadId, ...], change: AssociationChange) -> str:
    low, high = change.interval["cramers_v"]
    count = "the one candidate" if len(candidates) == 1 else f"the {len(candidates)} candidates"
    return (
        f"ablating {count} changes V by {change.difference['cramers_v']:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
    )
