"""Until when a replica obeys the flag that makes its health check fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pytest_serve_chaos.apps.health_flags import asked_for


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The flag of this process."""
    monkeypatch.setenv("SERVE_CHAOS_FLAGS", str(tmp_path))
    return tmp_path / str(os.getpid())


def write(flag: Path, mode: str, seconds: float) -> None:
    flag.with_suffix(".until").write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) + seconds))
    flag.write_text(mode)


def test_without_a_flag_nothing_is_asked_for(flag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_for() == ""
    monkeypatch.delenv("SERVE_CHAOS_FLAGS")
    assert asked_for() == ""


def test_a_flag_counts_until_its_time_is_over(flag: Path) -> None:
    write(flag, "hang", 60.0)
    assert asked_for() == "hang"
    write(flag, "hang", -1.0)
    assert asked_for() == ""


@pytest.mark.parametrize("until", [None, "", "never"])
def test_a_flag_without_a_time_counts(flag: Path, until: str | None) -> None:
    """As older versions wrote it."""
    flag.write_text("raise\n")
    if until is not None:
        flag.with_suffix(".until").write_text(until)
    assert asked_for() == "raise"
