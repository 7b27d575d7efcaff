"""One command a file. Importing this package adds them all to the app, in the order of `headlens --help`."""

# The order of the help.
from headlens.cli.commands import demo, extract, audit, fairness, locate, explain, correct, evaluate, report, benchmark, doctor  # noqa: I001, E501  # fmt: skip

__all__ = [
    "audit",
    "benchmark",
    "correct",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "extract",
    "fairness",
    "locate",
    "report",
]
