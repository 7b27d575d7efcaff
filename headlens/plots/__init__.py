"""Figures: pure functions from arrays and results to plotly figures.

Nothing is computed here beyond where ink goes, nothing is shown, and no global template is set: each figure
carries the template of `headlens.plots.style`. Every figure has a text alternative, read by `describe`, and
turns to dark colours with `themed(figure, "dark")`. A figure of many rows draws the worst 20 and says so.
"""

from headlens.plots.accuracy import classes, collateral, confusion, groups, margins
from headlens.plots.depth import direct_effects, logit_lens
from headlens.plots.heads import candidates, heatmap, location, overview
from headlens.plots.interventions import controls, flow, shares
from headlens.plots.occupations import Occupation, occupations
from headlens.plots.pictures import gallery, tokens
from headlens.plots.style import describe, themed
from headlens.plots.texts import shapley, textspan

__all__ = [
    "Occupation",
    "candidates",
    "classes",
    "collateral",
    "confusion",
    "controls",
    "describe",
    "direct_effects",
    "flow",
    "gallery",
    "groups",
    "heatmap",
    "location",
    "logit_lens",
    "margins",
    "occupations",
    "overview",
    "shapley",
    "shares",
    "textspan",
    "themed",
    "tokens",
]
