"""What the words of a report mean, for a reader who did not run the audit; each only where the report uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headlens.steps.audited import Audited

_HEAD = (
    "an attention head, one of the small parts that a layer of the model is made of; head L3H0 is the first head of "
    "the fourth layer, both counted from 0"
)
_ALWAYS = {
    "embedding": "the numbers that the model makes of an image or of a text; near ones belong together",
    "zero-shot": "the model as it is: an image gets the class whose text is nearest to it",
}
_INTERVAL = {
    "95 % interval": "how far the number would mostly move with other images of the same kind",
    "p": "how often chance alone would do as well; near 0 speaks against chance",
}
_CORRECTION = {
    "group": "the images of one class with one value of the attribute, written class/value",
    "worst group": "the group with the lowest accuracy; the gap is how far it lies below the average",
    "spurious, salient": "heads that weigh in where the answer is wrong, and where it is right",
}
_METHODS = {
    "ablation": "the spurious heads say the same of every image: their mean over the reference images",
    "ltc": "locate, then correct: the ablation, and salient heads turned towards what truly tells the classes apart",
}
_RANDOM = {
    "random heads": "as many heads of the same layers, or of those beside them, instead of the located ones: chance",
}
_FAIRNESS = {
    "Cramér's V": "how strongly attribute and answer go together: 0 not at all, 1 wholly",
    "candidates": "the heads that encode the attribute by the tests that the report names",
    "ablated": "what a head says of an image is replaced by its mean over the reference images",
    "focal, diffuse": "brought about by a few heads that were found; not by a few that were found",
}


def glossary(audit: Audited) -> dict[str, str]:
    """Word and meaning, in the order in which a reader meets them."""
    words = {"head": _HEAD, **_ALWAYS}
    if audit.fairness_results is not None:
        words |= _FAIRNESS
    if audit.results is not None:
        words |= _CORRECTION
        words |= {name: told for name, told in _METHODS.items() if name in audit.results.evaluations}
    return words | _RANDOM | _INTERVAL
