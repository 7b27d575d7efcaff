"""Progress is reported in one place, at the rate of the whole work: to a listener, a log, a notebook or a terminal."""

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headlens.progress as module
from headlens.progress import duration, listening, progress, stages


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "_clock", clock)
    return clock


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, and progress is not silenced as it is in the rest of the tests."""
    stream = io.StringIO()
    monkeypatch.delenv("HEADLENS_PROGRESS")
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream, modules={}))
    return stream


def test_a_listener_gets_rate_and_time_left_of_the_whole_work(clock: Clock, capsys: pytest.CaptureFixture) -> None:
    lines: list[str] = []
    with listening(lines.append), progress("Counting", 2300, unit="sheep", done=300) as advance:
        clock.now += 100
        advance(1000)
        clock.now += 400
        advance(1000)
    assert lines == [
        "Counting: 300 of 2,300 sheep",
        "Counting: 1,300 of 2,300 sheep · 10.0 sheep/s · 2 min left",
        "Counting: 2,300 of 2,300 sheep · 4.0 sheep/s",
    ]
    with progress("Counting", 1) as advance:
        advance(1)
    assert len(lines) == 3  # nobody listens any more
    assert capsys.readouterr() == ("", "")


@given(
    steps=st.lists(st.tuples(st.integers(1, 512), st.floats(0.001, 60)), min_size=1, max_size=20),
    bursts=st.integers(1, 7),
)
def test_the_rate_does_not_depend_on_how_advances_are_bunched(steps: list[tuple[int, float]], bursts: int) -> None:
    """What is finished, divided by the time since the work began: however many calls report it."""
    clock, before = Clock(), module._clock
    module._clock = clock
    lines: list[str] = []
    try:
        total = sum(count for count, _ in steps) * bursts + 1000
        with listening(lines.append), progress("Reading", total) as advance:
            for count, seconds in steps:
                clock.now += seconds
                for _ in range(bursts):
                    advance(count)
        done, elapsed = sum(count for count, _ in steps) * bursts, clock.now - 1000
    finally:
        module._clock = before
    rate = float(re.search(r"· ([\d,.e+-]+) images/s", lines[-1])[1].replace(",", ""))
    assert rate == pytest.approx(done / elapsed, rel=0.06)
    assert lines[-1].endswith(f"{duration(1000 / (done / elapsed))} left")


def test_a_log_gets_a_line_every_half_minute_however_rarely_work_advances(
    shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.LINE_EVERY == 30
    monkeypatch.setattr(module, "LINE_EVERY", 0.05)
    with progress("Reading", 1000) as advance:
        time.sleep(0.13)
        assert shown.getvalue().splitlines()[0] == "Reading: 0 of 1,000 images"  # the first unit takes its time
        advance(200)
        time.sleep(0.13)
    lines = shown.getvalue().splitlines()
    assert len(lines) in (3, 4, 5)
    assert re.fullmatch(r"Reading: 200 of 1,000 images · [\d,.]+ images/s · [0-9] s left", lines[-1])
    time.sleep(0.1)
    assert shown.getvalue().splitlines() == lines  # nothing once the work is done


def test_short_work_writes_nothing_to_a_log(clock: Clock, shown: io.StringIO) -> None:
    with progress("Reading", 1000) as advance:
        for _ in range(29):
            clock.now += 1
            advance(2)
    assert shown.getvalue() == ""


def test_silence(clock: Clock, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLENS_PROGRESS", "0")
    with progress("Reading", 1000) as advance:
        clock.now += 100
        advance(2)
    assert shown.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_same_figures(
    clock: Clock, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("Reading", 1000, done=10) as advance:
        clock.now += 100
        advance(200)
    assert "210/1000" in shown.getvalue()
    assert "2.0 images/s · 7 min left" in re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())


def test_a_notebook_keeps_nothing_of_it(clock: Clock, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[str] = []

    def display(content: dict[str, str], raw: bool, display_id: bool) -> SimpleNamespace:
        cells.append(content["text/plain"])
        return SimpleNamespace(update=lambda content, raw: cells.append(content["text/plain"]))

    module.sys.modules["ipykernel"] = None
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with progress("Reading", 1000) as advance:
        for _ in range(5):
            clock.now += 0.1
            advance(20)
    assert cells == [
        "Reading: 40 of 1,000 images · 200.0 images/s · 5 s left",
        "Reading: 80 of 1,000 images · 200.0 images/s · 5 s left",
        "",
    ]
    with progress("Quick", 1) as advance:
        advance(1)
    assert len(cells) == 3
    assert shown.getvalue() == ""


def test_stages_are_named_as_they_begin(shown: io.StringIO) -> None:
    with stages(2) as stage:
        stage("extracting 7 images")
        stage("embedding 3,981 texts")
    assert shown.getvalue().splitlines() == ["1 of 2: extracting 7 images", "2 of 2: embedding 3,981 texts"]


def test_stages_are_silent_where_progress_is(shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLENS_PROGRESS", "0")
    with stages(2) as stage:
        stage("extracting 7 images")
    assert shown.getvalue() == ""


def test_stages_number_what_is_shown_within(clock: Clock) -> None:
    lines: list[str] = []
    with listening(lines.append):
        with stages(3) as stage:
            stage("reading 7 images")
            stage("embedding 3,981 texts")
            with progress("Embedding texts", 3981, "texts"):
                pass
        with progress("Alone", 5):
            pass
    assert lines == [
        "1 of 3: reading 7 images",
        "2 of 3: embedding 3,981 texts",
        "2 of 3: Embedding texts: 0 of 3,981 texts",
        "Alone: 0 of 5 images",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (42, "42 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5900, "98 min"),
        (6000, "1 h 40 min"),
        (360000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(float(seconds)) == text
