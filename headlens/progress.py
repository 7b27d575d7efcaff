"""The one place where headlens reports how far long work has come.

A rate is what was finished divided by the time since the work began, and the time left follows from it: neither
depends on how unevenly advances arrive. On a terminal this is a bar; in a notebook a line that is gone when the work is
done; to a pipe or a log file a line every half minute, so that short work writes nothing. `HEADLENS_PROGRESS=0`
silences all of them. A widget of one's own listens instead: `with listening(show): …`.

Work in several steps names them: `with stages(5) as stage: stage("embedding 3,981 texts")` writes a line as each step
begins, and whatever is shown until the next one begins with "2 of 5: ".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from time import monotonic

Listener = Callable[[str], None]
Advance = Callable[[int], None]

LINE_EVERY = 30.0  # seconds between two lines of a log
_NOTEBOOK_EVERY = 0.2

_clock = monotonic
_listener: ContextVar[Listener | None] = ContextVar("progress listener", default=None)
_stage: ContextVar[str] = ContextVar("progress stage", default="")


@dataclass
class Work:
    """Work under way, as text: "Extracting: 512 of 4,000 images · 1.2 images/s · 48 min left".

    Attributes:
        title: what is being done.
        total: units in all.
        unit: the unit's name, in the plural.
        done: units that are finished; `before` of them by an earlier run, which do not count towards the rate.
    """

    title: str
    total: int
    unit: str
    done: int
    before: int = field(init=False)
    started: float = field(init=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.before, self.started = self.done, _clock()

    def advance(self, count: int) -> None:
        """Count more as finished, from any thread."""
        with self._lock:
            self.done += count

    @property
    def rate(self) -> float:
        """Units a second since the work began; 0 before the first is finished."""
        elapsed = _clock() - self.started
        return (self.done - self.before) / elapsed if elapsed > 0 else 0.0

    def pace(self) -> str:
        """Rate and time left; nothing before the first unit is finished."""
        if not (rate := self.rate):
            return ""
        left = "" if self.done >= self.total else f" · {duration((self.total - self.done) / rate)} left"
        return f"{rate:,.1f} {self.unit}/s{left}" if rate >= 1 else f"{rate:.2g} {self.unit}/s{left}"

    def __str__(self) -> str:
        said = f"{self.title}: {self.done:,} of {self.total:,} {self.unit}"
        return f"{said} · {pace}" if (pace := self.pace()) else said


def duration(seconds: float) -> str:
    """A length of time as one reads it: 42 s, 7 min, 3 h 05 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02d} min"


@contextmanager
def listening(show: Listener) -> Iterator[None]:
    """Hand all progress within, of this thread, to a function as a line of text, instead of showing it.

    Args:
        show: gets lines such as "Random heads: 31 of 100 sets", as often as work advances.
    """
    token = _listener.set(show)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def stages(total: int) -> Iterator[Callable[[str], None]]:
    """Number the steps of longer work, and yield the function that begins the next one by its name.

    Args:
        total: how many steps there are.
    """
    begun = 0

    def stage(name: str) -> None:
        nonlocal begun
        begun += 1
        _stage.set(f"{begun} of {total}: ")
        line = f"{begun} of {total}: {name}"
        if (show := _listener.get()) is not None:
            show(line)
        elif not _silenced() and not _in_notebook():
            _write(line)

    token = _stage.set("")
    try:
        yield stage
    finally:
        _stage.reset(token)


@contextmanager
def progress(description: str, total: int, unit: str = "images", done: int = 0) -> Generator[Advance]:
    """Show how far work has come, and yield the function that counts units as finished.

    Args:
        description: what is being done, in a few words.
        total: how many units there are in all.
        unit: the unit's name, in the plural.
        done: units that an earlier run already finished; they do not count towards the rate.
    """
    work = Work(f"{_stage.get()}{description}", total, unit, done)
    with _display(work) as show:

        def advance(count: int) -> None:
            work.advance(count)
            show()

        yield advance


def _display(work: Work) -> AbstractContextManager[Callable[[], None]]:
    if (listener := _listener.get()) is not None:
        return _listened(work, listener)
    if _silenced():
        return _silent()
    if _in_notebook():
        return _notebook(work)
    return _bar(work) if sys.stderr.isatty() else _log(work)


def _silenced() -> bool:
    return os.environ.get("HEADLENS_PROGRESS", "1") == "0"


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _write(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _silent() -> Iterator[Callable[[], None]]:
    yield lambda: None


@contextmanager
def _listened(work: Work, listener: Listener) -> Iterator[Callable[[], None]]:
    listener(str(work))
    yield lambda: listener(str(work))


@contextmanager
def _log(work: Work) -> Iterator[Callable[[], None]]:
    done = Event()

    def lines() -> None:
        while not done.wait(LINE_EVERY):
            _write(str(work))

    # A thread of its own: a line comes on time where a single unit takes minutes, too.
    writer = Thread(target=lines, name="headlens-progress", daemon=True)
    writer.start()
    try:
        yield lambda: None
    finally:
        done.set()
        writer.join()


@contextmanager
def _notebook(work: Work) -> Iterator[Callable[[], None]]:
    from IPython.display import display

    last, handle = work.started, None

    def content(text: str) -> dict[str, str]:
        return {"text/plain": text, "text/html": f"<small>{text}</small>" if text else ""}

    def show() -> None:
        nonlocal last, handle
        if (now := _clock()) - last < _NOTEBOOK_EVERY:
            return
        last = now
        if handle is None:
            handle = display(content(str(work)), raw=True, display_id=True)
        else:
            handle.update(content(str(work)), raw=True)

    try:
        yield show
    finally:
        if handle is not None:
            handle.update(content(""), raw=True)


@contextmanager
def _bar(work: Work) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(work.pace(), style="progress.data.speed")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Pace())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(work.title, total=work.total, completed=work.done)
        yield lambda: bar.update(task, completed=work.done)
