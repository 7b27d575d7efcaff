"""The first world: landbirds and waterbirds, on land and on water."""

from headlens.testbed.birds.draw import render
from headlens.testbed.birds.scenes import CaptionRates, Scenes, captions, sample_scenes, vocabulary

__all__ = ["CaptionRates", "Scenes", "captions", "render", "sample_scenes", "vocabulary"]
