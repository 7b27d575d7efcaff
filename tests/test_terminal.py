"""Tables in a terminal: whole words, whole numbers, and what has no room is named."""

from __future__ import annotations

import pandas as pd
import pytest

from headlens.document.blocks import Section
from headlens.document.terminal import show_section
from headlens.tables import Column, Table

MEASURES = ["V before", "V after", "gap before", "gap after", "accuracy before", "accuracy after", "corrected", "wrong"]


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, table: Table) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    show_section(Section("Class by class", table=table, brief=(), brief_table=True))
    return capsys.readouterr().out


@pytest.fixture
def classes() -> Table:
    frame = pd.DataFrame({"class": ["firefighter", "police officer"], "images": [240, 241]})
    for i, name in enumerate(MEASURES):
        frame[name] = [0.123 + i / 100, 0.9]
    return Table(frame, {"class": "text", "images": "count"} | {name: Column("percent") for name in MEASURES})


def test_in_a_narrow_terminal_no_word_is_broken_and_what_has_no_room_is_named(capsys, monkeypatch, classes):
    text = shown(capsys, monkeypatch, 79, classes)
    words = set(text.split())
    assert {"firefighter", "before,", "accuracy", "images", "12.3"} <= words
    (named,) = (line for line in text.splitlines() if line.startswith("Not shown"))
    assert "wrong" in named
    assert "19.3" not in words  # the last column's
    assert max(map(len, text.splitlines())) <= 79


def test_a_wide_terminal_shows_every_column(capsys, monkeypatch, classes):
    text = shown(capsys, monkeypatch, 160, classes)
    assert "19.3" in text
    assert "Not shown" not in text


def test_the_first_two_columns_stay_in_any_terminal(capsys, monkeypatch, classes):
    words = shown(capsys, monkeypatch, 20, classes).split()
    assert {"240", "images"} <= set(words)


def test_long_words_of_texts_do_not_push_columns_out(capsys, monkeypatch):
    frame = pd.DataFrame({"head": ["L3H0"], "encodes": ["x" * 200], "share": [0.5]})
    text = shown(capsys, monkeypatch, 60, Table(frame, {"head": "head", "encodes": "text", "share": "percent"}))
    assert "50.0" in text
    assert text.count("x") == 200
