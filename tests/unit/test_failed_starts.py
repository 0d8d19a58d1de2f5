"""A `ray start` that gives its node up is named; any other end of a node is not one."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_serve_chaos.cluster.local.commands import Command
from pytest_serve_chaos.cluster.local.reported import Reported
from pytest_serve_chaos.cluster.local.unit import Unit

GAVE_UP = "Exception: The current node timed out during startup. This could happen because some of the raylet failed"


def unit(log: Path) -> Unit:
    return Unit(Command("worker-1", ("/bin/true",), {}, log), 0.0, lambda: True)


def started(one: Unit) -> None:
    """Starts it and waits for its first process, as the supervisor does."""
    one.start()
    os.waitpid(one.leader, 0)


def test_what_it_prints_when_it_gives_up_is_seen(tmp_path: Path) -> None:
    one = unit(tmp_path / "worker-1.log")
    started(one)
    assert one.why_it_gave_up() == ""
    with one.command.log.open("a") as log:
        log.write(f"Traceback (most recent call last):\n{GAVE_UP}\n")
    assert one.why_it_gave_up() == "The current node timed out during startup"


def test_what_an_earlier_start_printed_is_not_of_this_one(tmp_path: Path) -> None:
    one = unit(tmp_path / "worker-1.log")
    one.command.log.write_text(f"{GAVE_UP}\n")
    started(one)
    assert one.why_it_gave_up() == ""


def test_a_node_that_never_logged_has_not_given_up(tmp_path: Path) -> None:
    assert unit(tmp_path / "worker-1.log").why_it_gave_up() == ""


def test_the_starts_that_failed_since_a_moment() -> None:
    reported = Reported()
    for at in (10.0, 20.0):
        reported.take({"event": "gave_up", "name": "worker-1", "text": "The current node timed out", "at": at})
    assert reported.failed_starts(15.0) == ("`ray start` gave worker-1 up: The current node timed out",)
    assert len(reported.failed_starts(0.0)) == 2
