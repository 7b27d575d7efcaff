"""The path put together: locate, correct, evaluate, judge, keep, show."""

from headlens.audit.audit import Audit
from headlens.audit.controls import RandomHeads
from headlens.audit.methods import METHODS, Ingredients, register
from headlens.audit.results import Results
from headlens.audit.splits import Splits, choose_splits
from headlens.audit.verdict import Verdict, judge

__all__ = [
    "METHODS",
    "Audit",
    "Ingredients",
    "RandomHeads",
    "Results",
    "Splits",
    "Verdict",
    "choose_splits",
    "judge",
    "register",
]
