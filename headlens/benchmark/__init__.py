"""Every registered method on a data set, in one table, beside the published numbers."""

from headlens.benchmark import suites
from headlens.benchmark.by_candidates import ByCandidates
from headlens.benchmark.measures import Extra, ExtraTable, Scored
from headlens.benchmark.published import Published, published_numbers
from headlens.benchmark.run import run
from headlens.benchmark.suite import SUITES, Suite, register_suite, suite
from headlens.benchmark.table import BenchmarkTable, Row

__all__ = [
    "SUITES",
    "BenchmarkTable",
    "ByCandidates",
    "Extra",
    "ExtraTable",
    "Published",
    "Row",
    "Scored",
    "Suite",
    "published_numbers",
    "register_suite",
    "run",
    "suite",
    "suites",
]
