"""Lines below the cursor, on an emulated terminal that is fed through a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_serve_chaos.live.screen import LinesBelow
from tests.terminals import Terminal

ROWS, COLUMNS = 8, 30


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    emulated = Terminal(ROWS, COLUMNS)
    yield emulated
    emulated.close()


def test_the_cursor_stays_in_the_middle_of_a_line(terminal: Terminal) -> None:
    below = LinesBelow(terminal.there)
    terminal.write("test_a.py ")
    below.show(["one", "two"])
    assert terminal.lines() == ["test_a.py", "one", "two"]
    assert (terminal.screen.cursor.y, terminal.screen.cursor.x) == (0, 10)
    assert not terminal.screen.cursor.hidden

    below.clear()
    terminal.write(".")
    assert terminal.lines() == ["test_a.py ."]


def test_on_the_last_line_of_the_screen_all_moves_up(terminal: Terminal) -> None:
    terminal.write("".join(f"line {n}\r\n" for n in range(ROWS)) + "test_a.py ")
    below = LinesBelow(terminal.there)
    below.show(["one", "two", "three"])
    assert terminal.lines()[-5:] == ["line 7", "test_a.py", "one", "two", "three"]

    below.clear()
    terminal.write(".")
    assert terminal.lines() == [*(f"line {n}" for n in range(ROWS)), "test_a.py ."]


def test_fewer_and_shorter_lines_leave_nothing_of_those_before(terminal: Terminal) -> None:
    below = LinesBelow(terminal.there)
    below.show(["a long line", "two", "three"])
    below.show(["short"])
    assert terminal.lines() == ["", "short"]


def test_a_window_that_was_made_smaller_is_clean_afterwards(terminal: Terminal) -> None:
    below = LinesBelow(terminal.there)
    terminal.write("test_a.py ")
    below.show(["x" * 25, "y" * 25])
    terminal.lines()
    terminal.resize(ROWS, 20)
    assert below.size == (20, ROWS)
    below.clear()
    terminal.write(".")
    terminal.lines()
    assert [line.rstrip() for line in terminal.screen.display if line.strip()] == ["test_a.py ."]


def test_what_is_cleared_twice_or_was_never_shown_writes_nothing(terminal: Terminal) -> None:
    below = LinesBelow(terminal.there)
    below.clear()
    below.show(["one"])
    below.show([])
    below.clear()
    assert terminal.lines() == [""]
    assert below.takes_more


def test_the_size_of_a_terminal_that_is_gone_is_a_guess() -> None:
    here, there = pty.openpty()
    os.close(here)
    os.close(there)
    assert LinesBelow(there).size == (80, 24)


WORDS = st.text("abc", max_size=9)
TURNS = st.lists(st.one_of(st.tuples(WORDS, st.booleans()), st.lists(WORDS, max_size=4)), max_size=12)


@settings(max_examples=40)
@given(TURNS)
def test_whoever_writes_never_notices(turns: list[tuple[str, bool] | list[str]]) -> None:
    with_lines, without = Terminal(ROWS, COLUMNS), Terminal(ROWS, COLUMNS)
    try:
        below = LinesBelow(with_lines.there)
        for turn in turns:
            if isinstance(turn, list):
                below.show(turn)
                continue
            word, ends = turn
            below.clear()
            for one in (with_lines, without):
                one.write(word + ("\r\n" if ends or one.screen.cursor.x > 9 else ""))
            with_lines.lines()
            without.lines()
        below.clear()
        assert with_lines.lines() == without.lines()
    finally:
        with_lines.close()
        without.close()
