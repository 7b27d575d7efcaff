"""Measures: accuracy by group, skew of a ranking, association with an attribute, and how sure each is."""

from headlens.metrics.association import cramers_v
from headlens.metrics.bootstrap import PairedDifference, paired_difference
from headlens.metrics.collateral import Collateral, collateral
from headlens.metrics.contingency import (
    Association,
    AssociationChange,
    WithinClass,
    association_change,
    v_of_tables,
    within_class,
)
from headlens.metrics.evaluation import Evaluation, evaluate
from headlens.metrics.fairness import demographic_parity_difference, equalized_odds_difference
from headlens.metrics.gaps import occupation_gap, value_gap
from headlens.metrics.groups import SMALL, average_accuracy, group_accuracy, group_names, worst_group
from headlens.metrics.measures import Measures
from headlens.metrics.random_heads import RandomComparison, against_random
from headlens.metrics.ranking import max_skew, ndkl, skew
from headlens.metrics.retrieval import retrieval_recall, retrieval_skew

__all__ = [
    "SMALL",
    "Association",
    "AssociationChange",
    "Collateral",
    "Evaluation",
    "Measures",
    "PairedDifference",
    "RandomComparison",
    "WithinClass",
    "against_random",
    "association_change",
    "average_accuracy",
    "collateral",
    "cramers_v",
    "demographic_parity_difference",
    "equalized_odds_difference",
    "evaluate",
    "group_accuracy",
    "group_names",
    "max_skew",
    "ndkl",
    "occupation_gap",
    "paired_difference",
    "retrieval_recall",
    "retrieval_skew",
    "skew",
    "v_of_tables",
    "value_gap",
    "within_class",
    "worst_group",
]
