"""What the numbers allow one to say, by a rule that is written down.

Head-level correction is called **supported** when all of this holds on the scored images:

1. spurious heads were located;
2. the paired 95 % bootstrap interval of the gain in worst-group accuracy lies above `minimum_gain`;
3. no more than `alpha` of the layer-matched random sets do as well (the control's p-value): as many heads of the same
   layers, none of them located, in the place of all located heads that the method uses.

Where 1 fails, or the gain's interval reaches to `minimum_gain` or below, or random heads do as well, it is **not
supported**, and the verdict says which of the three failed. The rule judges one data set and one model; it does not
show that the heads do nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from headlens.audit.controls import RandomHeads

MINIMUM_GAIN = 0.05
ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """The rule's outcome.

    Attributes:
        supported: whether all three conditions hold.
        method: the method that was judged.
        gain: its worst-group accuracy less the zero-shot one.
        gain_interval: paired 95 % bootstrap interval of the gain.
        random_p: p-value against layer-matched random heads; None where no control was possible.
        sentence: the outcome in words, with the numbers.
        minimum_gain: the rule's second threshold.
        alpha: the rule's third threshold.
    """

    supported: bool
    method: str
    gain: float
    gain_interval: tuple[float, float]
    random_p: float | None
    sentence: str
    minimum_gain: float = MINIMUM_GAIN
    alpha: float = ALPHA

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"gain_interval": list(self.gain_interval)}


def judge(
    method: str,
    n_spurious: int,
    gain: float,
    gain_interval: tuple[float, float],
    control: RandomHeads | None,
    minimum_gain: float = MINIMUM_GAIN,
    alpha: float = ALPHA,
) -> Verdict:
    """Apply the rule of this module."""
    low, high = gain_interval
    change = (
        f"worst-group accuracy changes by {100 * gain:+.1f} points "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    )
    p_value = None if control is None else control.comparison.p
    if n_spurious == 0:
        supported = False
        reason = "no head stands out among the wrongly classified images of the conflicting groups"
    elif low <= minimum_gain:
        supported = False
        reason = f"{change}, which is not reliably more than {100 * minimum_gain:.0f} points"
    elif control is None:
        supported, reason = False, f"{change}, but no layer-matched random heads exist to compare with"
    elif control.comparison.p > alpha and control.comparison.best < control.observed:
        supported = False
        reason = (
            f"{change} and no random set does as well, but {len(control.sets)} layer-matched sets are too few to tell "
            f"(p = {control.comparison.p:.3f})"
        )
    elif control.comparison.p > alpha:
        supported = False
        reason = f"{change}, but random heads of the same layers do as well (p = {control.comparison.p:.3f})"
    else:
        supported = True
        sets = f"all {len(control.sets)}" if control.exhaustive else f"{len(control.sets)} random"
        reason = (
            f"{change}; of {sets} layer-matched head sets, the best reaches "
            f"{100 * control.comparison.best:.1f} % against {100 * control.observed:.1f} % "
            f"(p = {control.comparison.p:.3f})"
        )
    opening = "Head-level correction is supported" if supported else "Head-level correction is not supported"
    return Verdict(supported, method, gain, gain_interval, p_value, f"{opening}: {reason}.", minimum_gain, alpha)
