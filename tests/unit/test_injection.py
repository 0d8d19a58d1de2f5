"""An injection heals what its fault broke: once where that works, again where it did not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos import progress
from pytest_serve_chaos.errors import CommandFailed, ExpectationFailed
from pytest_serve_chaos.faults.injection import Injection, Strike
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component, Evidence, Topology


class Paused:
    """A fault whose healing fails as often as a test wants.

    Attributes:
        tries: How often it was to be healed.
        tried: Set with the first try.
    """

    kind = "node_failure"
    text = "everything on the machine under worker-1 is stopped"
    victims: tuple[Component, ...] = ()
    serves = False
    sick: tuple[Component, ...] = ()
    sign_within = 0.0

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.tries = 0
        self.tried = threading.Event()

    def strike(self) -> Strike:
        return Strike(0.0, ())

    def sign(self, struck: float) -> Evidence | None:
        return None

    def heal(self) -> None:
        self.tries += 1
        self.tried.set()
        if self.tries <= self.fails:
            raise CommandFailed("docker failed with exit status 1")


def rig(progress: Callable[[str], None] = lambda _: None) -> Rig:
    """One on which Serve has said nothing yet."""
    watcher = SimpleNamespace(sample=lambda: Topology(0.0, ()), report=SimpleNamespace(at=-1.0))
    said = SimpleNamespace(watcher=watcher, experiment="it", history=History(), injections=[], progress=progress)
    return cast("Rig", said)


def healed(injection: Injection) -> int:
    return sum(event.kind == "healed" for event in injection.rig.history.events)


def test_what_could_not_be_healed_is_tried_again_and_then_left_alone() -> None:
    fault = Paused(fails=1)
    injection = Injection(rig(), fault)
    with pytest.raises(CommandFailed):
        injection.heal()
    assert healed(injection) == 0
    injection.close()
    injection.close()
    assert (fault.tries, healed(injection)) == (2, 1)


def test_what_a_timer_could_not_heal_is_on_record_and_close_tries_again() -> None:
    fault = Paused(fails=1)
    injection = Injection(rig(), fault, hold_for=0.0)
    timer = injection._timer
    assert fault.tried.wait(5.0)
    assert timer is not None
    timer.join(5.0)
    assert [e.text for e in injection.rig.history.events if e.kind == "note"][1:] == [
        "not healed yet: docker failed with exit status 1"
    ]
    injection.close()
    assert (fault.tries, healed(injection)) == (2, 1)


def test_two_threads_heal_once() -> None:
    fault = Paused(fails=0)
    injection = Injection(rig(), fault)
    threads = [threading.Thread(target=injection.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (fault.tries, healed(injection)) == (1, 1)


def test_somebody_who_waits_is_told_what_is_still_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_EVERY", 0.0)
    said: list[str] = []
    injection = Injection(rig(said.append), Paused(fails=0))

    with pytest.raises(ExpectationFailed):
        injection.wait_redundancy_back(0.05)

    state, _, seen = said[-1].partition(" s after the fault: ")
    assert state.startswith("redundancy is not back ")
    assert seen == "Ray and Serve have said nothing since the fault"
