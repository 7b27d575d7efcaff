"""Prompts: class names and attribute values turned into directions, pairs of texts, and the text bank."""

from headlens.prompts.attribute import Attribute
from headlens.prompts.bank import TextBank
from headlens.prompts.bank_files import load_bank
from headlens.prompts.bank_generate import default_bank
from headlens.prompts.pairs import TextPairs, encode_pairs, load_pairs
from headlens.prompts.task import ZeroShotTask

__all__ = [
    "Attribute",
    "TextBank",
    "TextPairs",
    "ZeroShotTask",
    "default_bank",
    "encode_pairs",
    "load_bank",
    "load_pairs",
]
