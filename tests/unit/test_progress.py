from __future__ import annotations

import re
import threading

import pytest

from pytest_serve_chaos import progress
from pytest_serve_chaos.progress import now_and_then, say_how_long, still, while_waiting


class Shown:
    """Prints lines, and shows what is so at the moment."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.moments: list[str] = []
        self.seconds = 0.0
        self.enough = threading.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    @property
    def is_live(self) -> bool:
        return True

    def at_the_moment(self, text: str) -> None:
        self.moments.append(text)
        if len(self.moments) >= 3:
            self.enough.set()

    def expect(self, seconds: float) -> None:
        self.seconds = seconds


def test_a_program_that_takes_long_is_said_to_be_at_it_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.01)
    said: list[str] = []
    enough = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) >= 2:
            enough.set()

    with still("creating serve-chaos", say, lambda: "Preparing nodes", who="kind"):
        assert enough.wait(10)
    told = len(said)
    assert all(re.fullmatch(r"kind: still creating serve-chaos after \d+ s: Preparing nodes", line) for line in said)
    assert "serve-chaos-progress" not in [thread.name for thread in threading.enumerate()]
    assert len(said) == told


def test_where_it_can_be_shown_a_program_that_takes_long_costs_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHOW_EVERY", 0.01)
    shown = Shown()
    with still("creating serve-chaos", shown, lambda: "Preparing nodes", who="kind"):
        assert shown.moments[:1] == ["kind: creating serve-chaos"]
        assert shown.enough.wait(10)
    assert all(
        re.fullmatch(r"kind: creating serve-chaos, after \d+ s: Preparing nodes", text) for text in shown.moments[1:]
    )
    assert not shown.lines


def test_what_is_seen_all_the_time_is_said_now_and_then() -> None:
    said: list[str] = []
    on_wait = now_and_then(said.append, "seen: {}".format)

    for tenth in range(400):
        on_wait(tenth / 10, f"{tenth} of 400")

    assert said == ["seen: 150 of 400", "seen: 300 of 400"]


def test_what_is_seen_is_shown_all_the_time_where_that_can_be() -> None:
    shown = Shown()
    on_wait = now_and_then(shown, "seen: {}".format)

    for tenth in range(3):
        on_wait(tenth / 10, f"{tenth} of 3")

    assert shown.moments == ["seen: 0 of 3", "seen: 1 of 3", "seen: 2 of 3"]
    assert not shown.lines


def test_of_some_waits_nothing_is_said_and_all_is_shown() -> None:
    said: list[str] = []
    shown = Shown()
    for where in (said.append, shown):
        while_waiting(where, "steady state")(60.0, "no answers")

    assert not said
    assert shown.moments == ["waiting for steady state: no answers"]


def test_how_long_it_takes_is_said_or_shown_as_what_is_left() -> None:
    said: list[str] = []
    shown = Shown()
    for where in (said.append, shown):
        say_how_long(where, "head_failure: about 75 s", 75.0)

    assert said == ["head_failure: about 75 s"]
    assert (shown.lines, shown.moments, shown.seconds) == ([], ["head_failure: about 75 s"], 75.0)
