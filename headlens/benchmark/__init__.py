"""Every registered method on a data set, in one table, beside the published numbers."""

from headlens.benchmark import suites
from headlens.benchmark.collateral import Question, attribute_left, elsewhere, retrieval
from headlens.benchmark.head_transfer import TransferredHeads, read_heads
from headlens.benchmark.measures import Extra, ExtraTable, Scored
from headlens.benchmark.per_image import ByCandidates
from headlens.benchmark.run import run
from headlens.benchmark.suite import SUITES, Published, Suite, published_numbers, register_suite, suite
from headlens.benchmark.suite_measures import (
    averages,
    common_counter,
    disparities,
    neutral_ranking,
    occupation_skew,
    occupations,
)
from headlens.benchmark.table import BenchmarkTable, Row

__all__ = [
    "SUITES",
    "BenchmarkTable",
    "ByCandidates",
    "Extra",
    "ExtraTable",
    "Published",
    "Question",
    "Row",
    "Scored",
    "Suite",
    "TransferredHeads",
    "attribute_left",
    "averages",
    "common_counter",
    "disparities",
    "elsewhere",
    "neutral_ranking",
    "occupation_skew",
    "occupations",
    "published_numbers",
    "read_heads",
    "register_suite",
    "retrieval",
    "run",
    "suite",
    "suites",
]
