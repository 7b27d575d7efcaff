"""Figures: pure functions from arrays and results to plotly figures, one figure a file.

Nothing is computed here beyond where ink goes, nothing is shown, and no global template is set: each figure
carries the template of `headlens.plots.style`. Every figure has a text alternative, read by `describe`, and
turns to dark colours with `themed(figure, "dark")`.
"""

from headlens.plots.controls import controls
from headlens.plots.groups import groups
from headlens.plots.heatmap import heatmap
from headlens.plots.location import location
from headlens.plots.style import describe, themed
from headlens.plots.tokens import tokens

__all__ = ["controls", "describe", "groups", "heatmap", "location", "themed", "tokens"]
