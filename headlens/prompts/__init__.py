"""Prompts: class names and attribute values turned into directions, pairs of texts, and the text bank."""

from headlens.prompts.ask import ask_pairs, question
from headlens.prompts.attribute import Attribute
from headlens.prompts.bank import TextBank
from headlens.prompts.bank_files import load_bank
from headlens.prompts.bank_generate import default_bank
from headlens.prompts.cross import cross_pairs
from headlens.prompts.pairs import TextPairs, encode_pairs, fill_pairs, load_pairs, pair_sets
from headlens.prompts.propose import ProposedPairs, propose_pairs
from headlens.prompts.task import ZeroShotTask

__all__ = [
    "Attribute",
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
