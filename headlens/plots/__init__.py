"""Figures: pure functions from arrays and results to plotly figures, one figure a file.

Nothing is computed here beyond where ink goes, nothing is shown, and no global template is set: each figure
carries the template of `headlens.plots.style`. Every figure has a text alternative, read by `describe`, and
turns to dark colours with `themed(figure, "dark")`.
"""

from headlens.plots.candidates import candidates
from headlens.plots.classes import classes
from headlens.plots.collateral import collateral
from headlens.plots.controls import controls
from headlens.plots.flow import flow
from headlens.plots.gallery import gallery
from headlens.plots.groups import groups
from headlens.plots.heatmap import heatmap
from headlens.plots.location import location
from headlens.plots.margins import margins
from headlens.plots.occupations import Occupation, occupations
from headlens.plots.overview import overview
from headlens.plots.shapley import shapley
from headlens.plots.shares import shares
from headlens.plots.style import describe, themed
from headlens.plots.textspan import textspan
from headlens.plots.tokens import tokens

__all__ = [
    "Occupation",
    "candidates",
    "classes",
    "collateral",
    "controls",
    "describe",
    "flow",
    "gallery",
    "groups",
    "heatmap",
    "location",
    "margins",
    "occupations",
    "overview",
    "shapley",
    "shares",
    "textspan",
    "themed",
    "tokens",
]
