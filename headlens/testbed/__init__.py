"""The testbed: two rendered worlds, and small CLIP models with a bias whose place is known."""

from headlens.testbed.captions import vocabulary
from headlens.testbed.files import images
from headlens.testbed.recipes import RECIPES, Recipe
from headlens.testbed.shipped import card, load_open_clip

__all__ = ["RECIPES", "Recipe", "card", "images", "load_open_clip", "vocabulary"]
