"""The group that commands join, and its entry point. Each command is a thin layer over public calls: what it computes,
Python can too."""

from __future__ import annotations

import sys

import rich_click as click

from headlens._version import __version__
from headlens.errors import HeadlensError

EXIT_ERROR = 1
EXIT_MISSED = 3  # the audit ran, and a --require was not met
EXIT_INTERRUPTED = 130


@click.group(cls=click.RichGroup, no_args_is_help=True, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__, prog_name="headlens", message="%(prog)s %(version)s")
def app() -> None:
    """Which attention heads of a CLIP vision tower carry a bias, and what happens when they are corrected."""


def main() -> None:
    """The entry point: errors become one paragraph on standard error and a non-zero exit."""
    try:
        if code := app(standalone_mode=False):
            sys.exit(code)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except HeadlensError as error:
        _say(str(error))
        sys.exit(EXIT_ERROR)
    except OSError as error:  # a full disk, a folder without the rights, a file where a folder should be
        where = f" {error.filename}" if error.filename else " a file"
        _say(f"Could not read or write{where}: {error.strerror or type(error).__name__}. Check path, rights and room.")
        sys.exit(EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted. What was already extracted is kept; the same command goes on from there.")
        sys.exit(EXIT_INTERRUPTED)


def _say(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # As plain text: a path or a label may hold square brackets, which are markup to rich.
    Console(stderr=True, soft_wrap=True).print(Text(f"headlens: {message}", style="bold red"))
