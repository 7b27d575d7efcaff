"""Locating heads: which of them decide rightly and wrongly classified images, and how sure that is."""

from headlens.locate.attributes import attribute_heads
from headlens.locate.concept import ConceptRule, ConceptScores, concept_directions, concept_scores, head_variance
from headlens.locate.concept_span import ConceptSpans, concept_candidates, concept_spans
from headlens.locate.conflict import ConflictingGroups, conflicting_groups
from headlens.locate.contrast import contrastive, contrastive_from_credit, contrastive_full
from headlens.locate.controls import layer_matched
from headlens.locate.decisions import Weighed, head_credit, weigh
from headlens.locate.location import Location
from headlens.locate.registry import LOCATORS, locator
from headlens.locate.resampling import Significance, significance

__all__ = [
    "LOCATORS",
    "ConceptRule",
    "ConceptScores",
    "ConceptSpans",
    "ConflictingGroups",
    "Location",
    "Significance",
    "Weighed",
    "attribute_heads",
    "concept_candidates",
    "concept_directions",
    "concept_scores",
    "concept_spans",
    "conflicting_groups",
    "contrastive",
    "contrastive_from_credit",
    "contrastive_full",
    "head_credit",
    "head_variance",
    "layer_matched",
    "locator",
    "significance",
    "weigh",
]
