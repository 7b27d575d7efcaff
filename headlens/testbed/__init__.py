"""The testbed: two rendered worlds, and small CLIP models with a bias whose place is known."""

from headlens.testbed.birds import vocabulary
from headlens.testbed.files import images
from headlens.testbed.models import MODELS, card, load_open_clip, pairs_for, worlds_of

__all__ = ["MODELS", "card", "images", "load_open_clip", "pairs_for", "vocabulary", "worlds_of"]
