"""Prompts: class names and attribute values turned into directions, pairs of texts, and the text bank."""

from headlens.prompts.bank import TextBank, default_bank, load_bank
from headlens.prompts.pairs import TextPairs, cross_pairs, encode_pairs, fill_pairs, load_pairs, pair_sets
from headlens.prompts.propose import ProposedPairs, ask_pairs, propose_pairs, question
from headlens.prompts.task import Attribute, EncodeText, ZeroShotTask

__all__ = [
    "Attribute",
    "EncodeText",
    "ProposedPairs",
    "TextBank",
    "TextPairs",
    "ZeroShotTask",
    "ask_pairs",
    "cross_pairs",
    "default_bank",
    "encode_pairs",
    "fill_pairs",
    "load_bank",
    "load_pairs",
    "pair_sets",
    "propose_pairs",
    "question",
]
