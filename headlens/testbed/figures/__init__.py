"""The second world: drawn figures with an occupation, a perceived gender presentation, and a perceived age."""

from headlens.testbed.figures.draw import render_figures
from headlens.testbed.figures.scenes import FigureRates, Figures, figure_captions, figure_vocabulary, sample_figures

__all__ = ["FigureRates", "Figures", "figure_captions", "figure_vocabulary", "render_figures", "sample_figures"]
