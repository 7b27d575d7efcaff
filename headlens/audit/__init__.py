"""The path put together: locate, explain, correct, evaluate, judge, keep, show."""

from headlens.audit import builtin_methods
from headlens.audit.ablated import Ablated, ablate, scored_effects
from headlens.audit.audit import Audit
from headlens.audit.collateral_results import CollateralResults, OtherTask
from headlens.audit.controls import RandomHeads
from headlens.audit.evidence import Evidence
from headlens.audit.fairness_results import (
    ClassEffect,
    FairnessResults,
    HeadShare,
    RandomAssociation,
    TotalEffect,
)
from headlens.audit.fairness_verdict import FairnessRule, FairnessVerdict, judge_fairness
from headlens.audit.head_scores import HEAD_SCORES, head_scores, register_score
from headlens.audit.locators import LOCATORS, register_locator
from headlens.audit.methods import METHODS, Ingredients, register
from headlens.audit.question import Question
from headlens.audit.results import Results
from headlens.audit.splits import Splits, choose_splits
from headlens.audit.verdict import Verdict, judge

__all__ = [
    "HEAD_SCORES",
    "LOCATORS",
    "METHODS",
    "Ablated",
    "Audit",
    "ClassEffect",
    "CollateralResults",
    "Evidence",
    "FairnessResults",
    "FairnessRule",
    "FairnessVerdict",
    "HeadShare",
    "Ingredients",
    "OtherTask",
    "Question",
    "RandomAssociation",
    "RandomHeads",
    "Results",
    "Splits",
    "TotalEffect",
    "Verdict",
    "ablate",
    "builtin_methods",
    "choose_splits",
    "head_scores",
    "judge",
    "judge_fairness",
    "register",
    "register_locator",
    "register_score",
    "scored_effects",
]
