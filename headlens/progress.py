"""The one place where headlens tells how far long work has come.

A bar with the rate and the time left is drawn on standard error when that is a terminal or a notebook; otherwise
nothing is written, so that logs and pipes stay clean. `HEADLENS_PROGRESS=0` silences it everywhere. What has a place of
its own to tell it, such as a widget, listens instead: `with listening(tell): …`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], None]

_listener: ContextVar[Listener | None] = ContextVar("progress listener", default=None)


def _wanted() -> bool:
    if os.environ.get("HEADLENS_PROGRESS", "1") == "0":
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _ignore(count: int) -> None:
    """Advance nothing: nobody is looking."""


@contextmanager
def listening(tell: Listener) -> Iterator[None]:
    """Have all progress within, of this thread, told to a function as a line of text, in place of bars.

    Args:
        tell: gets lines such as "Random heads: 31 of 100 sets", as often as work advances.
    """
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


def _counted(tell: Listener, description: str, total: int, unit: str, done: int) -> Callable[[int], None]:
    count = done

    def advance(more: int) -> None:
        nonlocal count
        count += more
        tell(f"{description}: {count:,} of {total:,} {unit}")

    advance(0)
    return advance


@contextmanager
def progress(description: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar for `total` units of work and yield the function that advances it.

    Args:
        description: what is being done, in a word or two.
        total: how many units there are in all.
        unit: the unit's name, in the plural.
        done: units that an earlier run already finished; they do not count towards the rate.
    """
    if (tell := _listener.get()) is not None:
        yield _counted(tell, description, total, unit, done)
        return
    if not _wanted():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {unit}/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("·"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done)

        def advance(count: int) -> None:
            bar.advance(task, count)

        yield advance
