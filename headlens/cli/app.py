"""The app that commands join, and its entry point. Each command is a thin layer over public calls: what it computes,
Python can too."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headlens._version import __version__
from headlens.errors import HeadlensError

app = typer.Typer(
    name="headlens",
    help="Which attention heads of a CLIP vision tower carry a bias, and what happens when they are corrected.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

EXIT_ERROR = 1
EXIT_MISSED = 3  # the audit ran, and a --require was not met
EXIT_INTERRUPTED = 130


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"headlens {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: errors become one paragraph on standard error and a non-zero exit."""
    try:
        app(standalone_mode=True)
    except HeadlensError as error:
        _say(str(error))
        sys.exit(EXIT_ERROR)
    except OSError as error:  # a full disk, a folder without the rights, a file where a folder should be
        where = f" at {error.filename}" if error.filename else ""
        what = error.strerror or type(error).__name__
        _say(f"Expected files that can be read and written, but got {what!r}{where}. Check path, rights and room.")
        sys.exit(EXIT_ERROR)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this exit code without a word.
        if stop.code == EXIT_INTERRUPTED:
            _say("Interrupted. What was already extracted is kept; the same command goes on from there.")
        raise


def _say(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # As plain text: a path or a label may hold square brackets, which are markup to rich.
    Console(stderr=True, soft_wrap=True).print(Text(f"headlens: {message}", style="bold red"))
