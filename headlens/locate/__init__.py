"""Locating heads: which of them decide rightly and wrongly classified images, and how sure that is."""

from headlens.locate.attributes import attribute_heads
from headlens.locate.by_class import rivals, routes, salient_by_class
from headlens.locate.candidates import Candidates
from headlens.locate.concept import ConceptRule, ConceptScores, concept_directions, concept_scores, head_variance
from headlens.locate.concept_span import ConceptSpans, concept_candidates, concept_spans, contrast_spans
from headlens.locate.conflict import ConflictingGroups, conflicting_groups
from headlens.locate.contrast import contrastive, contrastive_from_credit, contrastive_full
from headlens.locate.controls import layer_matched
from headlens.locate.decisions import Weighed, head_credit, weigh
from headlens.locate.effects import HeadEffects
from headlens.locate.effects_of_view import ViewEffects
from headlens.locate.greedy import greedy_sweep
from headlens.locate.located import Located
from headlens.locate.location import Location
from headlens.locate.objective import Objective
from headlens.locate.oracle import Oracle
from headlens.locate.registry import LOCATORS, locator
from headlens.locate.resampling import Significance, significance
from headlens.locate.search import best_set
from headlens.locate.sweep import single_head_sweep

__all__ = [
    "LOCATORS",
    "Candidates",
    "ConceptRule",
    "ConceptScores",
    "ConceptSpans",
    "ConflictingGroups",
    "HeadEffects",
    "Located",
    "Location",
    "Objective",
    "Oracle",
    "Significance",
    "ViewEffects",
    "Weighed",
    "attribute_heads",
    "best_set",
    "concept_candidates",
    "concept_directions",
    "concept_scores",
    "concept_spans",
    "conflicting_groups",
    "contrast_spans",
    "contrastive",
    "contrastive_from_credit",
    "contrastive_full",
    "greedy_sweep",
    "head_credit",
    "head_variance",
    "layer_matched",
    "locator",
    "rivals",
    "routes",
    "salient_by_class",
    "significance",
    "single_head_sweep",
    "weigh",
]
