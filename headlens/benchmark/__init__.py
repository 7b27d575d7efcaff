"""Every registered method on a data set, in one table, beside the published numbers."""

from headlens.benchmark import suites
from headlens.benchmark.by_candidates import ByCandidates
from headlens.benchmark.carried import CarriedHeads, read_heads
from headlens.benchmark.disparities import disparities
from headlens.benchmark.elsewhere import Question, attribute_left, elsewhere
from headlens.benchmark.extras import averages, common_counter, neutral_ranking, occupation_skew, occupations
from headlens.benchmark.measures import Extra, ExtraTable, Scored
from headlens.benchmark.published import Published, published_numbers
from headlens.benchmark.retrieval import retrieval
from headlens.benchmark.run import run
from headlens.benchmark.suite import SUITES, Suite, register_suite, suite
from headlens.benchmark.table import BenchmarkTable, Row

__all__ = [
    "SUITES",
    "BenchmarkTable",
    "ByCandidates",
    "CarriedHeads",
    "Extra",
    "ExtraTable",
    "Published",
    "Question",
    "Row",
    "Scored",
    "Suite",
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
