"""Measures: accuracy by group, skew of a ranking, association with an attribute, and how sure each is."""

from headlens.metrics.association import cramers_v
from headlens.metrics.bootstrap import PairedDifference, paired_difference
from headlens.metrics.evaluation import Evaluation, evaluate
from headlens.metrics.fairness import demographic_parity_difference, equalized_odds_difference
from headlens.metrics.groups import SMALL, average_accuracy, group_accuracy, group_names, worst_group
from headlens.metrics.random_heads import RandomComparison, against_random
from headlens.metrics.ranking import max_skew, ndkl, skew

__all__ = [
    "SMALL",
    "Evaluation",
    "PairedDifference",
    "RandomComparison",
    "against_random",
    "average_accuracy",
    "cramers_v",
    "demographic_parity_difference",
    "equalized_odds_difference",
    "evaluate",
    "group_accuracy",
    "group_names",
    "max_skew",
    "ndkl",
    "paired_difference",
    "skew",
    "worst_group",
]
