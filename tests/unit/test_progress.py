from __future__ import annotations

import re
import threading

import pytest

from pytest_serve_chaos import progress
from pytest_serve_chaos.progress import now_and_then, still


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


def test_what_is_seen_all_the_time_is_said_now_and_then() -> None:
    said: list[tuple[float, str]] = []
    on_wait = now_and_then(lambda waited, seen: said.append((waited, seen)))

    for tenth in range(400):
        on_wait(tenth / 10, f"{tenth} of 400")

    assert said == [(15.0, "150 of 400"), (30.0, "300 of 400")]
