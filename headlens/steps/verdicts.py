"""What the numbers allow one to say, by two rules that are written down, each a list of conditions.

Every condition is met, not met, or open: the data could not decide it. The answer is *supported* where all are met,
*not supported* where one is not, and *inconclusive* otherwise. The sentence names every condition that is not met, and
every open one with what would settle it; then what these images and sets could have shown.

**Correction**, on the scored images:

1. it rests on spurious heads, where it rests on heads at all;
2. the paired interval of the gain in worst-group accuracy lies above `minimum_gain`. Where it holds `minimum_gain` and
   the smallest gain that is found with 80 % power at these group sizes is above `largest_detectable`, it is open;
3. corrected accuracy is above what chance agreement of classes and predictions gives, Σ_c p(true = c) p(predicted = c),
   by its interval, and lower than zero-shot's by at most `maximum_loss`;
4. zero-shot predictions depend on the attribute within the true classes: T, at most `alpha` of its permutations reach
   it (`headlens.metrics.dependence`). Where they do not and only an effect √D above `largest_effect` is found with 80 %
   power in so few images, it is open;
5. the correction lowers that dependence: the paired interval of D's fall lies above zero. Where not even its full
   removal would be found with 80 % power, it is open;
6. at most `alpha` of the random sets of heads do as well (methods of heads alone). Too few sets, or pooled layers that
   give sets of the located ones a small p too often, leave it open;
7. the attribute's values are labelled: where the audited model inferred them itself, it is open.

**Fairness.** A bias is *shown* where T is reached by at most `alpha` of its permutations and the effect √D, on the
scale of Cohen's w, is at least `minimum_effect`; else *not shown*, or *inconclusive* where images are too few in the
sense of condition 4. A shown bias is *focal* where the candidates are at most `largest_share` of the tower's heads,
their ablation lowers D reliably and by `minimum_removed` of it or more, accuracy stays above chance agreement and falls
by at most `maximum_loss`, and at most `alpha` of the random sets lower D as much (the same condition 6);
*inconclusive* where only open conditions stand in the way, and else *diffuse*. Where the audited model inferred the
attribute's values itself, what would be shown is *inconclusive*: predictions then go together with what the model takes
for the attribute, which may be something else. Not shown is not absent, and diffuse means that this locator found no
small set of heads, not that there is none.

Either rule judges one data set and one model, and one question: an attribute, a locator's heads and a method. Where
several were asked of the same test images (`Asked`), p-values are held to `alpha` over their number and intervals to
the level that goes with it (Bonferroni); the sentence says how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from html import escape
from math import sqrt
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy.stats import norm

from headlens.errors import MetricError
from headlens.heads import HeadId, HeadLike
from headlens.metrics import AssociationChange, Dependence, DependenceChange
from headlens.metrics.intervals import proportion
from headlens.steps.controls import Measure, Predictions, RandomHeads, ScoredImages
from headlens.tables import Shown, Table, points

MINIMUM_GAIN = 0.05
MAXIMUM_LOSS = 0.05
LARGEST_DETECTABLE = 0.2
LARGEST_EFFECT = 0.3
"""A medium effect after Cohen 1988, of √D: images that show only larger ones are too few."""
ALPHA = 0.05


def _power(alpha: float) -> float:
    """(z_(1 − α/2) + z_.80) / z_(1 − α/2): half an interval's width times this is what 80 % power finds."""
    z = float(norm.isf(alpha / 2))
    return (z + float(norm.isf(0.2))) / z


Outcome = Literal["met", "not met", "open"]
Answer = Literal["supported", "not supported", "inconclusive"]
Word = Literal["focal", "diffuse", "not shown", "inconclusive"]
V = TypeVar("V", bound="Judgement")


@dataclass(frozen=True)
class Condition:
    """One condition of a rule.

    Attributes:
        name: what it asks for.
        outcome: "met", "not met" or "open".
        text: the numbers, as a clause.
    """

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True)
class Asked:
    """A question that a verdict answered on some test images.

    Attributes:
        attribute: its name.
        locator: whose heads; "" for a method without heads.
        method: the correction, or "fairness".
        heads: the heads.
    """

    attribute: str
    locator: str
    method: str
    heads: tuple[HeadLike, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(map(HeadId.of, self.heads)))


@dataclass(frozen=True)
class Questions:
    """Every question asked of the same test images so far.

    Attributes:
        asked: each once, the one to be answered last.
    """

    asked: tuple[Asked, ...]

    @classmethod
    def of(cls, before: Sequence[Asked], one: Asked) -> Questions:
        """What was asked before, and one more; asked again, it counts once."""
        return cls((*(other for other in dict.fromkeys(before) if other != one), one))

    def __len__(self) -> int:
        return len(self.asked)

    def added_to(self, verdict: V, alpha: float = ALPHA) -> V:
        """The verdict with what was asked besides, where it was not alone."""
        if len(self) == 1:
            return verdict
        parts = []
        for name, plural in (("attribute", "attributes"), ("locator", "locators"), ("method", "methods")):
            several = dict.fromkeys(getattr(one, name) for one in self.asked if getattr(one, name))
            parts.append(f"{plural} {', '.join(several)}")
        remark = (
            f"It is one of {len(self)} questions asked of these test images ({'; '.join(parts)}): "
            f"p-values are held to {alpha:g} / {len(self)} = {alpha / len(self):.3g}, and its intervals are at "
            f"{_level(alpha / len(self))}."
        )
        return replace(verdict, questions=len(self)).with_remark(remark)


@dataclass(frozen=True)
class Null:
    """How a verdict comes out with the attribute permuted within the true classes; see `headlens.steps.null`.

    Attributes:
        n: draws.
        found: those in which a spurious head was named (a correction by heads), or a bias was shown (fairness); None
            for a correction that names no heads.
        claims: those in which the answer was "supported", or "focal".
    """

    n: int
    found: int | None
    claims: int

    def sentence(self, found: str, claim: str) -> str:
        """The counts in words, with the upper end of the 95 % interval of the share of claims."""
        most = proportion(np.asarray(float(self.claims)), np.asarray(float(self.n)), 0.025)[1]
        first = "" if self.found is None else f"{found} in {self.found}, and "
        return (
            f"Of {self.n} repetitions with the attribute permuted within the true classes, {first}the verdict was "
            f"{claim!r} in {self.claims or 'none'} (95 % interval up to {100 * float(most):.0f} %)."
        )


@dataclass(frozen=True, repr=False, kw_only=True)
class Judgement(Shown):
    """The outcome of a rule.

    Attributes:
        word: the answer.
        headline: what is so, without a number and a full stop.
        reasons: the numbers that decide it: of every condition that is not met or open, else of those that are met.
        conditions: each condition with its outcome, as far as they were asked.
        remarks: what stands beside it, a sentence or more each: what these images could have shown, how many questions
            were asked of them, the total effect, the null.
        null: the same with the attribute permuted within classes; None where that was not asked.
        questions: how many questions, this one among them, were asked of these test images.
    """

    word: str
    headline: str
    reasons: str
    conditions: tuple[Condition, ...]
    remarks: tuple[str, ...] = ()
    null: Null | None = None
    questions: int = 1

    _found: ClassVar[str]
    _claim: ClassVar[str]

    @property
    def sentence(self) -> str:
        """The outcome in words, with the numbers and the remarks."""
        return " ".join((f"{self.headline}: {self.reasons}.", *self.remarks))

    def with_remark(self: V, remark: str) -> V:
        """The same with one more sentence beside it."""
        return replace(self, remarks=(*self.remarks, remark))

    def with_null(self: V, null: Null) -> V:
        """The same beside its null."""
        return replace(self, null=null).with_remark(null.sentence(self._found, self._claim))

    def table(self) -> pd.DataFrame:
        """One row a condition: `condition`, `outcome`, `numbers`."""
        rows = [(one.name, one.outcome, one.text) for one in self.conditions]
        return pd.DataFrame(rows, columns=["condition", "outcome", "numbers"])

    def shown(self) -> Table:
        """The headline and the remarks, and the conditions with their numbers."""
        return Table(self.table(), caption=" ".join((f"{self.headline}.", *self.remarks)))

    def _repr_html_(self) -> str:
        """The headline above the conditions, the remarks below."""
        below = "".join(f"<p>{escape(remark)}</p>" for remark in self.remarks)
        return Table(self.table(), caption=f"{self.headline}.")._repr_html_() + below

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sentence": self.sentence} | asdict(self)


@dataclass(frozen=True, repr=False, kw_only=True)
class Verdict(Judgement):
    """The outcome of the rule on a correction.

    Attributes:
        word: "supported", "not supported" or "inconclusive".
        method: the method that was judged.
        heads: the heads that this method used, spurious ones first; none for a method without heads.
        gain: its worst-group accuracy minus zero-shot's.
        gain_interval: paired interval of the gain, at level 1 − alpha.
        detectable_gain: the smallest gain that these images reliably distinguish from `minimum_gain`, with 80 % power.
        random_p: p-value against random heads; None where no control was possible.
        smallest_p: the smallest p-value that so many sets can give; None likewise.
        minimum_gain, maximum_loss, alpha: the rule's thresholds; alpha after division by the questions asked.
    """

    word: Answer
    method: str
    heads: tuple[HeadId, ...]
    gain: float
    gain_interval: tuple[float, float]
    detectable_gain: float
    random_p: float | None
    smallest_p: float | None
    minimum_gain: float = MINIMUM_GAIN
    maximum_loss: float = MAXIMUM_LOSS
    alpha: float = ALPHA

    _found: ClassVar[str] = "a spurious head was named"
    _claim: ClassVar[str] = "supported"

    @property
    def supported(self) -> bool:
        """Whether all conditions are met."""
        return self.word == "supported"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = {"gain_interval": list(self.gain_interval), "heads": [list(head) for head in self.heads]}
        return {"supported": self.supported} | super().to_dict() | plain


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


@dataclass(frozen=True)
class Measured:
    """What a verdict on a correction reads of the scored images.

    Attributes:
        gain, gain_interval: of worst-group accuracy over zero-shot, paired.
        accuracy_low: lower end of the interval of corrected average accuracy.
        chance: Σ_c p(true = c) p(predicted = c), of the corrected predictions.
        loss: zero-shot's average accuracy minus the corrected one.
        dependence: of zero-shot predictions on the attribute; None where no class has images of two values.
        removed: D's paired fall; None likewise.
        inferred: whether the audited model inferred the attribute's values itself.
        signed: who is worse off, as a clause; see `signed_gap`.
        alpha: what p-values are held to; intervals are at level 1 − alpha.
    """

    gain: float
    gain_interval: tuple[float, float]
    accuracy_low: float
    chance: float
    loss: float
    dependence: Dependence | None
    removed: DependenceChange | None
    inferred: bool = False
    signed: str = ""
    alpha: float = ALPHA

    @classmethod
    def of(
        cls,
        scored: ScoredImages,
        before: Predictions,
        after: Predictions,
        *,
        seed: int = 0,
        n_bootstrap: int = 1000,
        inferred: bool = False,
        names: tuple[Sequence[str], Sequence[str]] = ((), ()),
        alpha: float = ALPHA,
    ) -> Measured:
        """From the scored images.

        Args:
            scored: the images.
            before, after: zero-shot's and the corrected class of each.
            seed: of permutations and resamples.
            n_bootstrap: resamples behind the interval of D's fall.
            inferred, alpha: see the attributes.
            names: of the classes and of the attribute's values.
        """
        change = scored.difference(after, before, 1 - alpha)
        depends: Dependence | None = None
        removed: DependenceChange | None = None
        with suppress(MetricError):  # no class has images of two values, which the verdict then says
            depends, removed = scored.dependence(after, before, alpha=alpha, seed=seed, n_bootstrap=n_bootstrap)
        return cls(
            gain=change.difference["worst_group"],
            gain_interval=change.interval["worst_group"],
            accuracy_low=scored.evaluation(after, level=1 - alpha).interval["average"][0],
            chance=chance_agreement(scored.labels, after),
            loss=-change.difference["average"],
            dependence=depends,
            removed=removed,
            inferred=inferred,
            signed="" if depends is None else signed_gap(depends, *names),
            alpha=alpha,
        )


def chance_agreement(labels: Int[np.ndarray, "image"], predictions: Predictions) -> float:
    """Σ_c p(true = c) p(predicted = c): the accuracy of predictions that are independent of the classes."""
    length = 1 + max(int(labels.max()), int(predictions.max()))
    true, guessed = (np.bincount(one, minlength=length) / len(labels) for one in (labels, predictions))
    return float(true @ guessed)


def judge(judged: Judged, measured: Measured, control: RandomHeads | None) -> Verdict:
    """Apply this module's rule to a correction."""
    detectable = MINIMUM_GAIN + _power(measured.alpha) * (measured.gain - measured.gain_interval[0])
    conditions = _correction_conditions(judged, measured, control, detectable)
    outcomes = {one.outcome for one in conditions}
    word: Answer = "not supported" if "not met" in outcomes else "inconclusive" if "open" in outcomes else "supported"
    what = "Head-level correction" if judged.of_heads else "Correction"
    listed = f" of {', '.join(map(str, judged.heads))}" if judged.heads else ""
    smallest_p = None if control is None else control.smallest_p
    within = detectable <= 1
    power = _could_show(f"a gain of {100 * detectable:.1f} points" if within else None, smallest_p)
    return Verdict(
        word=word,
        headline=f"{what} by {judged.name!r}{listed} is {word}",
        reasons=_reasons(conditions),
        conditions=conditions,
        remarks=() if word == "supported" else (power,),
        method=judged.name,
        heads=judged.heads,
        gain=measured.gain,
        gain_interval=measured.gain_interval,
        detectable_gain=detectable,
        random_p=None if control is None else control.comparison().p,
        smallest_p=smallest_p,
        alpha=measured.alpha,
    )


def _reasons(conditions: Sequence[Condition]) -> str:
    """Every condition that is not met, then every open one; all of them where all are met."""
    failed, open_ones = ([one.text for one in conditions if one.outcome == kind] for kind in ("not met", "open"))
    if failed and open_ones:
        return f"{'; '.join(failed)}; undecided: {'; '.join(open_ones)}"
    return "; ".join(failed or open_ones or [one.text for one in conditions])


def _could_show(effect: str | None, smallest_p: float | None) -> str:
    """What these images and sets could have shown; None for an effect that no correction can have."""
    sets = "" if smallest_p is None else f"; these sets of heads can give p = {smallest_p:.3f} at the smallest"
    if effect is None:
        return f"No gain, however large, would be shown by these images with 80 % power{sets}."
    return f"The smallest effect that these images show with 80 % power is {effect}{sets}."


def _correction_conditions(
    judged: Judged, measured: Measured, control: RandomHeads | None, detectable: float
) -> tuple[Condition, ...]:
    if judged.of_heads and judged.n_spurious == 0:
        return (
            Condition("spurious heads", "not met", "no spurious head is located, so that there is none to correct"),
        )
    low, high = measured.gain_interval
    change = (
        f"worst-group accuracy changes by {points(measured.gain)} points "
        f"({_level(measured.alpha)} interval {points(low)} to {points(high)})"
    )
    if low > MINIMUM_GAIN:
        gain = Condition("gain", "met", change)
    elif high > MINIMUM_GAIN and detectable > LARGEST_DETECTABLE:
        few = "which so few images cannot tell from no gain; more images of the smallest group would settle it"
        gain = Condition("gain", "open", f"{change}, {few}")
    else:
        gain = Condition(
            "gain", "not met", f"{change}, which is not reliably more than {100 * MINIMUM_GAIN:.0f} points"
        )
    accuracy = _accuracy(measured.accuracy_low, measured.chance, measured.loss)
    conditions = [gain, accuracy, *_dependence(measured)]
    if judged.of_heads:
        conditions.append(against_random(control, "worst_group", measured.alpha))
    if measured.inferred:
        conditions.append(_INFERRED)
    return tuple(conditions)


_INFERRED = Condition(
    "labels",
    "open",
    "the audited model inferred the attribute's values itself, and may take something else for it; labels of a sample "
    "of images would settle it",
)


def _accuracy(low: float, chance: float, loss: float, maximum_loss: float = MAXIMUM_LOSS) -> Condition:
    """Both rules' condition on average accuracy, of which `low` is the interval's lower end once corrected."""
    if low <= chance:
        text = f"corrected accuracy is not reliably above chance agreement, {100 * chance:.1f} %"
        return Condition("accuracy", "not met", text)
    if loss > maximum_loss:
        text = f"average accuracy falls by {100 * loss:.1f} points, more than {100 * maximum_loss:.0f}"
        return Condition("accuracy", "not met", text)
    return Condition("accuracy", "met", f"average accuracy changes by {points(-loss)} points")


def _dependence(measured: Measured) -> list[Condition]:
    found, removed = measured.dependence, measured.removed
    if found is None or removed is None:
        text = "no class has scored images of two values of the attribute, so that nothing ties the gain to it"
        return [Condition("dependence", "open", text)]
    p = f"T = {found.t:.1f}, p = {found.p:.3f}{measured.signed}"
    if found.p > measured.alpha:
        text = f"zero-shot predictions do not depend on the attribute within the true classes ({p})"
        if few := _few_images(found):
            return [Condition("dependence", "open", f"{text}, but {few}")]
        return [Condition("dependence", "not met", text)]
    low, high = removed.interval
    fall = (
        f"D {'falls' if removed.removed >= 0 else 'rises'} from {removed.before:.3f} to {removed.after:.3f} "
        f"({_level(measured.alpha)} interval of the fall "
        f"{low:.3f} to {high:.3f})"
    )
    depends = Condition("dependence", "met", f"predictions depend on the attribute within the true classes ({p})")
    if low > 0:
        return [depends, Condition("removed", "met", fall)]
    text = f"the dependence on the attribute does not reliably fall: {fall}"
    if _fall_unseen(removed):
        return [depends, Condition("removed", "open", f"{text}; {_MORE_IMAGES}")]
    return [depends, Condition("removed", "not met", text)]


_MORE_IMAGES = "so few images would not show even its full removal; more images would settle it"


def _level(alpha: float) -> str:
    return f"{100 * (1 - alpha):.4g} %"


def _few_images(found: Dependence) -> str:
    """That images are too few for T, where they are."""
    smallest = sqrt(found.detectable)
    if smallest <= LARGEST_EFFECT:
        return ""
    return f"so few images show only an effect √D above {smallest:.2f}; more images would settle it"


def _fall_unseen(removed: DependenceChange) -> bool:
    """Whether these images would not show a fall of D to zero with 80 % power; a rise is no such case."""
    power = _power(1 - removed.level)
    return removed.removed > 0 and power * (removed.removed - removed.interval[0]) > removed.before


def signed_gap(found: Dependence, classes: Sequence[str], values: Sequence[str]) -> str:
    """The class in which the two values differ most in accuracy, with its sign, as the end of a parenthesis."""
    if found.gap is None or len(values) != 2:
        return ""
    label, gap = max(found.gap_by_class.items(), key=lambda item: abs(item[1]))
    return (
        f"; accuracy on {values[1]} minus {values[0]} is {points(gap)} points in {classes[int(label)]}, where it is "
        "largest"
    )


def against_random(control: RandomHeads | None, measure: Measure, alpha: float) -> Condition:
    """Both rules' condition on random heads, with one rule for too few sets."""
    name = "random heads"
    if control is None:
        return Condition(name, "open", "there are no random heads to compare with; drawing random sets would settle it")
    found, n_sets = control.comparison(measure), len(control.sets)
    reached = round(found.share_at_least * n_sets)
    scale, unit = (100, "points") if measure == "worst_group" else (1, "in D")
    # A distance of 1e-14 is rounding.
    effect, low, high = (round(scale * value, 9) + 0.0 for value in (found.effect, *found.effect_interval))
    better, (low, high) = ("better", (low, high)) if effect >= 0 else ("worse", (-high + 0.0, -low + 0.0))
    compared = f"{better} than their mean by {abs(effect):.3g} {unit} (95 % interval {low:.3g} to {high:.3g})"
    if effect == low == high == 0:
        compared = "as good as their mean"
    sets = f"all {n_sets}" if control.exhaustive else f"{n_sets} random"
    do = "does" if reached <= 1 else "do"
    text = (
        f"{reached or 'none'} of {sets} head sets of the same pattern {do} as well "
        f"(p = {found.p:.3f}), and the located ones are {compared}"
    )
    if found.share_at_least > alpha:
        return Condition(name, "not met", text)
    if found.p > alpha:
        least = control.smallest_p
        few = f"so few sets cannot give p below {least:.3f}" if least > alpha else "so few sets leave it open"
        return Condition(name, "open", f"{text}; {few}; more sets would settle it")
    if (error := control.type_1_error(measure, alpha)) > alpha:
        often = f"{100 * error:.0f} % of the other sets of the located layers would seem so, too"
        return Condition(name, "open", f"{text}, but {often}; an audit of other images would settle it")
    return Condition(name, "met", text)


# ---- fairness -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FairnessRule:
    """The thresholds of this module's rule on fairness.

    Attributes:
        minimum_effect: of √D, on the scale of Cohen's w; 0.1 is a small effect after Cohen 1988.
        alpha: of the permutation test and of the random control.
        largest_share: of the tower's heads that a focal bias may take.
        minimum_removed: the share of D that ablating them has to take away.
        maximum_loss: of accuracy that ablating them may cost.
    """

    minimum_effect: float | int = 0.1
    alpha: float | int = ALPHA
    largest_share: float | int = 0.125
    minimum_removed: float | int = 0.2
    maximum_loss: float | int = MAXIMUM_LOSS


@dataclass(frozen=True, repr=False, kw_only=True)
class FairnessVerdict(Judgement):
    """The outcome of the rule on fairness.

    Attributes:
        word: "focal", "diffuse", "not shown" or "inconclusive".
        cost: the accuracy's change in words, with its interval.
        rule: the thresholds.
    """

    word: Word
    cost: str
    rule: FairnessRule

    _found: ClassVar[str] = "a bias was shown"
    _claim: ClassVar[str] = "focal"


@dataclass(frozen=True)
class Bias:
    """What a verdict on fairness reads of the scored images.

    Attributes:
        attribute: its name.
        change: of the association and of accuracy, by the ablation.
        dependence: of the predictions without it.
        removed: D's paired fall.
        chance: chance agreement of classes and corrected predictions, `chance_agreement`.
        inferred: whether the audited model inferred the attribute's values itself.
        signed: who is worse off, as a clause; see `signed_gap`.
    """

    attribute: str
    change: AssociationChange
    dependence: Dependence
    removed: DependenceChange
    chance: float
    inferred: bool = False
    signed: str = ""


def judge_fairness(
    bias: Bias, candidates: tuple[HeadId, ...], n_heads: int, control: RandomHeads | None, rule: FairnessRule
) -> FairnessVerdict:
    """Apply this module's rule to a fairness audit.

    Args:
        bias: what was measured.
        candidates: the ablated heads.
        n_heads: how many heads the tower has.
        control: random heads; None where none can be drawn.
        rule: the thresholds.
    """
    found, attribute = bias.dependence, bias.attribute
    about = (
        f"Cramér's V of {attribute} and prediction is {bias.change.before.corrected:.3f} (bias-corrected; "
        f"{bias.change.before.cramers_v:.3f} uncorrected); within the true classes, "
        f"T = {found.t:.1f} compared with {found.expected:.1f} by chance (p = {found.p:.3f}) and D = {found.d:.3f}"
        f"{bias.signed}"
    )
    few = _few_images(found) if found.p > rule.alpha else ""
    weak = None
    if found.p > rule.alpha:
        weak = f"chance reaches it too often, but {few}" if few else "chance reaches it too often"
    elif sqrt(max(found.d, 0.0)) < rule.minimum_effect:
        weak = f"an effect √D of less than {rule.minimum_effect}"
    outcome: Outcome = "met" if weak is None else "open" if few else "not met"
    shown = Condition("shown", outcome, about if weak is None else f"{about}; {weak}")
    labels = [_INFERRED] if bias.inferred else []
    conditions = (shown,) if weak else (shown, *labels, *_focal_conditions(bias, candidates, n_heads, control, rule))
    outcomes, reasons = {one.outcome for one in conditions}, _reasons(conditions[1:])
    smallest_p = None if weak or control is None else control.smallest_p
    power = _could_show(f"√D = {sqrt(found.detectable):.3f}", smallest_p)
    word: Word
    if few or (labels and not weak):
        word, headline = "inconclusive", f"Whether there is a bias by {attribute} is inconclusive"
        reasons = _INFERRED.text
    elif weak:
        word, headline = "not shown", f"A bias by {attribute} is not shown"
    elif "not met" in outcomes:
        word, headline = "diffuse", f"The bias by {attribute} is shown, and diffuse as far as this locator sees"
    elif "open" in outcomes:
        word, headline = "inconclusive", f"The bias by {attribute} is shown, and whether it is focal is inconclusive"
    else:
        word, headline = "focal", f"The bias by {attribute} is focal"
        reasons = "; ".join(one.text for one in conditions if one.name in ("removed", "random heads"))
    low, high = map(points, bias.change.interval["accuracy"])
    cost = f"Accuracy changes by {points(bias.change.difference['accuracy'])} points (95 % interval {low} to {high})."
    return FairnessVerdict(
        word=word,
        headline=headline,
        reasons=shown.text if weak else f"{about}; {reasons}",
        conditions=conditions,
        remarks=(power,) if word in ("inconclusive", "not shown") else (),
        cost=cost,
        rule=rule,
    )


def _focal_conditions(
    bias: Bias, candidates: tuple[HeadId, ...], n_heads: int, control: RandomHeads | None, rule: FairnessRule
) -> list[Condition]:
    if not candidates:
        return [Condition("candidates", "not met", "the locator names no head")]
    if len(candidates) > rule.largest_share * n_heads:
        text = f"the locator names {len(candidates)} of {n_heads} heads, more than {100 * rule.largest_share:.0f} %"
        return [Condition("candidates", "not met", text)]
    low, high = bias.removed.interval
    share = bias.removed.share or 0.0
    count = "the one candidate" if len(candidates) == 1 else f"the {len(candidates)} candidates"
    effect = (
        f"ablating {count} lowers D by {bias.removed.removed:.3f} ({_level(1 - bias.removed.level)} interval "
        f"{low:.3f} to {high:.3f}), "
        f"{100 * share:.0f} % of it"
    )
    if low <= 0:
        text = f"{effect}, which is not reliably a fall"
        removed = (
            Condition("removed", "open", f"{text}; {_MORE_IMAGES}")
            if _fall_unseen(bias.removed)
            else Condition("removed", "not met", text)
        )
    elif share < rule.minimum_removed:
        removed = Condition("removed", "not met", f"{effect}, less than {100 * rule.minimum_removed:.0f} %")
    else:
        removed = Condition("removed", "met", effect)
    low_accuracy, loss = bias.change.after.interval["accuracy"][0], -bias.change.difference["accuracy"]
    accuracy = _accuracy(low_accuracy, bias.chance, loss, rule.maximum_loss)
    return [removed, accuracy, against_random(control, "dependence", rule.alpha)]
