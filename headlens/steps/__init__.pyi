from .ablate import HeadAblation
from .collateral import CANDIDATES, CollateralResults, OtherTask
from .compare import Comparison, compare
from .controls import RandomHeads
from .data import AuditData, Splits
from .evaluate import Evaluated, Fitted
from .fairness import ClassEffect, FairnessResults, HeadShare, TotalEffect
from .locate import LOCATORS, SCORES, Evidence, LocatedHeads
from .methods import METHODS, Ingredients, Method, method
from .question import Question
from .record import Record, Step
from .verdicts import Asked, FairnessRule, FairnessVerdict, Verdict

__all__ = [
    "CANDIDATES",
    "LOCATORS",
    "METHODS",
    "SCORES",
    "Asked",
    "AuditData",
    "ClassEffect",
    "CollateralResults",
    "Comparison",
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
    "compare",
    "method",
]
