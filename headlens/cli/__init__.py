"""The shell: `headlens --help`.

Nothing heavy is imported before a command runs, so that help, usage errors and missing files answer at once.
"""

from headlens.cli import audits, others  # in the order of the help
from headlens.cli.app import app, main

__all__ = ["app", "audits", "main", "others"]
