"""The audit's steps: from a question and a store to frozen results, and the record of the calls that made them."""

from headlens.steps.ablate import HeadAblation
from headlens.steps.collateral import CANDIDATES, CollateralResults, OtherTask
from headlens.steps.controls import RandomHeads
from headlens.steps.data import AuditData, Splits
from headlens.steps.evaluate import Evaluated, Fitted
from headlens.steps.fairness import ClassEffect, FairnessResults, HeadShare, TotalEffect
from headlens.steps.locate import LOCATORS, SCORES, Evidence, LocatedHeads
from headlens.steps.methods import METHODS, Ingredients, Method, method
from headlens.steps.question import Question
from headlens.steps.record import Record, Step
from headlens.steps.verdicts import FairnessRule, FairnessVerdict, Verdict

__all__ = [
    "CANDIDATES",
    "LOCATORS",
    "METHODS",
    "SCORES",
    "AuditData",
    "ClassEffect",
    "CollateralResults",
    "Evaluated",
    "Evidence",
    "FairnessResults",
    "FairnessRule",
    "FairnessVerdict",
    "Fitted",
    "HeadAblation",
    "HeadShare",
    "Ingredients",
    "LocatedHeads",
    "Method",
    "OtherTask",
    "Question",
    "RandomHeads",
    "Record",
    "Splits",
    "Step",
    "TotalEffect",
    "Verdict",
    "method",
]
