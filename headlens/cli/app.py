"""The group that commands join, and its entry point. Each command is a thin layer over public calls: what it computes,
Python can too."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import rich_click as click

from headlens._version import __version__
from headlens.errors import HeadlensError, HeadlensWarning

EXIT_ERROR = 1
EXIT_MISSED = 3  # the audit ran, and a --require was not met
EXIT_INTERRUPTED = 130

_python_shows = warnings.showwarning

_COLLECT_AFTER = 100_000  # new objects, not 700: importing torch, timm and transformers makes millions that all stay


class _Commands(click.RichGroup):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[:1] == ["card"]:
            ctx.fail("There is no command 'card': `headlens report FOLDER` writes card.md beside report.html.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, no_args_is_help=True, context_settings={"help_option_names": ["--help", "-h"]})
@click.version_option(__version__, prog_name="headlens", message="%(prog)s %(version)s")
def app() -> None:
    """Which attention heads of a CLIP vision tower carry a bias, and what happens when they are corrected."""


def main() -> None:
    """The entry point: errors become one paragraph on standard error and a non-zero exit."""
    warnings.showwarning = _show_warning
    gc.set_threshold(_COLLECT_AFTER)
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


def _show_warning(message: Warning | str, category: type[Warning], *where: object, **line: object) -> None:
    """What was assumed, left out or dropped, as a sentence; other libraries' warnings as Python shows them."""
    if issubclass(category, HeadlensWarning):
        _say(str(message), "yellow")
    else:
        _python_shows(message, category, *where, **line)  # type: ignore[arg-type]


def _say(message: str, style: str = "bold red") -> None:
    from rich.console import Console
    from rich.text import Text

    # As plain text: a path or a label may hold square brackets, which are markup to rich.
    Console(stderr=True, soft_wrap=True).print(Text(f"headlens: {message}", style=style))


def show_facts(pairs: Mapping[str, Any], *, as_json: bool) -> None:
    """Names and values, one a line, without those that are empty; or all of them as JSON."""
    if as_json:
        click.echo(json.dumps(pairs, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        if value != "":
            table.add_row(Text(name, style="bold"), Text(str(value)))
    Console().print(table)
