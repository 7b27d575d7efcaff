"""Measures: accuracy by group, skew of a ranking, association with an attribute, and how sure each is."""

from headlens.metrics.accuracy import (
    Evaluation,
    PairedDifference,
    average_accuracy,
    evaluate,
    group_accuracy,
    group_names,
    paired_difference,
    worst_group,
)
from headlens.metrics.association import (
    Association,
    AssociationChange,
    WithinClass,
    association_change,
    cramers_v,
    v_of_tables,
    within_class,
)
from headlens.metrics.bootstrap import SMALL, Bootstrap, Measures
from headlens.metrics.clusters import permute_attribute
from headlens.metrics.collateral import Collateral, collateral
from headlens.metrics.dependence import (
    Dependence,
    DependenceChange,
    PredictionStatistics,
    dependence,
    dependence_change,
)
from headlens.metrics.disparities import (
    demographic_parity_difference,
    equalized_odds_difference,
    occupation_gap,
    value_gap,
)
from headlens.metrics.harm import confusion, harm, intersections, parity, transitions, transitions_by_fate
from headlens.metrics.random_heads import RandomComparison, against_random
from headlens.metrics.ranking import max_skew, ndkl, retrieval_recall, retrieval_skew, skew
from headlens.metrics.segmentation import SegmentationScores, segmentation_scores

__all__ = [
    "SMALL",
    "Association",
    "AssociationChange",
    "Bootstrap",
    "Collateral",
    "Dependence",
    "DependenceChange",
    "Evaluation",
    "Measures",
    "PairedDifference",
    "PredictionStatistics",
    "RandomComparison",
    "SegmentationScores",
    "WithinClass",
    "against_random",
    "association_change",
    "average_accuracy",
    "collateral",
    "confusion",
    "cramers_v",
    "demographic_parity_difference",
    "dependence",
    "dependence_change",
    "equalized_odds_difference",
    "evaluate",
    "group_accuracy",
    "group_names",
    "harm",
    "intersections",
    "max_skew",
    "ndkl",
    "occupation_gap",
    "paired_difference",
    "parity",
    "permute_attribute",
    "retrieval_recall",
    "retrieval_skew",
    "segmentation_scores",
    "skew",
    "transitions",
    "transitions_by_fate",
    "v_of_tables",
    "value_gap",
    "within_class",
    "worst_group",
]
