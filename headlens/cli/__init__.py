"""The shell: `headlens --help`.

Nothing heavy is imported before a command runs, so that help and usage errors answer at once.
"""

from headlens.cli import commands
from headlens.cli.app import app, main

__all__ = ["app", "commands", "main"]
