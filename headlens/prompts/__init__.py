"""Prompts: class names and attribute values turned into directions, and pairs of texts read from a file."""

from headlens.prompts.attribute import Attribute
from headlens.prompts.pairs import TextPairs, encode_pairs, load_pairs
from headlens.prompts.task import ZeroShotTask

__all__ = ["Attribute", "TextPairs", "ZeroShotTask", "encode_pairs", "load_pairs"]
